//! What is computed over many events: frequencies, summaries, correlations. Requests and answers, shared by the engine, which
//! computes them, and the client, which asks for them.

use std::time::Duration;

use super::{
    id::{LogId, Position},
    read::{AsOf, Filter},
    text::Text,
    time::Timestamp,
};

/// Which time of events is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventTime {
    /// The server's clock when the event was made durable.
    #[default]
    Recorded,
    /// The client's own. Events without one are left out where times are asked for.
    Occurred,
}

/// How many events there were in each span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrequencyRequest {
    /// Which events. If its range for the time that is asked for is bounded, buckets begin and end there.
    pub filter: Filter,
    /// Only positions greater than this.
    pub after: Position,
    /// Only positions up to and including this.
    pub through: Option<Position>,
    /// The width of a bucket, in whole microseconds.
    pub bucket: Duration,
    /// Which time of events.
    pub time: EventTime,
    /// A bucket begins here, and all others a whole number of widths from it.
    pub origin: Timestamp,
    /// A series for each event type.
    pub by_type: bool,
    /// A series for each entity; with `by_type`, for each of its types.
    pub by_entity: bool,
    /// Only so many series, those with the most events.
    pub top: Option<u32>,
    /// Count as of then. A version needs exactly one entity in the filter.
    pub as_of: Option<AsOf>,
}

impl FrequencyRequest {
    /// Of all events, by the time of recording, in buckets of a width.
    pub fn new(bucket: Duration) -> Self {
        Self {
            filter: Filter::default(),
            after: 0,
            through: None,
            bucket,
            time: EventTime::default(),
            origin: Timestamp::default(),
            by_type: false,
            by_entity: false,
            top: None,
            as_of: None,
        }
    }
}

/// See [`FrequencyRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frequency {
    /// When the first bucket begins; `None` if there is none.
    pub start: Option<Timestamp>,
    /// The width of every bucket.
    pub bucket: Duration,
    /// How many there are, empty ones included.
    pub buckets: u64,
    /// Those with more events come first, then by name. Without a choice of series, one if there is a bucket.
    pub series: Vec<Series>,
    /// Events that match and have such a time, whether a series has them or not.
    pub events: u64,
    /// Events that match and have no such time.
    pub events_without_time: u64,
    /// The position that the log was read at.
    pub head: Position,
    /// Which log.
    pub log_id: LogId,
}

/// Events of one kind, over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// `None` if series are not divided by type.
    pub event_type: Option<Text>,
    /// `None` if series are not divided by entity.
    pub entity_id: Option<Text>,
    /// The sum of its counts.
    pub events: u64,
    /// Events in each bucket, in order.
    pub counts: Vec<u64>,
}

/// How many events there are, of what, and the times between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SummaryRequest {
    /// Which events.
    pub filter: Filter,
    /// Only positions greater than this.
    pub after: Position,
    /// Only positions up to and including this.
    pub through: Option<Position>,
    /// Which time of events.
    pub time: EventTime,
    /// A summary of each event type besides that of all.
    pub by_type: bool,
    /// Leave out the times between events: those of an entity cost a sort of all events that match, in memory.
    pub without_intervals: bool,
    /// As of then. A version needs exactly one entity in the filter.
    pub as_of: Option<AsOf>,
}

/// See [`SummaryRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summaries {
    /// Of all events that match.
    pub total: Summary,
    /// Of each type, if asked for: those with more events come first, then by name.
    pub types: Vec<Summary>,
    /// The position that the log was read at.
    pub head: Position,
    /// Which log.
    pub log_id: LogId,
}

/// What events are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// `None` in that of all.
    pub event_type: Option<Text>,
    /// How many.
    pub events: u64,
    /// Of how many entities.
    pub entities: u64,
    /// Of how many types.
    pub event_types: u64,
    /// 0 without events.
    pub first_position: Position,
    /// 0 without events.
    pub last_position: Position,
    /// The earliest time; `None` if no event has one.
    pub first_time: Option<Timestamp>,
    /// The latest time.
    pub last_time: Option<Timestamp>,
    /// Events without such a time.
    pub events_without_time: u64,
    /// Between one event and the next, whichever entity they are of, in the order of their times.
    pub intervals: Durations,
    /// Between one event of an entity and the next of the same entity, in the order of their times.
    pub entity_intervals: Durations,
}

/// What many durations are like; all zero if there are none. Exact, to the microsecond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
    /// The arithmetic mean.
    pub mean: Duration,
    /// The median. Where a percentile falls between two values, it lies between them in proportion.
    pub p50: Duration,
    /// The value that 90 in 100 do not exceed.
    pub p90: Duration,
    /// The value that 99 in 100 do not exceed.
    pub p99: Duration,
}

/// How often events of one type are followed by one of another, of the same entity.
///
/// An event is followed by the first one of the other type that has a greater position, if the time from the one to the
/// other is not negative and at most `within`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorrelationRequest {
    /// Which events are looked at; it must not name types.
    pub filter: Filter,
    /// Only positions greater than this.
    pub after: Position,
    /// Only positions up to and including this.
    pub through: Option<Position>,
    /// The type that is followed.
    pub first_type: Text,
    /// The type that follows; it may be the same.
    pub then_type: Text,
    /// `None`: any time.
    pub within: Option<Duration>,
    /// Which time of events; those without one are left out.
    pub time: EventTime,
    /// As of then. A version needs exactly one entity in the filter.
    pub as_of: Option<AsOf>,
}

/// See [`CorrelationRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct Correlation {
    /// Events of the type that is followed.
    pub first_events: u64,
    /// Events of the type that follows.
    pub then_events: u64,
    /// Events of the first type that are followed.
    pub followed: u64,
    /// `followed` out of `first_events`; 0 if there are none.
    pub share: f64,
    /// From each event that is followed to the one that follows.
    pub delays: Durations,
    /// The position that the log was read at.
    pub head: Position,
    /// Which log.
    pub log_id: LogId,
}
