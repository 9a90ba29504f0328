//! Pipelined appends, and what is read after an acknowledgement.

use tokio::task::JoinSet;
use uuid::Uuid;

use annals::{
    AppendError, Batch, CursorRecord, Delivery, Expect, Filter, ListRequest, NewEvent, Query,
    QueryItem, ReadRequest, Start, SubscribeRequest, Tenant, Text, Violations,
};

use super::{open, read};

const REQUESTS: u64 = 600;

/// What the n-th request of a stream is to become.
#[derive(PartialEq, Eq, Debug)]
enum Expected {
    Appended,
    Repeated,
    Invalid,
    Conflict,
    Refused,
}

fn expected(n: u64) -> Expected {
    match n % 6 {
        1 => Expected::Invalid,
        2 => Expected::Conflict,
        4 => Expected::Repeated,
        5 => Expected::Refused,
        _ => Expected::Appended,
    }
}

fn request(stream: u64, n: u64) -> Batch {
    let id = |n: u64| Uuid::from_u64_pair(stream + 1, n);
    let event =
        |n: u64| NewEvent::new(format!("stream-{stream}"), "x", n.to_string()).with_id(id(n));
    match expected(n) {
        Expected::Invalid => Batch::new([NewEvent::new("$no", "x", "{}")]),
        Expected::Conflict => {
            Batch::new([event(n)]).expecting(format!("stream-{stream}"), Expect::Absent)
        }
        // The batch before the last one, which may be on its way to the disk still.
        Expected::Repeated => Batch::new([event(n - 1)]),
        Expected::Appended | Expected::Refused => Batch::new([event(n)]),
    }
}

/// Hands over requests without waiting for answers, and checks these.
async fn stream(tenant: Tenant, number: u64) {
    let (mut requests, mut answers) = tenant.append_stream();
    let sending = tokio::spawn(async move {
        for n in 0..REQUESTS {
            if expected(n) == Expected::Refused {
                let what = "it was no batch";
                requests.refuse(n, AppendError::Invalid(Violations::one("request", what)));
            } else {
                requests.append(n, request(number, n)).await;
            }
        }
    });
    let mut next = 0;
    let mut last = 0;
    while let Some((n, answer)) = answers.recv().await {
        assert_eq!(n, next, "answers in the order of requests");
        next += 1;
        match (expected(n), answer) {
            (Expected::Appended, Ok(appended)) if !appended.duplicate => {
                assert!(appended.first_position > last, "in the order of requests");
                last = appended.first_position;
            }
            (Expected::Repeated, Ok(appended)) if appended.duplicate => {
                assert_eq!(appended.first_position, last);
            }
            (Expected::Invalid | Expected::Refused, Err(AppendError::Invalid(_))) => {}
            (Expected::Conflict, Err(AppendError::Guard(_))) => {}
            (expected, answer) => panic!("request {n}: {expected:?}, but {answer:?}"),
        }
    }
    assert_eq!(next, REQUESTS);
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_is_committed_and_answered_in_the_order_of_its_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    let mut streams = JoinSet::new();
    for number in 0..4 {
        streams.spawn(stream(tenant.clone(), number));
    }
    streams.join_all().await;
    let expected: Vec<String> = (0..REQUESTS)
        .filter(|n| expected(*n) == Expected::Appended)
        .map(|n| n.to_string())
        .collect();
    for number in 0..4 {
        let request = ReadRequest {
            filter: Filter {
                entity_ids: vec![format!("stream-{number}").into()],
                ..Filter::default()
            },
            ..ReadRequest::default()
        };
        let events = read(&tenant, request).await;
        let payloads: Vec<_> = events
            .iter()
            .map(|event| event.payload().to_owned())
            .collect();
        assert_eq!(payloads, expected);
    }
}

/// Looks for an acknowledged event in every way there is.
async fn find(tenant: &Tenant, entity: &str, tag: &str, version: u64, id: Uuid, position: u64) {
    assert!(tenant.head() >= position);
    assert!(tenant.stats().head >= position);
    assert_eq!(tenant.event(position).await.unwrap().event_id(), id);
    assert_eq!(tenant.event_by_id(id).await.unwrap().position(), position);
    let item = QueryItem {
        event_types: Vec::new(),
        tags: vec![tag.into()],
    };
    for filter in [
        Filter::default(),
        Filter {
            entity_ids: vec![entity.into()],
            ..Filter::default()
        },
        Filter {
            event_types: vec![entity.into()],
            ..Filter::default()
        },
        Filter {
            event_type_prefix: entity.into(),
            ..Filter::default()
        },
        Filter {
            tags: vec![tag.into()],
            ..Filter::default()
        },
        Filter {
            query: Query { items: vec![item] },
            ..Filter::default()
        },
    ] {
        let request = ReadRequest {
            filter: filter.clone(),
            after: position - 1,
            limit: Some(1),
            ..ReadRequest::default()
        };
        let found = read(tenant, request).await;
        assert_eq!(found[0].event_id(), id, "{filter:?}");
        let start = Start::After(position - 1);
        let request = SubscribeRequest {
            filter,
            start,
            log_id: None,
        };
        let mut subscription = tenant.subscribe(request).unwrap();
        let events = loop {
            match subscription.next().await.unwrap() {
                Delivery::Events(events) => break events,
                Delivery::CaughtUp(at) => panic!("caught up at {at}, {position} not seen"),
                Delivery::Checkpoint(_) => {}
            }
        };
        assert_eq!(events[0].event_id(), id);
    }
    let state = tenant.state(&entity.into(), None).await.unwrap();
    assert_eq!((state.version, state.state), (version, version.to_string()));
    let listing = ListRequest {
        prefix: entity.into(),
        limit: 1,
        ..ListRequest::default()
    };
    for listed in [
        tenant.list_entities(&listing),
        tenant.list_event_types(&listing),
    ] {
        assert_eq!(listed.unwrap().names[0].last_position, position);
    }
    assert_eq!(tenant.cursor(&entity.into()), Ok(position - 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_acknowledged_is_seen_in_every_read() {
    let dir = tempfile::tempdir().unwrap();
    let (_engine, tenant) = open(dir.path()).await;
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let tenant = tenant.clone();
        writers.spawn(async move {
            let entity = format!("writer-{writer}");
            let mut previous = 0;
            for version in 1..=25u64 {
                let tag = format!("tag-{writer}-{version}");
                let id = Uuid::from_u64_pair(writer, version);
                let event = NewEvent::new(entity.as_str(), entity.as_str(), version.to_string())
                    .with_id(id)
                    .with_tags([tag.as_str()]);
                // Moves to just before the event once that is known, so one append behind.
                let batch =
                    Batch::new([event]).expecting(entity.as_str(), Expect::Version(version - 1));
                let position = tenant.append(batch).await.unwrap().first_position;
                let record = CursorRecord {
                    name: Text::from(entity.as_str()),
                    position: position - 1,
                    expected: Some(previous),
                };
                tenant
                    .append(Batch::default().with_cursor(record))
                    .await
                    .unwrap();
                previous = position - 1;
                find(&tenant, &entity, &tag, version, id, position).await;
            }
        });
    }
    writers.join_all().await;
}
