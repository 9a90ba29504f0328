//! Uploads with the Rust client: results per batch, ids that make repeats harmless, and what is found wrong before
//! anything is sent.

use std::sync::Arc;

use annals::{
    Client, ClientError, ClientOptions, CursorRecord, Expect, Guard, GuardFailure, IngestOptions,
    Ingested, Query, QueryItem, client::Ingesting, types::kind::Kind,
};
use arrow::{
    array::{DictionaryArray, RecordBatch},
    datatypes::Int32Type,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::upload::{read, rows, texts, with};
use crate::wire::TestServer;

async fn connect(server: &TestServer) -> Client {
    // A server that is started again may take a while on a busy machine.
    let options = ClientOptions {
        retries: 50,
        ..ClientOptions::default()
    };
    let url = format!("http://{}", server.server.local_addr());
    Client::connect_with(url, options).await.unwrap()
}

fn guarded(guard: Guard) -> IngestOptions {
    IngestOptions {
        guards: vec![guard],
        ..IngestOptions::default()
    }
}

async fn all(mut ingesting: Ingesting) -> Result<Vec<Ingested>, ClientError> {
    let mut results = Vec::new();
    while let Some(result) = ingesting.next().await? {
        results.push(result);
    }
    Ok(results)
}

async fn ingest(
    client: &Client,
    batches: Vec<RecordBatch>,
    options: &IngestOptions,
) -> Result<Vec<Ingested>, ClientError> {
    all(client.ingest(tokio_stream::iter(batches), options)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_batch_has_its_result() {
    let server = TestServer::start().await;
    let client = connect(&server).await;
    let types = |name| {
        let types: DictionaryArray<Int32Type> = [name, "x"].into_iter().collect();
        with(&rows(["a", "b"]), "event_type", Arc::new(types))
    };
    let batches = vec![types("one"), types("two"), types("three")];
    let results = ingest(&client, batches, &IngestOptions::default())
        .await
        .unwrap();
    let positions: Vec<_> = results
        .iter()
        .map(|result| {
            (
                result.first_position,
                result.last_position,
                result.duplicate,
            )
        })
        .collect();
    assert_eq!(positions, [(1, 2, false), (3, 4, false), (5, 6, false)]);
    let events = read(&server).await;
    let names: Vec<_> = events
        .iter()
        .map(|event| event.event_type.as_str())
        .collect();
    assert_eq!(names, ["one", "x", "two", "x", "three", "x"]);

    // Nothing is nothing, and cursors alone are something.
    let none = ingest(&client, Vec::new(), &IngestOptions::default())
        .await
        .unwrap();
    assert!(none.is_empty());
    let cursor = CursorRecord {
        name: "worker".into(),
        position: 6,
        expected: Some(0),
    };
    let cursors = IngestOptions {
        cursors: vec![cursor],
        log_id: Some(results[0].log_id),
        ..IngestOptions::default()
    };
    let results = ingest(&client, Vec::new(), &cursors).await.unwrap();
    assert_eq!((results.len(), results[0].first_position), (1, 0));
    assert_eq!(client.cursor("worker").await.unwrap(), 6);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_as_they_do_from_append() {
    let server = TestServer::start().await;
    let client = connect(&server).await;
    let absent = guarded(Guard::Entity {
        entity_id: "a".into(),
        expect: Expect::Absent,
    });
    ingest(&client, vec![rows(["a"])], &absent).await.unwrap();
    let error = ingest(&client, vec![rows(["a"])], &absent)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (Kind::Conflict, "VERSION_CONFLICT")
    );
    assert!(matches!(
        error.guard_failure(),
        Some(GuardFailure::Entity {
            index: 0,
            found: 1,
            ..
        })
    ));
    let item = QueryItem {
        event_types: vec!["case.noted".into()],
        tags: Vec::new(),
    };
    let query = Query { items: vec![item] };
    let no_match = |after| {
        guarded(Guard::NoMatch {
            query: query.clone(),
            after,
        })
    };
    let error = ingest(&client, vec![rows(["b"])], &no_match(0))
        .await
        .unwrap_err();
    assert_eq!(
        error.guard_failure(),
        Some(&GuardFailure::NoMatch { index: 0, found: 1 })
    );
    ingest(&client, vec![rows(["b"])], &no_match(1))
        .await
        .unwrap();

    let wrong = with(&rows(["c"]), "payload", texts(&[Some("{")]));
    let batches = vec![rows(["c"]), wrong, rows(["c"])];
    let mut ingesting = client
        .ingest(tokio_stream::iter(batches), &IngestOptions::default())
        .unwrap();
    assert_eq!(ingesting.next().await.unwrap().unwrap().first_position, 3);
    let error = ingesting.next().await.unwrap_err();
    assert_eq!(error.violations()[0].field, "events[0].payload");
    assert_eq!(read(&server).await.len(), 3);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_found_before_it_is_sent() {
    let server = TestServer::start().await;
    let client = connect(&server).await;
    let plain = IngestOptions::default();
    let ids = with(&rows(["a"]), "event_id", texts(&[None]));
    let error = ingest(&client, vec![rows(["a"]), ids], &plain)
        .await
        .unwrap_err();
    assert_eq!(
        (error.reason(), error.violations()[0].field.as_str()),
        ("INVALID_REQUEST", "event_id")
    );
    let other = with(&rows(["a"]), "metadata", texts(&[None]));
    let error = ingest(&client, vec![rows(["a"]), other], &plain)
        .await
        .unwrap_err();
    assert_eq!(
        (error.reason(), error.violations()[0].field.as_str()),
        ("INVALID_REQUEST", "columns")
    );
    // What came before was a batch of its own.
    assert_eq!(read(&server).await.len(), 2);

    let exists = guarded(Guard::Entity {
        entity_id: "a".into(),
        expect: Expect::Exists,
    });
    let two = vec![rows(["b"]), rows(["c"])];
    let error = ingest(&client, two, &exists).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.violations()[0].field.as_str()),
        ("INVALID_REQUEST", "batches")
    );
    assert_eq!(read(&server).await.len(), 2);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_with_the_next_server_and_stores_each_row_once() {
    let server = TestServer::start().await;
    let client = connect(&server).await;
    let (sender, batches) = mpsc::channel(10);
    let mut ingesting = client
        .ingest(ReceiverStream::new(batches), &IngestOptions::default())
        .unwrap();
    let mut last = 0;
    let mut server = server;
    for round in 0..3 {
        for n in 0..10 {
            sender
                .send(rows([format!("case-{round}-{n}").as_str()]))
                .await
                .unwrap();
        }
        for _ in 0..5 {
            let result = ingesting.next().await.unwrap().unwrap();
            assert_eq!(result.first_position, last + 1);
            last = result.last_position;
        }
        // Five are sent, and stored or not; nobody was told.
        let (data, addr) = (server.dir, server.server.local_addr());
        server.server.shutdown().await;
        let path = data.path().join("data");
        server = TestServer::start_with(|config| {
            config.data = path;
            config.listen = addr;
        })
        .await;
        server.dir = data;
        for _ in 0..5 {
            let result = ingesting.next().await.unwrap().unwrap();
            assert_eq!(result.first_position, last + 1);
            last = result.last_position;
        }
    }
    drop(sender);
    assert_eq!(ingesting.next().await.unwrap(), None);
    let stored = read(&server).await.into_iter().map(|event| event.entity_id);
    let expected = (0..3).flat_map(|round| (0..10).map(move |n| format!("case-{round}-{n}")));
    assert!(stored.eq(expected));
    server.server.shutdown().await;
}
