//! Sealing on a disk that refuses: appends and reads go on, then appends are refused for what waits, and go on once the
//! disk does its work again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use annals::{
    AppendError, Appended, Batch, Engine, EngineOptions, Kind, NewEvent, Tenant,
    types::time::SystemClock,
};
use tokio::runtime::Runtime;

use crate::{
    refusing_disk::{Refused, RefusingDisk},
    sealed_log::wait_until_sealed,
    workload::{FOLDER, default_tenant, read_all, runtime, sealing_options},
};

const ALL: [Refused; 7] = [
    Refused::CreateDir,
    Refused::Create,
    Refused::Write,
    Refused::Sync,
    Refused::Rename,
    Refused::SyncDir,
    Refused::Open,
];
const PATIENCE: Duration = Duration::from_mins(1);
/// Parts of two events.
const BACKLOG_MAX: usize = 3;

fn options() -> EngineOptions {
    let mut options = sealing_options();
    options.limits.seal_events = 2;
    options.limits.seal_backlog_max = BACKLOG_MAX;
    options
}

fn open(disk: &RefusingDisk) -> Engine {
    let clock = Arc::new(SystemClock);
    Engine::open_with(Arc::new(disk.clone()), clock, FOLDER, options()).unwrap()
}

/// Fails rather than wait for ever.
fn append(runtime: &Runtime, tenant: &Tenant) -> Result<Appended, AppendError> {
    let batch = Batch::new([NewEvent::new("a", "t", "{}").with_tags(["x"])]);
    runtime.block_on(async {
        let answered = tokio::time::timeout(PATIENCE, tenant.append(batch)).await;
        answered.expect("an append hangs")
    })
}

/// Appends until it is refused; all before that stands and can be read.
fn append_until_refused(runtime: &Runtime, tenant: &Tenant, context: &str) {
    let before = tenant.head();
    let refused = loop {
        match append(runtime, tenant) {
            Ok(appended) => assert_eq!(appended.last_position, tenant.head(), "{context}"),
            Err(refused) => break refused,
        }
        assert!(tenant.head() < before + 50, "{context}: never refused");
    };
    assert_eq!(refused, AppendError::SealBehind, "{context}");
    assert_eq!(refused.reason(), "SEAL_BEHIND", "{context}");
    assert_eq!(refused.kind(), Kind::Exhausted, "{context}");
    assert!(refused.retry_after().is_some(), "{context}");
    // All but the newest part wait, which began with the last event.
    let unsealed = tenant.head() - tenant.stats().sealed;
    assert_eq!(unsealed, 2 * BACKLOG_MAX as u64 + 1, "{context}");
    let events = read_all(tenant).unwrap();
    assert_eq!(events.len() as u64, tenant.head(), "{context}");
    assert_eq!(tenant.stats().poisoned, None, "{context}");
}

#[test]
fn sealing_that_fails_refuses_appends_in_the_end_and_goes_on_by_itself() {
    std::thread::scope(|scope| {
        for (refused, below) in ALL
            .into_iter()
            .flat_map(|r| [(r, "segments"), (r, "index")])
        {
            scope.spawn(move || {
                let context = format!("{refused:?} below {below}");
                let (disk, runtime) = (RefusingDisk::new(refused, below), runtime());
                let engine = open(&disk);
                let tenant = default_tenant(&runtime, &engine);
                append_until_refused(&runtime, &tenant, &context);
                assert!(disk.refusals() > 0, "{context}");
                disk.mend();
                wait_until_sealed(&tenant, tenant.head() - 2);
                for _ in 0..20 {
                    let outcome = append(&runtime, &tenant);
                    assert!(outcome.is_ok(), "{context}: {outcome:?}");
                }
                let events = read_all(&tenant).unwrap();
                assert_eq!(events.len() as u64, tenant.head(), "{context}");
                wait_until_sealed(&tenant, tenant.head() - 2);
                engine.close();
                drop((tenant, engine));
                disk.disk.check(&context);

                let engine = open(&disk);
                let tenant = default_tenant(&runtime, &engine);
                assert_eq!(read_all(&tenant).unwrap(), events, "{context}");
            });
        }
    });
}

/// The wait between two attempts doubles: had closing waited for the next one, it would never come to an end here.
#[test]
fn closing_does_not_wait_for_a_seal_that_fails() {
    let (disk, runtime) = (RefusingDisk::new(Refused::Sync, "segments"), runtime());
    for _ in 0..3 {
        let engine = open(&disk);
        let tenant = default_tenant(&runtime, &engine);
        append_until_refused(&runtime, &tenant, "once more");
        engine.close();
        let refused = append(&runtime, &tenant).unwrap_err();
        assert!(
            matches!(refused, AppendError::ShuttingDown | AppendError::SealBehind),
            "{refused}"
        );
        drop((tenant, engine));
        // What waited is sealed with the next start.
        disk.mend();
        let engine = open(&disk);
        let tenant = default_tenant(&runtime, &engine);
        wait_until_sealed(&tenant, tenant.head().saturating_sub(2));
        drop((tenant, engine));
        disk.refuse(Refused::Sync, "segments");
    }
}

/// A stream of appends is answered, each with the reason, and does not hang.
#[test]
fn a_stream_of_appends_is_refused_while_sealing_fails() {
    let (disk, runtime) = (RefusingDisk::new(Refused::Create, "index"), runtime());
    let engine = open(&disk);
    let tenant = default_tenant(&runtime, &engine);
    let batches = (0..40).map(|_| Batch::new([NewEvent::new("a", "t", "{}")]));
    let outcomes = crate::workload::send(&runtime, &tenant, batches.collect());
    let stored = outcomes
        .iter()
        .take_while(|outcome| outcome.is_ok())
        .count();
    assert!(stored > 2 * BACKLOG_MAX && stored < 40, "{stored}");
    for outcome in &outcomes[stored..] {
        assert_eq!(*outcome, Err(AppendError::SealBehind));
    }
    assert_eq!(tenant.head(), stored as u64);
}

/// A log file that was gone though its removal had failed was removed again and again, in vain, and no other one after it.
#[test]
fn sealed_log_files_go_on_being_removed_after_a_failure() {
    let (disk, runtime) = (RefusingDisk::new(Refused::Remove, "log"), runtime());
    let engine = open(&disk);
    let tenant = default_tenant(&runtime, &engine);
    let is_log = |path: &std::path::PathBuf| path.extension() == Some("log".as_ref());
    let log_files = || disk.disk.files().into_iter().filter(is_log).count();
    while disk.refusals() < 2 {
        append(&runtime, &tenant).unwrap();
    }
    disk.mend();
    let deadline = Instant::now() + PATIENCE;
    while log_files() > 2 {
        assert!(Instant::now() < deadline, "{} are left", log_files());
        append(&runtime, &tenant).unwrap();
    }
    assert_eq!(read_all(&tenant).unwrap().len() as u64, tenant.head());
}

/// The part that grows counted as one that waits: with a backlog of none the first append waited for ever.
#[test]
fn a_backlog_of_no_parts_stops_no_append() {
    let runtime = runtime();
    let disk = RefusingDisk::new(Refused::Create, "nowhere");
    let mut options = options();
    options.limits.seal_backlog_max = 0;
    let clock = Arc::new(SystemClock);
    let engine = Engine::open_with(Arc::new(disk), clock, FOLDER, options).unwrap();
    let tenant = default_tenant(&runtime, &engine);
    for _ in 0..20 {
        append(&runtime, &tenant).unwrap();
    }
    wait_until_sealed(&tenant, 18);
}
