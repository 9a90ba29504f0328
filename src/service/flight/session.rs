//! Sessions, of which there are none: what a connection could set is the same for all. So a session is closed as soon as it
//! is asked for, and an option can be set to what it is.

use std::collections::HashMap;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

use super::super::status::Refusal;
use crate::{engine::tenant::Tenant, types::scan::Table};

pub(super) const CLOSE: &str = "CloseSession";
pub(super) const GET: &str = "GetSessionOptions";
pub(super) const SET: &str = "SetSessionOptions";

/// What there is, each with a word on it.
pub(super) const TYPES: [(&str, &str); 3] = [
    (CLOSE, "Closes a session: the server keeps none"),
    (
        GET,
        "Gives `catalog` and `schema`, which names are looked up in",
    ),
    (SET, "Takes options that are set to what they are"),
];

/// Does one; `None` if it is none of these.
pub(super) fn act(tenant: &Tenant, action: &str, body: &[u8]) -> Result<Option<Bytes>, Refusal> {
    Ok(Some(match action {
        CLOSE => encoded(&CloseSessionResult {
            status: CloseStatus::Closed.into(),
        }),
        GET => encoded(&GetSessionOptionsResult {
            session_options: options(tenant),
        }),
        SET => {
            let request = SetSessionOptionsRequest::decode(body)
                .map_err(|e| Refusal::malformed(format!("the body of the action is none: {e}")))?;
            encoded(&set(tenant, request))
        }
        _ => return Ok(None),
    }))
}

fn options(tenant: &Tenant) -> HashMap<String, OptionValue> {
    let text = |text: &str| OptionValue {
        value: Some(Value::Text(text.to_owned())),
    };
    HashMap::from([
        ("catalog".to_owned(), text(tenant.id().as_str())),
        ("schema".to_owned(), text(Table::SCHEMA)),
    ])
}

fn set(tenant: &Tenant, request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let options = options(tenant);
    let wrong = request.session_options.into_iter();
    let wrong = wrong.filter_map(|(name, value)| {
        let wrong = match options.get(&name) {
            None => WrongOption::InvalidName,
            Some(now) if *now == value => return None,
            Some(_) => WrongOption::InvalidValue,
        };
        Some((
            name,
            OptionError {
                value: wrong.into(),
            },
        ))
    });
    SetSessionOptionsResult {
        errors: wrong.collect(),
    }
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

// As `Flight.proto` has them; `arrow-flight` is without.

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    #[prost(enumeration = "CloseStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(enumeration = "WrongOption", tag = "1")]
    value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum WrongOption {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum CloseStatus {
    Unspecified = 0,
    Closed = 1,
    Closing = 2,
    NotCloseable = 3,
}
