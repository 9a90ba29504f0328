//! Bytes that are nearly commands, actions, handles and values: refused, whatever they are, and the server goes on.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_flight::{
    FlightData,
    sql::{
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
        CommandGetTables, CommandPreparedStatementQuery,
    },
    utils::batches_to_flight_data,
};
use bytes::Bytes;
use tokio_stream::StreamExt;

use super::{
    commands::{actions, asked, commands, is_clean},
    stubs::{EVENTS, act, bytes, descriptor, get, info, packed, query, rows, server, ticket},
};
use crate::{
    flight::stubs::Stub,
    rng::{Rng, seeds},
};

/// Some bytes changed, left out or put in.
fn mutated(rng: &mut Rng, bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..=rng.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.below(bytes.len());
        match rng.below(5) {
            0 => bytes[at] = rng.next() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.next() as u8),
            _ => {
                let end = (at + rng.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes.into()
}

async fn is_well(stub: &Stub) {
    let found = rows(stub, &query("select count(*) from events")).await;
    assert_eq!(found.unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_commands_never_end_the_server() {
    let (server, tenant, stub) = server().await;
    let commands = commands();
    for seed in seeds(1) {
        let mut rng = Rng::new(seed);
        for _ in 0..600 {
            let message = rng.pick(&commands).clone();
            let message = mutated(&mut rng, &message);
            for end in asked(&stub, &message).await.into_iter().flatten() {
                is_clean(&end);
            }
        }
        is_well(&stub).await;
    }
    assert_eq!(tenant.head(), EVENTS);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_commands_never_end_the_server() {
    let (server, _, stub) = server().await;
    for message in commands() {
        for end in 0..message.len() {
            let cut = message.slice(..end);
            let answer = get(&stub, cut.clone()).await;
            if let Err(status) = answer {
                is_clean(&status);
            }
        }
    }
    is_well(&stub).await;
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_and_lists_of_any_length_are_answered_or_refused() {
    let (server, _, stub) = server().await;
    for (pattern, is_too_long) in [
        ("_%".repeat(512), false),
        ("%_%".repeat(300), false),
        ("\\".repeat(1_023), false),
        ("(.*".repeat(341), false),
        ("ü%".repeat(341), false),
        ("_%".repeat(100_000), true),
        ("_%".repeat(1_000_000), true),
    ] {
        let asked = CommandGetTables {
            db_schema_filter_pattern: Some(pattern.clone()),
            table_name_filter_pattern: Some(pattern),
            ..CommandGetTables::default()
        };
        match info(&stub, &asked).await {
            Ok(told) => match get(&stub, ticket(&told)).await {
                Ok(_) => assert!(!is_too_long),
                Err(status) => {
                    is_clean(&status);
                    assert!(is_too_long, "{status}");
                }
            },
            Err(status) => is_clean(&status),
        }
    }
    let asked = CommandGetTables {
        table_types: vec!["VIEW".to_owned(); 100_000],
        ..CommandGetTables::default()
    };
    assert_eq!(rows(&stub, &asked).await.unwrap().num_rows(), 7);
    is_well(&stub).await;
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_actions_never_end_the_server() {
    let (server, _, stub) = server().await;
    let actions = actions();
    for seed in seeds(1) {
        let mut rng = Rng::new(seed);
        for _ in 0..2_000 {
            let ((_, body), (name, _)) = (rng.pick(&actions).clone(), rng.pick(&actions).clone());
            let body = mutated(&mut rng, &body);
            if let Err(status) = act(&stub, name, body).await {
                is_clean(&status);
            }
        }
        is_well(&stub).await;
    }
    server.server.shutdown().await;
}

async fn put_all(stub: &Stub, messages: Vec<FlightData>) -> Result<usize, tonic::Status> {
    let answer = stub.clone().do_put(tokio_stream::iter(messages)).await?;
    let results: Vec<_> = answer.into_inner().collect().await;
    results.into_iter().map(|result| result.map(|_| 1)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_values_never_end_the_server() {
    let (server, _, stub) = server().await;
    let request = ActionCreatePreparedStatementRequest {
        query: "select position from events where position > $1 and entity_id = $2".to_owned(),
        transaction_id: None,
    };
    let bodies = act(&stub, "CreatePreparedStatement", bytes(&request)).await;
    let created: ActionCreatePreparedStatementResult = packed(&bodies.unwrap());
    let prepared = CommandPreparedStatementQuery {
        prepared_statement_handle: created.prepared_statement_handle,
    };
    let columns = [
        ("a", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        (
            "b",
            Arc::new(StringArray::from(vec!["order-1", "x"])) as ArrayRef,
        ),
    ];
    let values = RecordBatch::try_from_iter(columns).unwrap();
    let mut good = batches_to_flight_data(&values.schema(), vec![values]).unwrap();
    good[0].flight_descriptor = Some(descriptor(&prepared));
    assert_eq!(put_all(&stub, good.clone()).await.unwrap(), 1);
    let mut bound = 0;
    for seed in seeds(1) {
        let mut rng = Rng::new(seed);
        for _ in 0..1_500 {
            let mut messages = good.clone();
            let at = rng.below(messages.len());
            let message = &mut messages[at];
            if rng.chance(70) {
                message.data_header = mutated(&mut rng, &message.data_header);
            } else {
                message.data_body = mutated(&mut rng, &message.data_body);
            }
            if rng.chance(10) {
                messages.remove(at);
            }
            match put_all(&stub, messages).await {
                Ok(count) => bound += count,
                Err(status) => is_clean(&status),
            }
        }
        is_well(&stub).await;
    }
    assert!(bound > 0, "some changes are harmless");
    let told = info(&stub, &query("select 1")).await.unwrap();
    assert!(get(&stub, ticket(&told)).await.is_ok());
    server.server.shutdown().await;
}
