//! Power loss at every write, sync and change of a name, in normal work and during recovery.

use annals::{Engine, EngineOptions, TenantError, TenantId};

use crate::{
    rng::{Rng, seeds},
    sim_disk::SimDisk,
    verify::assert_well,
    workload::{Client, default_tenant, open, options, runtime, sealing_options},
};

/// Works until the power goes or everything is done; true if it was done.
fn work(disk: &SimDisk, client: &mut Client) -> bool {
    let runtime = runtime();
    for session in 0..3 {
        let Ok(engine) = client.open(disk) else {
            assert!(disk.is_dead(), "a healthy disk could not be opened");
            return false;
        };
        let tenant = default_tenant(&runtime, &engine);
        let whole = client.work(&runtime, &tenant, 5);
        // Not every session ends with a clean close, as far as a process can end without one.
        if session != 1 {
            engine.close();
        }
        if !whole || disk.is_dead() {
            return false;
        }
    }
    true
}

/// Verifies what a crash left, opens it, checks it, goes on with it, and checks that again after another start.
pub(crate) fn go_on(disk: &SimDisk, client: &Client, context: &str) {
    assert_well(disk, context);
    let runtime = runtime();
    let mut client = client.clone();
    let engine = client
        .open(disk)
        .unwrap_or_else(|e| panic!("{context}: {e}"));
    let tenant = default_tenant(&runtime, &engine);
    client.check(&tenant, context);
    client.retry(&runtime, &tenant, context);
    assert!(client.work(&runtime, &tenant, 2), "{context}");
    client.check(&tenant, context);
    engine.close();
    drop((tenant, engine));

    let again = disk.restart();
    let engine = client
        .open(&again)
        .unwrap_or_else(|e| panic!("{context}, again: {e}"));
    let tenant = default_tenant(&runtime, &engine);
    assert_eq!(tenant.recovery().cut_bytes, 0, "{context}");
    client.check(&tenant, context);
    again.check(context);
}

/// Returns how many log files were used again meanwhile.
fn crash_at_every_change(options: &EngineOptions) -> u64 {
    let mut reused = 0;
    for seed in seeds(1) {
        for change in 0.. {
            let disk = SimDisk::new(seed ^ change);
            disk.crash_at(change);
            let mut client = Client::of(options.clone(), seed);
            let done = work(&disk, &mut client);
            disk.check(&format!("seed {seed}, crash at {change}"));
            reused += disk.reused();
            for image in 0..3 {
                go_on(
                    &disk.crash(),
                    &client,
                    &format!("seed {seed}, crash at {change}, image {image}"),
                );
            }
            if done {
                println!("{change} places to crash at, {reused} files used again");
                break;
            }
        }
    }
    reused
}

#[test]
fn every_acknowledged_event_survives_a_crash_at_every_write_and_sync() {
    // Nothing is sealed.
    assert_eq!(crash_at_every_change(&options()), 0);
}

#[test]
fn every_acknowledged_event_survives_a_crash_while_it_is_sealed() {
    // How many files are used again is up to the seed: `recycling` sees to it.
    crash_at_every_change(&sealing_options());
}

fn kill_at_every_change(options: &EngineOptions) {
    for seed in seeds(1) {
        for change in 0.. {
            let disk = SimDisk::new(seed ^ change);
            disk.crash_at(change);
            let mut client = Client::of(options.clone(), seed);
            let done = work(&disk, &mut client);
            let context = format!("seed {seed}, killed at {change}");
            go_on(&disk.restart(), &client, &context);
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_the_kernel_has() {
    kill_at_every_change(&options());
    kill_at_every_change(&sealing_options());
}

#[test]
fn crashes_during_recovery_lose_nothing() {
    for (seed, options) in seeds(12).zip([options(), sealing_options()].iter().cycle()) {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new(seed);
        disk.crash_at(rng.below(150) as u64);
        let mut client = Client::of(options.clone(), seed);
        work(&disk, &mut client);
        disk = disk.crash();
        // The first start gets no further than its first change, the next one to its second, and so on.
        for change in 0.. {
            let attempt = disk.restart();
            attempt.crash_at(change);
            if client.open(&attempt).is_ok() && !attempt.is_dead() {
                break;
            }
            disk = attempt.crash();
            if rng.chance(20) {
                let context = format!("seed {seed}, recovery crashed at {change}");
                go_on(&disk.restart(), &client, &context);
            }
        }
        go_on(&disk, &client, &format!("seed {seed}, after all"));
    }
}

fn other() -> TenantId {
    TenantId::try_from("other").unwrap()
}

/// Works on two tenants by turns, one of which is made on the way.
fn work_on_two(disk: &SimDisk, clients: &mut [Client; 2]) -> Option<Engine> {
    let runtime = runtime();
    let engine = open(disk).ok()?;
    let first = default_tenant(&runtime, &engine);
    let mut second = None;
    for round in 0..8 {
        if round == 3 {
            second = Some(runtime.block_on(engine.create_tenant(&other())).ok()?);
        }
        if !clients[0].work(&runtime, &first, 1) {
            return None;
        }
        if second
            .as_ref()
            .is_some_and(|second| !clients[1].work(&runtime, second, 2))
        {
            return None;
        }
    }
    Some(engine)
}

#[test]
fn a_crash_leaves_every_tenant_whole_or_not_yet_made() {
    for seed in seeds(1) {
        for change in 0.. {
            let disk = SimDisk::new(seed ^ change);
            disk.crash_at(change);
            let mut clients = [Client::new(seed), Client::new(seed + 1)];
            let done = work_on_two(&disk, &mut clients).is_some() && !disk.is_dead();
            for image in 0..2 {
                let context = format!("seed {seed}, crash at {change}, image {image}");
                let (disk, runtime) = (disk.crash(), runtime());
                assert_well(&disk, &context);
                let engine = open(&disk).unwrap_or_else(|e| panic!("{context}: {e}"));
                let first = default_tenant(&runtime, &engine);
                clients[0].check(&first, &context);
                let second = match runtime.block_on(engine.tenant(&other())) {
                    Ok(second) => second,
                    Err(TenantError::NoSuchTenant(_)) => {
                        assert!(!clients[1].was_told(), "{context}: a tenant is lost");
                        runtime.block_on(engine.create_tenant(&other())).unwrap()
                    }
                    Err(other) => panic!("{context}: {other}"),
                };
                clients[1].check(&second, &context);
                clients[1].clone().retry(&runtime, &second, &context);
            }
            if done {
                break;
            }
        }
    }
}
