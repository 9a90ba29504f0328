//! How much is not sealed has one bound, however many tenants there are.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use annals::{
    AppendError, Batch, Engine, EngineOptions, NewEvent, Tenant, TenantId, types::time::SystemClock,
};
use tokio::runtime::Runtime;

use crate::{
    refusing_disk::{Refused, RefusingDisk},
    sealed_log::open_sealed,
    sim_disk::SimDisk,
    workload::{FOLDER, read_all, runtime, sealing_options},
};

const TENANTS: usize = 20;
const BATCH: usize = 7;
const MAX: u64 = 200;

fn options() -> EngineOptions {
    let mut options = sealing_options();
    options.auto_create_tenants = true;
    // No part is ever full.
    options.limits.seal_events = 1_000;
    options.limits.unsealed_events_max = MAX;
    options
}

fn tenants(runtime: &Runtime, engine: &Engine) -> Vec<Tenant> {
    let names = (0..TENANTS).map(|n| format!("tenant-{n}").parse::<TenantId>().unwrap());
    names
        .map(|id| runtime.block_on(engine.tenant_for_append(&id)).unwrap())
        .collect()
}

fn batch(n: usize) -> Batch {
    let event = |i| NewEvent::new(format!("entity {i}"), "counted", format!(r#"{{"n":{n}}}"#));
    Batch::new((0..BATCH).map(event).collect::<Vec<_>>())
}

fn unsealed(tenants: &[Tenant]) -> u64 {
    let of_each = tenants.iter().map(|tenant| {
        let stats = tenant.stats();
        stats.head - stats.sealed
    });
    of_each.sum()
}

#[test]
fn tenants_together_are_sealed_before_each_has_a_full_part() {
    let (disk, runtime, options) = (SimDisk::new(1), runtime(), options());
    let engine = open_sealed(&disk, &options).unwrap();
    let all = tenants(&runtime, &engine);
    for n in 0..20 {
        for tenant in &all {
            runtime.block_on(tenant.append(batch(n))).unwrap();
            let unsealed = unsealed(&all);
            assert!(unsealed <= MAX + BATCH as u64, "{unsealed}");
        }
    }
    drop((engine, all));

    // What was not sealed is counted when it is read again.
    let engine = open_sealed(&disk.restart(), &options).unwrap();
    let all = tenants(&runtime, &engine);
    for tenant in &all {
        assert_eq!(read_all(tenant).unwrap().len(), 20 * BATCH);
        runtime.block_on(tenant.append(batch(20))).unwrap();
    }
    assert!(unsealed(&all) <= MAX + BATCH as u64);
}

/// Those that cannot be sealed keep their room; the others are told instead of waiting for ever.
#[test]
fn appends_are_refused_if_tenants_that_cannot_be_sealed_hold_all_the_room() {
    let (disk, runtime) = (RefusingDisk::new(Refused::Create, "segments"), runtime());
    let clock = Arc::new(SystemClock);
    let engine = Engine::open_with(Arc::new(disk.clone()), clock, FOLDER, options()).unwrap();
    let all = tenants(&runtime, &engine);
    let append = |tenant: &Tenant| runtime.block_on(tenant.append(batch(0)));
    for tenant in &all {
        let head = tenant.head();
        let refused = loop {
            match append(tenant) {
                Err(refused) => break refused,
                Ok(_) => assert!(tenant.head() < head + 2 * MAX, "never refused"),
            }
        };
        assert_eq!(refused, AppendError::SealBehind);
    }
    disk.mend();
    for tenant in &all {
        let deadline = Instant::now() + Duration::from_mins(1);
        while append(tenant) == Err(AppendError::SealBehind) {
            assert!(Instant::now() < deadline, "it does not go on");
            thread::yield_now();
        }
    }
    let first = read_all(&all[0]).unwrap();
    assert_eq!(first.len() as u64, all[0].head());
}
