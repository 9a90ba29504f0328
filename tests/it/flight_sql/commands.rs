//! Every message of Flight SQL, in every call: an answer, or a status that says why there is none.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow_flight::{
    Empty, FlightDescriptor, Ticket,
    sql::{
        ActionBeginSavepointRequest, ActionBeginTransactionRequest, ActionCancelQueryRequest,
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
        ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest,
        ActionEndTransactionRequest, CommandGetCatalogs, CommandGetCrossReference,
        CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
        CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
        CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
        CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate,
        DoPutUpdateResult, ProstMessageExt, TableDefinitionOptions, TableExistsOption,
        TableNotExistOption, TicketStatementQuery,
    },
};
use bytes::Bytes;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use super::stubs::{EVENTS, act, bytes, get, info, put, query, server};
use crate::flight::stubs::{Stub, refusal};

/// The actions of the protocol, with bodies that are theirs.
pub(super) fn actions() -> Vec<(&'static str, Bytes)> {
    let transaction_id = Bytes::from_static(b"t");
    vec![
        (
            "CreatePreparedStatement",
            bytes(&ActionCreatePreparedStatementRequest {
                query: "select 1".to_owned(),
                transaction_id: None,
            }),
        ),
        (
            "ClosePreparedStatement",
            bytes(&ActionClosePreparedStatementRequest::default()),
        ),
        (
            "CreatePreparedSubstraitPlan",
            bytes(&ActionCreatePreparedSubstraitPlanRequest::default()),
        ),
        ("CancelQuery", bytes(&ActionCancelQueryRequest::default())),
        ("BeginTransaction", bytes(&ActionBeginTransactionRequest {})),
        (
            "EndTransaction",
            bytes(&ActionEndTransactionRequest {
                transaction_id: transaction_id.clone(),
                action: 1,
            }),
        ),
        (
            "BeginSavepoint",
            bytes(&ActionBeginSavepointRequest {
                transaction_id,
                name: "s".to_owned(),
            }),
        ),
        ("EndSavepoint", bytes(&ActionEndSavepointRequest::default())),
        ("CloseSession", Bytes::new()),
        ("GetSessionOptions", Bytes::new()),
        ("SetSessionOptions", Bytes::new()),
        ("CancelFlightInfo", Bytes::new()),
        ("RenewFlightEndpoint", Bytes::new()),
    ]
}

/// The commands of the protocol.
pub(super) fn commands() -> Vec<Bytes> {
    vec![
        bytes(&query("select 1 as a")),
        bytes(&CommandPreparedStatementQuery::default()),
        bytes(&CommandPreparedStatementUpdate::default()),
        bytes(&CommandStatementIngest::default()),
        bytes(&CommandStatementSubstraitPlan::default()),
        bytes(&CommandStatementUpdate {
            query: "delete from events".to_owned(),
            transaction_id: None,
        }),
        bytes(&CommandGetCatalogs {}),
        bytes(&CommandGetCrossReference::default()),
        bytes(&CommandGetDbSchemas::default()),
        bytes(&CommandGetExportedKeys::default()),
        bytes(&CommandGetImportedKeys::default()),
        bytes(&CommandGetPrimaryKeys::default()),
        bytes(&CommandGetSqlInfo::default()),
        bytes(&CommandGetTableTypes {}),
        bytes(&CommandGetTables {
            include_schema: true,
            ..CommandGetTables::default()
        }),
        bytes(&CommandGetXdbcTypeInfo::default()),
        bytes(&TicketStatementQuery::default()),
    ]
}

/// A refusal of ours, and no mistake of the server.
pub(super) fn is_clean(status: &Status) {
    let (code, reason) = refusal(status);
    assert!(
        !reason.is_empty() && !status.message().is_empty(),
        "{status}"
    );
    assert!(
        ![
            Code::Internal,
            Code::Unknown,
            Code::Cancelled,
            Code::DataLoss
        ]
        .contains(&code),
        "{status}"
    );
}

/// Reads to the end, as far as it goes.
pub(super) async fn asked(stub: &Stub, message: &Bytes) -> Vec<Option<Status>> {
    let mut stub = stub.clone();
    let descriptor = FlightDescriptor::new_cmd(message.clone());
    let mut ends = vec![
        stub.get_flight_info(descriptor.clone()).await.err(),
        stub.poll_flight_info(descriptor.clone()).await.err(),
        stub.get_schema(descriptor.clone()).await.err(),
    ];
    ends.push(match stub.do_get(Ticket::new(message.clone())).await {
        Ok(answer) => {
            let mut messages = answer.into_inner();
            loop {
                match messages.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                }
            }
        }
        Err(status) => Some(status),
    });
    let upload = arrow_flight::FlightData::new().with_descriptor(descriptor);
    ends.push(match stub.do_put(tokio_stream::once(upload)).await {
        Ok(answer) => {
            let mut results = answer.into_inner();
            loop {
                match results.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(status) => break Some(status),
                }
            }
        }
        Err(status) => Some(status),
    });
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_in_every_call_has_an_answer_or_a_clean_status() {
    let (server, tenant, stub) = server().await;
    let bodies = actions().into_iter().map(|(_, body)| body);
    let mut answered = 0;
    for message in commands().into_iter().chain(bodies) {
        for end in asked(&stub, &message).await {
            match end {
                Some(status) => is_clean(&status),
                None => answered += 1,
            }
        }
    }
    // Information of ten commands and a statement, in three calls; rows of the ten. An empty message names no command.
    assert_eq!(answered, 3 * 11 + 10);
    for (name, body) in actions() {
        if let Err(status) = act(&stub, name, body).await {
            is_clean(&status);
        }
        for (_, body) in actions() {
            if let Err(status) = act(&stub, name, body).await {
                is_clean(&status);
            }
        }
    }
    assert_eq!(tenant.head(), EVENTS, "nothing was appended");
    assert!(
        get(
            &stub,
            super::stubs::ticket(&info(&stub, &query("select 1")).await.unwrap())
        )
        .await
        .is_ok()
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_says_so() {
    let (server, _, stub) = server().await;
    for (name, told) in [
        ("BeginTransaction", "no transactions"),
        ("EndTransaction", "no transactions"),
        ("BeginSavepoint", "no transactions"),
        ("EndSavepoint", "no transactions"),
        ("CreatePreparedSubstraitPlan", "no Substrait"),
        ("Nothing", "CreatePreparedStatement"),
    ] {
        let refused = act(&stub, name, Bytes::new()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{name}");
        assert!(refused.message().contains(told), "{refused}");
    }
    let in_transaction = CommandStatementQuery {
        transaction_id: Some(Bytes::from_static(b"t")),
        ..query("select 1")
    };
    let refused = info(&stub, &in_transaction).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    for refused in [
        info(&stub, &CommandStatementSubstraitPlan::default())
            .await
            .err(),
        put(&stub, &CommandStatementSubstraitPlan::default(), None)
            .await
            .err(),
        put(&stub, &CommandStatementUpdate::default(), None)
            .await
            .err(),
        put(&stub, &CommandPreparedStatementUpdate::default(), None)
            .await
            .err(),
    ] {
        assert_eq!(refused.unwrap().code(), Code::Unimplemented);
    }
    let future = arrow_flight::sql::Any {
        type_url: CommandGetCatalogs::type_url().replace("GetCatalogs", "OfTheFuture"),
        value: Bytes::new(),
    };
    for refused in asked(&stub, &future.encode_to_vec().into()).await {
        let refused = refused.unwrap();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(
            refused.message().contains("CommandOfTheFuture"),
            "{refused}"
        );
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_are_listed_and_each_is_answered() {
    let (server, _, stub) = server().await;
    let listed = stub
        .clone()
        .list_actions(Empty {})
        .await
        .unwrap()
        .into_inner();
    let listed: Vec<_> = listed.map(|action| action.unwrap().r#type).collect().await;
    assert_eq!(
        listed,
        [
            "CancelFlightInfo",
            "RenewFlightEndpoint",
            "CloseSession",
            "GetSessionOptions",
            "SetSessionOptions",
            "CreatePreparedStatement",
            "ClosePreparedStatement",
            "CancelQuery"
        ]
    );
    for name in listed {
        if let Err(refused) = act(&stub, &name, Bytes::new()).await {
            assert_ne!(refused.code(), Code::Unimplemented, "{name}");
        }
    }
    // `status: CLOSED`.
    assert_eq!(
        act(&stub, "CloseSession", "").await.unwrap(),
        [&b"\x08\x01"[..]]
    );
    server.server.shutdown().await;
}

fn rows(count: usize) -> RecordBatch {
    let column = |text: &str| Arc::new(StringArray::from(vec![text; count])) as ArrayRef;
    RecordBatch::try_from_iter([
        ("entity_id", column("e")),
        ("event_type", column("ingested")),
        ("payload", column("{}")),
    ])
    .unwrap()
}

fn ingest(
    if_not_exist: TableNotExistOption,
    if_exists: TableExistsOption,
) -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: if_not_exist.into(),
            if_exists: if_exists.into(),
        }),
        table: "events".to_owned(),
        ..CommandStatementIngest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ingestion_appends_and_tells_how_many() {
    use TableExistsOption::{Append, Fail, Replace};
    let (server, tenant, stub) = server().await;
    for if_not_exist in [TableNotExistOption::Fail, TableNotExistOption::Create] {
        let before = tenant.head();
        let append = ingest(if_not_exist, Append);
        let results = put(&stub, &append, Some(&rows(25_000))).await.unwrap();
        let results: Vec<_> = results
            .iter()
            .map(|result| DoPutUpdateResult::decode(&*result.app_metadata).unwrap())
            .map(|result| result.record_count)
            .collect();
        assert_eq!(results, [25_000]);
        assert_eq!(tenant.head(), before + 25_000);
    }
    let before = tenant.head();
    let append = ingest(TableNotExistOption::Fail, Append);
    let refused = [
        (
            ingest(TableNotExistOption::Create, Fail),
            Code::Unimplemented,
        ),
        (
            ingest(TableNotExistOption::Create, Replace),
            Code::Unimplemented,
        ),
        (
            CommandStatementIngest {
                table: "events".to_owned(),
                ..CommandStatementIngest::default()
            },
            Code::Unimplemented,
        ),
        (
            CommandStatementIngest {
                transaction_id: Some(Bytes::from_static(b"t")),
                ..append.clone()
            },
            Code::Unimplemented,
        ),
        (
            CommandStatementIngest {
                options: [("a".to_owned(), "b".to_owned())].into(),
                ..append.clone()
            },
            Code::InvalidArgument,
        ),
        (
            CommandStatementIngest {
                table: "entities".to_owned(),
                ..append.clone()
            },
            Code::InvalidArgument,
        ),
    ];
    for (command, code) in refused {
        let refused = put(&stub, &command, Some(&rows(1))).await.unwrap_err();
        assert_eq!(refused.code(), code, "{command:?}");
        is_clean(&refused);
    }
    let without = rows(2).project(&[0, 1]).unwrap();
    let refused = put(&stub, &append, Some(&without)).await.unwrap_err();
    assert!(
        refused.message().contains("payload: is missing"),
        "{refused}"
    );
    assert_eq!(tenant.head(), before);
    let results = put(&stub, &append, None).await.unwrap();
    assert_eq!(results.len(), 1);
    server.server.shutdown().await;
}
