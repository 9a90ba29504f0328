//! Statements, ad hoc and prepared: what they give, at which position, and how they are cancelled.

use std::sync::Arc;

use annals::AsOf;
use arrow::{
    array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Int64Type, Schema},
};
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, IpcMessage,
    RenewFlightEndpointRequest, Ticket,
    sql::{
        ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
        CommandGetCatalogs, CommandGetTables, CommandPreparedStatementQuery,
        DoPutPreparedStatementResult, TicketStatementQuery, client::FlightSqlServiceClient,
    },
};
use prost::Message;
use tokio_stream::StreamExt;
use tonic::Code;

use super::stubs::{
    EVENTS, act, bytes, descriptor, event, get, info, packed, past, put, query, rows, schema,
    schema_of, server, ticket,
};
use crate::flight::stubs::{Stub, fill, refusal};

fn numbers(rows: &RecordBatch) -> Vec<i64> {
    let column = rows.column(0).as_primitive::<Int64Type>();
    column.values().to_vec()
}

async fn prepare(stub: &Stub, statement: &str) -> ActionCreatePreparedStatementResult {
    let request = ActionCreatePreparedStatementRequest {
        query: statement.to_owned(),
        transaction_id: None,
    };
    let bodies = act(stub, "CreatePreparedStatement", bytes(&request)).await;
    packed(&bodies.unwrap())
}

fn prepared(handle: impl Into<bytes::Bytes>) -> CommandPreparedStatementQuery {
    CommandPreparedStatementQuery {
        prepared_statement_handle: handle.into(),
    }
}

fn values(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().cloned()).unwrap()
}

fn number(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_has_one_schema_everywhere() {
    let (server, tenant, stub) = server().await;
    let tables = CommandGetTables {
        include_schema: true,
        ..CommandGetTables::default()
    };
    let tables = rows(&stub, &tables).await.unwrap();
    let names = |column| tables.column(column).as_string::<i32>().iter().flatten();
    let schemas = tables.column(4).as_binary::<i32>();
    let mut checked = 0;
    for ((schema_name, table), told) in names(1).zip(names(2)).zip(schemas.iter().flatten()) {
        let told = Schema::try_from(IpcMessage(told.to_vec().into())).unwrap();
        let statement = format!("select * from {schema_name}.\"{table}\"");
        let found = rows(&stub, &query(&statement)).await.unwrap();
        assert_eq!(*found.schema(), told, "{statement}");
        let prepared = prepare(&stub, &statement).await;
        assert_eq!(schema_of(&prepared.dataset_schema), told, "{statement}");
        checked += 1;
    }
    assert_eq!(checked, 2 + 7 + 2);
    for statement in [
        "select 1 as a, null as b, payload -> 'n' as c, [position] as d from events limit 2",
        "select event_type, count(*), max(recorded_at) from events group by 1",
        "select * from events where false",
        "explain select 1",
        "show tables",
        "values (1, 'a'), (2, null)",
    ] {
        let found = rows(&stub, &query(statement)).await.unwrap();
        let prepared = prepare(&stub, statement).await;
        assert_eq!(schema_of(&prepared.dataset_schema), *found.schema());
        assert_eq!(schema_of(&prepared.parameter_schema), Schema::empty());
        let again = self::prepared(prepared.prepared_statement_handle);
        let again = rows(&stub, &again).await.unwrap();
        assert_eq!(again.schema(), found.schema());
    }
    drop(tenant);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_shows_the_cut_that_it_was_made_at() {
    let (server, tenant, stub) = server().await;
    let count = query("select count(*) from events");
    let pinned = info(&stub, &count).await.unwrap();
    let handle = prepare(&stub, &count.query).await.prepared_statement_handle;
    fill(&tenant, 5, 5, event).await;
    let all = EVENTS.cast_signed() + 5;
    for _ in 0..2 {
        let found = get(&stub, ticket(&pinned)).await.unwrap();
        assert_eq!(numbers(&found), [EVENTS.cast_signed()]);
    }
    // A prepared statement is of no cut, and its ticket is.
    let found = rows(&stub, &prepared(handle.clone())).await.unwrap();
    assert_eq!(numbers(&found), [all]);
    // A ticket goes before the metadata of who takes it.
    let request = past(Ticket::new(ticket(&pinned)), AsOf::Position(3));
    let answer = stub.clone().do_get(request).await.unwrap().into_inner();
    let messages: Vec<_> = answer.map(Result::unwrap).collect().await;
    assert_eq!(messages.len(), 2);
    assert!(String::from_utf8_lossy(&messages[1].app_metadata).contains(r#""head":40"#));

    for message in [descriptor(&count), descriptor(&prepared(handle))] {
        let request = past(message, AsOf::Position(7));
        let info = stub.clone().get_flight_info(request).await.unwrap();
        let found = get(&stub, ticket(&info.into_inner())).await.unwrap();
        assert_eq!(numbers(&found), [7]);
    }
    let request = past(descriptor(&count), AsOf::Position(1_000));
    let status = stub.clone().get_flight_info(request).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::OutOfRange, "BEYOND_HEAD".into()));
    // There is a table of a type from its first event on.
    let request = past(
        descriptor(&query("select * from types.order_placed")),
        AsOf::Position(0),
    );
    let status = stub.clone().get_schema(request).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::NotFound, "NO_SUCH_TABLE".into()));

    let wrapped = TicketStatementQuery {
        statement_handle: ticket(&pinned),
    };
    let found = get(&stub, bytes(&wrapped)).await.unwrap();
    assert_eq!(numbers(&found), [EVENTS.cast_signed()]);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_bound_to_a_handle_which_becomes_another() {
    let (server, _, stub) = server().await;
    let statement = "select position from events where position > $1 and entity_id = $2 order by 1";
    let created = prepare(&stub, statement).await;
    let parameters = schema_of(&created.parameter_schema);
    let types: Vec<_> = parameters.fields().iter().map(|f| f.data_type()).collect();
    assert_eq!(types, [&DataType::Int64, &DataType::Utf8]);
    let first = created.prepared_statement_handle;

    let unbound = info(&stub, &prepared(first.clone())).await.unwrap_err();
    assert_eq!(unbound.code(), Code::InvalidArgument);
    let ad_hoc = info(&stub, &query(statement)).await.unwrap_err();
    assert!(ad_hoc.message().contains("prepare it"), "{ad_hoc}");
    assert_eq!(
        schema(&stub, &query(statement))
            .await
            .unwrap()
            .fields()
            .len(),
        1
    );

    let bind = async |handle: bytes::Bytes, least: &[i64], entity: &[&str]| {
        let entity: ArrayRef = Arc::new(StringArray::from(entity.to_vec()));
        let values = values(&[("", number(least)), ("x", entity)]);
        let results = put(&stub, &prepared(handle), Some(&values)).await.unwrap();
        assert_eq!(results.len(), 1);
        let result = DoPutPreparedStatementResult::decode(&*results[0].app_metadata).unwrap();
        result.prepared_statement_handle.unwrap()
    };
    let bound = bind(first.clone(), &[33], &["order-1"]).await;
    let found = rows(&stub, &prepared(bound.clone())).await.unwrap();
    assert_eq!(numbers(&found), [34, 37, 40]);
    // What is bound to the one is not bound to the other, and goes when something else is.
    assert!(info(&stub, &prepared(first)).await.is_err());
    let again = bind(
        bound.clone(),
        &[36, 38, 50],
        &["order-1", "order-0", "order-0"],
    )
    .await;
    let found = rows(&stub, &prepared(again.clone())).await.unwrap();
    assert_eq!(numbers(&found), [37, 40, 39]);
    assert_eq!(
        numbers(&rows(&stub, &prepared(bound)).await.unwrap()),
        [34, 37, 40]
    );

    let close = ActionClosePreparedStatementRequest {
        prepared_statement_handle: again,
    };
    for _ in 0..2 {
        let answers = act(&stub, "ClosePreparedStatement", bytes(&close)).await;
        assert!(answers.unwrap().is_empty());
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrows_own_client_prepares_binds_and_reads() {
    let (server, _, _) = server().await;
    let mut client = FlightSqlServiceClient::new(server.channel().await);
    let statement = "select position from events where position < $1".to_owned();
    let mut prepared = client.prepare(statement, None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 1);
    for (most, count) in [(3, 2), (2, 1)] {
        prepared
            .set_parameters(values(&[("$1", number(&[most]))]))
            .unwrap();
        let info = prepared.execute().await.unwrap();
        let ticket = info.endpoint[0].ticket.clone().unwrap();
        let batches = client.do_get(ticket).await.unwrap();
        let batches: Vec<_> = batches.collect::<Result<_, _>>().await.unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, count);
    }
    prepared.close().await.unwrap();
    client.close().await.unwrap();
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_decides_on_a_type_that_the_statement_leaves_open() {
    let (server, _, stub) = server().await;
    let created = prepare(&stub, "select $1 as a, position from events limit 1").await;
    let open = schema_of(&created.dataset_schema);
    assert_eq!(open.field(0).data_type(), &DataType::Null);
    for value in [
        number(&[7]),
        Arc::new(StringArray::from(vec!["x"])),
        Arc::new(StringArray::from(vec![None::<&str>])),
    ] {
        let data_type = value.data_type().clone();
        let handle = created.prepared_statement_handle.clone();
        let bound = values(&[("$1", value)]);
        let results = put(&stub, &prepared(handle), Some(&bound)).await.unwrap();
        let result = DoPutPreparedStatementResult::decode(&*results[0].app_metadata).unwrap();
        let bound = prepared(result.prepared_statement_handle.unwrap());
        let found = rows(&stub, &bound).await.unwrap();
        assert_eq!(found.schema().field(0).data_type(), &data_type);
        assert_eq!(found.schema().field(1), open.field(1));
    }
    server.server.shutdown().await;
}

/// As many rows as nobody reads to the end.
const ENDLESS: &str =
    "select a.position from events a, events b, events c, events d, events e, events f";

async fn cancelled(stub: &Stub, info: &FlightInfo) -> CancelStatus {
    let request = CancelFlightInfoRequest::new(info.clone());
    let bodies = act(stub, "CancelFlightInfo", request.encode_to_vec())
        .await
        .unwrap();
    CancelFlightInfoResult::decode(&*bodies[0])
        .unwrap()
        .status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_ends_and_its_tickets_are_refused() {
    let (server, _, stub) = server().await;
    for with_legacy in [false, true] {
        let running = info(&stub, &query(ENDLESS)).await.unwrap();
        let answer = stub.clone().do_get(Ticket::new(ticket(&running))).await;
        let mut messages = answer.unwrap().into_inner();
        for _ in 0..3 {
            assert!(messages.message().await.unwrap().is_some());
        }
        if with_legacy {
            let request = ActionCancelQueryRequest {
                info: running.encode_to_vec().into(),
            };
            let bodies = act(&stub, "CancelQuery", bytes(&request)).await.unwrap();
            let result: ActionCancelQueryResult = packed(&bodies);
            assert_eq!(result.result().as_str_name(), "CANCEL_RESULT_CANCELLED");
        } else {
            assert_eq!(cancelled(&stub, &running).await, CancelStatus::Cancelled);
        }
        let ended = loop {
            match messages.message().await {
                Ok(message) => assert!(message.is_some(), "it was cancelled"),
                Err(status) => break status,
            }
        };
        assert_eq!(
            refusal(&ended),
            (Code::FailedPrecondition, "QUERY_CANCELLED".into())
        );
        let refused = get(&stub, ticket(&running)).await.unwrap_err();
        assert_eq!(refusal(&refused).1, "QUERY_CANCELLED");
        let renew = RenewFlightEndpointRequest::new(running.endpoint[0].clone());
        let refused = act(&stub, "RenewFlightEndpoint", renew.encode_to_vec()).await;
        assert_eq!(refusal(&refused.unwrap_err()).1, "QUERY_CANCELLED");
    }
    // What asks what there is, is over at once.
    let metadata = info(&stub, &CommandGetCatalogs {}).await.unwrap();
    assert_eq!(
        cancelled(&stub, &metadata).await,
        CancelStatus::NotCancellable
    );
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_a_statement_is_renewed() {
    let (server, tenant, stub) = server().await;
    let old = info(&stub, &query("select count(*) from events"))
        .await
        .unwrap();
    fill(&tenant, 1, 1, event).await;
    let renew = RenewFlightEndpointRequest::new(old.endpoint[0].clone());
    let bodies = act(&stub, "RenewFlightEndpoint", renew.encode_to_vec()).await;
    let endpoint = arrow_flight::FlightEndpoint::decode(&*bodies.unwrap()[0]).unwrap();
    let found = get(&stub, endpoint.ticket.unwrap().ticket).await.unwrap();
    assert_eq!(numbers(&found), [EVENTS.cast_signed()]);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_statement_ends_with_the_server() {
    let (server, _, stub) = server().await;
    let running = info(&stub, &query(ENDLESS)).await.unwrap();
    let answer = stub.clone().do_get(Ticket::new(ticket(&running))).await;
    let mut messages = answer.unwrap().into_inner();
    assert!(messages.message().await.unwrap().is_some());
    let ending = tokio::spawn(server.server.shutdown());
    let ended = loop {
        match messages.message().await {
            Ok(message) => assert!(message.is_some(), "the server ended"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&ended), (Code::Unavailable, "SHUTTING_DOWN".into()));
    ending.await.unwrap();
}
