//! Uploads with the Rust client whose results do not come as they should: `None` means that everything is stored.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use annals::{
    Client, ClientOptions, CursorRecord, Expect, Guard, IngestOptions, Ingested, client::Ingesting,
};
use arrow::array::RecordBatch;
use futures_util::{Stream, StreamExt};

use super::upload::{read, rows, texts, with};
use crate::{
    cutting_proxy::CuttingProxy,
    flight::{
        front::{End, front},
        stubs::{tenant, until},
    },
    rng::seeds,
    wire::TestServer,
};

/// Batches that the client has sent at most without their results being taken.
const UNANSWERED_MAX: usize = 64;

async fn connect(url: &str) -> Client {
    let options = ClientOptions {
        retries: 50,
        ..ClientOptions::default()
    };
    Client::connect_with(url, options).await.unwrap()
}

fn numbered(count: usize) -> impl Stream<Item = RecordBatch> + Send + 'static {
    tokio_stream::iter((0..count).map(|n| rows([format!("case-{n}").as_str()])))
}

async fn all(mut ingesting: Ingesting) -> Vec<Ingested> {
    let mut results = Vec::new();
    while let Some(result) = ingesting.next().await.unwrap() {
        results.push(result);
    }
    assert_eq!(ingesting.next().await.unwrap(), None, "an end is one");
    results
}

/// Every batch has its result, in order, and stands in the log once.
async fn check(server: &TestServer, results: &[Ingested], count: usize) {
    let positions = results.iter().map(|result| result.first_position);
    assert!(positions.eq(1..=count as u64), "{results:?}");
    let stored = read(server).await.into_iter().map(|event| event.entity_id);
    assert!(stored.eq((0..count).map(|n| format!("case-{n}"))));
}

/// A server that ended the results early, without an error, made a success of a table of which nothing was stored.
#[tokio::test(flavor = "multi_thread")]
async fn results_that_end_early_are_no_success() {
    let server = TestServer::start().await;
    let ends = [
        End::Well(0),
        End::Well(1),
        End::Unavailable(3),
        End::Well(0),
        End::Well(2),
    ];
    let client = connect(&front(&server, ends).await).await;
    let plain = IngestOptions::default();
    let results = all(client.ingest(numbered(20), &plain).unwrap()).await;
    check(&server, &results, 20).await;

    let impatient = ClientOptions {
        retries: 0,
        ..ClientOptions::default()
    };
    let url = front(&server, [End::Well(1)]).await;
    let client = Client::connect_with(url, impatient).await.unwrap();
    let mut ingesting = client.ingest(numbered(2), &plain).unwrap();
    ingesting.next().await.unwrap().unwrap();
    let error = ingesting.next().await.unwrap_err();
    assert_eq!(error.reason(), "STREAM_ENDED");
    assert_eq!(ingesting.next().await.unwrap(), None);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_one_batch_has_its_result_and_is_not_asked_for_again_behind_it() {
    let server = TestServer::start().await;
    let cursor = CursorRecord {
        name: "worker".into(),
        position: 0,
        expected: None,
    };
    let cursors = IngestOptions {
        cursors: vec![cursor],
        ..IngestOptions::default()
    };
    let client = connect(&front(&server, [End::Well(0)]).await).await;
    let results = all(client.ingest(tokio_stream::empty(), &cursors).unwrap()).await;
    assert_eq!(results.len(), 1);

    let absent = Guard::Entity {
        entity_id: "case-0".into(),
        expect: Expect::Absent,
    };
    let guarded = IngestOptions {
        guards: vec![absent],
        ..IngestOptions::default()
    };
    let client = connect(&front(&server, [End::Unavailable(0), End::Unavailable(1)]).await).await;
    let results = all(client.ingest(numbered(1), &guarded).unwrap()).await;
    check(&server, &results, 1).await;
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_over_connections_that_are_cut_stores_each_row_once() {
    for seed in seeds(3) {
        let server = TestServer::start().await;
        // No result comes before what may be unanswered is sent, which is much of the least.
        let proxy = CuttingProxy::start(server.server.local_addr(), seed, 30_000..200_000).await;
        let client = connect(&proxy.url).await;
        let ingesting = client.ingest(numbered(300), &IngestOptions::default());
        let results = all(ingesting.unwrap()).await;
        check(&server, &results, 300).await;
        assert!(proxy.cuts() > 0);
        server.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_for_than_may_be_unanswered() {
    const BATCHES: usize = 200;
    let server = TestServer::start().await;
    let tenant = tenant(&server.server).await;
    let client = connect(&format!("http://{}", server.server.local_addr())).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let batches = numbered(BATCHES).inspect(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut ingesting = client.ingest(batches, &IngestOptions::default()).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 0, "not before it is begun");
    for taken in 1..=BATCHES {
        ingesting.next().await.unwrap().unwrap();
        // So many are sent while nobody takes a result.
        let most = (taken + UNANSWERED_MAX).min(BATCHES);
        until("they are stored", || tenant.head() >= most as u64).await;
        assert_eq!(asked.load(Ordering::Relaxed), most);
    }
    assert_eq!(ingesting.next().await.unwrap(), None);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_after_an_error() {
    let server = TestServer::start().await;
    let client = connect(&format!("http://{}", server.server.local_addr())).await;
    let wrong = with(&rows(["case-1"]), "payload", texts(&[Some("{")]));
    let batches = numbered(1)
        .chain(tokio_stream::iter([wrong]))
        .chain(numbered(100));
    let mut ingesting = client.ingest(batches, &IngestOptions::default()).unwrap();
    assert_eq!(ingesting.next().await.unwrap().unwrap().first_position, 1);
    let error = ingesting.next().await.unwrap_err();
    assert_eq!(error.violations()[0].field, "events[0].payload");
    for _ in 0..3 {
        assert_eq!(ingesting.next().await.unwrap(), None);
    }
    assert_eq!(read(&server).await.len(), 1);
    server.server.shutdown().await;
}
