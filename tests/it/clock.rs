//! The clock: small steps back are held, large ones refuse appends, and no time is taken for an event's that is not.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use annals::{AppendError, Appended, Batch, NewEvent, Tenant, Timestamp, types::time::Clock};
use tokio::runtime::Runtime;

use crate::{
    sim_disk::SimDisk,
    workload::{default_tenant, open_with, options, read_all, runtime},
};

const SECOND: i64 = 1_000_000;
const YEAR: i64 = 365 * 24 * 3600 * SECOND;
const START: i64 = 1_700_000_000 * SECOND;

/// A clock that is set by hand, in µs.
#[derive(Clone)]
struct HandClock(Arc<AtomicI64>);

impl HandClock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

fn append(runtime: &Runtime, tenant: &Tenant) -> Result<Appended, AppendError> {
    let event = NewEvent::new("a", "t", "{}");
    runtime.block_on(tenant.append(Batch::new([event])))
}

fn time_of(appended: Result<Appended, AppendError>) -> i64 {
    appended.unwrap().recorded_at.as_micros()
}

#[test]
fn a_clock_that_steps_back_is_held_and_one_far_behind_refused() {
    let (disk, clock, runtime) = (SimDisk::new(1), HandClock::new(), runtime());
    let open = |disk: &SimDisk| open_with(disk, Arc::new(clock.clone()), options()).unwrap();
    let engine = open(&disk);
    let tenant = default_tenant(&runtime, &engine);
    assert_eq!(time_of(append(&runtime, &tenant)), START);
    assert_eq!(time_of(append(&runtime, &tenant)), START + 1, "it stands");
    clock.set(START - 299 * SECOND);
    assert_eq!(time_of(append(&runtime, &tenant)), START + 2, "it is held");
    clock.set(START - 301 * SECOND);
    let behind = |outcome| match outcome {
        Err(AppendError::ClockBehind { behind_s }) => behind_s,
        other => panic!("{other:?}"),
    };
    assert_eq!(behind(append(&runtime, &tenant)), 301);
    assert_eq!(tenant.head(), 3);

    // The last time is that of the log, not of the process.
    drop((tenant, engine));
    let disk = disk.crash();
    let engine = open(&disk);
    let tenant = default_tenant(&runtime, &engine);
    assert_eq!(behind(append(&runtime, &tenant)), 301);
    clock.set(START);
    assert_eq!(time_of(append(&runtime, &tenant)), START + 3);
    clock.set(START + YEAR);
    assert_eq!(time_of(append(&runtime, &tenant)), START + YEAR);
    clock.set(START + SECOND);
    behind(append(&runtime, &tenant));
    let times: Vec<_> = read_all(&tenant)
        .unwrap()
        .iter()
        .map(|event| event.recorded_at().as_micros() - START)
        .collect();
    assert_eq!(times, [0, 1, 2, 3, YEAR]);
}

/// The mark that states what is durable was written with the time of the clock, and after a restart taken for the time
/// of an event: a clock that was far ahead only then had appends refused until that time came.
#[test]
fn a_clock_far_ahead_while_no_event_is_recorded_has_no_consequence() {
    let (disk, clock, runtime) = (SimDisk::new(1), HandClock::new(), runtime());
    let open = || open_with(&disk, Arc::new(clock.clone()), options()).unwrap();
    let engine = open();
    let tenant = default_tenant(&runtime, &engine);
    assert_eq!(time_of(append(&runtime, &tenant)), START);
    clock.set(START + YEAR);
    drop(tenant);
    engine.close();
    drop(engine);

    let engine = open();
    let tenant = default_tenant(&runtime, &engine);
    clock.set(START);
    assert_eq!(time_of(append(&runtime, &tenant)), START + 1);
}
