//! I/O errors, a full disk and short writes at every place: what was answered is true, reads go on, and no sync is ever
//! tried again on the same file.

use std::time::{Duration, Instant};

use annals::{AppendError, Appended, Batch, EngineOptions, Kind, NewEvent, OpenError, Tenant};
use tokio::runtime::Runtime;

use crate::{
    crash::go_on,
    rng::seeds,
    sim_disk::{Fault, Lasting, SimDisk},
    workload::{Client, default_tenant, open, options, read_all, runtime, sealing_options},
};

/// Works through some sessions. What fails is told, and then nothing but reads goes on.
fn work(disk: &SimDisk, client: &mut Client, context: &str) {
    let runtime = runtime();
    for _ in 0..3 {
        let engine = match client.open(disk) {
            Ok(engine) => engine,
            Err(OpenError::Io { .. }) => return,
            Err(other) => panic!("{context}: {other}"),
        };
        let tenant = default_tenant(&runtime, &engine);
        if !client.work(&runtime, &tenant, 4) {
            let poisoned = tenant
                .stats()
                .poisoned
                .expect("only a failed write stops work");
            let refused = append(&runtime, &tenant).unwrap_err();
            let reason = AppendError::NotStored { reason: poisoned };
            assert_eq!(refused, reason, "{context}");
            let events = read_all(&tenant).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(events.len() as u64, tenant.head(), "{context}");
            return;
        }
        engine.close();
    }
}

fn append(runtime: &Runtime, tenant: &Tenant) -> Result<Appended, AppendError> {
    runtime.block_on(tenant.append(Batch::new([NewEvent::new("other", "t", "{}")])))
}

fn fail_at_every_change(options: &EngineOptions, fault: Fault, lasting: Lasting) {
    for seed in seeds(1) {
        for change in 0.. {
            let context = format!("seed {seed}, {fault:?} {lasting:?} at {change}");
            let disk = SimDisk::new(seed ^ change);
            disk.fail_change(change, fault, lasting);
            let mut client = Client::of(options.clone(), seed);
            work(&disk, &mut client, &context);
            disk.check(&context);
            go_on(&disk.restart(), &client, &format!("{context}, restarted"));
            go_on(&disk.crash(), &client, &format!("{context}, crashed"));
            if disk.changes() <= change {
                break;
            }
        }
    }
}

#[test]
fn one_io_error_anywhere_makes_no_answer_false() {
    fail_at_every_change(&options(), Fault::Io, Lasting::Once);
    fail_at_every_change(&sealing_options(), Fault::Io, Lasting::Once);
}

#[test]
fn io_errors_from_anywhere_on_make_no_answer_false() {
    fail_at_every_change(&options(), Fault::Io, Lasting::FromThenOn);
    fail_at_every_change(&sealing_options(), Fault::Io, Lasting::FromThenOn);
}

#[test]
fn a_full_disk_anywhere_makes_no_answer_false() {
    for options in [options(), sealing_options()] {
        fail_at_every_change(&options, Fault::NoSpace, Lasting::Once);
        fail_at_every_change(&options, Fault::NoSpace, Lasting::FromThenOn);
    }
}

#[test]
fn short_writes_fail_nothing() {
    for seed in seeds(4) {
        let (disk, runtime) = (SimDisk::new(seed), runtime());
        disk.fail_change(0, Fault::Short, Lasting::FromThenOn);
        let mut client = Client::new(seed);
        for _ in 0..4 {
            let engine = open(&disk).unwrap();
            let tenant = default_tenant(&runtime, &engine);
            assert!(client.work(&runtime, &tenant, 10), "seed {seed}");
            client.check(&tenant, &format!("seed {seed}"));
            assert_eq!(tenant.stats().poisoned, None);
        }
    }
}

#[test]
fn a_read_that_fails_poisons_nothing() {
    for seed in seeds(1) {
        let mut failed = true;
        for number in (0..).step_by(3) {
            let (disk, runtime) = (SimDisk::new(seed), runtime());
            let context = format!("seed {seed}, read {number}");
            disk.fail_read(number);
            let mut client = Client::new(seed);
            for _ in 0..2 {
                let engine = match open(&disk) {
                    Ok(engine) => engine,
                    Err(OpenError::Io { .. }) => continue,
                    Err(other) => panic!("{context}: {other}"),
                };
                let tenant = default_tenant(&runtime, &engine);
                client.work(&runtime, &tenant, 4);
                assert_eq!(tenant.stats().poisoned, None, "{context}");
                append(&runtime, &tenant).unwrap();
                failed = disk.reads() > number;
                if failed {
                    read_all(&tenant).unwrap_or_else(|e| panic!("{context}: {e}"));
                }
            }
            if !failed {
                break;
            }
        }
    }
}

/// Appends until it is answered as `wanted`: free space is not asked for with every append.
fn append_until(
    runtime: &Runtime,
    tenant: &Tenant,
    wanted: fn(&Result<Appended, AppendError>) -> bool,
) {
    let started = Instant::now();
    loop {
        let outcome = append(runtime, tenant);
        if wanted(&outcome) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{outcome:?}");
        std::thread::yield_now();
    }
}

#[test]
fn appends_are_refused_below_the_reserve_until_there_is_room_again() {
    let (disk, runtime) = (SimDisk::new(3), runtime());
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    for _ in 0..2 {
        append(&runtime, &tenant).unwrap();
        disk.set_available_bytes((1 << 20) - 1);
        append_until(&runtime, &tenant, |outcome| {
            let Err(error @ AppendError::DiskFull { available, reserve }) = outcome else {
                return false;
            };
            assert_eq!((*available, *reserve), ((1 << 20) - 1, 1 << 20));
            assert_eq!(error.kind(), Kind::Exhausted);
            assert_eq!(error.reason(), "DISK_FULL");
            assert!(error.retry_after().is_some());
            true
        });
        assert_eq!(read_all(&tenant).unwrap().len() as u64, tenant.head());
        disk.set_available_bytes(1 << 20);
        append_until(&runtime, &tenant, Result::is_ok);
    }
    assert_eq!(tenant.stats().poisoned, None);
}

/// Free space was asked for after the first group only: each start on a full disk took one more append, however large.
#[test]
fn a_store_opened_on_a_full_disk_takes_no_append() {
    let (disk, runtime) = (SimDisk::new(4), runtime());
    drop(open(&disk).unwrap());
    disk.set_available_bytes(0);
    let engine = open(&disk).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    let refused = append(&runtime, &tenant).unwrap_err();
    assert_eq!(refused.reason(), "DISK_FULL");
}
