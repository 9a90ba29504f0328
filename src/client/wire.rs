//! Vocabulary → wire for requests, wire → vocabulary for answers. The server's side of the same is `service/convert.rs`.

use bytes::Bytes;
use prost_types::Timestamp as WireTime;

use super::{ClientError, EntityState, NamePage, NameSummary, Start, event_ids::IdTexts};
use crate::{
    proto::{self, as_of::Point, entity_guard, guard, subscribe_request},
    types::{
        append::{Appended, Batch, CursorRecord, Expect, Guard, Query, Violations},
        event::NewEvent,
        id::LogId,
        read::{AsOf, Direction, Filter, ReadRequest, TimeRange},
        text::Text,
        time::Timestamp,
    },
};

pub(super) fn append_request(
    batch: &Batch,
    ids: &IdTexts,
) -> Result<proto::AppendRequest, ClientError> {
    let guards = batch.guards.iter().enumerate();
    let cursors = batch.cursors.iter().enumerate();
    Ok(proto::AppendRequest {
        events: batch
            .events
            .iter()
            .zip(ids.iter())
            .map(|(event, id)| new_event(event, id))
            .collect(),
        guards: guards
            .map(|(i, g)| guard_message(g, i))
            .collect::<Result<_, _>>()?,
        cursors: cursors
            .map(|(i, c)| cursor(c, i))
            .collect::<Result<_, _>>()?,
        log_id: log_id_text(batch.log_id),
    })
}

fn new_event(event: &NewEvent, id: Bytes) -> proto::NewEvent {
    proto::NewEvent {
        event_id: id,
        entity_id: event.entity_id.clone().into(),
        event_type: event.event_type.clone().into(),
        payload: event.payload.clone().into(),
        metadata: event.metadata.clone().map(Bytes::from),
        tags: event.tags.iter().cloned().map(Bytes::from).collect(),
        occurred_at: event.occurred_at.map(wire_time),
    }
}

fn guard_message(guard: &Guard, index: usize) -> Result<proto::Guard, ClientError> {
    let field = format!("guards[{index}]");
    let guard = match guard {
        Guard::Entity { entity_id, expect } => guard::Guard::Entity(proto::EntityGuard {
            entity_id: string(entity_id, &field)?,
            expect: Some(match *expect {
                Expect::Any => entity_guard::Expect::Any(()),
                Expect::Absent => entity_guard::Expect::Absent(()),
                Expect::Exists => entity_guard::Expect::Exists(()),
                Expect::Version(version) => entity_guard::Expect::Version(version),
            }),
        }),
        Guard::NoMatch { query, after } => guard::Guard::NoMatch(proto::NoMatchGuard {
            query: Some(query_message(query, &field)?),
            after: *after,
        }),
    };
    Ok(proto::Guard { guard: Some(guard) })
}

fn cursor(cursor: &CursorRecord, index: usize) -> Result<proto::CursorRecord, ClientError> {
    Ok(proto::CursorRecord {
        name: string(&cursor.name, &format!("cursors[{index}].name"))?,
        position: cursor.position,
        expected: cursor.expected,
    })
}

fn query_message(query: &Query, field: &str) -> Result<proto::EventQuery, ClientError> {
    let items = query.items.iter().map(|item| {
        Ok(proto::EventQueryItem {
            event_types: strings(&item.event_types, field)?,
            tags: strings(&item.tags, field)?,
        })
    });
    Ok(proto::EventQuery {
        items: items.collect::<Result<_, ClientError>>()?,
    })
}

pub(super) fn read_request(request: &ReadRequest) -> Result<proto::ReadEventsRequest, ClientError> {
    let direction = match request.direction {
        Direction::Forward => proto::Direction::Forward,
        Direction::Backward => proto::Direction::Backward,
    };
    Ok(proto::ReadEventsRequest {
        filter: Some(proto::EventFilter {
            after: request.after,
            through: bound(request.through, "through")?,
            ..filter_message(&request.filter)?
        }),
        direction: direction.into(),
        limit: bound(request.limit, "limit")?,
        as_of: request.as_of.map(as_of),
        log_id: log_id_text(request.log_id),
    })
}

/// On the wire 0 stands for no bound.
pub(super) fn bound(given: Option<u64>, field: &str) -> Result<u64, ClientError> {
    match given {
        Some(0) => Err(ClientError::Invalid(Violations::one(
            field,
            "must be at least 1",
        ))),
        given => Ok(given.unwrap_or_default()),
    }
}

pub(super) fn subscribe_request(
    filter: &Filter,
    start: Start,
    log_id: Option<LogId>,
) -> Result<proto::SubscribeRequest, ClientError> {
    Ok(proto::SubscribeRequest {
        filter: Some(filter_message(filter)?),
        start: Some(match start {
            Start::After(position) => subscribe_request::Start::After(position),
            Start::Head => subscribe_request::Start::Head(()),
        }),
        log_id: log_id_text(log_id),
    })
}

/// Names that are sent as text are text.
pub(super) fn check_texts(filter: &Filter) -> Result<(), ClientError> {
    filter_message(filter).map(drop)
}

pub(super) fn filter_message(filter: &Filter) -> Result<proto::EventFilter, ClientError> {
    let query = (!filter.query.items.is_empty())
        .then(|| query_message(&filter.query, "filter.query"))
        .transpose()?;
    Ok(proto::EventFilter {
        entity_ids: strings(&filter.entity_ids, "filter.entity_ids")?,
        event_types: strings(&filter.event_types, "filter.event_types")?,
        event_type_prefix: string(&filter.event_type_prefix, "filter.event_type_prefix")?,
        tags: strings(&filter.tags, "filter.tags")?,
        partitions: filter.partitions.clone(),
        query,
        after: 0,
        through: 0,
        recorded: time_range(filter.recorded),
        occurred: time_range(filter.occurred),
    })
}

fn time_range(range: TimeRange) -> Option<proto::TimeRange> {
    (!range.is_all()).then(|| proto::TimeRange {
        since: range.since.map(wire_time),
        until: range.until.map(wire_time),
    })
}

pub(super) fn as_of(as_of: AsOf) -> proto::AsOf {
    proto::AsOf {
        point: Some(match as_of {
            AsOf::Version(version) => Point::Version(version),
            AsOf::Position(position) => Point::Position(position),
            AsOf::RecordedAt(time) => Point::RecordedAt(wire_time(time)),
        }),
    }
}

pub(super) fn strings(texts: &[Text], field: &str) -> Result<Vec<String>, ClientError> {
    texts.iter().map(|text| string(text, field)).collect()
}

pub(super) fn string(text: &Text, field: &str) -> Result<String, ClientError> {
    std::str::from_utf8(text.as_bytes())
        .map(str::to_owned)
        .map_err(|_| ClientError::Invalid(Violations::one(field, "must be UTF-8")))
}

fn log_id_text(log_id: Option<LogId>) -> String {
    log_id.map(|id| id.to_string()).unwrap_or_default()
}

pub(super) fn wire_time(time: Timestamp) -> WireTime {
    let micros = time.as_micros();
    WireTime {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
    }
}

/// A time of the server's.
pub(super) fn timestamp(time: WireTime) -> Result<Timestamp, ClientError> {
    time.seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000))
        .and_then(Timestamp::from_micros)
        .ok_or(ClientError::Answer(
            "a time of it is outside the years 1 to 9999",
        ))
}

pub(super) fn log_id(text: &str) -> Result<LogId, ClientError> {
    text.parse()
        .map_err(|_| ClientError::Answer("its log id is none"))
}

pub(super) fn appended(
    answer: proto::AppendResponse,
    ids: &IdTexts,
) -> Result<Appended, ClientError> {
    let recorded_at = answer
        .recorded_at
        .ok_or(ClientError::Answer("it has no time"))?;
    Ok(Appended {
        first_position: answer.first_position,
        last_position: answer.last_position,
        recorded_at: timestamp(recorded_at)?,
        duplicate: answer.duplicate,
        versions: answer.versions,
        event_ids: if ids.made { ids.uuids() } else { Vec::new() },
        log_id: log_id(&answer.log_id)?,
    })
}

pub(super) fn entity_state(
    answer: proto::GetEntityStateResponse,
) -> Result<EntityState, ClientError> {
    Ok(EntityState {
        version: answer.version,
        state: answer.state,
        position: answer.position,
        head: answer.head,
        recorded_at: answer.recorded_at.map(timestamp).transpose()?,
    })
}

pub(super) fn entity_page(answer: proto::ListEntitiesResponse) -> NamePage {
    let names = answer.entities.into_iter().map(|entity| NameSummary {
        name: entity.entity_id.into(),
        events: entity.version,
        first_position: entity.first_position,
        last_position: entity.last_position,
    });
    NamePage {
        names: names.collect(),
        next_page: Some(answer.next_page_token).filter(|token| !token.is_empty()),
        head: answer.head,
    }
}

pub(super) fn event_type_page(answer: proto::ListEventTypesResponse) -> NamePage {
    let names = answer
        .event_types
        .into_iter()
        .map(|event_type| NameSummary {
            name: event_type.event_type.into(),
            events: event_type.events,
            first_position: event_type.first_position,
            last_position: event_type.last_position,
        });
    NamePage {
        names: names.collect(),
        next_page: Some(answer.next_page_token).filter(|token| !token.is_empty()),
        head: answer.head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_microseconds_on_both_sides_of_1970() {
        for micros in [
            0,
            1,
            -1,
            1_000_001,
            -1_000_001,
            Timestamp::MIN.as_micros(),
            Timestamp::MAX.as_micros(),
        ] {
            let time = Timestamp::from_micros(micros).unwrap();
            assert_eq!(timestamp(wire_time(time)).unwrap(), time);
        }
    }

    #[test]
    fn a_bound_of_zero_is_refused_since_the_wire_reads_it_as_none() {
        let request = ReadRequest {
            limit: Some(0),
            ..ReadRequest::default()
        };
        assert!(matches!(
            read_request(&request),
            Err(ClientError::Invalid(_))
        ));
    }

    #[test]
    fn text_that_is_not_utf8_is_named() {
        let bytes = Bytes::from_static(&[0xff]);
        let batch = Batch::default().expecting(bytes, Expect::Exists);
        let error = append_request(&batch, &IdTexts::of(&[])).unwrap_err();
        assert_eq!(error.violations()[0].field, "guards[0]");
    }
}
