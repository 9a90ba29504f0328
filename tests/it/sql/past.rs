//! Statements as of a point of the past: the same for ever, whatever is appended.

use std::sync::Arc;

use serde_json::json;
use tonic::{Code, Request};

use super::stubs::{EVENTS, ask, failure, noted, rows, server, texts};
use crate::flight::stubs::{Stub, fill, get, refusal};

const STATEMENTS: [&str; 8] = [
    "select * from events order by position",
    "select count(*), max(position) from events",
    "select * from events order by position desc limit 5",
    "select * from entities order by 1",
    "select entity_id, count(*), max(version) from events group by 1 order by 1",
    "select count(*) from types.\"order.paid\"",
    "select payload from events where entity_id = 'entity-3' and position > 20 order by position",
    "select table_name from information_schema.tables order by 1",
];

async fn at(stub: &Stub, statement: &str, as_of: &serde_json::Value) -> Vec<Vec<String>> {
    let ticket = json!({"sql": statement, "as_of": as_of}).to_string();
    texts(&get(stub, ticket).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_the_past_stays_what_it_is_while_events_are_appended() {
    let (server, tenant, stub) = server().await;
    let mut expected = Vec::new();
    for statement in STATEMENTS {
        expected.push(rows(&stub, statement).await);
    }
    let middle = at(&stub, STATEMENTS[0], &json!(100)).await;
    assert_eq!(middle.len(), 100);
    let writer = {
        let tenant = tenant.clone();
        tokio::spawn(async move {
            fill(&tenant, 2_000, 7, |n| {
                let mut event = noted(n);
                if n % 11 == 0 {
                    event.event_type = format!("new.{}", n % 5).into();
                }
                event
            })
            .await;
        })
    };
    let mut rounds = 0;
    while !writer.is_finished() || rounds < 3 {
        for (statement, expected) in STATEMENTS.iter().zip(&expected) {
            assert_eq!(
                at(&stub, statement, &json!(EVENTS)).await,
                *expected,
                "{statement}"
            );
        }
        assert_eq!(at(&stub, STATEMENTS[0], &json!(100)).await, middle);
        rounds += 1;
    }
    writer.await.unwrap();
    assert_eq!(tenant.head(), EVENTS + 2_000);
    server.server.shutdown().await;
}

/// One that reads a table twice reads it at one position, although events are appended between.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_reads_all_its_tables_at_one_position() {
    let (server, tenant, stub) = server().await;
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                fill(&tenant, 10, 1, noted).await;
            }
        })
    };
    for _ in 0..30 {
        let statement = "select (select count(*) from events) as a, (select max(position) from events) as b, \
             (select sum(events) from entities) as c, (select count(*) from events where version > 0) as d, \
             (select max(last_position) from entities) as e";
        let parts = ask(&stub, statement).await.unwrap();
        let head = parts[0].head.to_string();
        let rows = texts(&parts);
        assert!(
            rows[0].iter().all(|value| *value == head),
            "{head}: {rows:?}"
        );
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.await.unwrap();
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_of_a_request_names_a_point_as_the_ticket_does() {
    let (server, tenant, stub) = server().await;
    let event = tenant.event(60).await.unwrap();
    let count = |as_of: Option<&str>, ticket: serde_json::Value| {
        let mut stub = stub.clone();
        let mut request = Request::new(arrow_flight::Ticket::new(ticket.to_string()));
        if let Some(as_of) = as_of {
            request
                .metadata_mut()
                .insert("annals-as-of", as_of.parse().unwrap());
        }
        async move {
            let mut stream = stub.do_get(request).await?.into_inner();
            let mut told = None;
            while let Some(message) = stream.message().await? {
                if !message.app_metadata.is_empty() {
                    let json: serde_json::Value =
                        serde_json::from_slice(&message.app_metadata).unwrap();
                    told = json["head"].as_u64();
                }
            }
            Ok::<_, tonic::Status>(told.unwrap())
        }
    };
    let ticket = json!({"sql": "select count(*) from events"});
    let recorded = event.recorded_at().to_string();
    assert_eq!(count(None, ticket.clone()).await.unwrap(), EVENTS);
    assert_eq!(count(Some("100"), ticket.clone()).await.unwrap(), 100);
    let of_time = count(Some(&recorded), ticket.clone()).await.unwrap();
    assert!((60..70).contains(&of_time), "{of_time}");
    let pinned = json!({"sql": "select count(*) from events", "as_of": 50});
    assert_eq!(count(Some("100"), pinned).await.unwrap(), 50);
    let of_time = json!({"sql": "select count(*) from events", "as_of": recorded});
    assert!((60..70).contains(&count(None, of_time).await.unwrap()));

    for (as_of, expected) in [
        ("yesterday", (Code::InvalidArgument, "INVALID_REQUEST")),
        ("v3", (Code::InvalidArgument, "INVALID_REQUEST")),
        ("1000000", (Code::OutOfRange, "BEYOND_HEAD")),
    ] {
        let status = count(Some(as_of), ticket.clone()).await.unwrap_err();
        assert_eq!(
            refusal(&status),
            (expected.0, expected.1.to_owned()),
            "{as_of}"
        );
    }
    let other = json!({"sql": "select 1", "log_id": "6b8e7d5c-1111-4222-8333-944455556666"});
    let status = failure(&stub, &other).await;
    assert_eq!(
        refusal(&status),
        (Code::FailedPrecondition, "OTHER_LOG".to_owned())
    );
    assert_eq!(
        at(&stub, "select count(*) from events", &json!(0)).await,
        [["0"]]
    );
    server.server.shutdown().await;
}
