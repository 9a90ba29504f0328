//! Protobuf to engine values and back; nobody else does either.
//!
//! Requests are taken apart: their texts move into [`Text`] without a copy. What only the wire can get wrong is found
//! here (ids, times, enums, choices not made), with the path of the field; what an in-process caller can get wrong too
//! (names, JSON, sizes, guards) is left to the engine, which checks it once for both.

#[cfg(feature = "sql")]
mod analytics;

use std::path::Path;

use prost_types::Timestamp as WireTime;
use uuid::Uuid;

#[cfg(feature = "sql")]
pub(super) use self::analytics::{
    correlation, correlation_request, frequency, frequency_request, summaries, summary_request,
};
use crate::{
    engine::{
        event::Event,
        log::compact::CompactionStats,
        state::EntityState,
        subscription::{Start, SubscribeRequest},
        tenant::{NameSummary, TenantStats},
        upkeep::verify::Verified,
    },
    proto::{self, EventBatch, EventFields},
    types::{
        append::{
            Appended, Batch, CursorRecord, Expect, Guard, GuardFailure, Query, QueryItem,
            Violation, Violations,
        },
        event::NewEvent,
        id::{LogId, Position, TenantId},
        limits::{PAGE_MAX, READ_BATCH_BYTES},
        read::{AsOf, Damage, Direction, Filter, ReadRequest, TimeRange},
        text::Text,
        time::Timestamp,
    },
};

/// What an event costs on the wire beyond its bytes in the log: its id as text, times as messages, field keys.
const EVENT_WIRE_BYTES: usize = 64;
/// Page of a listing where the client names no size.
const PAGE_DEFAULT: usize = 100;
const UUID_TEXT_BYTES: usize = 36;

/// What is wrong with a request, gathered as it is taken apart.
#[derive(Default)]
struct Wrong(Vec<Violation>);

impl Wrong {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            description: description.into(),
        });
    }

    fn or<T>(self, value: T) -> Result<T, Violations> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Violations(self.0))
        }
    }
}

pub(super) fn batch(request: proto::AppendRequest) -> Result<Batch, Violations> {
    let mut wrong = Wrong::default();
    let mut events = Vec::with_capacity(request.events.len());
    for (i, event) in request.events.into_iter().enumerate() {
        events.push(new_event(i, event, &mut wrong));
    }
    let mut guards = Vec::with_capacity(request.guards.len());
    for (i, one) in request.guards.into_iter().enumerate() {
        guards.extend(guard(i, one, &mut wrong));
    }
    let cursors = request.cursors.into_iter().map(|cursor| CursorRecord {
        name: cursor.name.into(),
        position: cursor.position,
        expected: cursor.expected,
    });
    let cursors = cursors.collect();
    let log_id = log_id(&request.log_id, &mut wrong);
    wrong.or(Batch {
        events,
        guards,
        cursors,
        log_id,
    })
}

fn new_event(i: usize, event: proto::NewEvent, wrong: &mut Wrong) -> NewEvent {
    // Paths are put together only where something is wrong.
    let event_id = if event.event_id.is_empty() {
        None
    } else {
        let id = uuid(&event.event_id);
        if id.is_none() {
            wrong.add(format!("events[{i}].event_id"), NO_UUID);
        }
        id
    };
    let occurred_at = event.occurred_at.and_then(|time| {
        timestamp(time).or_else(|| {
            wrong.add(format!("events[{i}].occurred_at"), NO_TIME);
            None
        })
    });
    NewEvent {
        event_id,
        entity_id: event.entity_id.into(),
        event_type: event.event_type.into(),
        payload: event.payload.into(),
        metadata: event.metadata.map(Text::from),
        tags: event.tags.into_iter().map(Text::from).collect(),
        occurred_at,
    }
}

fn guard(i: usize, guard: proto::Guard, wrong: &mut Wrong) -> Option<Guard> {
    match guard.guard {
        Some(proto::guard::Guard::Entity(entity)) => Some(Guard::Entity {
            entity_id: entity.entity_id.into(),
            expect: match entity.expect {
                None | Some(proto::entity_guard::Expect::Any(())) => Expect::Any,
                Some(proto::entity_guard::Expect::Absent(())) => Expect::Absent,
                Some(proto::entity_guard::Expect::Exists(())) => Expect::Exists,
                Some(proto::entity_guard::Expect::Version(version)) => Expect::Version(version),
            },
        }),
        Some(proto::guard::Guard::NoMatch(no_match)) => Some(Guard::NoMatch {
            query: query(
                &format!("guards[{i}].no_match.query"),
                no_match.query,
                wrong,
            ),
            after: no_match.after,
        }),
        None => {
            wrong.add(
                format!("guards[{i}]"),
                "names no guard: choose `entity` or `no_match`",
            );
            None
        }
    }
}

/// A query as it is given. One without items, or an item without types and tags, is wrong: elsewhere it means "all" or
/// "nothing" by turns.
fn query(path: &str, query: Option<proto::EventQuery>, wrong: &mut Wrong) -> Query {
    let items = query.unwrap_or_default().items;
    if items.is_empty() {
        wrong.add(path, "has no items: give at least one");
    }
    let items = items.into_iter().enumerate().map(|(i, item)| {
        if item.event_types.is_empty() && item.tags.is_empty() {
            wrong.add(
                format!("{path}.items[{i}]"),
                "is empty: give event types or tags",
            );
        }
        QueryItem {
            event_types: texts(item.event_types),
            tags: texts(item.tags),
        }
    });
    Query {
        items: items.collect(),
    }
}

fn filter(filter: proto::EventFilter, wrong: &mut Wrong) -> Filter {
    Filter {
        entity_ids: texts(filter.entity_ids),
        event_types: texts(filter.event_types),
        event_type_prefix: filter.event_type_prefix.into(),
        tags: texts(filter.tags),
        partitions: filter.partitions,
        query: match filter.query {
            None => Query::default(),
            given => query("filter.query", given, wrong),
        },
        recorded: time_range("filter.recorded", filter.recorded, wrong),
        occurred: time_range("filter.occurred", filter.occurred, wrong),
    }
}

fn time_range(path: &str, range: Option<proto::TimeRange>, wrong: &mut Wrong) -> TimeRange {
    let Some(range) = range else {
        return TimeRange::default();
    };
    let mut bound = |name: &str, time: Option<WireTime>| {
        let known = time.and_then(timestamp);
        if time.is_some() && known.is_none() {
            wrong.add(format!("{path}.{name}"), NO_TIME);
        }
        known
    };
    TimeRange {
        since: bound("since", range.since),
        until: bound("until", range.until),
    }
}

fn as_of(as_of: Option<proto::AsOf>, wrong: &mut Wrong) -> Option<AsOf> {
    match as_of?.point {
        Some(proto::as_of::Point::Version(version)) => Some(AsOf::Version(version)),
        Some(proto::as_of::Point::Position(position)) => Some(AsOf::Position(position)),
        Some(proto::as_of::Point::RecordedAt(time)) => {
            let known = timestamp(time).map(AsOf::RecordedAt);
            if known.is_none() {
                wrong.add("as_of.recorded_at", NO_TIME);
            }
            known
        }
        None => {
            wrong.add(
                "as_of",
                "names no point: choose `version`, `position` or `recorded_at`",
            );
            None
        }
    }
}

pub(super) fn read_request(request: proto::ReadEventsRequest) -> Result<ReadRequest, Violations> {
    let mut wrong = Wrong::default();
    let bounds = request.filter.unwrap_or_default();
    let (after, through) = (bounds.after, bounds.through);
    let direction = match proto::Direction::try_from(request.direction) {
        Ok(proto::Direction::Unspecified | proto::Direction::Forward) => Direction::Forward,
        Ok(proto::Direction::Backward) => Direction::Backward,
        Err(_) => {
            wrong.add(
                "direction",
                "is none of the known ones: forward is 1, backward 2",
            );
            Direction::Forward
        }
    };
    let request = ReadRequest {
        filter: filter(bounds, &mut wrong),
        after,
        through: (through > 0).then_some(through),
        direction,
        limit: (request.limit > 0).then_some(request.limit),
        as_of: as_of(request.as_of, &mut wrong),
        log_id: log_id(&request.log_id, &mut wrong),
    };
    wrong.or(request)
}

pub(super) fn subscribe_request(
    request: proto::SubscribeRequest,
) -> Result<SubscribeRequest, Violations> {
    let mut wrong = Wrong::default();
    let bounds = request.filter.unwrap_or_default();
    for (field, position) in [
        ("filter.after", bounds.after),
        ("filter.through", bounds.through),
    ] {
        if position > 0 {
            wrong.add(field, "has no meaning here: say where to start in `start`");
        }
    }
    let request = SubscribeRequest {
        filter: filter(bounds, &mut wrong),
        start: match request.start {
            None => Start::After(0),
            Some(proto::subscribe_request::Start::After(position)) => Start::After(position),
            Some(proto::subscribe_request::Start::Head(())) => Start::Head,
        },
        log_id: log_id(&request.log_id, &mut wrong),
    };
    wrong.or(request)
}

pub(super) fn state_request(
    request: proto::GetEntityStateRequest,
) -> Result<(Text, Option<AsOf>), Violations> {
    let mut wrong = Wrong::default();
    let as_of = as_of(request.as_of, &mut wrong);
    wrong.or((request.entity_id.into(), as_of))
}

/// The event that `GetEvent` asks for.
pub(super) enum EventKey {
    Position(Position),
    Id(Uuid),
}

pub(super) fn event_key(request: proto::GetEventRequest) -> Result<EventKey, Violations> {
    match request.key {
        Some(proto::get_event_request::Key::Position(position)) => Ok(EventKey::Position(position)),
        Some(proto::get_event_request::Key::EventId(id)) => uuid(id.as_bytes())
            .map(EventKey::Id)
            .ok_or_else(|| Violations::one("event_id", NO_UUID)),
        None => Err(Violations::one(
            "key",
            "names no event: choose `position` or `event_id`",
        )),
    }
}

pub(super) fn page_size(page_size: u32) -> Result<usize, Violations> {
    match page_size as usize {
        0 => Ok(PAGE_DEFAULT),
        size if size <= PAGE_MAX => Ok(size),
        size => Err(Violations::one(
            "page_size",
            format!("is {size}, the most is {PAGE_MAX}"),
        )),
    }
}

pub(super) const NO_UUID: &str =
    "is no UUID in its canonical form, 36 characters like 01890a5d-ac96-774b-bcce-b302099a8057";
pub(super) const NO_LOG_ID: &str =
    "is no log id: give it back as the server returned it, or leave it out";
pub(super) const NO_TIME: &str =
    "is no time in the years 1 to 9999 with 0 to 999,999,999 nanoseconds";

pub(super) fn uuid(text: &[u8]) -> Option<Uuid> {
    // The crate reads other forms too, braces and `urn:uuid:` among them; one id, one text.
    if text.len() != UUID_TEXT_BYTES {
        return None;
    }
    Uuid::try_parse_ascii(text).ok()
}

fn timestamp(time: WireTime) -> Option<Timestamp> {
    let micros = match time.nanos {
        nanos @ 0..1_000_000_000 => i64::from(nanos / 1_000),
        _ => return None,
    };
    let seconds = time.seconds.checked_mul(1_000_000)?;
    Timestamp::from_micros(seconds.checked_add(micros)?)
}

fn log_id(text: &str, wrong: &mut Wrong) -> Option<LogId> {
    if text.is_empty() {
        return None;
    }
    let log_id = text.parse().ok();
    if log_id.is_none() {
        wrong.add("log_id", NO_LOG_ID);
    }
    log_id
}

fn texts(texts: Vec<String>) -> Vec<Text> {
    texts.into_iter().map(Text::from).collect()
}

pub(super) fn wire_time(time: Timestamp) -> WireTime {
    let micros = time.as_micros();
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    WireTime {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

pub(super) fn append_response(appended: Appended) -> proto::AppendResponse {
    proto::AppendResponse {
        first_position: appended.first_position,
        last_position: appended.last_position,
        recorded_at: Some(wire_time(appended.recorded_at)),
        duplicate: appended.duplicate,
        versions: appended.versions,
        event_ids: appended.event_ids.iter().map(Uuid::to_string).collect(),
        log_id: appended.log_id.to_string(),
    }
}

pub(super) fn guard_failure(failure: &GuardFailure) -> proto::GuardFailure {
    use proto::{entity_guard::Expect as WireExpect, guard_failure::Failure};
    let (index, failure) = match failure {
        GuardFailure::Entity {
            index,
            entity_id,
            expected,
            found,
        } => {
            let expect = match *expected {
                Expect::Any => WireExpect::Any(()),
                Expect::Absent => WireExpect::Absent(()),
                Expect::Exists => WireExpect::Exists(()),
                Expect::Version(version) => WireExpect::Version(version),
            };
            let expected = proto::EntityGuard {
                entity_id: entity_id.to_string(),
                expect: Some(expect),
            };
            let failure = proto::EntityGuardFailure {
                expected: Some(expected),
                found_version: *found,
            };
            (index, Failure::Entity(failure))
        }
        GuardFailure::NoMatch { index, found } => (
            index,
            Failure::NoMatch(proto::NoMatchGuardFailure {
                found_position: *found,
            }),
        ),
        GuardFailure::Cursor {
            index,
            name,
            expected,
            found,
        } => {
            let failure = proto::CursorFailure {
                name: name.to_string(),
                expected: *expected,
                found: *found,
            };
            (index, Failure::Cursor(failure))
        }
    };
    proto::GuardFailure {
        index: u32::try_from(*index).unwrap_or(u32::MAX),
        failure: Some(failure),
    }
}

/// Encodes events until a message is full, at least one of them; the rest stays in `events`.
pub(super) fn event_batch(
    events: &mut std::iter::Peekable<std::vec::IntoIter<Event>>,
) -> EventBatch {
    let wire_bytes = |event: &Event| event.encoded_bytes() + EVENT_WIRE_BYTES;
    let expected = events.len() * events.peek().map_or(0, wire_bytes);
    let mut batch = EventBatch::with_capacity(expected.min(READ_BATCH_BYTES));
    while let Some(event) = events.next_if(|next| {
        batch.is_empty() || batch.encoded_bytes() + wire_bytes(next) <= READ_BATCH_BYTES
    }) {
        batch.push(&EventFields {
            position: event.position(),
            version: event.version(),
            recorded_at: event.recorded_at().as_micros(),
            occurred_at: event.occurred_at().map(Timestamp::as_micros),
            event_id: event.event_id(),
            entity_id: event.entity_id_bytes(),
            event_type: event.event_type_bytes(),
            payload: event.payload_bytes(),
            metadata: event.metadata_bytes(),
            tags: event.tags_bytes(),
        });
    }
    batch
}

pub(super) fn event(event: &Event) -> proto::Event {
    proto::Event {
        position: event.position(),
        entity_id: event.entity_id().to_owned(),
        version: event.version(),
        event_type: event.event_type().to_owned(),
        event_id: event.event_id().to_string(),
        recorded_at: Some(wire_time(event.recorded_at())),
        occurred_at: event.occurred_at().map(wire_time),
        payload: event.payload().to_owned(),
        metadata: event.metadata().map(str::to_owned),
        tags: event.tags().map(str::to_owned).collect(),
    }
}

pub(super) fn entity_state(entity_id: &Text, state: EntityState) -> proto::GetEntityStateResponse {
    proto::GetEntityStateResponse {
        entity_id: entity_id.to_string(),
        version: state.version,
        state: state.state,
        position: state.position,
        head: state.head,
        recorded_at: state.recorded_at.map(wire_time),
    }
}

pub(super) fn entity_summary(summary: &NameSummary) -> proto::EntitySummary {
    proto::EntitySummary {
        entity_id: summary.name.to_string(),
        version: summary.events,
        first_position: summary.first_position,
        last_position: summary.last_position,
    }
}

pub(super) fn event_type_summary(summary: &NameSummary) -> proto::EventTypeSummary {
    proto::EventTypeSummary {
        event_type: summary.name.to_string(),
        events: summary.events,
        first_position: summary.first_position,
        last_position: summary.last_position,
    }
}

pub(super) fn tenant_stats(
    tenant: &TenantId,
    log_id: LogId,
    stats: TenantStats,
) -> proto::TenantStats {
    proto::TenantStats {
        tenant: tenant.to_string(),
        log_id: log_id.to_string(),
        head: stats.head,
        floor: stats.floor,
        entities: stats.entities,
        event_types: stats.event_types,
        events_per_partition: stats.events_per_partition,
        log_bytes: stats.log_bytes,
        log_files: stats.log_files,
        subscribers: stats.subscribers,
        recorded_at: stats.recorded_at.map(wire_time),
        poisoned: stats.poisoned.unwrap_or_default(),
        sealed: stats.sealed,
        segments: stats.segments,
    }
}

pub(super) fn compaction_stats(stats: CompactionStats) -> proto::CompactionStats {
    proto::CompactionStats {
        segments: stats.segments,
        segment_bytes: stats.segment_bytes,
        small_segments: stats.small_segments,
        target_bytes: stats.target_bytes,
        running: stats.running,
        progress_bytes: stats.progress_bytes,
        progress_bytes_total: stats.progress_bytes_total,
        compactions: stats.compactions,
        compacted_segments: stats.compacted_segments,
        written_bytes: stats.written_bytes,
        failures: stats.failures,
        last_error: stats.last_error.unwrap_or_default(),
        last_took: stats.last_took.and_then(|took| took.try_into().ok()),
    }
}

/// Paths are told relative to the data directory: where that is concerns nobody else.
pub(super) fn fault(damage: Damage, data_dir: &Path) -> proto::IntegrityFault {
    let path = damage.path.strip_prefix(data_dir).unwrap_or(&damage.path);
    proto::IntegrityFault {
        path: path.to_string_lossy().into_owned(),
        offset: damage.offset,
        what: damage.what,
    }
}

pub(super) fn verify_summary(verified: Verified) -> proto::VerifySummary {
    proto::VerifySummary {
        files: verified.files,
        events: verified.events,
        faults: verified.faults,
    }
}

pub(super) fn checkpoint(position: Position, log_id: &str) -> proto::Checkpoint {
    proto::Checkpoint {
        position,
        log_id: log_id.to_owned(),
    }
}

#[cfg(test)]
mod tests;
