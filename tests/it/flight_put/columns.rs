//! Columns: every layout that is taken, and what is told of those that are not.

use std::sync::Arc;

use annals::proto::Event;
use arrow::{
    array::{
        Array, ArrayRef, Int64Array, NullArray, RecordBatch, StringArray, TimestampNanosecondArray,
        TimestampSecondArray,
    },
    compute::cast,
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use tonic::Code;

use super::upload::{
    Outcome, batch, command, flight, ids, messages, no_rows, path, read, rows, send, tags, text,
    texts, times, with,
};
use crate::wire::TestServer;

const LONG: &str = "a text that is longer than a view holds within itself";

fn table() -> RecordBatch {
    let payloads = [
        r#"{"long": "…………………………………………………………"}"#,
        "1",
        "[1,2,3]",
        "null",
    ];
    batch([
        ("entity_id", text(["case-1", LONG, "c", LONG])),
        ("event_type", text(["opened", "opened", "closed", LONG])),
        ("payload", text(payloads)),
        (
            "metadata",
            texts(&[Some("{}"), None, Some(r#"{"a":"b"}"#), None]),
        ),
        ("tags", tags(&[&["x", LONG], &[], &["y"], &["x", "x", "z"]])),
        (
            "occurred_at",
            times(&[Some(-1_000_000), None, Some(0), Some(5_000_000)]),
        ),
    ])
}

/// What was appended, as far as it does not depend on when.
fn content(events: &[Event]) -> Vec<Event> {
    let content = events.iter().cloned().map(|event| Event {
        position: 0,
        version: 0,
        event_id: String::new(),
        recorded_at: None,
        ..event
    });
    content.collect()
}

fn dictionary(key: DataType, value: DataType) -> DataType {
    DataType::Dictionary(Box::new(key), Box::new(value))
}

fn text_types() -> Vec<DataType> {
    let mut types = vec![DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View];
    for key in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
    ] {
        types.push(dictionary(key, DataType::Utf8));
    }
    types.push(dictionary(DataType::Int32, DataType::LargeUtf8));
    types.push(dictionary(DataType::Int32, DataType::Utf8View));
    types
}

fn list_types() -> Vec<DataType> {
    let mut types = Vec::new();
    for element in [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        dictionary(DataType::Int8, DataType::Utf8),
    ] {
        let field = Arc::new(Field::new("item", element, true));
        types.extend([
            DataType::List(Arc::clone(&field)),
            DataType::LargeList(Arc::clone(&field)),
            DataType::ListView(Arc::clone(&field)),
            DataType::LargeListView(field),
        ]);
    }
    types
}

/// The table with columns of other types, where they have to do with it.
fn converted(table: &RecordBatch, columns: &[&str], to: &DataType) -> RecordBatch {
    columns.iter().fold(table.clone(), |table, name| {
        let column = cast(table.column_by_name(name).unwrap(), to);
        with(&table, name, column.unwrap_or_else(|e| panic!("{to}: {e}")))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_layout_of_a_column_gives_the_same_events() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = table();
    let texts = ["entity_id", "event_type", "payload", "metadata"];
    let mut variants: Vec<_> = text_types()
        .iter()
        .map(|to| converted(&table, &texts, to))
        .collect();
    variants.extend(
        list_types()
            .iter()
            .map(|to| converted(&table, &["tags"], to)),
    );
    for unit in [
        TimeUnit::Second,
        TimeUnit::Millisecond,
        TimeUnit::Microsecond,
        TimeUnit::Nanosecond,
    ] {
        for zone in [None, Some("UTC".into()), Some("+02:00".into())] {
            // The moments are the same in every zone.
            let utc = cast(
                table.column_by_name("occurred_at").unwrap(),
                &DataType::Timestamp(unit, Some("UTC".into())),
            );
            let moved = utc.unwrap().into_data().into_builder();
            let moved = moved.data_type(DataType::Timestamp(unit, zone)).build();
            let column = arrow::array::make_array(moved.unwrap());
            variants.push(with(&table, "occurred_at", column));
        }
    }
    let count = variants.len();
    for variant in &variants {
        // Part of a longer table as well: offsets into buffers do not begin at 0.
        let double = arrow::compute::concat_batches(&variant.schema(), [variant, variant]).unwrap();
        let slice = double.slice(4, 4);
        let outcome = send(&mut client, messages(path(), &[variant.clone(), slice])).await;
        outcome.is_ok();
        assert_eq!(outcome.results.len(), 2, "{:?}", variant.schema());
    }
    let events = read(&server).await;
    assert_eq!(events.len(), count * 8);
    let expected = content(&events[..4]);
    assert_eq!(expected[0].tags, ["x", LONG]);
    assert_eq!(expected[1].entity_id, LONG);
    for (n, chunk) in events.chunks(4).enumerate() {
        assert_eq!(content(chunk), expected, "{:?}", variants[n / 2].schema());
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_bytes_or_text_and_may_be_missing() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = rows(["a", "b"]);
    let canonical = [
        "00000000-0000-0000-0000-000000000001",
        "00000000-0000-0000-0000-000000000002",
    ];
    let some = texts(&[None, Some("00000000-0000-0000-0000-000000000003")]);
    let batches = [
        with(&table, "event_id", ids([1, 2])),
        with(&table, "event_id", text(canonical)),
        with(
            &table,
            "event_id",
            cast(&text(canonical), &DataType::Utf8View).unwrap(),
        ),
        with(&table, "event_id", some),
        with(&table, "event_id", Arc::new(NullArray::new(2))),
    ];
    let mut repeats = Vec::new();
    for batch in batches {
        let outcome = send(&mut client, messages(path(), &[batch])).await;
        outcome.is_ok();
        repeats.push(outcome.results[0]["duplicate"].as_bool().unwrap());
    }
    assert_eq!(repeats, [false, true, true, false, false]);
    let events = read(&server).await;
    assert_eq!(events.len(), 6);
    assert_eq!(events[3].event_id, "00000000-0000-0000-0000-000000000003");
    assert_ne!(events[2].event_id, events[4].event_id);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_without_a_value_may_have_no_type() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let none = || Arc::new(NullArray::new(2)) as ArrayRef;
    let mut table = rows(["a", "b"]);
    for name in ["event_id", "metadata", "occurred_at", "tags"] {
        table = with(&table, name, none());
    }
    let empty_lists =
        arrow::array::ListArray::new_null(Arc::new(Field::new("item", DataType::Null, true)), 2);
    let other = with(&table, "tags", Arc::new(empty_lists));
    for table in [table, other] {
        send(&mut client, messages(path(), &[table])).await.is_ok();
    }
    for event in read(&server).await {
        assert_eq!(
            (event.metadata, event.occurred_at, event.tags.len()),
            (None, None, 0)
        );
    }
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_kept_to_the_microsecond_on_both_sides_of_1970() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let nanos = TimestampNanosecondArray::from(vec![-1, 1_999, -1_000]);
    let table = with(&rows(["a", "b", "c"]), "occurred_at", Arc::new(nanos));
    send(&mut client, messages(path(), &[table])).await.is_ok();
    let found = read(&server)
        .await
        .into_iter()
        .map(|event| event.occurred_at.unwrap());
    let found: Vec<_> = found.map(|time| (time.seconds, time.nanos)).collect();
    assert_eq!(found, [(-1, 999_999_000), (0, 1_000), (-1, 999_999_000)]);

    let far = TimestampSecondArray::from(vec![0, i64::MAX, 253_402_300_800]);
    let table = with(&rows(["a", "b", "c"]), "occurred_at", Arc::new(far));
    let outcome = send(&mut client, messages(path(), &[table])).await;
    outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
    assert_eq!(
        fields(&outcome),
        ["events[1].occurred_at", "events[2].occurred_at"]
    );
    server.server.shutdown().await;
}

fn fields(outcome: &Outcome) -> Vec<String> {
    outcome
        .violations()
        .into_iter()
        .map(|(field, _)| field)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_a_row_is_told_with_row_and_column() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = rows(["a", "b", "c"]);
    let nulls = |at: usize| {
        let texts: Vec<_> = (0..3).map(|row| (row != at).then_some("x")).collect();
        texts_of(&texts)
    };
    let mut tag_lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    tag_lists.append_value([Some("x")]);
    tag_lists.append_value([Some("x"), None]);
    tag_lists.append_null();
    let many = vec!["x"; 257];
    let mut deep = "[".repeat(129);
    deep.push_str(&"]".repeat(129));
    for (name, column, expected, told) in [
        ("entity_id", nulls(1), "events[1].entity_id", "is null"),
        ("event_type", nulls(2), "events[2].event_type", "is null"),
        ("payload", nulls(0), "events[0].payload", "is null"),
        (
            "payload",
            Arc::new(NullArray::new(3)) as _,
            "events[0].payload",
            "is null",
        ),
        (
            "tags",
            Arc::new(tag_lists.finish()) as _,
            "events[1].tags[1]",
            "is null",
        ),
        (
            "tags",
            tags(&[&[], &many, &[]]),
            "events[1].tags",
            "at most 256",
        ),
        (
            "tags",
            tags(&[&[], &["a"], &["b", ""]]),
            "events[2].tags[1]",
            "empty",
        ),
        (
            "event_id",
            text(["", "x", "y"]),
            "events[0].event_id",
            "UUID",
        ),
        (
            "payload",
            text(["1", "{", "2"]),
            "events[1].payload",
            "JSON",
        ),
        (
            "payload",
            text(["1", &deep, "2"]),
            "events[1].payload",
            "JSON",
        ),
        (
            "metadata",
            text(["{}", "{}", "[]"]),
            "events[2].metadata",
            "JSON",
        ),
        (
            "entity_id",
            text(["a", "$b", "c"]),
            "events[1].entity_id",
            "reserved",
        ),
    ] {
        let table = with(&table, name, column);
        let outcome = send(&mut client, messages(path(), &[table])).await;
        outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
        let (field, description) = outcome.violations().remove(0);
        assert_eq!(field, expected, "{description}");
        assert!(description.contains(told), "{field}: {description}");
        assert!(outcome.message().contains(&field), "{}", outcome.message());
    }
    // From the second batch on, the message says in which one it is.
    let wrong = with(&table, "payload", text(["1", "2", "{"]));
    let outcome = send(
        &mut client,
        messages(path(), &[table.clone(), wrong, table]),
    )
    .await;
    assert_eq!(outcome.stored(), [(Some(1), Some(3), false)]);
    outcome.failed(Code::InvalidArgument, "INVALID_BATCH");
    assert_eq!(fields(&outcome), ["events[2].payload"]);
    assert!(
        outcome.message().starts_with("batch 2: "),
        "{}",
        outcome.message()
    );
    assert_eq!(read(&server).await.len(), 3);
    server.server.shutdown().await;
}

fn texts_of(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_none_of_an_event_are_told_before_any_row() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let table = rows(["a"]);
    let number = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let list = |inner: ArrayRef| {
        let field = Arc::new(Field::new("item", inner.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([inner.len()]);
        Arc::new(arrow::array::ListArray::new(field, offsets, inner, None)) as ArrayRef
    };
    let inside = arrow::array::StructArray::from(vec![(
        Arc::new(Field::new("a", DataType::Int64, true)),
        number(),
    )]);
    let short = arrow::array::FixedSizeBinaryArray::try_from_iter([[1u8; 8]].into_iter());
    let encoded = cast(&number(), &dictionary(DataType::Int8, DataType::Int64)).unwrap();
    for (name, column, told) in [
        ("position", number(), "assigned by the server"),
        ("version", number(), "assigned by the server"),
        ("recorded_at", times(&[None]), "assigned by the server"),
        ("schema_id", number(), "assigned by the server"),
        (
            "amount",
            number(),
            "optionally event_id, occurred_at, metadata, tags",
        ),
        ("Payload", text(["{}"]), "entity_id, event_type, payload"),
        ("payload", number(), "is int; it has to be text"),
        (
            "payload",
            Arc::new(inside) as _,
            "is struct of int; it has to be text",
        ),
        (
            "entity_id",
            encoded,
            "is a dictionary of int; it has to be text",
        ),
        (
            "entity_id",
            cast(&text(["a"]), &DataType::Binary).unwrap(),
            "is binary",
        ),
        (
            "metadata",
            list(text(["{}"])),
            "is list of utf8; it has to be text",
        ),
        (
            "event_id",
            Arc::new(short.unwrap()) as _,
            "fixed_size_binary(16)",
        ),
        (
            "occurred_at",
            text(["2026-01-01"]),
            "is utf8; it has to be a timestamp",
        ),
        ("occurred_at", number(), "is int; it has to be a timestamp"),
        ("tags", text(["a"]), "is utf8; it has to be a list"),
        (
            "tags",
            list(number()),
            "is list of int; it has to be a list",
        ),
    ] {
        // Wrong before there is a row, and so in a stream without any.
        let table = with(&table, name, column);
        let mut alone = messages(path(), &[table]);
        alone.truncate(1);
        let outcome = send(&mut client, alone).await;
        outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
        let (field, description) = outcome.violations().remove(0);
        assert_eq!(field, name);
        assert!(description.contains(told), "{field}: {description}");
    }

    let payload = Field::new("payload", DataType::Utf8, true);
    let twice = Schema::new(vec![payload.clone(), payload]);
    let twice = RecordBatch::try_new(Arc::new(twice), vec![text(["1"]), text(["2"])]).unwrap();
    let outcome = send(&mut client, messages(path(), &[twice])).await;
    outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
    assert_eq!(outcome.violations()[0].1, "is there twice");

    let only = batch([("payload", text(["1"]))]);
    let outcome = send(&mut client, messages(path(), &[only])).await;
    outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
    assert_eq!(fields(&outcome), ["entity_id", "event_type"]);
    assert!(read(&server).await.is_empty());

    // A table without rows is no mistake, and none is stored.
    for nothing in [no_rows(path()), messages(command("{}"), &[rows([])])] {
        let outcome = send(&mut client, nothing).await;
        outcome.is_ok();
        assert!(outcome.results.is_empty());
    }
    server.server.shutdown().await;
}
