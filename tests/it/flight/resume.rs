//! The Rust client where connections are cut: each row comes once, of one cut of the log.

use std::{collections::VecDeque, ops::Range, time::Duration};

use annals::{
    AsOf, Client, ClientError, ClientOptions, NewEvent, Position, ScanRequest, Table,
    client::Scanned, types::kind::Kind,
};
use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use futures_util::TryStreamExt;
use serde_json::json;

use super::{
    front::{End, front},
    stubs::{cells, fill, numbered, sealing, tenant, until},
};
use crate::{
    cutting_proxy::CuttingProxy,
    rng::{Rng, seeds},
    wire::TestServer,
};

/// Several messages: a batch has about 1 MiB.
const EVENTS: u64 = 300;

async fn connect(url: &str) -> Client {
    // The first message of a scan may be cut again and again.
    let options = ClientOptions {
        retries: 50,
        ..ClientOptions::default()
    };
    Client::connect_with(url, options).await.unwrap()
}

fn url(server: &TestServer) -> String {
    format!("http://{}", server.server.local_addr())
}

fn large(position: Position) -> NewEvent {
    let payload = format!(r#"{{"n":{position},"x":"{}"}}"#, "x".repeat(20_000));
    NewEvent {
        payload: payload.into(),
        ..numbered(position)
    }
}

/// A log, the last part of which is not sealed.
async fn partly_sealed() -> TestServer {
    let server = TestServer::start_with(|config| sealing(config, 60)).await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, EVENTS - 10, 10, large).await;
    until("the first parts are sealed", || {
        tenant.stats().sealed >= 200
    })
    .await;
    fill(&tenant, 10, 10, large).await;
    server
}

fn joined(schema: &SchemaRef, batches: &[Scanned]) -> RecordBatch {
    concat_batches(schema, batches.iter().map(|batch| &batch.rows)).unwrap()
}

fn check_positions(batches: &[Scanned]) {
    for pair in batches.windows(2) {
        assert!(pair[0].position <= pair[1].position);
        assert_eq!(pair[0].head, pair[1].head);
    }
}

/// Everything, and while it is on its way `append` one by one.
async fn scan(
    client: &Client,
    request: &ScanRequest,
    append: &[NewEvent],
) -> (RecordBatch, Position) {
    let mut scan = client.scan(request).await.unwrap();
    let (mut batches, mut append) = (Vec::new(), append.iter());
    while let Some(batch) = scan.next().await.unwrap() {
        batches.push(batch);
        if let Some(event) = append.next() {
            let batch = annals::Batch::new([event.clone()]);
            client.append(&batch).await.unwrap();
        }
    }
    assert_eq!(scan.next().await.unwrap(), None, "an end is one");
    check_positions(&batches);
    (joined(scan.schema(), &batches), batches[0].head)
}

/// The scans through proxies that cut after as many bytes as a seed says, compared with the uncut one.
async fn compare(
    server: &TestServer,
    requests: &[ScanRequest],
    bytes: Range<usize>,
    later: NewEvent,
) {
    let direct = connect(&url(server)).await;
    let mut cuts = 0;
    for request in requests {
        for seed in seeds(2) {
            let (expected, head) = scan(&direct, request, &[]).await;
            assert!(expected.num_rows() > 0);
            let proxy = CuttingProxy::start(server.server.local_addr(), seed, bytes.clone()).await;
            let client = connect(&proxy.url).await;
            let (found, found_head) = scan(&client, request, &[later.clone(), later.clone()]).await;
            assert!(found == expected, "{request:?}: {} rows", found.num_rows());
            assert_eq!(found_head, head);
            cuts += proxy.cuts();
        }
    }
    assert!(cuts > 0, "{cuts} cuts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_cut_gives_each_event_once_and_of_one_cut() {
    let server = partly_sealed().await;
    let all = ScanRequest::default();
    let requests = [
        ScanRequest {
            after: 17,
            through: Some(270),
            ..all.clone()
        },
        ScanRequest {
            table: Table::Type("b".into()),
            columns: vec!["payload".to_owned(), "entity_id".to_owned()],
            ..all.clone()
        },
        ScanRequest {
            limit: Some(205),
            ..all.clone()
        },
        ScanRequest {
            as_of: Some(AsOf::Position(250)),
            ..all.clone()
        },
        all,
    ];
    compare(&server, &requests, 1_000..4_000_000, large(1)).await;
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_is_cut_gives_each_entity_once_and_of_one_cut() {
    let server = TestServer::start_with(|config| sealing(config, 8_000)).await;
    let tenant = tenant(&server.server).await;
    let named = |n: Position| {
        let name = format!("{:05}-{}", n * 7 % 20_000, "x".repeat(200));
        NewEvent::new(name, "a", "1")
    };
    fill(&tenant, 20_000, 1_000, named).await;
    let all = ScanRequest {
        table: Table::Entities,
        ..ScanRequest::default()
    };
    let limited = ScanRequest {
        limit: Some(17_000),
        ..all.clone()
    };
    // One that comes before all others, were it seen.
    let later = NewEvent::new("!", "a", "1");
    compare(&server, &[all, limited], 500_000..3_500_000, later).await;
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_followed_goes_on_behind_each_cut() {
    const EVENTS: Position = 3_000;
    for seed in seeds(2) {
        let server = TestServer::start_with(|config| sealing(config, 150)).await;
        let tenant = tenant(&server.server).await;
        fill(&tenant, 1_000, 10, numbered).await;
        let proxy = CuttingProxy::start(server.server.local_addr(), seed, 500..60_000).await;
        let client = connect(&proxy.url).await;
        let request = ScanRequest {
            columns: vec!["payload".to_owned(), "position".to_owned()],
            follow: true,
            limit: Some(EVENTS),
            ..ScanRequest::default()
        };
        let mut scan = client.scan(&request).await.unwrap();
        let mut rng = Rng::new(seed);
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(batch) = scan.next().await.unwrap() {
            assert!(batch.position >= Some(at));
            at = batch.position.unwrap();
            found.extend(cells(&batch.rows));
            let count = (rng.below(40) as u64).min(EVENTS - tenant.head());
            fill(&tenant, count, 10, numbered).await;
        }
        let row = |n| vec![json!(format!(r#"{{"n":{n}}}"#)), json!(n)];
        assert!(
            found == (1..=EVENTS).map(row).collect::<Vec<_>>(),
            "{} rows",
            found.len()
        );
        assert!(proxy.cuts() > 0);
        server.server.shutdown().await;
    }
}

/// To whoever only counts messages such a stream is a shorter table.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_well_before_the_end_is_taken_up_again() {
    let server = partly_sealed().await;
    let direct = connect(&url(&server)).await;
    let request = ScanRequest::default();
    let (expected, _) = scan(&direct, &request, &[]).await;
    // The schema is a message too.
    let ends = [
        End::Well(0),
        End::Well(1),
        End::Well(3),
        End::Unavailable(2),
        End::Well(1),
    ];
    let client = connect(&front(&server, ends).await).await;
    let scan = client.scan(&request).await.unwrap();
    let schema = SchemaRef::clone(scan.schema());
    let batches: Vec<_> = scan.try_collect().await.unwrap();
    check_positions(&batches);
    assert!(joined(&schema, &batches) == expected);

    // Behind the last row nothing is missing, however it ends.
    let limited = ScanRequest {
        limit: Some(5),
        ..request
    };
    let options = || ClientOptions {
        resume_for: Duration::ZERO,
        ..ClientOptions::default()
    };
    let impatient = async |ends: VecDeque<End>| {
        let url = front(&server, ends).await;
        Client::connect_with(url, options()).await.unwrap()
    };
    let client = impatient([End::Unavailable(2)].into()).await;
    let mut scan = client.scan(&limited).await.unwrap();
    assert_eq!(scan.next().await.unwrap().unwrap().position, Some(5));
    assert_eq!(scan.next().await.unwrap(), None);

    // Who does not wait is told, once.
    for (end, told) in [(End::Well(2), "STREAM_ENDED"), (End::Unavailable(2), "")] {
        let client = impatient([end].into()).await;
        let mut scan = client.scan(&ScanRequest::default()).await.unwrap();
        scan.next().await.unwrap().unwrap();
        let error: ClientError = scan.next().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::Unavailable, told));
        assert_eq!(scan.next().await.unwrap(), None);
    }
    server.server.shutdown().await;
}
