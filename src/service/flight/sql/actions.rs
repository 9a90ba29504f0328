//! Actions of Flight SQL: prepared statements, cancelling, and what there is not.

use arrow_flight::{
    FlightInfo,
    sql::{ActionCancelQueryResult, ProstMessageExt},
};
use bytes::Bytes;
use prost::Message;

use super::{
    super::{
        super::status::Refusal,
        action::cancelled,
        any::{self, Command},
        call::Call,
    },
    name, no_substrait, no_transactions, prepared,
};

const CREATE: &str = "CreatePreparedStatement";
const CLOSE: &str = "ClosePreparedStatement";
const CANCEL: &str = "CancelQuery";
/// As the protocol numbers them.
const CANCEL_RESULT_CANCELLED: i32 = 1;
const CANCEL_RESULT_NOT_CANCELLABLE: i32 = 3;

/// What there is, each with a word on it.
pub(in super::super) const TYPES: [(&str, &str); 3] = [
    (
        CREATE,
        "Prepares a statement; gives its handle, and the schemas of its rows and of its parameters",
    ),
    (CLOSE, "Closes a prepared statement"),
    (
        CANCEL,
        "Does what CancelFlightInfo does, for clients that do not know that",
    ),
];

/// Does one of Flight SQL; `None` if it is none. What is answered is one message, or nothing.
pub(in super::super) async fn act(
    call: &Call,
    action: &str,
    body: &[u8],
) -> Result<Option<Option<Bytes>>, Refusal> {
    let done = match action {
        CREATE => match request(action, body)? {
            Command::ActionCreatePreparedStatementRequest(request) => {
                Some(packed(&prepared::create(call, request).await?))
            }
            other => return Err(other_body(action, &other)),
        },
        CLOSE => match request(action, body)? {
            Command::ActionClosePreparedStatementRequest(request) => {
                prepared::close(call, &request)?;
                None
            }
            other => return Err(other_body(action, &other)),
        },
        CANCEL => match request(action, body)? {
            Command::ActionCancelQueryRequest(request) => {
                let info = FlightInfo::decode(request.info)
                    .map_err(|e| Refusal::malformed(format!("`info` is none: {e}")))?;
                let done = cancelled(call, Some(info))?;
                Some(packed(&ActionCancelQueryResult {
                    result: if done {
                        CANCEL_RESULT_CANCELLED
                    } else {
                        CANCEL_RESULT_NOT_CANCELLABLE
                    },
                }))
            }
            other => return Err(other_body(action, &other)),
        },
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            return Err(no_transactions());
        }
        "CreatePreparedSubstraitPlan" => return Err(no_substrait()),
        _ => return Ok(None),
    };
    Ok(Some(done))
}

fn request(action: &str, body: &[u8]) -> Result<Command, Refusal> {
    any::of(body)?.ok_or_else(|| {
        Refusal::malformed(format!("the body of {action} is no message of Flight SQL"))
    })
}

fn other_body(action: &str, body: &Command) -> Refusal {
    Refusal::malformed(format!(
        "the body of {action} is a `{}`, which is for something else",
        name(body)
    ))
}

fn packed(message: &impl ProstMessageExt) -> Bytes {
    message.as_any().encode_to_vec().into()
}
