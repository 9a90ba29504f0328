//! `Tenant::verify`: of a tenant that is open, while it is appended to, sealed, merged and compacted.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use annals::{
    Client as RemoteClient, EngineOptions, Tenant,
    client::Verifying,
    engine::upkeep::verify::{Told, Verified},
    types::read::Damage,
};

use crate::{
    sealed_log::wait_until_sealed,
    sim_disk::SimDisk,
    verify::{verify, worked_client},
    workload::{Client, default_tenant, options, runtime, sealing_options},
};

fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

async fn verify_open(tenant: &Tenant) -> (Verified, Vec<Damage>, [u64; 2]) {
    let mut verification = tenant.verify();
    let (mut faults, mut bytes) = (Vec::new(), [0, 0]);
    while let Some(told) = verification.next().await {
        match told {
            Told::Bytes(total) => bytes[1] += total,
            Told::Read(read) => bytes[0] += read,
            Told::Fault(damage) => faults.push(damage),
            other => panic!("{other:?}"),
        }
    }
    let verified = verification.finish().await.unwrap();
    assert_eq!(verified.faults, faults.len() as u64);
    (verified, faults, bytes)
}

fn all_options() -> [EngineOptions; 4] {
    let (mut kept, mut compacted) = (sealing_options(), sealing_options());
    kept.limits.keep_bytes = u64::MAX;
    compacted.limits.keep_bytes = 20 << 10;
    compacted.limits.compact_fan_in = 2;
    [options(), sealing_options(), kept, compacted]
}

#[test]
fn an_open_tenant_is_verified_as_a_closed_one_is() {
    for options in all_options() {
        let (disk, client) = worked_client(&options, 3);
        let disk = disk.restart();
        let engine = client.open(&disk).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        let (open, faults, [read, total]) = multi_thread().block_on(verify_open(&tenant));
        assert_eq!(faults, []);
        // Of those that are replaced meanwhile, others are read than were counted.
        assert!(read == total || options.limits.seal_events < 100);
        engine.close();
        drop((tenant, engine));
        let (closed, _) = verify(&disk);
        // Of files, there may be fewer meanwhile.
        assert_eq!((open.events, open.tenants), (closed.events, 1));
    }
}

/// What is appended is not read before it is durable; what is sealed, merged, compacted or dropped meanwhile is no fault.
#[test]
fn nothing_is_wrong_with_a_tenant_that_is_worked_on() {
    for (options, seed) in all_options().into_iter().zip(1..) {
        let disk = SimDisk::new(seed);
        let mut client = Client::of(options.clone(), seed);
        let engine = client.open(&disk).unwrap();
        let runtime = multi_thread();
        let tenant = default_tenant(&runtime, &engine);
        let done = AtomicBool::new(false);
        let mut verified = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let appending = crate::workload::runtime();
                assert!(client.work(&appending, &tenant, 60));
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                let before = tenant.head();
                let (found, faults, _) = runtime.block_on(verify_open(&tenant));
                assert_eq!(faults, [], "seed {seed}");
                assert!(found.events >= before, "{} < {before}", found.events);
                verified.push(found.events);
            }
        });
        println!("verified {} times, {verified:?}", verified.len());
        assert!(verified.is_sorted() && verified.last() <= Some(&tenant.head()));
        engine.close();
    }
}

#[test]
fn damage_is_told_while_the_tenant_is_open() {
    let mut options = sealing_options();
    // Files stay what they are.
    options.limits.run_fan_in = usize::MAX;
    options.limits.compact_fan_in = usize::MAX;
    let (disk, client) = worked_client(&options, 5);
    for extension in ["parquet", "idx"] {
        let disk = disk.restart();
        let engine = client.open(&disk).unwrap();
        let tenant = default_tenant(&runtime(), &engine);
        let mut files: Vec<PathBuf> = disk.files();
        files.retain(|path| path.extension() == Some(extension.as_ref()));
        let middle = disk.content(&files[0]).len() / 2;
        disk.flip(&files[0], middle * 8);
        let (_, faults, _) = multi_thread().block_on(verify_open(&tenant));
        assert!(faults.iter().any(|fault| fault.path == files[0]));
        disk.flip(&files[0], middle * 8);
        disk.lose(&files[0]);
        let (_, faults, _) = multi_thread().block_on(verify_open(&tenant));
        assert!(faults.iter().any(|fault| fault.path == files[0]));
        engine.close();
    }
}

#[test]
fn a_verification_that_nobody_listens_to_is_given_up() {
    let options = sealing_options();
    let disk = SimDisk::new(5);
    let mut client = Client::of(options, 5);
    let engine = client.open(&disk).unwrap();
    let tenant = default_tenant(&runtime(), &engine);
    assert!(client.work(&runtime(), &tenant, 60));
    wait_until_sealed(&tenant, tenant.head().saturating_sub(20));
    let before = disk.reads();
    // The runtime waits for its threads.
    multi_thread().block_on(verify_open(&tenant));
    let whole = disk.reads() - before;
    let before = disk.reads();
    multi_thread().block_on(async {
        let mut verification = tenant.verify();
        verification.next().await;
    });
    let given_up = disk.reads() - before;
    assert!(given_up < whole, "{given_up} reads of {whole}");
    engine.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_verifies_what_it_serves() {
    let server = crate::wire::TestServer::start().await;
    let url = format!("http://{}", server.server.local_addr());
    let client = RemoteClient::connect(url).await.unwrap();
    let event = annals::NewEvent::new("order-1", "order.placed", "{}");
    client.append(&annals::Batch::new([event])).await.unwrap();
    let mut verification = client.verify().await.unwrap();
    let mut last = (0, 0);
    let summary = loop {
        match verification.next().await.unwrap() {
            Verifying::Progress { done, total } => {
                assert!(done >= last.0 && total >= last.1 && done <= total);
                last = (done, total);
            }
            Verifying::Fault(fault) => panic!("{fault:?}"),
            Verifying::Done(summary) => break summary,
        }
    };
    assert!(last.1 > 0 && last.0 == last.1);
    assert_eq!((summary.events, summary.faults), (1, 0));
}
