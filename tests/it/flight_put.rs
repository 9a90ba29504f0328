//! `DoPut` of Arrow Flight over a real socket: what tables become in the log, and what happens to those that are wrong.

mod client;
mod columns;
mod conditions;
mod hostile;
mod lost;
mod streams;
mod upload;

use arrow_flight::{FlightData, HandshakeRequest};
use prost_types::Timestamp;
use tonic::{Code, Request, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;
use uuid::Uuid;

use self::upload::{
    batch, flight, ids, messages, path, read, rows, send, tags, text, texts, times, with,
};
use crate::wire::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_read_again() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = batch([
        ("tags", tags(&[&["a tag", "another"], &[], &["ß"]])),
        ("payload", text([r#"{"n":1}"#, "[]", "\"ü\""])),
        ("entity_id", text(["case-1", "case-2", "case-1"])),
        ("event_type", text(["opened", "opened", "closed"])),
        ("event_id", ids([7, 8, 9])),
        ("occurred_at", times(&[Some(-1), None, Some(1_500_000)])),
        (
            "metadata",
            texts(&[None, Some(r#"{"correlation_id":"c"}"#), None]),
        ),
    ]);
    let more = table.slice(1, 1);
    let more = with(&more, "event_id", ids([10]));
    let outcome = send(&mut client, messages(path(), &[table, more])).await;
    outcome.is_ok();
    assert_eq!(
        outcome.stored(),
        [(Some(1), Some(3), false), (Some(4), Some(4), false)]
    );
    let log_id = upload::log_id(&server).await;
    assert_eq!(outcome.results[0]["log_id"], log_id);

    let events = read(&server).await;
    let told: Vec<_> = events
        .iter()
        .map(|e| {
            (
                e.position,
                e.entity_id.as_str(),
                e.version,
                e.event_type.as_str(),
                e.payload.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "case-1", 1, "opened", r#"{"n":1}"#),
            (2, "case-2", 1, "opened", "[]"),
            (3, "case-1", 2, "closed", "\"ü\""),
            (4, "case-2", 2, "opened", "[]"),
        ]
    );
    for (event, id) in events.iter().zip([7, 8, 9, 10]) {
        assert_eq!(event.event_id, Uuid::from_u128(id).to_string());
    }
    assert_eq!(events[0].tags, ["a tag", "another"]);
    assert_eq!(events[2].tags, ["ß"]);
    assert!(events[1].tags.is_empty() && events[3].tags.is_empty());
    let time = |seconds, nanos| Some(Timestamp { seconds, nanos });
    assert_eq!(events[0].occurred_at, time(-1, 999_999_000));
    assert_eq!(events[1].occurred_at, None);
    assert_eq!(events[2].occurred_at, time(1, 500_000_000));
    assert_eq!(events[0].metadata, None);
    assert_eq!(
        events[1].metadata.as_deref(),
        Some(r#"{"correlation_id":"c"}"#)
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_named_as_in_every_call() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let to = |tenant: &'static str| {
        let messages = messages(path(), &[rows(["case-1"])]);
        let mut request = Request::new(tokio_stream::iter(messages));
        let name = tenant.parse().unwrap();
        request.metadata_mut().insert("annals-tenant", name);
        request
    };
    let status = client.do_put(to("acme")).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "NO_SUCH_TENANT".into()));
    let status = client.do_put(to("Acme!")).await.unwrap_err();
    assert_eq!(
        reason(&status),
        (Code::InvalidArgument, "INVALID_REQUEST".into())
    );
    let answer = client.do_put(to("default")).await.unwrap();
    upload::take(answer.into_inner()).await.is_ok();
    server.server.shutdown().await;
}

fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info();
    (
        status.code(),
        info.map(|info| info.reason).unwrap_or_default(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_greets_and_says_what_it_does_not_do() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let request = HandshakeRequest {
        protocol_version: 3,
        payload: "hello".into(),
    };
    let answer = client
        .handshake(tokio_stream::iter([request]))
        .await
        .unwrap();
    let mut answers = answer.into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!(
        (first.protocol_version, &first.payload[..]),
        (3, &b"hello"[..])
    );
    assert!(answers.message().await.unwrap().is_none());
    let nothing = client.handshake(tokio_stream::empty()).await.unwrap();
    assert!(nothing.into_inner().message().await.unwrap().is_none());

    let nothing = tokio_stream::empty::<FlightData>();
    let refused = client.do_exchange(nothing).await.unwrap_err();
    let found = reason(&refused);
    assert_eq!(found, (Code::Unimplemented, "NOT_IMPLEMENTED".into()));

    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest {
        service: "arrow.flight.protocol.FlightService".to_owned(),
    };
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    server.server.shutdown().await;
}
