//! The services as a generated client sees them: what is read is what was appended, and how a server ends.

use std::time::{Duration, Instant};

use annals::proto::{
    self, ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
    subscribe_response::Message,
};
use tokio_stream::StreamExt;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::wire::TestServer;

fn event(entity_id: &str, payload: &str) -> proto::NewEvent {
    proto::NewEvent {
        entity_id: entity_id.to_owned().into(),
        event_type: "case.noted".into(),
        payload: payload.to_owned().into(),
        tags: vec!["a tag".into(), "another".into()],
        ..Default::default()
    }
}

fn batch(events: Vec<proto::NewEvent>) -> proto::AppendRequest {
    proto::AppendRequest {
        events,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_read_again() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let mut ingest = IngestServiceClient::new(channel.clone());
    let mut query = QueryServiceClient::new(channel);

    let mut first = event("case-1", r#"{"state":"open"}"#);
    first.metadata = Some(r#"{"correlation_id":"c"}"#.into());
    first.occurred_at = Some(prost_types::Timestamp {
        seconds: -1,
        nanos: 999_999_999,
    });
    let appended = ingest
        .append(batch(vec![first, event("case-2", "2")]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((appended.first_position, appended.last_position), (1, 2));
    assert_eq!(appended.versions, [1, 1]);
    assert_eq!(appended.event_ids.len(), 2);

    let request = proto::ReadEventsRequest::default();
    let mut messages = query.read_events(request).await.unwrap().into_inner();
    let message = messages.message().await.unwrap().unwrap();
    assert_eq!((message.head, &message.log_id), (2, &appended.log_id));
    let events: Vec<_> = message
        .batch
        .unwrap()
        .iter()
        .map(|event| event.unwrap().to_event())
        .collect();
    assert!(messages.message().await.unwrap().is_none());
    let [one, two] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(one.payload, r#"{"state":"open"}"#);
    assert_eq!(one.metadata.as_deref(), Some(r#"{"correlation_id":"c"}"#));
    assert_eq!(
        one.occurred_at,
        Some(prost_types::Timestamp {
            seconds: -1,
            nanos: 999_999_000
        })
    );
    assert_eq!(one.recorded_at, appended.recorded_at);
    assert_eq!(one.tags, ["a tag", "another"]);
    assert_eq!(
        (two.position, two.version, two.entity_id.as_str()),
        (2, 1, "case-2")
    );

    let key = Some(proto::get_event_request::Key::EventId(
        appended.event_ids[0].clone(),
    ));
    let got = query
        .get_event(proto::GetEventRequest { key })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(got.event.as_ref(), Some(one));
    let request = proto::GetEntityStateRequest {
        entity_id: "case-1".to_owned(),
        as_of: None,
    };
    let state = query.get_entity_state(request).await.unwrap().into_inner();
    assert_eq!(
        (state.version, state.state.as_str()),
        (1, r#"{"state":"open"}"#)
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_without_matches_still_tells_the_head() {
    let server = TestServer::start().await;
    let mut query = QueryServiceClient::new(server.channel().await);
    let mut messages = query
        .read_events(proto::ReadEventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let message = messages.message().await.unwrap().unwrap();
    assert_eq!(message.head, 0);
    assert!(!message.log_id.is_empty());
    assert!(message.batch.unwrap_or_default().is_empty());
    assert!(messages.message().await.unwrap().is_none());
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_reads_come_in_messages_that_clients_take_by_default() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let mut ingest = IngestServiceClient::new(channel.clone());
    // The generated client stops at 4 MiB a message, so that an oversized one would fail here.
    let mut query = QueryServiceClient::new(channel);
    let payload = format!("\"{}\"", "x".repeat(500));
    for n in 0..20 {
        let events = (0..1_000)
            .map(|i| event(&format!("case-{n}-{i}"), &payload))
            .collect();
        ingest.append(batch(events)).await.unwrap();
    }
    for direction in [proto::Direction::Forward, proto::Direction::Backward] {
        let request = proto::ReadEventsRequest {
            direction: direction.into(),
            ..Default::default()
        };
        let mut messages = query.read_events(request).await.unwrap().into_inner();
        let mut positions = Vec::new();
        let mut count = 0;
        while let Some(message) = messages.message().await.unwrap() {
            let batch = message.batch.unwrap();
            assert!(
                batch.encoded_bytes() <= 1 << 20,
                "{}",
                batch.encoded_bytes()
            );
            positions.extend(batch.iter().map(|event| event.unwrap().position));
            count += 1;
        }
        if direction == proto::Direction::Backward {
            positions.reverse();
        }
        assert!(positions.iter().copied().eq(1..=20_000));
        assert!(count > 10, "{count}");
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_appends_is_answered_in_order_while_it_is_sent() {
    let server = TestServer::start().await;
    let mut ingest = IngestServiceClient::new(server.channel().await);
    let count = 40_000;
    let requests = (0..count).map(|request_id| proto::AppendStreamRequest {
        request_id,
        append: Some(batch(vec![event("case-1", "{}")])),
    });
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut answers = ingest.append_stream(requests).await.unwrap().into_inner();
    for request_id in 0..count {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.request_id, request_id);
        let Some(proto::append_stream_response::Outcome::Result(result)) = answer.outcome else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (result.first_position, result.versions),
            (request_id + 1, vec![request_id + 1])
        );
    }
    assert!(answers.message().await.unwrap().is_none());
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_listing_show_the_head_of_the_first() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let mut ingest = IngestServiceClient::new(channel.clone());
    let mut query = QueryServiceClient::new(channel);
    let events = (0..5).map(|i| event(&format!("case-{i}"), "{}")).collect();
    ingest.append(batch(events)).await.unwrap();
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListEntitiesRequest {
            prefix: "case-".to_owned(),
            page_size: 2,
            page_token,
        };
        let page = query.list_entities(request).await.unwrap().into_inner();
        assert_eq!(page.head, 5);
        names.extend(page.entities.into_iter().map(|entity| entity.entity_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        // Comes after the first page, and so is in none.
        ingest
            .append(batch(vec![event(&format!("case-9-{}", names.len()), "{}")]))
            .await
            .unwrap();
    }
    assert_eq!(names, ["case-0", "case-1", "case-2", "case-3", "case-4"]);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_stream_too() {
    let server = TestServer::start().await;
    let mut query = QueryServiceClient::new(server.channel().await);
    let mut request = Request::new(proto::SubscribeRequest::default());
    // Only the header: the client's own timer must not be what ends it.
    request
        .metadata_mut()
        .insert("grpc-timeout", "300m".parse().unwrap());
    let began = Instant::now();
    let mut messages = query.subscribe(request).await.unwrap().into_inner();
    let status = loop {
        match messages.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "DEADLINE_EXCEEDED"
    );
    assert!(began.elapsed() >= Duration::from_millis(290));
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_tells_subscribers_where_to_resume() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let mut ingest = IngestServiceClient::new(channel.clone());
    let mut query = QueryServiceClient::new(channel.clone());
    let mut health = HealthClient::new(channel.clone());
    ingest
        .append(batch(vec![event("case-1", "{}")]))
        .await
        .unwrap();
    // A health watcher must not hold up the end.
    let mut watch = health
        .watch(HealthCheckRequest {
            service: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);

    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = ingest.append_stream(requests).await.unwrap().into_inner();
    let append = Some(batch(vec![event("case-1", "{}")]));
    sender
        .send(proto::AppendStreamRequest {
            request_id: 7,
            append,
        })
        .await
        .unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().request_id, 7);

    let mut messages = query
        .subscribe(proto::SubscribeRequest::default())
        .await
        .unwrap()
        .into_inner();
    loop {
        let message = messages.message().await.unwrap().unwrap();
        if matches!(message.message, Some(Message::CaughtUp(_))) {
            break;
        }
    }
    let data = server.dir.path().join("data");
    let began = Instant::now();
    let ended = tokio::spawn(server.server.shutdown());

    let last = messages.message().await.unwrap().unwrap();
    let Some(Message::Checkpoint(checkpoint)) = last.message else {
        panic!("{last:?}")
    };
    assert_eq!(checkpoint.position, 2);
    for status in [
        messages.message().await.unwrap_err(),
        answers.message().await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert_eq!(
            status.get_details_error_info().unwrap().reason,
            "SHUTTING_DOWN"
        );
        assert!(status.get_details_retry_info().is_some());
    }
    assert!(ended.await.unwrap(), "all calls end in time");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    while let Some(Ok(_)) = watch.next().await {}
    assert_eq!(
        query
            .get_stats(proto::GetStatsRequest::default())
            .await
            .unwrap_err()
            .code(),
        Code::Unavailable
    );

    // The next server goes on where this one ended.
    let again = TestServer::start_with(|config| config.data = data).await;
    let mut query = QueryServiceClient::new(again.channel().await);
    let stats = query
        .get_stats(proto::GetStatsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stats.tenants[0].head, 2);
    assert_eq!(stats.tenants[0].log_id, checkpoint.log_id);
    again.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_the_limit_are_refused_with_a_hint() {
    let server = TestServer::start_with(|config| config.calls_max = 2).await;
    let mut query = QueryServiceClient::new(server.channel().await);
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut messages = query
            .subscribe(proto::SubscribeRequest::default())
            .await
            .unwrap()
            .into_inner();
        messages.message().await.unwrap();
        open.push(messages);
    }
    let status = query
        .get_stats(proto::GetStatsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "TOO_MANY_CALLS"
    );
    assert!(status.get_details_retry_info().is_some());
    drop(open);
    // The server learns of it a moment later.
    let answered = async {
        while query
            .get_stats(proto::GetStatsRequest::default())
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), answered)
        .await
        .expect("calls that ended make room");
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_made_by_appends_only_where_that_is_set() {
    let server = TestServer::start_with(|config| config.tenants_auto_create = true).await;
    let channel = server.channel().await;
    let mut ingest = IngestServiceClient::new(channel.clone());
    let mut query = QueryServiceClient::new(channel);
    let stats = || {
        let mut request = Request::new(proto::GetStatsRequest::default());
        request
            .metadata_mut()
            .insert("annals-tenant", "acme".parse().unwrap());
        request
    };
    assert_eq!(
        query.get_stats(stats()).await.unwrap_err().code(),
        Code::NotFound
    );
    let mut request = Request::new(batch(vec![event("case-1", "{}")]));
    request
        .metadata_mut()
        .insert("annals-tenant", "acme".parse().unwrap());
    assert_eq!(
        ingest
            .append(request)
            .await
            .unwrap()
            .into_inner()
            .first_position,
        1
    );
    assert_eq!(
        query.get_stats(stats()).await.unwrap().into_inner().tenants[0].head,
        1
    );
    let all = proto::GetStatsRequest { all_tenants: true };
    let all = query.get_stats(all).await.unwrap().into_inner();
    assert_eq!(
        all.tenants
            .iter()
            .map(|t| t.tenant.as_str())
            .collect::<Vec<_>>(),
        ["acme", "default"]
    );
    assert!(all.process.unwrap().resident_bytes > 1 << 20);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_refuses_addresses_that_it_should_not_take() {
    use annals::{
        config::Config,
        server::{Server, StartError},
    };
    let dir = tempfile::tempdir().unwrap();
    let config = |listen: &str| Config {
        listen: listen.parse().unwrap(),
        data: dir.path().join("data"),
        ..Config::default()
    };
    let refused = Server::start(&config("0.0.0.0:0")).await.err().unwrap();
    assert!(
        matches!(refused, StartError::BeyondLoopback(_)),
        "{refused}"
    );
    assert!(refused.to_string().contains("--insecure"), "{refused}");
    let server = Server::start(&config("127.0.0.1:0")).await.unwrap();
    let taken = Server::start(&config(&server.local_addr().to_string()))
        .await
        .err()
        .unwrap();
    assert!(matches!(taken, StartError::AddressTaken(_)), "{taken}");
    let locked = Server::start(&config("127.0.0.1:0")).await.err().unwrap();
    assert!(matches!(locked, StartError::Open(_)), "{locked}");
    server.shutdown().await;
}
