//! The few names and texts that random events are made of: few, so that events have names in common.

use annals::{Text, Timestamp};

/// Where the clock starts: 2026-01-01T00:00:00Z, µs.
pub(super) const START_MICROS: i64 = 1_767_225_600_000_000;

pub(super) const ENTITIES: &[&str] = &[
    "order-1",
    "order-10",
    "order-2",
    "customer 7",
    "Bauamt Süd",
    "注文-🦀",
];
pub(super) const TYPES: &[&str] = &[
    "order.paid",
    "order.placed",
    "order",
    "orderly",
    "zählung",
    "x",
];
pub(super) const TAGS: &[&str] = &["a", "b", "customer:7", "ü", "order-1"];
pub(super) const CURSORS: &[&str] = &["worker", "worker-2", "ç"];

/// Names that are refused, wherever they stand.
pub(super) fn bad_names() -> Vec<Text> {
    let long = "n".repeat(513);
    let texts = ["", "$all", "tab\there", "del\u{7f}", "c1\u{85}", &long];
    let mut names: Vec<_> = texts.into_iter().map(Text::from).collect();
    names.push(Text::from(bytes::Bytes::from_static(b"\xff\xfe")));
    names
}

/// Payloads, and what merges with what in many ways.
pub(super) const PAYLOADS: &[&str] = &[
    "{}",
    r#"{"a":1}"#,
    r#"{"a":null,"b":"x"}"#,
    r#"{"a":{"b":1,"c":[1,{"d":null}]}}"#,
    r#"{"a":{"b":null,"c":2,"d":{"e":{}}}}"#,
    " {\"b\" : [ 1, 2 ] , \"\\u0061\":\"\\u00fc\"} \n",
    r#"{"a":1,"a":{"b":2}}"#,
    "null",
    "[1,2,3]",
    "\"text with \\\"quotes\\\"\"",
    "-12.5e3",
    "true",
];

pub(super) const BAD_JSON: &[&str] = &["", "{", "nul", "{} {}", "01", "'a'", "[1,]", "1e999"];

pub(super) const METADATA: &[&str] = &[
    "{}",
    r#"{"correlation_id":"c-1"}"#,
    r#"{"n":{"annals.x":1}}"#,
];

pub(super) const BAD_METADATA: &[&str] = &["[]", "1", "null", r#"{"annals.x":1}"#, "{"];

/// A client's own times: few, so that ranges of them have members.
pub(super) fn occurred(n: u8) -> Timestamp {
    Timestamp::from_micros(i64::from(n) * 1_000_000 - 3_000_000).expect("close to 1970")
}
