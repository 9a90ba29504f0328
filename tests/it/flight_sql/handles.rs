//! Tickets and handles that are altered, expired, of another log, or none.

use std::time::Duration;

use annals::{TenantId, Timestamp};
use arrow_flight::{
    CancelFlightInfoRequest, FlightInfo, Ticket,
    sql::{
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
        ActionCreatePreparedStatementResult, CommandPreparedStatementQuery, ProstMessageExt,
        TicketStatementQuery,
    },
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;
use tonic::{Code, Request};

use super::stubs::{act, bytes, get, info, packed, put, query, rows, schema, server, ticket};
use crate::{
    flight::stubs::{Stub, fill, numbered, refusal, tenant},
    wire::TestServer,
};

async fn handle(stub: &Stub) -> Bytes {
    let request = ActionCreatePreparedStatementRequest {
        query: "select count(*) from events".to_owned(),
        transaction_id: None,
    };
    let bodies = act(stub, "CreatePreparedStatement", bytes(&request)).await;
    let created: ActionCreatePreparedStatementResult = packed(&bodies.unwrap());
    created.prepared_statement_handle
}

fn of(handle: &[u8]) -> CommandPreparedStatementQuery {
    CommandPreparedStatementQuery {
        prepared_statement_handle: handle.to_vec().into(),
    }
}

/// The bytes of something sealed, changed and sealed again with the key of the data folder.
fn resealed(server: &TestServer, sealed: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let key = std::fs::read(server.dir.path().join("data/ticket.key")).unwrap();
    let mut content = sealed[..sealed.len() - 32].to_vec();
    change(&mut content);
    let seal = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let seal = seal.chain_update(&content).finalize().into_bytes();
    content.extend(seal);
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_tickets_and_handles_are_refused() {
    let (server, _, stub) = server().await;
    let told = info(&stub, &query("select count(*) from events"))
        .await
        .unwrap();
    let (good, handle) = (ticket(&told), handle(&stub).await);
    for at in 0..good.len() {
        let mut altered = good.to_vec();
        altered[at] ^= 1;
        let refused = get(&stub, altered).await.unwrap_err();
        let expected = (Code::InvalidArgument, "INVALID_TICKET".to_owned());
        assert_eq!(refusal(&refused), expected, "byte {at}");
    }
    for at in 0..handle.len() {
        let mut altered = handle.to_vec();
        altered[at] ^= 1;
        let refused = info(&stub, &of(&altered)).await.unwrap_err();
        let expected = (Code::InvalidArgument, "INVALID_HANDLE".to_owned());
        assert_eq!(refusal(&refused), expected, "byte {at}");
    }
    // What is sealed is good for what it was sealed for.
    let none = info(&stub, &of(&good)).await.unwrap_err();
    assert_eq!(refusal(&none).1, "INVALID_HANDLE");
    let none = get(&stub, handle.clone()).await.unwrap_err();
    assert_eq!(refusal(&none).1, "INVALID_TICKET");
    for wrong in [&b""[..], b"ANNALSP1", &handle[..40], b"{}"] {
        for refused in [
            info(&stub, &of(wrong)).await.unwrap_err(),
            schema(&stub, &of(wrong)).await.unwrap_err(),
            put(&stub, &of(wrong), None).await.unwrap_err(),
        ] {
            assert_eq!(refusal(&refused).1, "INVALID_HANDLE");
        }
        let close = ActionClosePreparedStatementRequest {
            prepared_statement_handle: wrong.to_vec().into(),
        };
        let refused = act(&stub, "ClosePreparedStatement", bytes(&close)).await;
        assert_eq!(refusal(&refused.unwrap_err()).1, "INVALID_HANDLE");
        if wrong != b"{}" {
            let wrapped = TicketStatementQuery {
                statement_handle: wrong.to_vec().into(),
            };
            let refused = get(&stub, bytes(&wrapped)).await.unwrap_err();
            assert_eq!(refusal(&refused).1, "INVALID_TICKET");
        }
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_expires_and_a_handle_does_not() {
    let (server, _, stub) = server().await;
    let told = info(&stub, &query("select count(*) from events"))
        .await
        .unwrap();
    let past = Timestamp::from_micros(1_000_000).unwrap();
    let expired = resealed(&server, &ticket(&told), |content| {
        content[8..16].copy_from_slice(&past.as_micros().to_le_bytes());
    });
    let refused = get(&stub, expired.clone()).await.unwrap_err();
    assert_eq!(
        refusal(&refused),
        (Code::FailedPrecondition, "TICKET_EXPIRED".into())
    );
    // Its stream may go on, so that it can be cancelled.
    let mut info = FlightInfo::clone(&told);
    info.endpoint[0].ticket = Some(Ticket::new(expired));
    let cancel = CancelFlightInfoRequest::new(info).encode_to_vec();
    act(&stub, "CancelFlightInfo", cancel).await.unwrap();
    let expires_at = told.endpoint[0].expiration_time.unwrap();
    assert!(expires_at.seconds > 0, "{:?}", Duration::from_secs(1));
    // Of another version of the server.
    let other = resealed(&server, &ticket(&told), |content| {
        content.truncate(32);
        content.extend(b"\xff\xff");
    });
    let refused = get(&stub, other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sealed_for_another_log_is_refused() {
    let (server, _, stub) = server().await;
    let told = info(&stub, &query("select count(*) from events"))
        .await
        .unwrap();
    let (good, handle) = (ticket(&told), of(&handle(&stub).await));
    let other = TenantId::try_from("other").unwrap();
    server.server.engine().create_tenant(&other).await.unwrap();
    let to_other = |mut request: Request<Ticket>| {
        let metadata = request.metadata_mut();
        metadata.insert("annals-tenant", "other".parse().unwrap());
        request
    };
    let request = to_other(Request::new(Ticket::new(good)));
    let refused = stub.clone().do_get(request).await.unwrap_err();
    assert_eq!(
        refusal(&refused),
        (Code::FailedPrecondition, "OTHER_LOG".into())
    );

    // Of another data folder: its key is another.
    let elsewhere = TestServer::start().await;
    fill(&tenant(&elsewhere.server).await, 3, 3, numbered).await;
    let there = crate::flight::stubs::stub(&elsewhere).await;
    let refused = info(&there, &handle).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "INVALID_HANDLE");
    let key = std::fs::read(server.dir.path().join("data/ticket.key")).unwrap();
    let dir = elsewhere.dir.path().join("data/ticket.key");
    elsewhere.server.shutdown().await;
    std::fs::write(dir, key).unwrap();
    let config = annals::config::Config {
        data: elsewhere.dir.path().join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        ..annals::config::Config::default()
    };
    let again = annals::server::Server::start(&config).await.unwrap();
    let again = TestServer {
        server: again,
        dir: elsewhere.dir,
    };
    let there = crate::flight::stubs::stub(&again).await;
    for refused in [
        info(&there, &handle).await.unwrap_err(),
        get(&there, ticket(&told)).await.unwrap_err(),
    ] {
        assert_eq!(
            refusal(&refused),
            (Code::FailedPrecondition, "OTHER_LOG".into())
        );
    }
    assert_eq!(rows(&stub, &handle).await.unwrap().num_rows(), 1);
    assert!(!CommandPreparedStatementQuery::type_url().is_empty());
    again.server.shutdown().await;
    server.server.shutdown().await;
}
