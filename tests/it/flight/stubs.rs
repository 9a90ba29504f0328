//! A client made of Arrow's stubs alone, and logs for it to read.

use std::{collections::HashMap, sync::Arc, time::Instant};

use annals::{Batch, NewEvent, Position, Tenant, TenantId, config::Config, server::RunningServer};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType},
};
use arrow_flight::{
    FlightData, FlightDescriptor, Ticket, flight_service_client::FlightServiceClient,
    utils::flight_data_to_arrow_batch,
};
use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use crate::wire::TestServer;

pub(crate) type Stub = FlightServiceClient<Channel>;

/// Stops at messages of 4 MiB, as generated clients do.
pub(crate) async fn stub(server: &TestServer) -> Stub {
    FlightServiceClient::new(server.channel().await)
}

/// Parts of so many events are sealed, and their log files go.
pub(crate) fn sealing(config: &mut Config, seal_events: u64) {
    config.limits.seal_events = seal_events;
    config.limits.row_group_events = 64;
    config.limits.keep_bytes = 0;
    config.limits.recent_bytes_max = 1 << 20;
    config.limits.disk_reserve_bytes = 0;
}

pub(crate) async fn tenant(server: &RunningServer) -> Tenant {
    let engine = server.engine();
    engine.tenant(&TenantId::default()).await.unwrap()
}

/// Appends so many events, in batches; `event` is told the position.
pub(crate) async fn fill(
    tenant: &Tenant,
    count: u64,
    batch: u64,
    event: impl Fn(Position) -> NewEvent,
) {
    let first = tenant.head() + 1;
    let mut next = first;
    while next < first + count {
        let end = (next + batch).min(first + count);
        let events: Vec<_> = (next..end).map(&event).collect();
        tenant.append(Batch::new(events)).await.unwrap();
        next = end;
    }
}

/// One of a few entities and types, with its position in the payload.
pub(crate) fn numbered(position: Position) -> NewEvent {
    let event_type = ["a", "b", "c"][(position % 3) as usize];
    NewEvent::new(
        format!("entity-{}", position % 7),
        event_type,
        format!(r#"{{"n":{position}}}"#),
    )
}

/// Goes round until something holds: what others do takes its time.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + std::time::Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) fn path(names: &[&str]) -> FlightDescriptor {
    FlightDescriptor::new_path(names.iter().map(ToString::to_string).collect())
}

pub(crate) fn command(scan: &Value) -> FlightDescriptor {
    FlightDescriptor::new_cmd(scan.to_string())
}

pub(crate) fn typed(scan: &Value) -> Bytes {
    scan.to_string().into()
}

/// Code and stable reason.
pub(crate) fn refusal(status: &Status) -> (Code, String) {
    let reason = status.get_details_error_info().map(|info| info.reason);
    (status.code(), reason.unwrap_or_default())
}

/// A message with rows.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) rows: RecordBatch,
    pub(crate) position: Option<Position>,
    pub(crate) head: Position,
    pub(crate) log_id: String,
    /// Of the whole message.
    pub(crate) bytes: usize,
}

/// A `DoGet` on its way.
pub(crate) struct Reading {
    stream: Streaming<FlightData>,
    pub(crate) schema: SchemaRef,
}

impl Reading {
    pub(crate) async fn begin(stub: &Stub, ticket: impl Into<Bytes>) -> Result<Self, Status> {
        let answer = stub.clone().do_get(Ticket::new(ticket)).await?;
        let mut stream = answer.into_inner();
        let first = stream.message().await?.expect("the schema comes first");
        assert!(first.app_metadata.is_empty() && first.data_body.is_empty());
        let schema = Arc::new(Schema::try_from(&first).unwrap());
        Ok(Self { stream, schema })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Part>, Status> {
        let Some(message) = self.stream.message().await? else {
            return Ok(None);
        };
        let schema = Arc::clone(&self.schema);
        let rows = flight_data_to_arrow_batch(&message, schema, &HashMap::new()).unwrap();
        let told: Value = serde_json::from_slice(&message.app_metadata).unwrap();
        Ok(Some(Part {
            rows,
            position: told
                .get("position")
                .map(|position| position.as_u64().unwrap()),
            head: told["head"].as_u64().unwrap(),
            log_id: told["log_id"].as_str().unwrap().to_owned(),
            bytes: message.encoded_len(),
        }))
    }

    pub(crate) async fn rest(mut self) -> Result<Vec<Part>, Status> {
        let mut parts = Vec::new();
        while let Some(part) = self.next().await? {
            parts.push(part);
        }
        Ok(parts)
    }
}

/// Everything that a ticket is for.
pub(crate) async fn get(stub: &Stub, ticket: impl Into<Bytes>) -> Result<Vec<Part>, Status> {
    Reading::begin(stub, ticket).await?.rest().await
}

/// A column of numbers.
pub(crate) fn numbers<'a>(
    parts: impl IntoIterator<Item = &'a Part>,
    column: &str,
) -> Vec<Position> {
    let mut all = Vec::new();
    for part in parts {
        let column = part.rows.column_by_name(column).unwrap();
        let values = column.as_primitive::<Int64Type>().values().iter();
        all.extend(values.map(|n| n.cast_unsigned()));
    }
    all
}

/// Rows as JSON: a time is its microseconds.
pub(crate) fn cells(rows: &RecordBatch) -> Vec<Vec<Value>> {
    let row = |row| {
        rows.columns()
            .iter()
            .map(|column| cell(column, row))
            .collect()
    };
    (0..rows.num_rows()).map(row).collect()
}

fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Timestamp(..) => {
            json!(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>().value(row);
            (0..list.len()).map(|i| cell(&list, i)).collect()
        }
        other => panic!("{other}"),
    }
}

/// The value of a counter as the server tells it.
pub(crate) async fn counted(server: &TestServer, counter: &str) -> u64 {
    let mut connection = TcpStream::connect(server.server.metrics_addr().unwrap())
        .await
        .unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    connection.write_all(request).await.unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).await.unwrap();
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}
