//! Appends that wait for the disk: what others see of them, what happens when too many do, and when callers go away. The
//! disk is held up meanwhile, so that nothing here depends on how fast it is.

use std::{
    future::{Future, poll_fn},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use annals::{
    AppendError, Batch, Engine, EngineOptions, Expect, GuardFailure, Kind, Limits, NewEvent,
    ReadRequest, Tenant, TenantId, types::time::SystemClock,
};

use super::{super::unsynced_disk::UnsyncedDisk, options, read};

async fn open(dir: &Path, disk: &Arc<UnsyncedDisk>, queue_bytes_max: usize) -> (Engine, Tenant) {
    let options = EngineOptions {
        limits: Limits {
            queue_bytes_max,
            ..options().limits
        },
        ..options()
    };
    let disk = Arc::clone(disk);
    let engine = Engine::open_with(disk, Arc::new(SystemClock), dir, options).unwrap();
    let tenant = engine.tenant(&TenantId::default()).await.unwrap();
    (engine, tenant)
}

fn batch(n: u64) -> Batch {
    Batch::new([NewEvent::new("order-1", "x", n.to_string())])
}

type Append<'a> = Pin<Box<dyn Future<Output = Result<annals::Appended, AppendError>> + 'a>>;

/// Begins an append; its answer, if there is one already.
async fn begin(append: &mut Append<'_>) -> Option<Result<annals::Appended, AppendError>> {
    poll_fn(|context| match append.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn payloads(tenant: &Tenant) -> Vec<String> {
    let events = read(tenant, ReadRequest::default()).await;
    events
        .iter()
        .map(|event| event.payload().to_owned())
        .collect()
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_hint_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(UnsyncedDisk::default());
    let (_engine, tenant) = open(dir.path(), &disk, 4_000).await;
    disk.hold();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut append: Append<'_> = Box::pin(tenant.append(batch(waiting.len() as u64)));
        match begin(&mut append).await {
            None => waiting.push(append),
            Some(answer) => break answer.unwrap_err(),
        }
    };
    assert!((3..100).contains(&waiting.len()), "{}", waiting.len());
    assert!(matches!(
        refused,
        AppendError::QueueFull {
            bytes_max: 4_000,
            ..
        }
    ));
    assert_eq!(refused.kind(), Kind::Exhausted);
    assert!(refused.retry_after().is_some());
    assert_eq!(tenant.head(), 0);
    disk.release();
    let count = waiting.len() as u64;
    for (n, append) in waiting.into_iter().enumerate() {
        assert_eq!(append.await.unwrap().first_position, n as u64 + 1);
    }
    let expected: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&tenant).await, expected);
}

/// The room that a batch takes in the queue was given back after its answer: who appended one large batch after the
/// other, never two at a time, was now and then told that the queue is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_got_an_answer_finds_room_for_as_much_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(UnsyncedDisk::default());
    let (_engine, tenant) = open(dir.path(), &disk, 400).await;
    for n in 0..2_000 {
        tenant.append(batch(n)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_waits_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(UnsyncedDisk::default());
    let (_engine, tenant) = open(dir.path(), &disk, 1_000).await;
    let (mut requests, mut answers) = tenant.append_stream();
    let sending = tokio::spawn(async move {
        for n in 0..300 {
            requests.append(n, batch(n)).await;
        }
    });
    let mut answered = 0;
    while let Some((n, answer)) = answers.recv().await {
        assert_eq!(
            (n, answer.unwrap().first_position),
            (answered, answered + 1)
        );
        answered += 1;
    }
    sending.await.unwrap();
    assert_eq!(answered, 300);
}

#[tokio::test]
async fn appends_whose_callers_went_away_are_appended_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(UnsyncedDisk::default());
    let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    {
        let (_engine, tenant) = open(dir.path(), &disk, 1 << 20).await;
        disk.hold();
        for n in 0..19 {
            let mut append: Append<'_> = Box::pin(tenant.append(batch(n)));
            assert_eq!(begin(&mut append).await, None);
        }
        disk.release();
        assert_eq!(tenant.append(batch(19)).await.unwrap().versions, [20]);
        assert_eq!(payloads(&tenant).await, expected);
    }
    let (_engine, tenant) = open(dir.path(), &disk, 1 << 20).await;
    assert_eq!(payloads(&tenant).await, expected);
}

#[tokio::test]
async fn answers_wait_for_what_they_were_judged_against() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(UnsyncedDisk::default());
    let (_engine, tenant) = open(dir.path(), &disk, 1 << 20).await;
    let id = uuid::Uuid::from_u128(1);
    let event = NewEvent::new("order-1", "x", "{}").with_id(id);
    let first = Batch::new([event]).expecting("order-1", Expect::Absent);
    disk.hold();
    let mut winner: Append<'_> = Box::pin(tenant.append(first.clone()));
    let mut repeat: Append<'_> = Box::pin(tenant.append(first));
    let second = batch(2).expecting("order-1", Expect::Absent);
    let mut loser: Append<'_> = Box::pin(tenant.append(second));
    for append in [&mut winner, &mut repeat, &mut loser] {
        assert_eq!(begin(append).await, None);
    }
    assert_eq!(tenant.head(), 0);
    assert_eq!(payloads(&tenant).await, Vec::<String>::new());
    assert!(tenant.event_by_id(id).await.is_err());
    assert!(tenant.state(&"order-1".into(), None).await.is_err());
    disk.release();
    let won = winner.await.unwrap();
    let repeated = repeat.await.unwrap();
    assert!(repeated.duplicate);
    assert_eq!(repeated.recorded_at, won.recorded_at);
    let failure = GuardFailure::Entity {
        index: 0,
        entity_id: "order-1".into(),
        expected: Expect::Absent,
        found: 1,
    };
    assert_eq!(loser.await, Err(AppendError::Guard(failure)));
}
