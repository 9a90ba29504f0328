//! Streams of rows: how large their messages are, where they are taken up again, how they end, what they leave behind.

use std::{fs, time::Duration};

use annals::{NewEvent, Position};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tonic::{Code, transport::Endpoint};

use super::stubs::{
    Part, Reading, Stub, cells, counted, fill, get, numbered, numbers, refusal, sealing, stub,
    tenant, typed, until,
};
use crate::{
    rng::{Rng, seeds},
    wire::TestServer,
};

const FROM_SEGMENTS: &str = r#"annals_table_rows_total{origin="segment"}"#;
const FROM_LOG: &str = r#"annals_table_rows_total{origin="log"}"#;

/// What clients that are made by default take.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

fn large(position: Position, bytes: usize) -> NewEvent {
    let payload = format!(r#"{{"n":{position},"x":"{}"}}"#, "x".repeat(bytes));
    NewEvent::new(
        format!("entity-{}", position % 7),
        ["a", "b", "c"][position as usize % 3],
        payload,
    )
}

fn check_ends(parts: &[Part]) {
    for pair in parts.windows(2) {
        assert!(pair[0].position < pair[1].position, "each moves on");
    }
    for part in parts {
        let last = numbers([part], "position").last().copied();
        assert!(last <= part.position && part.position <= Some(part.head));
        assert!(part.bytes <= MESSAGE_BYTES_MAX, "{} bytes", part.bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_taken_up_again_where_it_was_lost() {
    let server = TestServer::start_with(|config| sealing(config, 60)).await;
    let tenant = tenant(&server.server).await;
    // 27 MB, the last part of which is not sealed.
    fill(&tenant, 550, 10, |n| large(n, 50_000)).await;
    until("the first parts are sealed", || {
        tenant.stats().sealed >= 420
    })
    .await;
    let stub = stub(&server).await;
    for filter in [
        json!({}),
        json!({"types": ["b"]}),
        json!({"entities": ["entity-3"]}),
    ] {
        let scan = |after: Position| {
            let mut scan = filter.clone();
            scan["columns"] = json!(["position"]);
            scan["after"] = json!(after);
            // Few columns make few messages: payloads make more.
            scan["columns"] = json!(["payload", "position"]);
            typed(&scan)
        };
        let whole = get(&stub, scan(0)).await.unwrap();
        check_ends(&whole);
        let expected = numbers(&whole, "position");
        assert!(expected.len() > 50 && whole.len() > 2, "{}", whole.len());
        assert_eq!(whole.last().unwrap().position, Some(550));
        for seed in seeds(15) {
            let mut rng = Rng::new(seed);
            let (mut found, mut after) = (Vec::new(), 0);
            while after < 550 {
                let mut reading = Reading::begin(&stub, scan(after)).await.unwrap();
                for _ in 0..rng.below(5) {
                    let Some(part) = reading.next().await.unwrap() else {
                        break;
                    };
                    found.extend(numbers([&part], "position"));
                    after = part.position.unwrap();
                }
            }
            assert_eq!(found, expected);
        }
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_mebibyte_come_in_messages_that_clients_take() {
    let server = TestServer::start_with(|config| sealing(config, 8)).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 21, 7, |n| large(n, 1_000_000)).await;
    until("the first parts are sealed", || tenant.stats().sealed >= 7).await;
    let stub = stub(&server).await;
    let parts = get(&stub, typed(&json!({}))).await.unwrap();
    check_ends(&parts);
    assert_eq!(numbers(&parts, "position"), (1..=21).collect::<Vec<_>>());
    let rows = parts.iter().flat_map(|part| cells(&part.rows));
    for (row, n) in rows.zip(1..) {
        assert_eq!(
            row[8],
            json!(std::str::from_utf8(large(n, 1_000_000).payload.as_bytes()).unwrap())
        );
    }
    server.server.shutdown().await;
}

/// What the log gives at once is more than a message may have: each message says how far it goes, although the column
/// that tells it is not asked for.
#[tokio::test(flavor = "multi_thread")]
async fn large_batches_are_cut_and_larger_rows_pass_alone() {
    let server = TestServer::start_with(|config| {
        config.limits.event_bytes_max = 6 << 20;
        config.limits.disk_reserve_bytes = 0;
    })
    .await;
    let sizes = |n: Position| [900_000, 1_900_000, 5_000_000][n as usize % 3];
    fill(&tenant(&server.server).await, 12, 1, |n| large(n, sizes(n))).await;
    let stub = stub(&server).await.max_decoding_message_size(8 << 20);
    let parts = get(&stub, typed(&json!({"columns": ["payload"]})))
        .await
        .unwrap();
    let mut next = 1;
    for part in &parts {
        let rows = cells(&part.rows);
        assert!(
            rows.len() == 1 || part.bytes <= (2 << 20) + 4096,
            "{} bytes",
            part.bytes
        );
        for row in rows {
            let payload: Value = serde_json::from_str(row[0].as_str().unwrap()).unwrap();
            assert_eq!(payload["n"], next);
            next += 1;
        }
        assert_eq!(part.position, Some(next - 1));
        assert_eq!(part.rows.num_columns(), 1);
    }
    assert_eq!(next, 13);
    let refused = get(&stub.max_decoding_message_size(4 << 20), typed(&json!({}))).await;
    assert_eq!(
        refused.unwrap_err().code(),
        Code::OutOfRange,
        "one row is larger"
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_ends_where_the_next_scan_goes_on() {
    let server = TestServer::start_with(|config| sealing(config, 20)).await;
    fill(&tenant(&server.server).await, 90, 5, numbered).await;
    let stub = stub(&server).await;
    let (mut after, mut found) = (0, Vec::new());
    while found.len() < 30 {
        let scan = json!({"types": ["c"], "limit": 4, "after": after, "columns": ["position"]});
        let parts = get(&stub, typed(&scan)).await.unwrap();
        let positions = numbers(&parts, "position");
        after = parts.last().unwrap().position.unwrap();
        found.extend(positions);
    }
    let expected: Vec<_> = (1..=90).filter(|n| n % 3 == 2).collect();
    assert_eq!(found, expected);
    let none = get(&stub, typed(&json!({"limit": 0}))).await.unwrap();
    assert!(none.iter().all(|part| part.rows.num_rows() == 0));
    server.server.shutdown().await;
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_given_up_leave_nothing_behind() {
    let server = TestServer::start_with(|config| sealing(config, 60)).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 400, 10, |n| large(n, 50_000)).await;
    // All that will be: what is sealed later stays open as well.
    until("all complete parts are sealed", || {
        tenant.stats().sealed == 360
    })
    .await;
    // Many streams that nobody reads share a connection.
    let url = format!("http://{}", server.server.local_addr());
    let endpoint = Endpoint::from_shared(url).unwrap();
    let endpoint = endpoint.initial_connection_window_size(256 << 20);
    let stub = Stub::new(endpoint.connect().await.unwrap());
    get(&stub, typed(&json!({}))).await.unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (tasks_before, files_before) = (tasks(), open_files());
    for round in 0..3 {
        let mut readings = Vec::new();
        for n in 0..30 {
            let scan = json!({"follow": n % 3 == 0, "after": n * 10});
            let mut reading = Reading::begin(&stub, typed(&scan)).await.unwrap();
            for _ in 0..n % 4 {
                reading.next().await.unwrap();
            }
            readings.push(reading);
        }
        assert_eq!(tenant.stats().subscribers, 10);
        if round == 0 {
            // The last one ends in the middle of a wait.
            let last = readings.last_mut().unwrap();
            drop(tokio::time::timeout(Duration::from_millis(1), last.next()).await);
        }
        drop(readings);
        until("no subscriber is left", || tenant.stats().subscribers == 0).await;
        until("no file is left open", || open_files() <= files_before).await;
        until("no task is left", || tasks() <= tasks_before).await;
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_says_so_to_those_who_read() {
    let server = TestServer::start().await;
    fill(&tenant(&server.server).await, 300, 5, |n| large(n, 50_000)).await;
    let stub = stub(&server).await;
    let mut following = Reading::begin(&stub, typed(&json!({"follow": true, "after": 299})))
        .await
        .unwrap();
    let last = following.next().await.unwrap().unwrap();
    assert_eq!(last.position, Some(300));
    // Far from its end: the connection takes a few of its messages ahead.
    let mut reading = Reading::begin(&stub, typed(&json!({}))).await.unwrap();
    reading.next().await.unwrap();
    let ending = tokio::spawn(server.server.shutdown());
    for reading in [following, reading] {
        let ended = reading.rest().await.unwrap_err();
        assert_eq!(
            refusal(&ended),
            (Code::Unavailable, "SHUTTING_DOWN".to_owned())
        );
    }
    assert!(ending.await.unwrap(), "nobody held it up");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_sealed_log_come_from_segments() {
    let server = TestServer::start_with(|config| {
        sealing(config, 100);
        config.metrics = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, 4_000, 20, numbered).await;
    until("all but the newest part is sealed", || {
        tenant.stats().sealed >= 3_900
    })
    .await;
    let before = (
        counted(&server, FROM_SEGMENTS).await,
        counted(&server, FROM_LOG).await,
    );
    let parts = get(&stub(&server).await, typed(&json!({}))).await.unwrap();
    assert_eq!(numbers(&parts, "position"), (1..=4_000).collect::<Vec<_>>());
    let segment = counted(&server, FROM_SEGMENTS).await - before.0;
    let log = counted(&server, FROM_LOG).await - before.1;
    assert_eq!(segment + log, 4_000);
    assert!(
        segment * 100 >= 95 * 4_000,
        "{segment} from segments, {log} from the log"
    );
    server.server.shutdown().await;
}
