//! Errors on their way out: the only map from [`Kind`] to a gRPC code, and the only place that writes error details.
//!
//! Invariants: every status that leaves carries a `google.rpc.ErrorInfo` with a stable reason; it is logged and counted
//! once, when it is made into a status and nowhere before; a failed guard carries `annals.v1.GuardFailure`, which is no
//! standard detail, so that the details are put together here rather than by `tonic-types`.

use std::{collections::HashMap, error::Error, time::Duration};

use prost::{Message, bytes::Bytes};
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb;
use tracing::{debug, error, warn};

use super::convert;
#[cfg(feature = "sql")]
use crate::engine::sql::SqlError;
use crate::{
    engine::TenantError,
    telemetry,
    types::{
        append::{AppendError, GuardFailure, Violations},
        kind::Kind,
        read::ReadError,
    },
};

const DOMAIN: &str = "annals";
const DETAIL_BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const DETAIL_ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const DETAIL_GUARD_FAILURE: &str = "type.googleapis.com/annals.v1.GuardFailure";
const DETAIL_RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Longest message put into a status: it travels in a header, and clients take 8 KiB of headers, details included.
const MESSAGE_BYTES_MAX: usize = 512;
/// Most violations told of one request, for the same reason.
const VIOLATIONS_MAX: usize = 10;
/// Longest text of a violation, for the same reason.
const VIOLATION_BYTES_MAX: usize = 256;

/// Why a call fails, before it becomes a status.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Told>);

/// What is told of a refusal. In a box, since it is large beside what calls return when they succeed.
#[derive(Debug)]
struct Told {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: Vec<(&'static str, String)>,
    violations: Vec<pb::bad_request::FieldViolation>,
    retry_after: Option<Duration>,
    guard: Option<Any>,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self::coded(code(kind), reason, message)
    }

    fn coded(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Told {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry_after: None,
            guard: None,
        }))
    }

    /// A request with something wrong in it.
    pub(crate) fn invalid(violations: Violations) -> Self {
        ReadError::Invalid(violations).into()
    }

    /// Bytes that are not what the call's messages are made of.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, "MALFORMED_MESSAGE", message)
    }

    /// A call that the protocol has and this server has not.
    pub(crate) fn unimplemented(call: &'static str) -> Self {
        let told = format!("this server does not answer {call}");
        Self::coded(Code::Unimplemented, "NOT_IMPLEMENTED", told)
    }

    /// SQL, of a server that was built without it.
    #[cfg(not(feature = "sql"))]
    pub(crate) fn without_sql() -> Self {
        let told = "this build is without SQL: it was made without the feature `sql`";
        Self::coded(Code::Unimplemented, "NO_SQL", told)
    }

    /// Something that can be done elsewhere, but not here.
    pub(crate) fn no_such_action(name: &str, known: &[&str]) -> Self {
        let told = format!(
            "`{name}` is no action; those known are {}",
            known.join(" and ")
        );
        Self::coded(Code::Unimplemented, "NO_SUCH_ACTION", told)
    }

    /// Somebody cancelled what the stream belongs to. Not with the code CANCELLED: pyarrow takes that for an interrupt from
    /// the keyboard and ends the program.
    pub(crate) fn query_cancelled() -> Self {
        let told = "the query that the stream belongs to was cancelled";
        Self::new(Kind::Refused, "QUERY_CANCELLED", told)
    }

    /// The server ends.
    pub(crate) fn shutting_down() -> Self {
        AppendError::ShuttingDown.into()
    }

    /// The time that the client gave the call is over.
    pub(crate) fn deadline_exceeded() -> Self {
        Self::coded(
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the time for the call is over; an append may still be committed: retry with the same event ids",
        )
    }

    /// A retry may help after this time.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Of which batch of several this is told. Fields are those of the batch, so that the message alone says it.
    pub(crate) fn in_batch(mut self, number: u64) -> Self {
        if number > 1 {
            self.0.message = format!("batch {number}: {}", self.0.message);
        }
        self
    }

    fn violating(mut self, violations: &Violations) -> Self {
        self.0.violations = violations
            .0
            .iter()
            .take(VIOLATIONS_MAX)
            .map(|violation| pb::bad_request::FieldViolation {
                field: cut(&violation.field, VIOLATION_BYTES_MAX),
                description: cut(&violation.description, VIOLATION_BYTES_MAX),
                ..Default::default()
            })
            .collect();
        self
    }

    /// What a failed request of a stream is answered with.
    pub(crate) fn into_rpc(self) -> pb::Status {
        self.tell();
        let told = *self.0;
        let mut details = vec![any(
            DETAIL_ERROR_INFO,
            &pb::ErrorInfo {
                reason: told.reason.to_owned(),
                domain: DOMAIN.to_owned(),
                metadata: told
                    .metadata
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), cut(&value, VIOLATION_BYTES_MAX)))
                    .collect::<HashMap<_, _>>(),
            },
        )];
        if !told.violations.is_empty() {
            details.push(any(
                DETAIL_BAD_REQUEST,
                &pb::BadRequest {
                    field_violations: told.violations,
                },
            ));
        }
        if let Some(after) = told.retry_after {
            let retry_delay = prost_types::Duration::try_from(after).ok();
            details.push(any(DETAIL_RETRY_INFO, &pb::RetryInfo { retry_delay }));
        }
        details.extend(told.guard);
        pb::Status {
            code: told.code.into(),
            message: cut(&told.message, MESSAGE_BYTES_MAX),
            details,
        }
    }

    /// What a call fails with.
    pub(crate) fn into_status(self) -> Status {
        into_tonic(self.into_rpc())
    }

    fn tell(&self) {
        telemetry::refused(self.0.reason);
        let Told {
            code,
            reason,
            message,
            ..
        } = &*self.0;
        match code {
            Code::DataLoss | Code::Internal => error!(?code, reason, message, "call failed"),
            // Ending is no failure, and every subscriber hears of it.
            Code::Unavailable if *reason == "SHUTTING_DOWN" => {
                debug!(?code, reason, message, "call ended");
            }
            Code::Unavailable | Code::Unknown => warn!(?code, reason, message, "call failed"),
            _ => debug!(?code, reason, message, "call refused"),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.into_status()
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        let mut refusal = Self::new(error.kind(), error.reason(), chain(&error));
        refusal.0.retry_after = error.retry_after();
        match &error {
            AppendError::Invalid(violations) => refusal = refusal.violating(violations),
            AppendError::TooLarge {
                field,
                what,
                size,
                limit,
            } => {
                refusal.0.metadata = vec![
                    ("what", (*what).to_owned()),
                    ("size", size.to_string()),
                    ("limit", limit.to_string()),
                ];
                let told = format!("{what} is {size}, the limit is {limit}");
                let told = Violations::one(field.as_str(), told);
                refusal = refusal.violating(&told);
            }
            AppendError::IdTwice(id) => {
                refusal.0.metadata = vec![("event_id", id.to_string())];
                let told = Violations::one("events", error.to_string());
                refusal = refusal.violating(&told);
            }
            AppendError::IdReused { id, position } => {
                refusal.0.metadata = vec![
                    ("event_id", id.to_string()),
                    ("position", position.to_string()),
                ];
            }
            AppendError::Guard(failure) => {
                refusal.0.metadata = guard_metadata(failure);
                refusal.0.guard = Some(any(DETAIL_GUARD_FAILURE, &convert::guard_failure(failure)));
            }
            AppendError::BeyondHead {
                field,
                position,
                head,
            } => {
                refusal.0.metadata = vec![
                    ("field", field.clone()),
                    ("position", position.to_string()),
                    ("head", head.to_string()),
                ];
            }
            AppendError::BelowFloor {
                field,
                position,
                floor,
            } => {
                refusal.0.metadata = vec![
                    ("field", field.clone()),
                    ("position", position.to_string()),
                    ("floor", floor.to_string()),
                ];
            }
            AppendError::OtherLog { found, .. } => {
                refusal.0.metadata = vec![("log_id", found.to_string())];
            }
            _ => {}
        }
        refusal
    }
}

fn guard_metadata(failure: &GuardFailure) -> Vec<(&'static str, String)> {
    match failure {
        GuardFailure::Entity {
            entity_id,
            expected,
            found,
            ..
        } => vec![
            ("entity_id", entity_id.to_string()),
            ("expected", expected.to_string()),
            ("found", found.to_string()),
        ],
        GuardFailure::NoMatch { found, .. } => vec![("found", found.to_string())],
        GuardFailure::Cursor {
            name,
            expected,
            found,
            ..
        } => vec![
            ("cursor", name.to_string()),
            ("expected", expected.to_string()),
            ("found", found.to_string()),
        ],
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        let mut refusal = Self::new(error.kind(), error.reason(), chain(&error));
        match &error {
            ReadError::Invalid(violations) => refusal = refusal.violating(violations),
            ReadError::BeyondHead {
                field,
                position,
                head,
            } => {
                refusal.0.metadata = vec![
                    ("field", (*field).to_owned()),
                    ("position", position.to_string()),
                    ("head", head.to_string()),
                ];
            }
            ReadError::BeyondVersion { version, last, .. } => {
                refusal.0.metadata =
                    vec![("version", version.to_string()), ("last", last.to_string())];
            }
            ReadError::OtherLog { found, .. } => {
                refusal.0.metadata = vec![("log_id", found.to_string())];
            }
            _ => {}
        }
        refusal
    }
}

#[cfg(feature = "sql")]
impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        let told = chain(&error);
        match error {
            SqlError::Read(error) => error.into(),
            SqlError::Time { .. } => Self::coded(Code::DeadlineExceeded, error.reason(), told),
            SqlError::Busy { retry_after, .. } => {
                Self::new(error.kind(), error.reason(), told).retry_after(retry_after)
            }
            _ => Self::new(error.kind(), error.reason(), told),
        }
    }
}

impl From<TenantError> for Refusal {
    fn from(error: TenantError) -> Self {
        let mut refusal = Self::new(error.kind(), error.reason(), chain(&error));
        if let TenantError::NoSuchTenant(tenant) = &error {
            refusal.0.metadata = vec![("tenant", tenant.to_string())];
        }
        refusal
    }
}

/// A status that tonic made on its own, without our details: a message that is cut short, framed wrongly or too large.
/// Each is the caller's mistake, and leaves as one.
pub(crate) fn from_outside(status: &Status) -> Option<Refusal> {
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Some(Refusal::new(
            Kind::Invalid,
            "MESSAGE_TOO_LARGE",
            format!("{}: split the request", status.message()),
        )),
        Code::Internal | Code::InvalidArgument => Some(Refusal::malformed(status.message())),
        Code::Unimplemented => Some(Refusal::coded(
            Code::Unimplemented,
            "NO_SUCH_CALL",
            "this server has no such call: ask its reflection service for those it has",
        )),
        _ => None,
    }
}

pub(crate) fn into_tonic(status: pb::Status) -> Status {
    let details = Bytes::from(status.encode_to_vec());
    Status::with_details(Code::from(status.code), status.message, details)
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Conflict => Code::Aborted,
        Kind::Refused => Code::FailedPrecondition,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unknown => Code::Unknown,
        Kind::Corrupt => Code::DataLoss,
        Kind::Internal => Code::Internal,
    }
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

/// An error with its causes, each of which leaves its source out of its own text.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto, types::append::Expect};
    use tonic_types::StatusExt;

    #[test]
    fn a_failed_guard_is_told_in_a_form_programs_read() {
        let error = AppendError::Guard(GuardFailure::Entity {
            index: 2,
            entity_id: "order-42".into(),
            expected: Expect::Version(3),
            found: 5,
        });
        let status = Refusal::from(error).into_status();
        assert_eq!(status.code(), Code::Aborted);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("VERSION_CONFLICT", "annals")
        );

        let rpc = pb::Status::decode(status.details()).unwrap();
        let detail = rpc
            .details
            .iter()
            .find(|d| d.type_url == DETAIL_GUARD_FAILURE)
            .unwrap();
        let failure = proto::GuardFailure::decode(detail.value.as_slice()).unwrap();
        assert_eq!(failure.index, 2);
        let Some(proto::guard_failure::Failure::Entity(entity)) = failure.failure else {
            panic!("{failure:?}")
        };
        assert_eq!(entity.found_version, 5);
        assert_eq!(
            entity.expected.unwrap().expect,
            Some(proto::entity_guard::Expect::Version(3))
        );
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let error = AppendError::QueueFull {
            bytes_max: 9,
            retry_after: Duration::from_millis(20),
        };
        let status = Refusal::from(error).into_status();
        assert_eq!(status.code(), Code::ResourceExhausted);
        let retry = status.get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(Duration::from_millis(20)));
    }

    #[test]
    fn details_stay_small_enough_for_headers_however_much_is_wrong() {
        let wrong = |i| crate::types::append::Violation {
            field: format!("events[{i}].payload"),
            description: "ä".repeat(5_000),
        };
        let status = Refusal::invalid(Violations((0..10_000).map(wrong).collect())).into_status();
        assert_eq!(
            status
                .get_details_bad_request()
                .unwrap()
                .field_violations
                .len(),
            VIOLATIONS_MAX
        );
        assert!(status.details().len().div_ceil(3) * 4 + 3 * status.message().len() < 8 << 10);
    }
}
