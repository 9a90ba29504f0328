//! Why a call failed: what the server said, decoded, or what happened on the way to it.

use std::{collections::HashMap, error::Error, io, time::Duration};

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{StatusExt, pb};

use crate::{
    proto::{self, MalformedEvent, entity_guard, guard_failure},
    types::{
        append::{Expect, GuardFailure, Violation, Violations},
        kind::Kind,
    },
};

/// Why a call of the client failed. [`kind`](Self::kind) says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("`{url}` is no address of a server: {reason}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody answers there.
    #[error("no server at {url}{}", if *refused { "" } else { " answers" })]
    NoServer {
        /// As given.
        url: String,
        /// The machine answered, and nothing listens there.
        refused: bool,
        /// What the transport says.
        source: tonic::transport::Error,
    },
    /// The connection broke; the call may have been carried out.
    #[error("the connection to the server was lost")]
    Lost(#[source] Box<Status>),
    /// The server ended a stream that should have gone on; a request in it may have been carried out.
    #[error("the server ended the stream")]
    Ended,
    /// The server answered with an error.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Found wrong before anything was sent.
    #[error("invalid request: {0}")]
    Invalid(Violations),
    /// The server's answer is not what `annals.v1` describes.
    #[error("the server's answer does not make sense: {0}")]
    Answer(&'static str),
}

/// An error as the server stated it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// The stable name for programs, like `VERSION_CONFLICT`; empty if the answer came from something else than Annals.
    pub reason: String,
    /// What belongs to the reason.
    pub metadata: HashMap<String, String>,
    /// Which guard failed, and on what.
    pub guard: Option<GuardFailure>,
    /// What is wrong with the request.
    pub violations: Vec<Violation>,
    /// When a retry may help.
    pub retry_after: Option<Duration>,
}

impl ClientError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } | Self::Invalid(_) => Kind::Invalid,
            Self::NoServer { .. } | Self::Lost(_) | Self::Ended => Kind::Unavailable,
            Self::Refused(refusal) => refusal.kind(),
            Self::Answer(_) => Kind::Internal,
        }
    }

    /// The stable name for programs; empty if the server gave none.
    pub fn reason(&self) -> &str {
        match self {
            Self::Address { .. } => "INVALID_ADDRESS",
            Self::NoServer { .. } => "NO_SERVER",
            Self::Lost(_) => "CONNECTION_LOST",
            Self::Ended => "STREAM_ENDED",
            Self::Refused(refusal) => &refusal.reason,
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::Answer(_) => "UNEXPECTED_ANSWER",
        }
    }

    /// Which guard failed, and on what.
    pub fn guard_failure(&self) -> Option<&GuardFailure> {
        self.refusal()?.guard.as_ref()
    }

    /// What is wrong with the request.
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::Refused(refusal) => &refusal.violations,
            Self::Invalid(violations) => &violations.0,
            _ => &[],
        }
    }

    /// When a retry may help, if the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after
    }

    /// What the server said, if it is the one that refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the same call may succeed soon, and does no harm if it succeeded before.
    pub(super) fn is_transient(&self) -> bool {
        match self.kind() {
            Kind::Unavailable | Kind::Unknown => true,
            Kind::Exhausted => ["QUEUE_FULL", "SQL_BUSY"].contains(&self.reason()),
            _ => false,
        }
    }

    pub(super) fn no_server(url: &str, source: tonic::transport::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&source);
        let mut refused = false;
        while let Some(error) = cause {
            refused |= error
                .downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            cause = error.source();
        }
        Self::NoServer {
            url: url.to_owned(),
            refused,
            source,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        // Only the transport gives a status a source: a server's arrives as text.
        if status.source().is_some() {
            return Self::Lost(Box::new(status));
        }
        Self::Refused(Box::new(Refusal::from(&status)))
    }
}

impl From<pb::Status> for ClientError {
    fn from(status: pb::Status) -> Self {
        let details = status.encode_to_vec();
        let status =
            Status::with_details(Code::from_i32(status.code), status.message, details.into());
        Self::Refused(Box::new(Refusal::from(&status)))
    }
}

impl From<MalformedEvent> for ClientError {
    fn from(_: MalformedEvent) -> Self {
        Self::Answer("an event of it does not decode")
    }
}

impl Refusal {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self.code {
            Code::InvalidArgument => Kind::Invalid,
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::AlreadyExists,
            Code::Aborted => Kind::Conflict,
            Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Kind::Refused,
            Code::OutOfRange => Kind::OutOfRange,
            Code::ResourceExhausted => Kind::Exhausted,
            Code::Unavailable => Kind::Unavailable,
            Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => Kind::Unknown,
            Code::DataLoss => Kind::Corrupt,
            Code::Internal | Code::Ok => Kind::Internal,
        }
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == "annals");
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            guard: guard_failure(status.details()),
            violations: details
                .bad_request()
                .map(|bad| &bad.field_violations[..])
                .unwrap_or_default()
                .iter()
                .map(|violation| Violation {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                })
                .collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

/// The typed detail of a failed guard, out of an encoded `google.rpc.Status`.
fn guard_failure(details: &[u8]) -> Option<GuardFailure> {
    let status = pb::Status::decode(details).ok()?;
    let any = status
        .details
        .iter()
        .find(|any| any.type_url.rsplit('/').next() == Some("annals.v1.GuardFailure"))?;
    let failure = proto::GuardFailure::decode(any.value.as_slice()).ok()?;
    let index = failure.index as usize;
    Some(match failure.failure? {
        guard_failure::Failure::Entity(entity) => {
            let guard = entity.expected?;
            GuardFailure::Entity {
                index,
                entity_id: guard.entity_id.into(),
                expected: match guard.expect {
                    None | Some(entity_guard::Expect::Any(())) => Expect::Any,
                    Some(entity_guard::Expect::Absent(())) => Expect::Absent,
                    Some(entity_guard::Expect::Exists(())) => Expect::Exists,
                    Some(entity_guard::Expect::Version(version)) => Expect::Version(version),
                },
                found: entity.found_version,
            }
        }
        guard_failure::Failure::NoMatch(no_match) => GuardFailure::NoMatch {
            index,
            found: no_match.found_position,
        },
        guard_failure::Failure::Cursor(cursor) => GuardFailure::Cursor {
            index,
            name: cursor.name.into(),
            expected: cursor.expected,
            found: cursor.found,
        },
    })
}

#[cfg(test)]
mod tests {
    use prost_types::Any;
    use tonic_types::ErrorDetails;

    use super::*;

    fn with_guard_failure(status: &Status, failure: &proto::GuardFailure) -> Status {
        let mut details = pb::Status::decode(status.details()).unwrap();
        details.details.push(Any {
            type_url: "type.googleapis.com/annals.v1.GuardFailure".into(),
            value: failure.encode_to_vec(),
        });
        let encoded = details.encode_to_vec();
        Status::with_details(status.code(), status.message(), encoded.into())
    }

    #[test]
    fn a_refusal_is_decoded_with_its_details() {
        let mut details = ErrorDetails::with_error_info("VERSION_CONFLICT", "annals", []);
        details.set_retry_info(Some(Duration::from_millis(20)));
        let status = Status::with_error_details(Code::Aborted, "guard failed", details);
        let status = with_guard_failure(
            &status,
            &proto::GuardFailure {
                index: 2,
                failure: Some(guard_failure::Failure::Entity(proto::EntityGuardFailure {
                    expected: Some(proto::EntityGuard {
                        entity_id: "order-42".into(),
                        expect: Some(entity_guard::Expect::Version(3)),
                    }),
                    found_version: 4,
                })),
            },
        );
        let error = ClientError::from(status);
        assert_eq!(error.kind(), Kind::Conflict);
        assert_eq!(error.reason(), "VERSION_CONFLICT");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(20)));
        assert_eq!(
            error.guard_failure(),
            Some(&GuardFailure::Entity {
                index: 2,
                entity_id: "order-42".into(),
                expected: Expect::Version(3),
                found: 4
            })
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn violations_arrive_with_their_fields() {
        let details = ErrorDetails::with_bad_request_violation("events[3].payload", "is no JSON");
        let status = Status::with_error_details(Code::InvalidArgument, "invalid batch", details);
        let error = ClientError::from(status);
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.violations()[0].field, "events[3].payload");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let status = |code, reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "annals", []);
            ClientError::from(Status::with_error_details(code, "…", details))
        };
        assert!(status(Code::Unavailable, "SHUTTING_DOWN").is_transient());
        assert!(status(Code::ResourceExhausted, "QUEUE_FULL").is_transient());
        assert!(!status(Code::ResourceExhausted, "DISK_FULL").is_transient());
        assert!(!status(Code::AlreadyExists, "EVENT_ID_REUSED").is_transient());
    }
}
