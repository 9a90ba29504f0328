//! Tickets: how long they hold, who takes them, and that nothing in them harms the server.

use annals::{TenantId, Timestamp, config::Config, server::Server};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Empty, FlightDescriptor,
    FlightEndpoint, FlightInfo, RenewFlightEndpointRequest, Ticket,
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use serde_json::json;
use sha2::Sha256;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use super::stubs::{
    Reading, Stub, command, fill, get, numbered, numbers, path, refusal, sealing, stub, tenant,
    typed,
};
use crate::{
    rng::{Rng, seeds},
    wire::TestServer,
};

async fn info(stub: &Stub, scan: &serde_json::Value) -> FlightInfo {
    let answer = stub.clone().get_flight_info(command(scan)).await;
    answer.unwrap().into_inner()
}

fn ticket(info: &FlightInfo) -> Bytes {
    info.endpoint[0].ticket.clone().unwrap().ticket
}

async fn act(stub: &Stub, name: &str, body: Vec<u8>) -> Result<Bytes, Status> {
    let mut answers = stub
        .clone()
        .do_action(Action::new(name, body))
        .await?
        .into_inner();
    let answer = answers.message().await?.expect("an action has an answer");
    assert!(answers.message().await?.is_none());
    Ok(answer.body)
}

async fn cancel(stub: &Stub, info: &FlightInfo) -> Result<CancelStatus, Status> {
    let request = CancelFlightInfoRequest::new(info.clone());
    let answer = act(stub, "CancelFlightInfo", request.encode_to_vec()).await?;
    Ok(CancelFlightInfoResult::decode(answer).unwrap().status())
}

async fn renew(stub: &Stub, endpoint: &FlightEndpoint) -> Result<FlightEndpoint, Status> {
    let request = RenewFlightEndpointRequest::new(endpoint.clone());
    let answer = act(stub, "RenewFlightEndpoint", request.encode_to_vec()).await?;
    Ok(FlightEndpoint::decode(answer).unwrap())
}

/// The bytes of a sealed ticket, changed and sealed again with the key of the data folder.
fn resealed(server: &TestServer, ticket: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let key = std::fs::read(server.dir.path().join("data/ticket.key")).unwrap();
    assert_eq!(key.len(), 32);
    let mut content = ticket[..ticket.len() - 32].to_vec();
    change(&mut content);
    let seal = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let seal = seal.chain_update(&content).finalize().into_bytes();
    content.extend(seal);
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_holds_across_a_restart_and_shows_the_cut_that_it_was_made_at() {
    let server = TestServer::start_with(|config| sealing(config, 20)).await;
    fill(&tenant(&server.server).await, 55, 5, numbered).await;
    let first = stub(&server).await;
    let scan = json!({"types": ["a"], "columns": ["position"], "as_of": 50});
    let pinned = info(&first, &scan).await;
    let entities = info(&first, &json!({"table": "entities"})).await;
    let before = get(&first, ticket(&entities)).await.unwrap();
    server.server.shutdown().await;

    let mut config = Config {
        data: server.dir.path().join("data"),
        ..Config::default()
    };
    config.listen.set_port(0);
    let server = TestServer {
        server: Server::start(&config).await.unwrap(),
        dir: server.dir,
    };
    let second = stub(&server).await;
    fill(&tenant(&server.server).await, 30, 5, numbered).await;
    for _ in 0..2 {
        let parts = get(&second, ticket(&pinned)).await.unwrap();
        let expected: Vec<_> = (1..=50).filter(|n| n % 3 == 0).collect();
        assert_eq!(numbers(&parts, "position"), expected);
        let last = parts.last().unwrap();
        assert_eq!((last.position, last.head), (Some(50), 50));
        let parts = get(&second, ticket(&entities)).await.unwrap();
        assert_eq!(
            numbers(&parts, "last_position"),
            numbers(&before, "last_position")
        );
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_good_for_its_log_alone() {
    let server = TestServer::start_with(|config| config.tenants_auto_create = true).await;
    fill(&tenant(&server.server).await, 5, 5, numbered).await;
    let id = TenantId::try_from("acme").unwrap();
    let other = server.server.engine().create_tenant(&id).await.unwrap();
    let stub = stub(&server).await;
    let sealed = info(&stub, &json!({})).await;
    let as_other = |ticket: Bytes| {
        let mut request = Request::new(Ticket::new(ticket));
        request
            .metadata_mut()
            .insert("annals-tenant", "acme".parse().unwrap());
        request
    };
    let other_log = (Code::FailedPrecondition, "OTHER_LOG".to_owned());
    let refused = stub
        .clone()
        .do_get(as_other(ticket(&sealed)))
        .await
        .unwrap_err();
    assert_eq!(refusal(&refused), other_log);
    let log_id = other.log_id().to_string();
    let refused = get(&stub, typed(&json!({"log_id": log_id})))
        .await
        .unwrap_err();
    assert_eq!(refusal(&refused), other_log);
    stub.clone()
        .do_get(as_other(typed(&json!({"log_id": log_id}))))
        .await
        .unwrap();

    let elsewhere = TestServer::start().await;
    let refused = get(&super::stubs::stub(&elsewhere).await, ticket(&sealed))
        .await
        .unwrap_err();
    assert_eq!(
        refusal(&refused),
        (Code::InvalidArgument, "INVALID_TICKET".to_owned())
    );
    elsewhere.server.shutdown().await;
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_expires_unless_it_is_renewed() {
    let server = TestServer::start().await;
    fill(&tenant(&server.server).await, 5, 5, numbered).await;
    let stub = stub(&server).await;
    let info = info(&stub, &json!({"after": 2})).await;
    let endpoint = &info.endpoint[0];
    let stated = |endpoint: &FlightEndpoint| endpoint.expiration_time.unwrap();
    let now = prost_types::Timestamp::from(std::time::SystemTime::now());
    let life = stated(endpoint).seconds - now.seconds;
    assert!((3_590..=3_600).contains(&life), "{life} s");

    // As if it had been made so long before.
    let made = |seconds: i64| {
        let at = (stated(endpoint).seconds - seconds) * 1_000_000;
        let bytes = resealed(&server, &ticket(&info), |content| {
            content[8..16].copy_from_slice(&at.to_le_bytes());
        });
        FlightEndpoint {
            ticket: Some(Ticket::new(bytes)),
            ..endpoint.clone()
        }
    };
    let (old, over) = (made(3_000), made(3_601));
    let ticket_of = |endpoint: &FlightEndpoint| endpoint.ticket.clone().unwrap().ticket;
    let renewed = renew(&stub, &old).await.unwrap();
    assert_ne!(ticket_of(&renewed), ticket_of(&old));
    assert!(stated(&renewed).seconds >= stated(endpoint).seconds);
    for good in [&old, &renewed] {
        let parts = get(&stub, ticket_of(good)).await.unwrap();
        assert_eq!(numbers(&parts, "position"), [3, 4, 5]);
    }
    let expired = (Code::FailedPrecondition, "TICKET_EXPIRED".to_owned());
    let refused = get(&stub, ticket_of(&over)).await.unwrap_err();
    assert_eq!(refusal(&refused), expired);
    assert!(
        refused.message().contains("GetFlightInfo"),
        "{}",
        refused.message()
    );
    assert_eq!(refusal(&renew(&stub, &over).await.unwrap_err()), expired);

    let typed = FlightEndpoint {
        ticket: Some(Ticket::new("{}")),
        ..endpoint.clone()
    };
    let refused = renew(&stub, &typed).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("typed"), "{}", refused.message());
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_ends_with_its_streams() {
    let server = TestServer::start().await;
    fill(&tenant(&server.server).await, 5, 5, numbered).await;
    let stub = stub(&server).await;
    let follow = json!({"follow": true, "after": 5});
    let (cancelled, other) = (info(&stub, &follow).await, info(&stub, &follow).await);
    let mut running = Vec::new();
    for _ in 0..2 {
        let mut reading = Reading::begin(&stub, ticket(&cancelled)).await.unwrap();
        reading.next().await.unwrap();
        running.push(reading);
    }
    let mut going_on = Reading::begin(&stub, ticket(&other)).await.unwrap();

    for _ in 0..2 {
        assert_eq!(
            cancel(&stub, &cancelled).await.unwrap(),
            CancelStatus::Cancelled
        );
    }
    for reading in running {
        let ended = reading.rest().await.unwrap_err();
        assert_eq!(
            refusal(&ended),
            (Code::FailedPrecondition, "QUERY_CANCELLED".to_owned())
        );
    }
    let refused = (Code::FailedPrecondition, "QUERY_CANCELLED".to_owned());
    let later = get(&stub, ticket(&cancelled)).await.unwrap_err();
    assert_eq!(refusal(&later), refused);
    let renewed = renew(&stub, &cancelled.endpoint[0]).await.unwrap_err();
    assert_eq!(refusal(&renewed), refused);
    assert!(going_on.next().await.unwrap().is_some());

    // Once it is expired there is nothing to refuse, but what began before is ended all the same.
    let bytes = resealed(&server, &ticket(&other), |content| {
        content[8..16].copy_from_slice(&Timestamp::MIN.as_micros().to_le_bytes());
    });
    let mut expired = other.clone();
    expired.endpoint[0].ticket = Some(Ticket::new(bytes));
    cancel(&stub, &expired).await.unwrap();
    let ended = going_on.rest().await.unwrap_err();
    assert_eq!(refusal(&ended), refused);

    for wrong in [
        FlightInfo::new(),
        FlightInfo::new().with_endpoint(FlightEndpoint::new()),
    ] {
        let refused = cancel(&stub, &wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_listed_and_others_are_told_of_them() {
    let server = TestServer::start().await;
    let mut stub = stub(&server).await;
    let listed = stub.list_actions(Empty {}).await.unwrap().into_inner();
    let listed: Vec<_> = listed.map(|action| action.unwrap().r#type).collect().await;
    assert_eq!(listed, ["CancelFlightInfo", "RenewFlightEndpoint"]);
    let refused = act(&stub, "Drop", Vec::new()).await.unwrap_err();
    assert_eq!(
        refusal(&refused),
        (Code::Unimplemented, "NO_SUCH_ACTION".to_owned())
    );
    for name in &listed {
        assert!(
            refused.message().contains(name.as_str()),
            "{}",
            refused.message()
        );
        let refused = act(&stub, name, b"\xff\xff\xff".to_vec())
            .await
            .unwrap_err();
        assert_eq!(
            refusal(&refused),
            (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned())
        );
    }
    server.server.shutdown().await;
}

/// Tickets that nobody makes by mistake.
fn hostile(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "{",
        "{}}",
        "{\"columns\":[1]}",
        "{\"after\":18446744073709551616}",
        "{\"after\":18446744073709551615,\"through\":18446744073709551615}",
        "{\"limit\":-1}",
        "{\"as_of\":\"v18446744073709551615\"}",
        "{\"recorded\":{\"since\":\"9999-12-31T23:59:59.999999Z\"},\"partitions\":[4294967295]}",
        "{\"table\":[\"types\",\"\\u0000\"]}",
        "{\"tags\":[\"\\ud800\"]}",
        "null",
        "[]",
        "ANNALST1",
        " ",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    all.push(format!("{{\"as_of\":{}1", "[".repeat(200_000)).into());
    all.push(format!("{{\"query\":{}", "[{\"types\":".repeat(20_000)).into());
    all.push(format!("{{\"entities\":[{}\"x\"]}}", "\"x\",".repeat(1 << 18)).into());
    all.push(vec![b' '; 1 << 20]);
    all.push([&b"ANNALST1"[..], &vec![7; 1 << 20]].concat());
    for _ in 0..150 {
        let bytes = rng.below(200);
        all.push((0..bytes).map(|_| rng.next() as u8).collect());
        let mut magic = b"ANNALST1".to_vec();
        magic.extend((0..bytes).map(|_| rng.next() as u8));
        all.push(magic);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ticket_and_no_descriptor_harms_the_server() {
    let server = TestServer::start_with(|config| sealing(config, 3)).await;
    fill(&tenant(&server.server).await, 10, 2, numbered).await;
    let stub = stub(&server).await;
    let good = ticket(&info(&stub, &json!({"columns": ["position"], "after": 4})).await);
    let expected: Vec<_> = (5..=10).collect();
    let invalid = (Code::InvalidArgument, "INVALID_TICKET".to_owned());
    for at in 0..good.len() {
        let mut altered = good.to_vec();
        altered[at] ^= 1 << (at % 8);
        for ticket in [altered, good[..at].to_vec()] {
            let refused = get(&stub, ticket).await.unwrap_err();
            assert_eq!(refusal(&refused), invalid, "byte {at}");
        }
    }
    let mut longer = good.to_vec();
    longer.push(0);
    assert_eq!(refusal(&get(&stub, longer).await.unwrap_err()), invalid);

    for seed in seeds(1) {
        for ticket in hostile(&mut Rng::new(seed)) {
            let told = String::from_utf8_lossy(&ticket[..ticket.len().min(80)]).into_owned();
            let refused = get(&stub, ticket.clone()).await.expect_err(&told);
            let known = [Code::InvalidArgument, Code::OutOfRange];
            assert!(known.contains(&refused.code()), "{told}: {refused:?}");
            assert_ne!(refusal(&refused).1, "", "{told}: {refused:?}");
            let command = FlightDescriptor::new_cmd(ticket);
            for descriptor in [
                FlightDescriptor {
                    r#type: 0,
                    ..command.clone()
                },
                FlightDescriptor {
                    r#type: 77,
                    ..command.clone()
                },
                FlightDescriptor {
                    r#type: 1,
                    path: vec![told.clone(); 3],
                    ..command.clone()
                },
                FlightDescriptor {
                    r#type: 1,
                    path: vec!["types".to_owned(), "$x".to_owned()],
                    ..command.clone()
                },
                command,
            ] {
                let refused = stub
                    .clone()
                    .get_flight_info(descriptor.clone())
                    .await
                    .unwrap_err();
                let known = [Code::InvalidArgument, Code::OutOfRange, Code::NotFound];
                assert!(known.contains(&refused.code()), "{told}: {refused:?}");
                let schema = stub.clone().get_schema(descriptor).await.unwrap_err();
                assert_eq!(refusal(&schema), refusal(&refused), "{told}");
            }
        }
    }
    let long = "x".repeat(1 << 20);
    let refused = stub
        .clone()
        .get_flight_info(path(&["types", &long]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().len() < 1_000);

    let parts = get(&stub, good).await.unwrap();
    assert_eq!(numbers(&parts, "position"), expected);
    server.server.shutdown().await;
}
