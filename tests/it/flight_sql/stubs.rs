//! Calls of Flight SQL, and a log for them.

use std::{collections::HashMap, sync::Arc};

use annals::{AsOf, NewEvent, Position, Tenant};
use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::{Schema, SchemaRef},
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightInfo, IpcMessage, PutResult, Ticket,
    sql::{Any, CommandStatementQuery, ProstMessageExt},
    utils::{batches_to_flight_data, flight_data_to_arrow_batch},
};
use bytes::Bytes;
use prost::Message;
use tonic::{Request, Status};

use crate::{
    flight::stubs::{Stub, fill, stub, tenant},
    wire::TestServer,
};

pub(super) const EVENTS: Position = 40;

/// A server whose log has events of the types `order.paid` and `order_placed`.
pub(super) async fn server() -> (TestServer, Tenant, Stub) {
    let server = TestServer::start().await;
    let tenant = tenant(&server.server).await;
    fill(&tenant, EVENTS, 10, event).await;
    let stub = stub(&server).await;
    (server, tenant, stub)
}

pub(super) fn event(position: Position) -> NewEvent {
    let event_type = ["order.paid", "order_placed"][(position % 2) as usize];
    NewEvent::new(format!("order-{}", position % 3), event_type, "{}")
}

pub(super) fn bytes(message: &impl ProstMessageExt) -> Bytes {
    message.as_any().encode_to_vec().into()
}

pub(super) fn query(statement: &str) -> CommandStatementQuery {
    CommandStatementQuery {
        query: statement.to_owned(),
        transaction_id: None,
    }
}

pub(super) fn descriptor(message: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(bytes(message))
}

/// A request that names a point of the past.
pub(super) fn past<T>(message: T, as_of: AsOf) -> Request<T> {
    let mut request = Request::new(message);
    let as_of = as_of.to_string().parse().unwrap();
    request.metadata_mut().insert("annals-as-of", as_of);
    request
}

pub(super) async fn info(
    stub: &Stub,
    message: &impl ProstMessageExt,
) -> Result<FlightInfo, Status> {
    let answer = stub.clone().get_flight_info(descriptor(message)).await;
    answer.map(tonic::Response::into_inner)
}

pub(super) fn ticket(info: &FlightInfo) -> Bytes {
    assert_eq!(info.endpoint.len(), 1);
    info.endpoint[0].ticket.clone().unwrap().ticket
}

/// The schema that `GetSchema` gives.
pub(super) async fn schema(stub: &Stub, message: &impl ProstMessageExt) -> Result<Schema, Status> {
    let answer = stub.clone().get_schema(descriptor(message)).await?;
    Ok(schema_of(&answer.into_inner().schema))
}

pub(super) fn schema_of(bytes: &Bytes) -> Schema {
    Schema::try_from(IpcMessage(bytes.clone())).unwrap()
}

/// All rows of a ticket, under the schema that its stream begins with.
pub(super) async fn get(stub: &Stub, ticket: impl Into<Bytes>) -> Result<RecordBatch, Status> {
    let answer = stub.clone().do_get(Ticket::new(ticket)).await?;
    let mut messages = answer.into_inner();
    let first = messages.message().await?.expect("the schema comes first");
    let schema: SchemaRef = Arc::new(Schema::try_from(&first).unwrap());
    let mut batches = Vec::new();
    while let Some(message) = messages.message().await? {
        assert!(!message.data_header.is_empty());
        let rows = flight_data_to_arrow_batch(&message, Arc::clone(&schema), &HashMap::new());
        batches.push(rows.unwrap());
    }
    assert!(!batches.is_empty(), "there is a message beside the schema");
    Ok(concat_batches(&schema, &batches).unwrap())
}

/// What a command gives; its schema is the same in the answers of all calls.
pub(super) async fn rows(
    stub: &Stub,
    message: &impl ProstMessageExt,
) -> Result<RecordBatch, Status> {
    let info = info(stub, message).await?;
    assert_eq!(info.flight_descriptor, Some(descriptor(message)));
    let polled = stub.clone().poll_flight_info(descriptor(message)).await?;
    let polled = polled.into_inner();
    assert_eq!(
        polled.flight_descriptor, None,
        "there is nothing to wait for"
    );
    assert_eq!(polled.info.unwrap().schema, info.schema);
    let told = schema_of(&info.schema);
    assert_eq!(schema(stub, message).await?, told);
    let rows = get(stub, ticket(&info)).await?;
    assert_eq!(*rows.schema(), told);
    Ok(rows)
}

pub(super) async fn act(
    stub: &Stub,
    name: &str,
    body: impl Into<Bytes>,
) -> Result<Vec<Bytes>, Status> {
    let answer = stub.clone().do_action(Action::new(name, body)).await?;
    let mut answers = answer.into_inner();
    let mut bodies = Vec::new();
    while let Some(answer) = answers.message().await? {
        bodies.push(answer.body);
    }
    Ok(bodies)
}

/// The one answer of an action, in its envelope.
pub(super) fn packed<M: ProstMessageExt>(bodies: &[Bytes]) -> M {
    assert_eq!(bodies.len(), 1);
    let any = Any::decode(bodies[0].clone()).unwrap();
    any.unpack().unwrap().expect("it is of this type")
}

/// Uploads rows, of which there may be none, under a command.
pub(super) async fn put(
    stub: &Stub,
    message: &impl ProstMessageExt,
    rows: Option<&RecordBatch>,
) -> Result<Vec<PutResult>, Status> {
    let mut messages = match rows {
        Some(rows) => batches_to_flight_data(&rows.schema(), vec![rows.clone()]).unwrap(),
        None => vec![FlightData::default()],
    };
    messages[0].flight_descriptor = Some(descriptor(message));
    let answer = stub.clone().do_put(tokio_stream::iter(messages)).await?;
    let mut answers = answer.into_inner();
    let mut results = Vec::new();
    while let Some(result) = answers.message().await? {
        results.push(result);
    }
    Ok(results)
}
