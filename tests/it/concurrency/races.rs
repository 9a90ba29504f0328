//! Many want what only one can have.

use std::sync::Arc;

use tokio::{sync::Barrier, task::JoinSet};

use annals::{
    AppendError, Appended, Batch, CursorRecord, Expect, Filter, GuardFailure, NewEvent, Query,
    QueryItem, ReadRequest, Tenant, Text,
};

use super::{open, read};

const RACERS: usize = 64;
const ROUNDS: u64 = 50;

/// Appends the batch as often as there are racers, all at once; returns what became of the winner and of the others.
async fn race(tenant: &Tenant, batch: &Batch) -> (Appended, Vec<GuardFailure>) {
    let start = Arc::new(Barrier::new(RACERS));
    let mut racers = JoinSet::new();
    for _ in 0..RACERS {
        let (tenant, batch, start) = (tenant.clone(), batch.clone(), Arc::clone(&start));
        racers.spawn(async move {
            start.wait().await;
            tenant.append(batch).await
        });
    }
    let mut winner = None;
    let mut failures = Vec::new();
    while let Some(outcome) = racers.join_next().await {
        match outcome.unwrap() {
            Ok(appended) => assert_eq!(winner.replace(appended), None, "two winners"),
            Err(AppendError::Guard(failure)) => failures.push(failure),
            Err(other) => panic!("{other}"),
        }
    }
    (winner.expect("a winner"), failures)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_64_gets_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    for round in 0..ROUNDS {
        let expected = Expect::Version(round);
        let event = NewEvent::new("order-1", "order.changed", "{}");
        let (winner, failures) =
            race(&tenant, &Batch::new([event]).expecting("order-1", expected)).await;
        assert_eq!(winner.first_position, round + 1);
        assert_eq!(winner.versions, [round + 1]);
        let failure = GuardFailure::Entity {
            index: 0,
            entity_id: "order-1".into(),
            expected,
            found: round + 1,
        };
        assert_eq!(failures, vec![failure; RACERS - 1]);
    }
    assert_eq!(tenant.head(), ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_64_gets_a_tag() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    for round in 0..ROUNDS {
        let seat = Text::from(format!("seat:{}", round % 7));
        let query = Query {
            items: vec![QueryItem {
                event_types: Vec::new(),
                tags: vec![seat.clone()],
            }],
        };
        let entity_id = format!("booking-{round}");
        let event = NewEvent::new(entity_id, "seat.booked", "{}").with_tags([seat]);
        let batch = Batch::new([event]).unless(query, tenant.head());
        let (winner, failures) = race(&tenant, &batch).await;
        let found = winner.first_position;
        assert_eq!(found, round + 1);
        let failure = GuardFailure::NoMatch { index: 0, found };
        assert_eq!(failures, vec![failure; RACERS - 1]);
    }
    assert_eq!(tenant.head(), ROUNDS);
}

/// Each works on the next event that the cursor has not passed; whoever is too late finds out and starts over.
async fn derive(tenant: Tenant, sources: u64) -> u64 {
    let cursor = Text::from("deriver");
    let mut conflicts = 0;
    loop {
        let at = tenant.cursor(&cursor).unwrap();
        let request = ReadRequest {
            filter: Filter {
                event_types: vec!["source".into()],
                ..Filter::default()
            },
            after: at,
            limit: Some(1),
            ..ReadRequest::default()
        };
        let Some(source) = read(&tenant, request).await.pop() else {
            assert_eq!(at, sources);
            return conflicts;
        };
        let payload = source.position().to_string();
        let batch = Batch::new([NewEvent::new("derived", "derived", payload)]);
        let record = CursorRecord {
            name: cursor.clone(),
            position: source.position(),
            expected: Some(at),
        };
        match tenant.append(batch.with_cursor(record)).await {
            Ok(_) => {}
            Err(AppendError::Guard(GuardFailure::Cursor {
                index: 0,
                name,
                expected,
                found,
            })) => {
                assert_eq!((name, expected), (cursor.clone(), at));
                assert!(found > at, "a cursor went from {at} to {found}");
                conflicts += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_consumers_derive_every_event_once_and_in_order() {
    const SOURCES: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    let sources = (0..SOURCES).map(|n| NewEvent::new("source", "source", n.to_string()));
    tenant.append(Batch::new(sources)).await.unwrap();
    let mut consumers = JoinSet::new();
    for _ in 0..6 {
        consumers.spawn(derive(tenant.clone(), SOURCES));
    }
    let conflicts: u64 = consumers.join_all().await.into_iter().sum();
    let request = ReadRequest {
        after: SOURCES,
        ..ReadRequest::default()
    };
    let derived = read(&tenant, request).await;
    let from: Vec<u64> = derived
        .iter()
        .map(|e| e.payload().parse().unwrap())
        .collect();
    assert_eq!(
        from,
        (1..=SOURCES).collect::<Vec<_>>(),
        "{conflicts} conflicts"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_of_many_writers_are_contiguous() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let tenant = tenant.clone();
        writers.spawn(async move {
            for n in 0..40u64 {
                let count = 1 + (n + writer) % 5;
                let events = (0..count).map(|i| {
                    let entity_id = format!("entity-{}", (writer + i * n) % 7);
                    NewEvent::new(entity_id, "x", format!("[{writer},{n},{i},{count}]"))
                });
                let appended = tenant.append(Batch::new(events)).await.unwrap();
                assert_eq!(appended.last_position - appended.first_position, count - 1);
            }
        });
    }
    writers.join_all().await;
    let events = read(&tenant, ReadRequest::default()).await;
    let mut rest = events.as_slice();
    let mut versions = std::collections::HashMap::new();
    while let Some(first) = rest.first() {
        let [writer, n, _, count]: [u64; 4] = serde_json::from_str(first.payload()).unwrap();
        let (batch, behind) = rest.split_at(usize::try_from(count).unwrap());
        for (i, event) in batch.iter().enumerate() {
            assert_eq!(event.payload(), format!("[{writer},{n},{i},{count}]"));
            assert_eq!(event.recorded_at(), first.recorded_at());
            let version = versions.entry(event.entity_id().to_owned()).or_insert(0);
            *version += 1;
            assert_eq!(event.version(), *version);
        }
        rest = behind;
    }
}
