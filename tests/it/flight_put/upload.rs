//! Uploads as a Flight client makes them: record batches to messages, and what comes back.

use std::sync::Arc;

use annals::{
    Client, ReadRequest, TenantId,
    proto::{Event, GuardFailure},
};
use arrow::{
    array::{ArrayRef, FixedSizeBinaryArray, ListArray, RecordBatch, StringArray},
    array::{ListBuilder, StringBuilder, TimestampMicrosecondArray},
    datatypes::SchemaRef,
    ipc::{
        CompressionType,
        writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
    },
};
use arrow_flight::{
    FlightData, FlightDescriptor, PutResult, flight_service_client::FlightServiceClient,
};
use prost::Message;
use serde_json::Value;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_types::{StatusExt, pb};
use uuid::Uuid;

use crate::wire::TestServer;

pub(super) async fn flight(server: &TestServer) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(server.channel().await)
}

pub(super) fn path() -> FlightDescriptor {
    FlightDescriptor::new_path(vec!["events".to_owned()])
}

pub(super) fn command(text: impl Into<String>) -> FlightDescriptor {
    FlightDescriptor::new_cmd(text.into())
}

pub(super) fn text<'a>(texts: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

pub(super) fn texts(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

pub(super) fn ids(ids: impl IntoIterator<Item = u128>) -> ArrayRef {
    let ids = ids.into_iter().map(|id| Uuid::from_u128(id).into_bytes());
    Arc::new(FixedSizeBinaryArray::try_from_iter(ids).unwrap())
}

pub(super) fn times(micros: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC"))
}

pub(super) fn tags(rows: &[&[&str]]) -> ArrayRef {
    let mut list = ListBuilder::new(StringBuilder::new());
    for row in rows {
        list.append_value(row.iter().map(Some));
    }
    let list: ListArray = list.finish();
    Arc::new(list)
}

pub(super) fn batch<'a>(columns: impl IntoIterator<Item = (&'a str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Rows that differ in their entity.
pub(super) fn rows<'a>(entities: impl IntoIterator<Item = &'a str>) -> RecordBatch {
    let entities: Vec<_> = entities.into_iter().collect();
    batch([
        ("entity_id", text(entities.iter().copied())),
        ("event_type", text(entities.iter().map(|_| "case.noted"))),
        ("payload", text(entities.iter().map(|_| "{}"))),
    ])
}

/// With another column, or another one in its place.
pub(super) fn with(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let mut columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .zip(batch.columns().iter().cloned())
        .collect();
    match columns.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = column,
        None => columns.push((name, column)),
    }
    self::batch(columns)
}

pub(super) fn schema_message(schema: &SchemaRef, tracker: &mut DictionaryTracker) -> FlightData {
    IpcDataGenerator {}
        .schema_to_bytes_with_dictionary_tracker(schema, tracker, &IpcWriteOptions::default())
        .into()
}

/// The messages of a stream, with each batch in one, whatever its size.
pub(super) fn messages(descriptor: FlightDescriptor, batches: &[RecordBatch]) -> Vec<FlightData> {
    compressed(descriptor, batches, None)
}

pub(super) fn compressed(
    descriptor: FlightDescriptor,
    batches: &[RecordBatch],
    codec: Option<CompressionType>,
) -> Vec<FlightData> {
    let options = IpcWriteOptions::default()
        .try_with_compression(codec)
        .unwrap();
    let mut tracker = DictionaryTracker::new(false);
    let mut context = IpcWriteContext::default();
    let mut messages = vec![schema_message(&batches[0].schema(), &mut tracker)];
    messages[0].flight_descriptor = Some(descriptor);
    for batch in batches {
        let encoded = IpcDataGenerator {}.encode(batch, &mut tracker, &options, &mut context);
        let (dictionaries, rows) = encoded.unwrap();
        messages.extend(dictionaries.into_iter().map(FlightData::from));
        messages.push(rows.into());
    }
    messages
}

/// A stream of no batches.
pub(super) fn no_rows(descriptor: FlightDescriptor) -> Vec<FlightData> {
    let empty = rows([]);
    let mut message = schema_message(&empty.schema(), &mut DictionaryTracker::new(false));
    message.flight_descriptor = Some(descriptor);
    vec![message]
}

/// What became of an upload.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) results: Vec<Value>,
    pub(super) status: Status,
}

impl Outcome {
    /// First and last position of each result, and whether it is a repeat.
    pub(super) fn stored(&self) -> Vec<(Option<u64>, Option<u64>, bool)> {
        let read = |result: &Value| {
            (
                result["first"].as_u64(),
                result["last"].as_u64(),
                result["duplicate"].as_bool().unwrap(),
            )
        };
        self.results.iter().map(read).collect()
    }

    #[track_caller]
    pub(super) fn is_ok(&self) {
        assert_eq!(self.status.code(), Code::Ok, "{:?}", self.status);
    }

    /// It failed, with this code and reason, and nothing of it was stored.
    #[track_caller]
    pub(super) fn is_refused(&self, code: Code, reason: &str) {
        assert!(self.results.is_empty(), "{:?}", self.results);
        self.failed(code, reason);
    }

    #[track_caller]
    pub(super) fn failed(&self, code: Code, reason: &str) {
        let found = (self.status.code(), self.reason());
        assert_eq!(found, (code, reason.to_owned()), "{:?}", self.status);
    }

    pub(super) fn reason(&self) -> String {
        let info = self.status.get_details_error_info();
        info.map(|info| info.reason).unwrap_or_default()
    }

    pub(super) fn message(&self) -> &str {
        self.status.message()
    }

    /// The fields that something is wrong with, and what.
    pub(super) fn violations(&self) -> Vec<(String, String)> {
        let bad = self.status.get_details_bad_request().into_iter();
        let violations = bad.flat_map(|bad| bad.field_violations);
        violations.map(|v| (v.field, v.description)).collect()
    }

    pub(super) fn guard(&self) -> GuardFailure {
        let status = pb::Status::decode(self.status.details()).unwrap();
        let detail = status.details.iter();
        let mut detail = detail.filter(|any| any.type_url.ends_with("annals.v1.GuardFailure"));
        GuardFailure::decode(detail.next().unwrap().value.as_slice()).unwrap()
    }
}

/// Sends messages, and takes what comes until the end.
pub(super) async fn send(
    client: &mut FlightServiceClient<Channel>,
    messages: Vec<FlightData>,
) -> Outcome {
    let request = Request::new(tokio_stream::iter(messages));
    match client.do_put(request).await {
        Ok(answer) => take(answer.into_inner()).await,
        Err(status) => Outcome {
            results: Vec::new(),
            status,
        },
    }
}

pub(super) async fn take(mut answers: Streaming<PutResult>) -> Outcome {
    let mut results = Vec::new();
    let status = loop {
        match answers.message().await {
            Ok(Some(result)) => results.push(metadata(&result)),
            Ok(None) => break Status::ok(""),
            Err(status) => break status,
        }
    };
    Outcome { results, status }
}

pub(super) fn metadata(result: &PutResult) -> Value {
    serde_json::from_slice(&result.app_metadata).unwrap()
}

pub(super) async fn log_id(server: &TestServer) -> String {
    let tenant = TenantId::default();
    let tenant = server.server.engine().tenant(&tenant).await;
    tenant.unwrap().log_id().to_string()
}

/// Everything that the log holds.
pub(super) async fn read(server: &TestServer) -> Vec<Event> {
    let url = format!("http://{}", server.server.local_addr());
    let client = Client::connect(url).await.unwrap();
    let mut read = client.read(&ReadRequest::default()).await.unwrap();
    let mut events = Vec::new();
    while let Some(batch) = read.next().await.unwrap() {
        events.extend(batch.iter().map(|event| event.unwrap().to_event()));
    }
    events
}
