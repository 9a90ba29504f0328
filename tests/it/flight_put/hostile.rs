//! Bytes that no Flight client would send: each stream is refused as invalid, or its change was harmless, and the server
//! goes on. The same for small messages that ask for a lot of memory.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, DictionaryArray, LargeListViewArray, NullArray, RecordBatch, StringArray},
    buffer::ScalarBuffer,
    compute::cast,
    datatypes::{DataType, Field, Int8Type, Int32Type},
    ipc::{
        CompressionType,
        writer::{
            DictionaryHandling, DictionaryTracker, IpcDataGenerator, IpcWriteContext,
            IpcWriteOptions,
        },
    },
};
use arrow_flight::FlightData;
use tonic::Code;

use super::upload::{
    Outcome, batch, compressed, flight, ids, messages, path, read, rows, schema_message, send,
    tags, text, texts, times, with,
};
use crate::{
    rng::{Rng, seeds},
    wire::TestServer,
};

const STREAMS: usize = 2_000;
/// What lengths, offsets, counts and enums become.
const NUMBERS: [i64; 14] = [
    0,
    1,
    -1,
    2,
    7,
    9,
    255,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 20,
    1 << 40,
    i64::MAX,
    i64::MIN,
    i64::MAX - 7,
];

fn table(rng: &mut Rng) -> RecordBatch {
    let long = "a text that is longer than a view holds within itself";
    let id = u128::from(rng.next()) << 64;
    batch([
        ("entity_id", text(["case-1", long, "case-3"])),
        ("event_type", text(["opened", "opened", "closed"])),
        (
            "payload",
            text(["{}", r#"{"a": [1, 2, 3], "b": "…………………………"}"#, "1"]),
        ),
        ("event_id", ids([id, id + 1, id + 2])),
        ("occurred_at", times(&[Some(1), None, Some(-1)])),
        ("metadata", texts(&[None, Some(r#"{"a": "b"}"#), None])),
        ("tags", tags(&[&["x", long], &[], &["y"]])),
    ])
}

fn to(table: &RecordBatch, name: &str, to: &DataType) -> RecordBatch {
    let column = cast(table.column_by_name(name).unwrap(), to);
    with(table, name, column.unwrap())
}

/// A good stream, in one of the layouts.
fn upload(rng: &mut Rng) -> Vec<FlightData> {
    let mut table = table(rng);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let list = |of: DataType| Arc::new(Field::new("item", of, true));
    match rng.below(4) {
        0 => {
            table = to(&table, "event_type", &dictionary);
            table = to(&table, "tags", &DataType::List(list(dictionary)));
        }
        1 => {
            for name in ["entity_id", "payload", "metadata"] {
                table = to(&table, name, &DataType::Utf8View);
            }
            table = to(
                &table,
                "tags",
                &DataType::ListView(list(DataType::Utf8View)),
            );
        }
        2 => {
            for name in ["entity_id", "event_id", "payload"] {
                if name != "event_id" {
                    table = to(&table, name, &DataType::LargeUtf8);
                }
            }
            table = to(
                &table,
                "tags",
                &DataType::LargeListView(list(DataType::LargeUtf8)),
            );
        }
        _ => {}
    }
    let codec = match rng.below(3) {
        0 => None,
        1 => Some(CompressionType::LZ4_FRAME),
        _ => Some(CompressionType::ZSTD),
    };
    let second = with(
        &table,
        "event_id",
        ids((0..3).map(|_| u128::from(rng.next()))),
    );
    compressed(path(), &[table, second], codec)
}

/// Changes bits, ends or numbers.
fn change(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.is_empty() {
        return vec![rng.next() as u8; rng.below(64)];
    }
    let at = rng.below(bytes.len());
    match rng.below(7) {
        0 => bytes.truncate(at),
        1 => bytes.extend((0..rng.below(64)).map(|n| n as u8)),
        2 | 3 => {
            for _ in 0..=rng.below(8) {
                let at = rng.below(bytes.len());
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        4 => bytes = (0..rng.below(300)).map(|_| rng.next() as u8).collect(),
        _ => {
            // Where numbers stand: flatbuffers align them.
            let width = *rng.pick(&[2, 4, 8]);
            let at = at / width * width;
            let number = rng.pick(&NUMBERS).to_le_bytes();
            let end = bytes.len().min(at + width);
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
    }
    bytes
}

fn spoil(messages: &mut Vec<FlightData>, rng: &mut Rng) {
    let at = rng.below(messages.len());
    let other = rng.below(messages.len());
    match rng.below(10) {
        0 if messages.len() > 1 => drop(messages.remove(at)),
        1 => messages.insert(at, messages[other].clone()),
        2 => messages.swap(at, other),
        3 => messages[at].data_body = messages[other].data_body.clone(),
        4 => messages[at].data_body.clear(),
        5 | 6 => messages[at].data_body = change(&messages[at].data_body, rng).into(),
        _ => messages[at].data_header = change(&messages[at].data_header, rng).into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spoiled_streams_are_refused_as_invalid_and_the_server_goes_on() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let mut refused = 0;
    for seed in seeds(1) {
        let mut rng = Rng::new(seed);
        for n in 0..STREAMS {
            let mut messages = upload(&mut rng);
            for _ in 0..=rng.below(2) {
                spoil(&mut messages, &mut rng);
            }
            // The descriptor stays: what is behind it is meant.
            messages[0].flight_descriptor = Some(path());
            let outcome = send(&mut client, messages).await;
            match outcome.status.code() {
                Code::Ok => assert!(outcome.results.len() <= 4),
                Code::InvalidArgument => {
                    assert!(!outcome.reason().is_empty(), "{n}: {:?}", outcome.status);
                    refused += 1;
                }
                // The same rows once more, some of them changed.
                Code::AlreadyExists => assert_eq!(outcome.reason(), "EVENT_ID_REUSED"),
                _ => panic!("{n}: {:?}", outcome.status),
            }
        }
    }
    assert!(refused > STREAMS / 3, "{refused}");
    let outcome = send(&mut client, messages(path(), &[rows(["case-1"])])).await;
    outcome.is_ok();
    assert_eq!(outcome.results[0]["last"], read(&server).await.len());
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_another_order_are_refused_as_malformed() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    let types: DictionaryArray<Int32Type> = ["x"].into_iter().collect();
    let table = with(&rows(["a"]), "event_type", Arc::new(types));
    let whole = || messages(path(), std::slice::from_ref(&table));
    let [schema, dictionary, rows] = &whole()[..] else {
        panic!("schema, dictionary, rows")
    };
    let metadata = FlightData {
        app_metadata: "nothing to say".into(),
        ..FlightData::default()
    };
    let mut streams = vec![
        (vec![rows], "before its schema"),
        (vec![dictionary], "before its schema"),
        (vec![schema, schema], "second schema"),
        (
            vec![schema, dictionary, rows, schema, rows],
            "second schema",
        ),
    ];
    let (no_body, header_only) = (
        FlightData {
            data_body: Vec::new().into(),
            ..rows.clone()
        },
        FlightData {
            data_body: vec![1; 9].into(),
            data_header: vec![9; 9].into(),
            ..FlightData::default()
        },
    );
    streams.push((vec![schema, dictionary, &no_body], "outside of the message"));
    streams.push((vec![schema, &header_only], "header of a message"));
    for (messages, told) in streams {
        let mut messages: Vec<_> = messages.into_iter().cloned().collect();
        messages[0].flight_descriptor = Some(path());
        let outcome = send(&mut client, messages).await;
        outcome.failed(Code::InvalidArgument, "MALFORMED_MESSAGE");
        assert!(
            outcome.message().contains(told),
            "{told}: {}",
            outcome.message()
        );
    }
    // Metadata alone may come at any place, and an omitted dictionary only stands for no values.
    let mut first = metadata.clone();
    first.flight_descriptor = Some(path());
    let around = [
        &first, schema, &metadata, dictionary, &metadata, rows, &metadata,
    ];
    let outcome = send(&mut client, around.into_iter().cloned().collect()).await;
    outcome.is_ok();
    assert_eq!(outcome.results.len(), 1);
    let outcome = send(&mut client, vec![schema.clone(), rows.clone()]).await;
    outcome.failed(Code::InvalidArgument, "MALFORMED_MESSAGE");
    server.server.shutdown().await;
}

/// A limit for messages of 256 KiB, so that little is a lot.
async fn small() -> TestServer {
    TestServer::start_with(|config| {
        config.message_bytes_max = 64 << 10;
        config.limits.batch_bytes_max = 64 << 10;
    })
    .await
}

fn too_large(outcome: &Outcome) {
    outcome.failed(Code::InvalidArgument, "MESSAGE_TOO_LARGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_message_must_not_grow_beyond_the_limit() {
    let server = small().await;
    let mut client = flight(&server).await;
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let table = with(&rows(["a"]), "payload", text([long.as_str()]));
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let bomb = compressed(path(), std::slice::from_ref(&table), Some(codec));
        assert!(bomb[1].data_body.len() < 10_000);
        too_large(&send(&mut client, bomb.clone()).await);

        // The size that stands before what is compressed is a lie.
        let size = (long.len() as u64).to_le_bytes();
        let body = bomb[1].data_body.to_vec();
        let at = body.windows(8).position(|bytes| bytes == size).unwrap();
        for lie in [100, 1, i64::MAX, i64::MIN, -2, 1 << 40] {
            let mut body = body.clone();
            body[at..at + 8].copy_from_slice(&i64::to_le_bytes(lie));
            let mut bomb = bomb.clone();
            bomb[1].data_body = body.into();
            let outcome = send(&mut client, bomb).await;
            assert_eq!(
                outcome.status.code(),
                Code::InvalidArgument,
                "{lie}: {:?}",
                outcome.status
            );
        }
    }
    assert!(read(&server).await.is_empty());
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_grow_up_to_the_limit() {
    let server = small().await;
    let mut client = flight(&server).await;
    let texts: Vec<_> = (0..20).map(|n| format!("{n}{}", "x".repeat(500))).collect();
    let values: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
    let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    let mut tracker = DictionaryTracker::new(false);
    let mut context = IpcWriteContext::default();
    let mut upload = Vec::new();
    for (n, count) in (0..).zip(1..=texts.len()) {
        let types = DictionaryArray::<Int32Type>::new(vec![n].into(), values.slice(0, count));
        let table = with(&rows(["a"]), "event_type", Arc::new(types));
        if upload.is_empty() {
            upload.push(schema_message(&table.schema(), &mut tracker));
            upload[0].flight_descriptor = Some(path());
        }
        let encoded = IpcDataGenerator {}.encode(&table, &mut tracker, &options, &mut context);
        let (dictionaries, rows) = encoded.unwrap();
        assert!(
            dictionaries
                .iter()
                .all(|dictionary| dictionary.arrow_data.len() < 2_000)
        );
        upload.extend(dictionaries.into_iter().map(FlightData::from));
        upload.push(rows.into());
    }
    let outcome = send(&mut client, upload.clone()).await;
    outcome.is_ok();
    let types: Vec<_> = read(&server)
        .await
        .into_iter()
        .map(|event| event.event_type)
        .collect();
    assert_eq!(types, texts);

    // The last addition again and again.
    let delta = upload[upload.len() - 2].clone();
    upload.extend(std::iter::repeat_n(delta, 2_000));
    too_large(&send(&mut client, upload).await);
    server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_bytes_do_not_become_many_events() {
    let server = TestServer::start().await;
    let mut client = flight(&server).await;
    // Two thousand million rows of nothing.
    let nothing: ArrayRef = Arc::new(NullArray::new(2_000_000_000));
    let table = batch([
        ("entity_id", Arc::clone(&nothing)),
        ("event_type", Arc::clone(&nothing)),
        ("payload", nothing),
    ]);
    let outcome = send(&mut client, messages(path(), &[table])).await;
    outcome.is_refused(Code::InvalidArgument, "TOO_LARGE");

    // Ten thousand times the same megabyte.
    let long = format!("\"{}\"", "x".repeat(1_000_000));
    let values = Arc::new(StringArray::from(vec![long.as_str()]));
    let payload = DictionaryArray::<Int8Type>::new(vec![0; 10_000].into(), values);
    let many = rows((0..10_000).map(|_| "a"));
    let table = with(&many, "payload", Arc::new(payload));
    let outcome = send(&mut client, messages(path(), &[table])).await;
    outcome.is_refused(Code::InvalidArgument, "TOO_LARGE");

    // A thousand times the same million tags.
    let tag: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(
        vec![0; 1_000_000].into(),
        Arc::new(StringArray::from(vec!["x"])),
    ));
    let lists = LargeListViewArray::new(
        Arc::new(Field::new("item", tag.data_type().clone(), true)),
        ScalarBuffer::from(vec![0; 1_000]),
        ScalarBuffer::from(vec![1_000_000; 1_000]),
        tag,
        None,
    );
    let table = with(&rows((0..1_000).map(|_| "a")), "tags", Arc::new(lists));
    let outcome = send(&mut client, messages(path(), &[table])).await;
    outcome.is_refused(Code::InvalidArgument, "INVALID_BATCH");
    assert_eq!(outcome.violations()[0].0, "events[0].tags");
    server.server.shutdown().await;
}
