//! Messages of Flight SQL, as they come in descriptors, tickets and actions: each in a protobuf `Any` that says which it is.
//! A build without SQL knows them as well, so that it can say why it does not answer.

use prost::Message;
use prost_types::Any;

use super::super::status::Refusal;

/// What the type of every message of Flight SQL begins with.
const PREFIX: &str = "type.googleapis.com/arrow.flight.protocol.sql.";
/// The first byte of an `Any`: its type comes first.
const TYPE_FIRST: u8 = 0x0a;

#[cfg(feature = "sql")]
pub(super) use arrow_flight::sql::Command;

/// There is none in a build without SQL.
#[cfg(not(feature = "sql"))]
pub(super) enum Command {}

/// The message of Flight SQL that some bytes are; `None` if they are something else.
pub(super) fn of(bytes: &[u8]) -> Result<Option<Command>, Refusal> {
    if !is_flight_sql(bytes) {
        return Ok(None);
    }
    let any = Any::decode(bytes).map_err(|e| {
        Refusal::malformed(format!(
            "the message looks like one of Flight SQL, and is none: {e}"
        ))
    })?;
    known(any).map(Some)
}

/// Behind the first byte, and the length of the type.
fn is_flight_sql(bytes: &[u8]) -> bool {
    let begins = |at: usize| {
        let rest = bytes.get(at..);
        rest.is_some_and(|rest| rest.starts_with(PREFIX.as_bytes()))
    };
    bytes.first() == Some(&TYPE_FIRST) && (begins(2) || begins(3))
}

#[cfg(feature = "sql")]
fn known(any: Any) -> Result<Command, Refusal> {
    let name = any.type_url.trim_start_matches(PREFIX).to_owned();
    let any = arrow_flight::sql::Any {
        type_url: any.type_url,
        value: any.value.into(),
    };
    match Command::try_from(any) {
        Ok(Command::Unknown(_)) => Err(Refusal::unimplemented(format!("`{name}`"))),
        Ok(command) => Ok(command),
        Err(e) => Err(Refusal::malformed(format!(
            "`{name}` is not understood: {e}"
        ))),
    }
}

#[cfg(not(feature = "sql"))]
fn known(_: Any) -> Result<Command, Refusal> {
    Err(Refusal::without_sql())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(name: &str, value: &[u8]) -> Vec<u8> {
        let type_url = format!("{PREFIX}{name}");
        let value = value.to_vec();
        Any { type_url, value }.encode_to_vec()
    }

    #[test]
    fn what_is_no_message_of_flight_sql_is_left_to_others() {
        let other = Any {
            type_url: "type.googleapis.com/google.rpc.Status".to_owned(),
            value: Vec::new(),
        };
        let json = br#"{"sql": "type.googleapis.com/arrow.flight.protocol.sql."}"#;
        for bytes in [&b""[..], b"\n", b"\n{}", json, &other.encode_to_vec()] {
            assert!(matches!(of(bytes), Ok(None)), "{bytes:?}");
        }
    }

    #[cfg(feature = "sql")]
    #[test]
    fn a_message_of_flight_sql_is_told_by_its_type_or_refused() {
        let found = of(&any("CommandGetCatalogs", b""));
        assert!(matches!(found, Ok(Some(Command::CommandGetCatalogs(_)))));
        let code = |bytes: &[u8]| {
            let refused = of(bytes).err().map(Refusal::into_status);
            refused.map(|status| status.code())
        };
        let unknown = any("CommandOfTheFuture", b"");
        assert_eq!(code(&unknown), Some(tonic::Code::Unimplemented));
        let broken = any("CommandGetTables", b"\xff\xff");
        assert_eq!(code(&broken), Some(tonic::Code::InvalidArgument));
        let mut cut = any("CommandGetTables", b"\x28\x01");
        cut.pop();
        assert_eq!(code(&cut), Some(tonic::Code::InvalidArgument));
    }

    #[cfg(not(feature = "sql"))]
    #[test]
    fn a_build_without_sql_says_so() {
        let refused = of(&any("CommandGetCatalogs", b"")).err().unwrap();
        assert_eq!(refused.into_status().code(), tonic::Code::Unimplemented);
    }
}
