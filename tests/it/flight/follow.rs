//! Scans that go on: from what is sealed to what is not to what is appended, without gap or repeat.

use annals::{Batch, Position, Tenant};
use serde_json::{Value, json};
use tonic::Code;

use super::stubs::{
    Reading, Stub, counted, fill, get, numbered, numbers, refusal, sealing, stub, tenant, typed,
    until,
};
use crate::{
    rng::{Rng, seeds},
    wire::TestServer,
};

const EVENTS: u64 = 6_000;

/// Reads until all events are there and then two heartbeats; what it got.
async fn follow(stub: Stub, scan: Value) -> Vec<Position> {
    let mut reading = Reading::begin(&stub, typed(&scan)).await.unwrap();
    let (mut found, mut at, mut heartbeats) = (Vec::new(), scan["after"].as_u64(), 0);
    while heartbeats < 2 {
        let part = reading.next().await.unwrap().expect("it goes on");
        assert!(part.position >= at, "{:?} behind {at:?}", part.position);
        at = part.position;
        let positions = numbers([&part], "position");
        assert!(positions.last().copied() <= part.position);
        if positions.is_empty() && part.position == Some(EVENTS) {
            heartbeats += 1;
        }
        found.extend(positions);
    }
    found
}

async fn append(tenant: Tenant, seed: u64) {
    let mut rng = Rng::new(seed);
    while tenant.head() < EVENTS {
        let count = (1 + rng.below(40) as u64).min(EVENTS - tenant.head());
        let first = tenant.head() + 1;
        let events: Vec<_> = (first..first + count).map(numbered).collect();
        tenant.append(Batch::new(events)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_followed_has_no_gap_and_no_repeat_while_it_is_sealed() {
    for seed in seeds(2) {
        let server = TestServer::start_with(|config| {
            sealing(config, 150);
            config.limits.compact_fan_in = 3;
        })
        .await;
        let tenant = tenant(&server.server).await;
        fill(&tenant, 1_000, 10, numbered).await;
        let stub = stub(&server).await;
        let appending = tokio::spawn(append(tenant.clone(), seed));
        let mut following = Vec::new();
        for n in 0..6u64 {
            let after = if n == 0 { 0 } else { tenant.head() * n / 6 };
            let mut scan = json!({"follow": true, "after": after, "columns": ["position"]});
            if n % 2 == 1 {
                scan["types"] = json!(["b"]);
            }
            following.push((scan.clone(), tokio::spawn(follow(stub.clone(), scan))));
            until("it goes on", || {
                tenant.head() >= (1_000 + n * 600).min(EVENTS)
            })
            .await;
        }
        appending.await.unwrap();
        for (scan, found) in following {
            let after = scan["after"].as_u64().unwrap();
            let wanted = |n: &Position| scan["types"].is_null() || n % 3 == 1;
            let expected: Vec<_> = (after + 1..=EVENTS).filter(wanted).collect();
            assert_eq!(found.await.unwrap(), expected, "{scan}");
        }
        assert!(tenant.stats().sealed > 1_000);
        until("no subscriber is left", || tenant.stats().subscribers == 0).await;
        server.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_follow_is_converted_once() {
    const CONVERTED: &str = "annals_tail_rows_converted_total";
    for seed in seeds(3) {
        let server = TestServer::start_with(|config| {
            config.metrics = Some("127.0.0.1:0".parse().unwrap());
        })
        .await;
        let tenant = tenant(&server.server).await;
        let before = counted(&server, CONVERTED).await;
        let mut following = Vec::new();
        for n in 0..6 {
            let columns = if n % 2 == 0 {
                json!(["position", "payload"])
            } else {
                json!(["position"])
            };
            let scan = json!({"follow": true, "columns": columns});
            following.push(tokio::spawn(follow(stub(&server).await, scan)));
        }
        until("all follow", || tenant.stats().subscribers == 6).await;
        append(tenant.clone(), seed).await;
        let all: Vec<_> = (1..=EVENTS).collect();
        for found in following {
            assert_eq!(found.await.unwrap(), all);
        }
        let parts = get(&stub(&server).await, typed(&json!({}))).await.unwrap();
        assert_eq!(numbers(&parts, "position"), all);
        assert_eq!(counted(&server, CONVERTED).await - before, EVENTS);
        server.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_ends_what_is_followed() {
    let server = TestServer::start().await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 3, 3, numbered).await;
    let stub = stub(&server).await;
    let scan = json!({"follow": true, "limit": 5, "columns": ["position"]});
    let mut reading = Reading::begin(&stub, typed(&scan)).await.unwrap();
    let first = reading.next().await.unwrap().unwrap();
    assert_eq!(numbers([&first], "position"), [1, 2, 3]);
    fill(&tenant, 4, 4, numbered).await;
    let rest = reading.rest().await.unwrap();
    assert_eq!(numbers(&rest, "position"), [4, 5]);
    assert_eq!(rest.last().unwrap().position, Some(5));
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_told() {
    let server = TestServer::start().await;
    let stub = stub(&server).await;
    for scan in [
        json!({"follow": true, "table": "entities"}),
        json!({"follow": true, "as_of": 0}),
        json!({"follow": true, "through": 5}),
    ] {
        let refused = Reading::begin(&stub, typed(&scan)).await.err().unwrap();
        assert_eq!(refusal(&refused).0, Code::InvalidArgument, "{scan}");
        assert!(
            refused.message().contains("follow"),
            "{}",
            refused.message()
        );
    }
    server.server.shutdown().await;
}
