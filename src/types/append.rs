//! Batches, what must hold for them, and what becomes of them.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::{
    event::NewEvent,
    id::{LogId, Position, Version},
    kind::Kind,
    text::Text,
    time::Timestamp,
};

/// Hint for those who are refused because segments cannot be written: about how often it is tried.
const SEAL_RETRY: Duration = Duration::from_secs(1);

/// Events, guards and cursor records that are appended together or not at all.
///
/// ```
/// use annals::{Batch, Expect, NewEvent};
///
/// let batch = Batch::new([NewEvent::new("order-42", "order.paid", "{}")])
///     .expecting("order-42", Expect::Version(3));
/// assert_eq!(batch.guards.len(), 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Appended in this order. May be empty only if there are cursor records.
    pub events: Vec<NewEvent>,
    /// All must hold.
    pub guards: Vec<Guard>,
    /// Committed with the events.
    pub cursors: Vec<CursorRecord>,
    /// Refuse unless the log has this id.
    pub log_id: Option<LogId>,
}

impl Batch {
    /// The field of a batch that holds its events, in what is told of errors.
    pub const EVENTS: &str = "events";

    /// A batch without guards and cursors.
    pub fn new(events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self {
            events: events.into_iter().collect(),
            ..Self::default()
        }
    }

    /// With a guard on an entity.
    #[must_use]
    pub fn expecting(mut self, entity_id: impl Into<Text>, expect: Expect) -> Self {
        self.guards.push(Guard::Entity {
            entity_id: entity_id.into(),
            expect,
        });
        self
    }

    /// With the guard that nothing after `after` matches `query`.
    #[must_use]
    pub fn unless(mut self, query: Query, after: Position) -> Self {
        self.guards.push(Guard::NoMatch { query, after });
        self
    }

    /// With a cursor record.
    #[must_use]
    pub fn with_cursor(mut self, cursor: CursorRecord) -> Self {
        self.cursors.push(cursor);
        self
    }
}

/// A condition, judged against everything before the batch in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// About one entity's stream.
    Entity {
        /// Whose stream.
        entity_id: Text,
        /// What must hold of it.
        expect: Expect,
    },
    /// No event after position `after` (exclusive) matches `query`: the append condition of the Dynamic Consistency
    /// Boundary specification (<https://dcb.events/specification/>).
    NoMatch {
        /// What must not match.
        query: Query,
        /// Events up to and including this position are not looked at.
        after: Position,
    },
}

/// What must hold of an entity's stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// It has no event yet.
    Absent,
    /// It has an event.
    Exists,
    /// Its last event has exactly this version; 0 is the same as `Absent`.
    Version(Version),
}

impl Expect {
    /// Whether a stream of so many events is as expected.
    pub fn holds(self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => version == 0,
            Self::Exists => version > 0,
            Self::Version(expected) => version == expected,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Absent => f.write_str("no event"),
            Self::Exists => f.write_str("an event"),
            Self::Version(version) => write!(f, "version {version}"),
        }
    }
}

/// Items joined by OR; at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Any of these.
    pub items: Vec<QueryItem>,
}

/// Matches an event whose type is one of `event_types` (empty: any) and which has all `tags`. One of the two is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryItem {
    /// Any of these.
    pub event_types: Vec<Text>,
    /// All of these.
    pub tags: Vec<Text>,
}

/// How far a consumer got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorRecord {
    /// Named like an entity.
    pub name: Text,
    /// At most the head.
    pub position: Position,
    /// Where the cursor must stand now; 0 also stands for one never written.
    pub expected: Option<Position>,
}

/// What was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// 0 if the batch held only cursors.
    pub first_position: Position,
    /// 0 if the batch held only cursors.
    pub last_position: Position,
    /// The time of the group that the batch was made durable with.
    pub recorded_at: Timestamp,
    /// The batch already stood in the log.
    pub duplicate: bool,
    /// The version of each event, in order.
    pub versions: Vec<Version>,
    /// The id of each event, in order, if the server made any; else empty.
    pub event_ids: Vec<Uuid>,
    /// The log it stands in.
    pub log_id: LogId,
}

/// Something wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, like `events[3].payload`.
    pub field: String,
    /// What is wrong and what to do.
    pub description: String,
}

/// Everything found wrong with a request, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl Violations {
    /// A single one.
    pub fn one(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, violation) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(
                f,
                "{separator}{}: {}",
                violation.field, violation.description
            )?;
        }
        Ok(())
    }
}

/// A guard or cursor that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardFailure {
    /// An entity's stream is not as expected.
    Entity {
        /// Index into the batch's guards.
        index: usize,
        /// Whose stream.
        entity_id: Text,
        /// What was asked.
        expected: Expect,
        /// Its version.
        found: Version,
    },
    /// An event matches.
    NoMatch {
        /// Index into the batch's guards.
        index: usize,
        /// The first position after the guard's that matches.
        found: Position,
    },
    /// A cursor stands elsewhere.
    Cursor {
        /// Index into the batch's cursors.
        index: usize,
        /// Which cursor.
        name: Text,
        /// What was asked.
        expected: Position,
        /// Where it stands.
        found: Position,
    },
}

impl fmt::Display for GuardFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entity {
                entity_id,
                expected,
                found,
                ..
            } => {
                write!(
                    f,
                    "entity `{entity_id}`: expected {expected}, found version {found}"
                )
            }
            Self::NoMatch { index, found } => {
                write!(f, "guards[{index}]: the event at position {found} matches")
            }
            Self::Cursor {
                name,
                expected,
                found,
                ..
            } => {
                write!(
                    f,
                    "cursor `{name}`: expected position {expected}, found {found}"
                )
            }
        }
    }
}

/// Why a batch was not appended, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum AppendError {
    #[error("invalid batch: {0}")]
    Invalid(Violations),
    #[error("{}", too_large(field, what, *size, *limit))]
    TooLarge {
        /// `events` for the whole batch, else the event's place in it.
        field: String,
        what: &'static str,
        size: usize,
        limit: usize,
    },
    #[error("event id {0} is twice in the batch")]
    IdTwice(Uuid),
    #[error(
        "event id {id} already stands at position {position}, and this batch is not a repeat of the one that wrote it"
    )]
    IdReused { id: Uuid, position: Position },
    #[error("guard failed: {0}; read again, then retry")]
    Guard(GuardFailure),
    #[error("{field} is {position}, beyond the head {head}")]
    BeyondHead {
        field: String,
        position: Position,
        head: Position,
    },
    #[error("{field} is {position}, below the floor {floor}: events up to it were removed")]
    BelowFloor {
        field: String,
        position: Position,
        floor: Position,
    },
    #[error(
        "this is log {found}, not {expected}: positions of another log mean nothing here; start over"
    )]
    OtherLog { expected: LogId, found: LogId },
    #[error("{bytes_max} bytes of batches wait for the disk: retry in {} ms", retry_after.as_millis())]
    QueueFull {
        bytes_max: usize,
        retry_after: Duration,
    },
    #[error(
        "segments cannot be written, and memory holds no more without them: see the server's log, mend the cause, retry"
    )]
    SealBehind,
    #[error("the disk has {available} bytes left, {reserve} are kept free: make room, then retry")]
    DiskFull { available: u64, reserve: u64 },
    #[error(
        "the server's clock stands {behind_s} s behind the last event: set it right, then retry"
    )]
    ClockBehind { behind_s: u64 },
    #[error("not stored: {reason}")]
    NotStored { reason: String },
    #[error("the outcome is unknown: {reason}; retry with the same event ids to learn it")]
    OutcomeUnknown {
        reason: String,
        /// The client gave every id, so that a retry is safe.
        ids_given: bool,
    },
    #[error("the server is shutting down: retry elsewhere or later")]
    ShuttingDown,
    #[error(transparent)]
    Damaged(#[from] super::read::Damage),
}

/// Splitting helps a batch, but not an event, of which it is told which one it is.
fn too_large(field: &str, what: &str, size: usize, limit: usize) -> String {
    if field == Batch::EVENTS {
        format!("{what} is {size}, the limit is {limit}: split the batch")
    } else {
        format!("{field}: {what} is {size}, the limit is {limit}")
    }
}

impl AppendError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) | Self::TooLarge { .. } | Self::IdTwice(_) => Kind::Invalid,
            Self::IdReused { .. } => Kind::AlreadyExists,
            Self::Guard(_) => Kind::Conflict,
            Self::BeyondHead { .. } | Self::BelowFloor { .. } => Kind::OutOfRange,
            Self::OtherLog { .. } => Kind::Refused,
            Self::QueueFull { .. } | Self::SealBehind | Self::DiskFull { .. } => Kind::Exhausted,
            Self::ClockBehind { .. } => Kind::Refused,
            Self::NotStored { .. } | Self::ShuttingDown => Kind::Unavailable,
            Self::OutcomeUnknown {
                ids_given: true, ..
            } => Kind::Unavailable,
            Self::OutcomeUnknown {
                ids_given: false, ..
            } => Kind::Unknown,
            Self::Damaged(_) => Kind::Corrupt,
        }
    }

    /// A stable name for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_BATCH",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::IdTwice(_) => "EVENT_ID_TWICE",
            Self::IdReused { .. } => "EVENT_ID_REUSED",
            Self::Guard(GuardFailure::Entity { .. }) => "VERSION_CONFLICT",
            Self::Guard(GuardFailure::NoMatch { .. }) => "QUERY_MATCHED",
            Self::Guard(GuardFailure::Cursor { .. }) => "CURSOR_CONFLICT",
            Self::BeyondHead { .. } => "BEYOND_HEAD",
            Self::BelowFloor { .. } => "BELOW_FLOOR",
            Self::OtherLog { .. } => "OTHER_LOG",
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::SealBehind => "SEAL_BEHIND",
            Self::DiskFull { .. } => "DISK_FULL",
            Self::ClockBehind { .. } => "CLOCK_BEHIND",
            Self::NotStored { .. } => "LOG_POISONED",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::Damaged(_) => "DAMAGED",
        }
    }

    /// When a retry may help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } => Some(*retry_after),
            Self::SealBehind => Some(SEAL_RETRY),
            Self::DiskFull { .. } => Some(Duration::from_secs(5)),
            Self::ShuttingDown => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
