//! What lines become, and what is told about those that become nothing.

//! Tests of `lines`.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

fn event(line: &'static str) -> Result<NewEvent, String> {
    parse(&Bytes::from_static(line.as_bytes()))
}

fn lines(bytes: &[u8], ids: Ids, batch_events: usize) -> Lines {
    let reader = io::Cursor::new(bytes.to_vec());
    Lines::from_reader(reader, "events.jsonl".into(), ids, batch_events).unwrap()
}

fn all(mut lines: Lines) -> (Vec<NewEvent>, Vec<u64>, Option<String>) {
    let (mut events, mut numbers) = (Vec::new(), Vec::new());
    loop {
        match lines.next_chunk() {
            Ok(Some(chunk)) => {
                events.extend(chunk.batch.events);
                numbers.extend(chunk.lines);
            }
            Ok(None) => return (events, numbers, None),
            Err(error) => return (events, numbers, Some(error.to_string())),
        }
    }
}

fn line(n: usize) -> String {
    format!("{{\"entity_id\":\"e-{n}\",\"event_type\":\"t\",\"payload\":{n}}}\n")
}

#[test]
fn a_line_becomes_an_event_with_its_payload_as_it_was() {
    let event = event(
        r#"{"payload": {"b":  1.50, "a": [1e400]}, "entity_id": "a \"b\"", "event_type": "t", "tags": ["x", "yö"],
            "metadata": {"m": 1}, "occurred_at": "2010-10-02T09:20:39+02:00",
            "event_id": "0190d7a4-0000-7000-8000-000000000000"}"#,
    )
    .unwrap();
    assert_eq!(event.payload.as_bytes(), br#"{"b":  1.50, "a": [1e400]}"#);
    assert_eq!(event.entity_id, Text::from("a \"b\""));
    assert_eq!(event.tags, [Text::from("x"), Text::from("yö")]);
    assert_eq!(event.metadata, Some(Text::from(r#"{"m": 1}"#)));
    assert_eq!(
        event.occurred_at,
        Some("2010-10-02T07:20:39Z".parse().unwrap())
    );
    assert!(event.event_id.is_some());
}

#[test]
fn optional_keys_may_be_null() {
    let event = event(
        r#"{"entity_id":"e","event_type":"t","payload":null,"event_id":null,"metadata":null,"tags":null,"occurred_at":null}"#,
    )
    .unwrap();
    assert_eq!(event.payload.as_bytes(), b"null");
    assert_eq!(event.metadata, None);
}

#[test]
fn what_is_wrong_with_a_line_is_told() {
    for (line, expected) in [
        (
            r#"{"entity_id":"e","event_type":"t"}"#,
            "missing field `payload`",
        ),
        (
            r#"{"entity_id":"e","event_type":"t","payload":1,"position":1}"#,
            "unknown field `position`, expected one of `entity_id`, `event_type`, `payload`, `event_id`, `metadata`, `tags`, `occurred_at`",
        ),
        (
            r#"{"entity_id":"e","entity_id":"f","event_type":"t","payload":1}"#,
            "duplicate field `entity_id`",
        ),
        (
            r#"{"entity_id":7,"event_type":"t","payload":1}"#,
            "invalid type: integer `7`, expected a string",
        ),
        (
            r#"{"entity_id":"","event_type":"t","payload":1}"#,
            "entity_id: must not be empty",
        ),
        (
            r#"{"entity_id":"e","event_type":"$t","payload":1}"#,
            "event_type: must not start with `$`",
        ),
        (
            r#"{"entity_id":"e\u0007","event_type":"t","payload":1}"#,
            "entity_id: must not have control characters",
        ),
        (
            r#"{"entity_id":"e","event_type":"t","payload":1,"event_id":"7"}"#,
            "event_id: `7` is no UUID",
        ),
        (
            r#"{"entity_id":"e","event_type":"t","payload":1,"metadata":[]}"#,
            "metadata: must be a JSON object",
        ),
        (
            r#"{"entity_id":"e","event_type":"t","payload":1,"occurred_at":"today"}"#,
            "occurred_at: `today`: a time is written as RFC 3339",
        ),
        (
            r#"{"entity_id":"e","event_type":"t","payload":1"#,
            "is no JSON object: EOF while parsing",
        ),
        (
            r#"{"entity_id":"e","event_type":"t","payload":1} {}"#,
            "is no JSON object: trailing characters at column 48",
        ),
        ("[]", "is no JSON object"),
        (r#"["e","t",1,null,null,null,null]"#, "is no JSON object"),
        ("oops", "is no JSON object"),
    ] {
        let error = event(line).unwrap_err();
        assert!(
            error.starts_with(expected) || error.contains(expected),
            "{line}: {error}"
        );
    }
}

#[test]
fn depth_is_bounded_and_brackets_in_strings_do_not_count() {
    let nested = |depth: usize| {
        let json = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        parse(&format!(r#"{{"entity_id":"e","event_type":"t","payload":{json}}}"#).into())
    };
    assert!(nested(128).is_ok());
    assert!(nested(129).unwrap_err().contains("129 deep"));
    let quoted = format!(
        r#"{{"entity_id":"e","event_type":"t","payload":"\"{}"}}"#,
        "[".repeat(500)
    );
    assert!(parse(&quoted.into()).is_ok());
}

#[test]
fn events_before_a_bad_line_come_first_and_blank_lines_count() {
    let text = format!("{}\n{}oops\n{}", line(1), line(2), line(3));
    let (events, numbers, error) = all(lines(text.as_bytes(), Ids::New, 1000));
    assert_eq!((events.len(), numbers), (2, vec![1, 3]));
    let error = error.unwrap();
    assert!(
        error.starts_with("events.jsonl:4: is no JSON object"),
        "{error}"
    );
}

#[test]
fn gzip_is_known_by_its_first_bytes_and_may_have_several_members() {
    let member = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let packed = [member(&line(1)), member(&line(2))].concat();
    let (events, _, error) = all(lines(&packed, Ids::New, 1));
    assert_eq!((events.len(), error), (2, None));
    let cut = &packed[..packed.len() - 4];
    let (_, _, error) = all(lines(cut, Ids::New, 1));
    assert!(error.unwrap().contains("cannot be read"));
}

#[test]
fn derived_ids_do_not_depend_on_batches_line_ends_or_what_follows() {
    let ids = |text: &str, batch| {
        let (events, ..) = all(lines(
            text.as_bytes(),
            Ids::Content(IdChain::default()),
            batch,
        ));
        events
            .iter()
            .map(|event| event.event_id.unwrap())
            .collect::<Vec<_>>()
    };
    let text: String = (0..10).map(line).collect();
    let longer = format!("{text}{}", line(10));
    assert_eq!(ids(&text, 1), ids(&text, 7));
    assert_eq!(ids(&text, 3), ids(&text.replace('\n', "\r\n"), 3));
    assert_eq!(ids(&text, 3), ids(&longer, 4)[..10]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let text = format!("\u{feff}{}", line(1));
    assert_eq!(all(lines(text.as_bytes(), Ids::New, 10)).0.len(), 1);
}

#[test]
fn batches_are_cut_by_events_and_by_bytes() {
    let text: String = (0..10).map(line).collect();
    let mut reader = lines(text.as_bytes(), Ids::New, 4);
    let sizes: Vec<_> = std::iter::from_fn(|| reader.next_chunk().unwrap())
        .map(|c| c.lines.len())
        .collect();
    assert_eq!(sizes, [4, 4, 2]);

    let large = format!(
        r#"{{"entity_id":"e","event_type":"t","payload":"{}"}}"#,
        "x".repeat(3 << 20)
    );
    let text = format!("{large}\n{large}\n{large}\n");
    let mut reader = lines(text.as_bytes(), Ids::New, 1000);
    let sizes: Vec<_> = std::iter::from_fn(|| reader.next_chunk().unwrap())
        .map(|c| c.lines.len())
        .collect();
    assert_eq!(sizes, [2, 1]);
}
