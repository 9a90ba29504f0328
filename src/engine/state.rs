//! The state of an entity: the RFC 7396 merge of its payloads in version order.
//! Source: <https://www.rfc-editor.org/rfc/rfc7396>, section 2.
//!
//! Values are kept as the text they came in, so that numbers and strings stay what the clients wrote.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::types::{
    id::{Position, Version},
    time::Timestamp,
};

/// What is known of an entity at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityState {
    /// The version of the last event merged; 0 before the first.
    pub version: Version,
    /// JSON text; `null` before the first event.
    pub state: String,
    /// The position of the last event merged; 0 before the first.
    pub position: Position,
    /// The position that the state was read at.
    pub head: Position,
    /// When the last event merged was recorded.
    pub recorded_at: Option<Timestamp>,
}

/// A JSON value: an object that can be merged into, or text.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Object(BTreeMap<Cow<'a, str>, Value<'a>>),
    Other(&'a RawValue),
}

/// A key may be escaped, so it is borrowed only where it can be.
#[derive(serde::Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

type Members<'a> = BTreeMap<Key<'a>, &'a RawValue>;

/// Merges payloads one after the other; a payload that is no object replaces the state.
pub(super) fn merge<'a>(
    payloads: impl Iterator<Item = &'a str>,
) -> Result<String, serde_json::Error> {
    let mut state: Option<Value<'a>> = None;
    for payload in payloads {
        state = Some(patch(state, serde_json::from_str(payload)?)?);
    }
    match state {
        Some(state) => serde_json::to_string(&state),
        None => Ok("null".to_owned()),
    }
}

fn patch<'a>(
    target: Option<Value<'a>>,
    patch_with: &'a RawValue,
) -> Result<Value<'a>, serde_json::Error> {
    if !patch_with.get().starts_with('{') {
        return Ok(Value::Other(patch_with));
    }
    let mut members = match target {
        Some(Value::Object(members)) => members,
        _ => BTreeMap::new(),
    };
    for (Key(key), value) in serde_json::from_str::<Members<'a>>(patch_with.get())? {
        if value.get() == "null" {
            members.remove(&key);
        } else {
            let old = members.remove(&key);
            members.insert(key, patch(old, value)?);
        }
    }
    Ok(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(payloads: &[&str]) -> String {
        merge(payloads.iter().copied()).unwrap()
    }

    /// The examples of RFC 7396, appendix A: original, patch, result.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (original, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged(&[original, patch]), result, "{original} + {patch}");
        }
    }

    #[test]
    fn numbers_and_escaped_keys_stay_what_they_were() {
        let state = merged(&[r#"{"n":12345678901234567890.10,"k\"é":1}"#, r#"{"k\"é":2}"#]);
        assert_eq!(state, r#"{"k\"é":2,"n":12345678901234567890.10}"#);
    }

    #[test]
    fn no_payload_is_null() {
        assert_eq!(merged(&[]), "null");
    }
}
