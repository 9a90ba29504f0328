//! What to read, and why it could not be read.

use std::{fmt, ops::Range, path::PathBuf, str::FromStr};

use super::{
    append::{Query, Violations},
    id::{LogId, Position, Version},
    kind::Kind,
    text::Text,
    time::{InvalidTimestamp, Timestamp},
};

/// Which events; every field narrows, the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these; empty: all.
    pub entity_ids: Vec<Text>,
    /// Any of these; empty: all.
    pub event_types: Vec<Text>,
    /// Types that start with this.
    pub event_type_prefix: Text,
    /// All of these.
    pub tags: Vec<Text>,
    /// Any of these; empty: all.
    pub partitions: Vec<u32>,
    /// Events that match any item; no item: all.
    pub query: Query,
    /// Recorded in this time.
    pub recorded: TimeRange,
    /// Occurred in this time; events without such a time are left out when it is bounded.
    pub occurred: TimeRange,
}

/// Half open; the default is all of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// In the range.
    pub since: Option<Timestamp>,
    /// Not in the range any more.
    pub until: Option<Timestamp>,
}

impl TimeRange {
    /// True if it is all of time.
    pub fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }

    /// Whether a time is in it.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// The order of a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// From low positions to high ones.
    #[default]
    Forward,
    /// From high positions to low ones.
    Backward,
}

/// A read of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// Which events.
    pub filter: Filter,
    /// Only positions greater than this.
    pub after: Position,
    /// Only positions up to and including this.
    pub through: Option<Position>,
    /// In which order.
    pub direction: Direction,
    /// At most so many events.
    pub limit: Option<u64>,
    /// Read the log as it was then. A version needs exactly one entity in the filter.
    pub as_of: Option<AsOf>,
    /// Refuse unless the log has this id.
    pub log_id: Option<LogId>,
}

impl ReadRequest {
    /// Whether a point of the past, or a time, has to be looked up first.
    pub(crate) fn looks_up(&self) -> bool {
        let found = matches!(self.as_of, Some(AsOf::Version(_) | AsOf::RecordedAt(_)));
        found || !self.filter.recorded.is_all()
    }
}

/// A point of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// After the entity's event of this version.
    Version(Version),
    /// After the event at this position.
    Position(Position),
    /// After the last event recorded at or before this time.
    RecordedAt(Timestamp),
}

/// `v3`, `1200` or a time, as [`FromStr`] reads it.
impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "v{version}"),
            Self::Position(position) => position.fmt(f),
            Self::RecordedAt(time) => time.fmt(f),
        }
    }
}

/// `v3`: version 3. `1200`: position 1,200. `2026-01-31T12:00:00Z`: that time.
impl FromStr for AsOf {
    type Err = InvalidAsOf;

    fn from_str(text: &str) -> Result<Self, InvalidAsOf> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = |digits: &str| digits.parse().map_err(|_| InvalidAsOf::Number);
        if let Some(version) = text.strip_prefix('v').filter(|rest| digits(rest)) {
            return number(version).map(Self::Version);
        }
        if digits(text) {
            return number(text).map(Self::Position);
        }
        text.parse()
            .map(Self::RecordedAt)
            .map_err(|InvalidTimestamp| InvalidAsOf::Other)
    }
}

/// The text is no point of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum InvalidAsOf {
    #[error("the number is too large")]
    Number,
    #[error(
        "a point of the past is a version like v3, a position like 1200, or a time like 2026-01-31T12:00:00Z"
    )]
    Other,
}

/// Bytes on disk are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is damaged{}: {what}; nothing was changed: with the server stopped, `annals verify --data DIR \
     --repair` makes anew what can be, and says what must come from a backup",
    path.display(),
    at_byte(*offset)
)]
pub struct Damage {
    /// Which file.
    pub path: PathBuf,
    /// Where in it; 0 if it is about the whole file.
    pub offset: u64,
    /// What was found.
    pub what: String,
}

fn at_byte(offset: u64) -> String {
    match offset {
        0 => String::new(),
        offset => format!(" at byte {offset}"),
    }
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum ReadError {
    #[error("invalid request: {0}")]
    Invalid(Violations),
    #[error("entity `{0}` has no event")]
    NoSuchEntity(Text),
    #[error("there is no event {0}")]
    NoSuchEvent(String),
    #[error("{field} is {position}, beyond the head {head}")]
    BeyondHead {
        field: &'static str,
        position: Position,
        head: Position,
    },
    #[error("version {version} is beyond the last version {last} of entity `{entity_id}`")]
    BeyondVersion {
        entity_id: Text,
        version: Version,
        last: Version,
    },
    #[error(
        "this is log {found}, not {expected}: positions of another log mean nothing here; start over"
    )]
    OtherLog { expected: LogId, found: LogId },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("reading {} at byte {}: {reason}", path.display(), range.start)]
    Io {
        path: PathBuf,
        range: Range<u64>,
        reason: String,
    },
}

impl ReadError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::Invalid,
            Self::NoSuchEntity(_) | Self::NoSuchEvent(_) => Kind::NotFound,
            Self::BeyondHead { .. } | Self::BeyondVersion { .. } => Kind::OutOfRange,
            Self::OtherLog { .. } => Kind::Refused,
            Self::Damaged(_) => Kind::Corrupt,
            Self::Io { .. } => Kind::Unavailable,
        }
    }

    /// A stable name for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::NoSuchEntity(_) => "NO_SUCH_ENTITY",
            Self::NoSuchEvent(_) => "NO_SUCH_EVENT",
            Self::BeyondHead { .. } => "BEYOND_HEAD",
            Self::BeyondVersion { .. } => "BEYOND_VERSION",
            Self::OtherLog { .. } => "OTHER_LOG",
            Self::Damaged(_) => "DAMAGED",
            Self::Io { .. } => "READ_FAILED",
        }
    }
}

/// The three kinds of names that events carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// The entity that the event is about.
    Entity,
    /// Its type.
    Type,
    /// One of its tags.
    Tag,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_the_past_is_a_version_a_position_or_a_time() {
        let time = "2026-01-31T12:00:00Z";
        for (text, as_of) in [
            ("v3", AsOf::Version(3)),
            ("1200", AsOf::Position(1200)),
            (time, AsOf::RecordedAt(time.parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(as_of));
            assert_eq!(as_of.to_string().parse(), Ok(as_of));
        }
        for wrong in [
            "",
            "v",
            "v3a",
            "3v",
            "-1",
            "2026-01-31",
            "99999999999999999999",
        ] {
            assert!(wrong.parse::<AsOf>().is_err(), "{wrong}");
        }
    }
}
