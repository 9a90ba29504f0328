//! Failures that random tests found once, each told as a story.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use annals::{
    AppendError, Batch, Engine, EngineOptions, Filter, NewEvent, Query, QueryItem, ReadRequest,
    Tenant, TenantId, Timestamp,
    storage::disk::RealDisk,
    types::time::{Clock, SystemClock},
};
use tokio::runtime;

use crate::{unsynced_disk::UnsyncedDisk, workload::read_all};

async fn tenant(engine: &Engine) -> Tenant {
    engine.tenant(&TenantId::default()).await.unwrap()
}

fn paid() -> Batch {
    Batch::new([NewEvent::new("order-1", "order.paid", "{}")])
}

/// All types of a prefix were asked for with a page of half the address space, and room for it was reserved at once:
/// every read and subscription with a type prefix panicked.
#[tokio::test]
async fn types_are_found_by_their_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
    let tenant = tenant(&engine).await;
    tenant.append(paid()).await.unwrap();
    let filter = Filter {
        event_type_prefix: "order.".into(),
        ..Filter::default()
    };
    let request = ReadRequest {
        filter,
        ..ReadRequest::default()
    };
    let events = tenant.read(request).unwrap().next().await.unwrap();
    assert_eq!(events.unwrap().len(), 1);
}

/// The position behind `after` was computed before `after` was compared with the head: the largest number overflowed,
/// and the caller's task panicked.
#[tokio::test]
async fn a_guard_after_the_largest_position_is_beyond_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
    let query = Query {
        items: vec![QueryItem {
            event_types: vec!["order.paid".into()],
            tags: Vec::new(),
        }],
    };
    let refused = tenant(&engine)
        .await
        .append(paid().unless(query, u64::MAX))
        .await;
    let expected = AppendError::BeyondHead {
        field: "guards[0].no_match.after".to_owned(),
        position: u64::MAX,
        head: 0,
    };
    assert_eq!(refused, Err(expected));
}

/// Only files with events were counted: a new log stood in a file, and in none according to its statistics. The same
/// log had one file more after it was opened again, and a few bytes less.
#[tokio::test]
async fn statistics_count_the_files_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = 0;
    for _ in 0..3 {
        let engine = Engine::open(dir.path(), EngineOptions::default()).unwrap();
        let stats = tenant(&engine).await.stats();
        let files = fs::read_dir(dir.path().join("tenants/default/log")).unwrap();
        assert_eq!(stats.log_files, files.count() as u64);
        assert!(stats.log_bytes >= bytes);
        tenant(&engine).await.append(paid()).await.unwrap();
        bytes = tenant(&engine).await.stats().log_bytes;
    }
}

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// The frame that states what is durable had the time that it was written at. A clock that ran ahead while nothing was
/// appended, and was put right before a restart, was then said to be behind the last event: appends were refused.
#[tokio::test]
async fn a_clock_that_was_ahead_between_appends_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let now = 1_767_225_600_000_000;
    let clock = Arc::new(SetClock(AtomicI64::new(now)));
    let open = || {
        let (disk, clock) = (Arc::new(RealDisk), Arc::clone(&clock));
        Engine::open_with(disk, clock, dir.path(), EngineOptions::default()).unwrap()
    };
    let engine = open();
    tenant(&engine).await.append(paid()).await.unwrap();
    clock.0.store(now + 3_600_000_000, Ordering::Relaxed);
    drop(engine);
    clock.0.store(now + 1_000, Ordering::Relaxed);
    let appended = tenant(&open()).await.append(paid()).await.unwrap();
    assert_eq!(appended.recorded_at.as_micros(), now + 1_000);
}

/// An entity whose last events were sealed between the look at what is sealed and the batch's turn began anew at version 1.
#[test]
fn versions_go_on_while_events_are_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EngineOptions::default();
    options.limits.seal_events = 3;
    options.limits.keep_bytes = 0;
    let disk = Arc::new(UnsyncedDisk::default());
    let engine = Engine::open_with(disk, Arc::new(SystemClock), dir.path(), options).unwrap();
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let tenant = runtime
        .block_on(engine.tenant(&TenantId::default()))
        .unwrap();
    let writers = (0..4).map(|_| {
        let tenant = tenant.clone();
        runtime.spawn(async move {
            for n in 0..250 {
                let event = NewEvent::new(format!("entity {}", n % 7), "t", "{}");
                tenant.append(Batch::new([event])).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        runtime.block_on(writer).unwrap();
    }
    let mut versions = HashMap::new();
    for event in read_all(&tenant).unwrap() {
        let version = versions.entry(event.entity_id().to_owned()).or_insert(0);
        *version += 1;
        assert_eq!(event.version(), *version, "{event:?}");
    }
    assert_eq!(versions.values().sum::<u64>(), 1_000);
}
