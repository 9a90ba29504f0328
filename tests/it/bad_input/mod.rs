//! Malformed requests over the wire: each is refused with its code and reason, and none changes anything.

mod events;
mod framing;
mod guards;
mod reads;

use annals::proto::{self, append_stream_response::Outcome, entity_guard, guard};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::wire::{TestServer, call_raw, framed};

const APPEND: &str = "/annals.v1.IngestService/Append";
const APPEND_STREAM: &str = "/annals.v1.IngestService/AppendStream";
const READ: &str = "/annals.v1.QueryService/ReadEvents";
const EVENT: &str = "/annals.v1.QueryService/GetEvent";
const STATE: &str = "/annals.v1.QueryService/GetEntityState";
const ENTITIES: &str = "/annals.v1.QueryService/ListEntities";
const TYPES: &str = "/annals.v1.QueryService/ListEventTypes";
const CURSOR: &str = "/annals.v1.QueryService/GetCursor";
const STATS: &str = "/annals.v1.QueryService/GetStats";
const SUBSCRIBE: &str = "/annals.v1.QueryService/Subscribe";

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const OTHER_LOG: &str = "11111111-2222-4333-8444-555555555555";

struct Case {
    name: String,
    path: &'static str,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
    code: Code,
    reason: &'static str,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn raw(
        &mut self,
        name: &str,
        path: &'static str,
        body: Vec<u8>,
        code: Code,
        reason: &'static str,
    ) {
        self.0.push(Case {
            name: name.to_owned(),
            path,
            headers: vec![],
            body,
            code,
            reason,
        });
    }

    fn message(
        &mut self,
        name: &str,
        path: &'static str,
        message: &impl Message,
        code: Code,
        reason: &'static str,
    ) {
        self.raw(name, path, framed(&message.encode_to_vec()), code, reason);
    }

    fn batch(&mut self, name: &str, request: &proto::AppendRequest) {
        self.message(
            name,
            APPEND,
            request,
            Code::InvalidArgument,
            "INVALID_BATCH",
        );
    }

    fn event(&mut self, name: &str, change: impl FnOnce(&mut proto::NewEvent)) {
        let mut event = good();
        change(&mut event);
        self.batch(name, &events([event]));
    }

    fn read(&mut self, name: &str, change: impl FnOnce(&mut proto::ReadEventsRequest)) {
        self.read_as(name, Code::InvalidArgument, "INVALID_REQUEST", change);
    }

    fn read_as(
        &mut self,
        name: &str,
        code: Code,
        reason: &'static str,
        change: impl FnOnce(&mut proto::ReadEventsRequest),
    ) {
        let mut request = proto::ReadEventsRequest::default();
        change(&mut request);
        self.message(name, READ, &request, code, reason);
    }

    fn filter(&mut self, name: &str, change: impl FnOnce(&mut proto::EventFilter)) {
        let mut filter = proto::EventFilter::default();
        change(&mut filter);
        self.read(name, |request| request.filter = Some(filter));
    }

    fn subscribe(
        &mut self,
        name: &str,
        code: Code,
        reason: &'static str,
        change: impl FnOnce(&mut proto::SubscribeRequest),
    ) {
        let mut request = proto::SubscribeRequest::default();
        change(&mut request);
        self.message(name, SUBSCRIBE, &request, code, reason);
    }

    fn tenant(&mut self, name: &str, tenants: &[&[u8]], code: Code, reason: &'static str) {
        let headers = tenants
            .iter()
            .map(|tenant| ("annals-tenant", tenant.to_vec()))
            .collect();
        let body = framed(&proto::ReadEventsRequest::default().encode_to_vec());
        self.0.push(Case {
            name: name.to_owned(),
            path: READ,
            headers,
            body,
            code,
            reason,
        });
    }
}

fn good() -> proto::NewEvent {
    proto::NewEvent {
        entity_id: "case-9".into(),
        event_type: "case.opened".into(),
        payload: "{}".into(),
        ..Default::default()
    }
}

fn events(events: impl IntoIterator<Item = proto::NewEvent>) -> proto::AppendRequest {
    proto::AppendRequest {
        events: events.into_iter().collect(),
        ..Default::default()
    }
}

fn guarded(guard: guard::Guard) -> proto::AppendRequest {
    proto::AppendRequest {
        guards: vec![proto::Guard { guard: Some(guard) }],
        ..events([good()])
    }
}

fn entity(entity_id: &str, expect: entity_guard::Expect) -> guard::Guard {
    guard::Guard::Entity(proto::EntityGuard {
        entity_id: entity_id.to_owned(),
        expect: Some(expect),
    })
}

fn time(seconds: i64, nanos: i32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos }
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

async fn seed(server: &TestServer) -> String {
    let channel = server.channel().await;
    let mut ingest = proto::ingest_service_client::IngestServiceClient::new(channel.clone());
    let (mut one, mut other) = (good(), good());
    one.entity_id = "case-1".into();
    other.entity_id = "case-2".into();
    ingest
        .append(events([one.clone(), one, other]))
        .await
        .unwrap();
    let mut query = proto::query_service_client::QueryServiceClient::new(channel);
    let request = proto::ListEntitiesRequest {
        page_size: 1,
        ..Default::default()
    };
    query
        .list_entities(request)
        .await
        .unwrap()
        .into_inner()
        .next_page_token
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_with_their_code_and_reason() {
    let server = TestServer::start().await;
    let token = seed(&server).await;
    let mut cases = Cases::default();
    framing::wire_cases(&mut cases);
    events::event_cases(&mut cases);
    guards::guard_cases(&mut cases);
    reads::read_cases(&mut cases);
    reads::tenant_cases(&mut cases);
    reads::listing_cases(&mut cases, &token);
    assert!(cases.0.len() >= 80, "{}", cases.0.len());

    let mut channel = server.channel().await;
    let mut wrong = Vec::new();
    for Case {
        name,
        path,
        headers,
        body,
        code,
        reason: expected,
    } in cases.0
    {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_slice()))
            .collect();
        let status = call_raw(&mut channel, path, &headers, body).await;
        if (status.code(), reason(&status).as_str()) != (code, expected) {
            wrong.push(format!(
                "{name}: expected {code:?} {expected}, found {:?} {} ({})",
                status.code(),
                reason(&status),
                status.message()
            ));
        }
        let violated = status
            .get_details_bad_request()
            .is_some_and(|bad| !bad.field_violations.is_empty());
        if expected.starts_with("INVALID_") && !violated {
            wrong.push(format!("{name}: no field is named"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );

    // The server still serves, and nothing of all this is in the log.
    let mut query = proto::query_service_client::QueryServiceClient::new(channel);
    let stats = query
        .get_stats(proto::GetStatsRequest { all_tenants: true })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stats.tenants.len(), 1);
    assert_eq!(stats.tenants[0].head, 3);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_of_a_stream_is_answered_in_its_place() {
    let server = TestServer::start().await;
    let mut ingest = proto::ingest_service_client::IngestServiceClient::new(server.channel().await);
    let request = |request_id, append| proto::AppendStreamRequest { request_id, append };
    let mut bad_id = good();
    bad_id.event_id = "x".into();
    let mut bad_payload = good();
    bad_payload.payload = "{".into();
    let requests = vec![
        request(1, Some(events([good()]))),
        request(2, None),
        request(3, Some(events([bad_id]))),
        request(4, Some(events([bad_payload]))),
        request(5, Some(proto::AppendRequest::default())),
        request(
            6,
            Some(guarded(entity("case-9", entity_guard::Expect::Version(9)))),
        ),
        request(7, Some(events([good()]))),
    ];
    let mut answers = ingest
        .append_stream(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        found.push(match answer.outcome.unwrap() {
            Outcome::Result(result) => (
                answer.request_id,
                0,
                format!("at {}", result.first_position),
            ),
            Outcome::Status(status) => {
                let details = status
                    .details
                    .iter()
                    .find(|any| any.type_url.ends_with("google.rpc.ErrorInfo"));
                let info =
                    tonic_types::pb::ErrorInfo::decode(details.unwrap().value.as_slice()).unwrap();
                (answer.request_id, status.code, info.reason)
            }
        });
    }
    let refused = |id, code: Code, reason: &str| (id, i32::from(code), reason.to_owned());
    assert_eq!(
        found,
        [
            (1, 0, "at 1".to_owned()),
            refused(2, Code::InvalidArgument, "INVALID_BATCH"),
            refused(3, Code::InvalidArgument, "INVALID_BATCH"),
            refused(4, Code::InvalidArgument, "INVALID_BATCH"),
            refused(5, Code::InvalidArgument, "INVALID_BATCH"),
            refused(6, Code::Aborted, "VERSION_CONFLICT"),
            (7, 0, "at 2".to_owned()),
        ]
    );

    let body = [
        framed(&request(1, Some(events([good()]))).encode_to_vec()),
        framed(&[0xff]),
    ]
    .concat();
    let status = call_raw(&mut server.channel().await, APPEND_STREAM, &[], body).await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "MALFORMED_MESSAGE")
    );
    server.server.shutdown().await;
}
