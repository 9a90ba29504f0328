//! Requests and answers of the calls that compute over many events.

use std::time::Duration;

use super::{NO_TIME, Wrong, as_of, filter, timestamp, wire_time};
use crate::{
    proto,
    types::{
        analytics::{
            Correlation, CorrelationRequest, Durations, EventTime, Frequency, FrequencyRequest,
            Series, Summaries, Summary, SummaryRequest,
        },
        append::Violations,
        id::Position,
        read::Filter,
        text::Text,
        time::Timestamp,
    },
};

const NO_DURATION: &str = "is no duration of at least 0";

pub(in super::super) fn frequency_request(
    request: proto::GetEventFrequencyRequest,
) -> Result<FrequencyRequest, Violations> {
    let mut wrong = Wrong::default();
    let (filter, after, through) = events(request.filter, &mut wrong);
    let bucket = if let Some(given) = request.bucket {
        duration("bucket", given, &mut wrong)
    } else {
        wrong.add("bucket", "is missing: say how wide a bucket is");
        None
    };
    let origin = request.origin.map(timestamp);
    if origin == Some(None) {
        wrong.add("origin", NO_TIME);
    }
    let request = FrequencyRequest {
        filter,
        after,
        through,
        bucket: bucket.unwrap_or_default(),
        time: event_time(request.time, &mut wrong),
        origin: origin.flatten().unwrap_or_default(),
        by_type: request.by_type,
        by_entity: request.by_entity,
        top: (request.top > 0).then_some(request.top),
        as_of: as_of(request.as_of, &mut wrong),
    };
    wrong.or(request)
}

pub(in super::super) fn summary_request(
    request: proto::GetEventSummaryRequest,
) -> Result<SummaryRequest, Violations> {
    let mut wrong = Wrong::default();
    let (filter, after, through) = events(request.filter, &mut wrong);
    let request = SummaryRequest {
        filter,
        after,
        through,
        time: event_time(request.time, &mut wrong),
        by_type: request.by_type,
        without_intervals: request.without_intervals,
        as_of: as_of(request.as_of, &mut wrong),
    };
    wrong.or(request)
}

pub(in super::super) fn correlation_request(
    request: proto::GetEventCorrelationRequest,
) -> Result<CorrelationRequest, Violations> {
    let mut wrong = Wrong::default();
    let (filter, after, through) = events(request.filter, &mut wrong);
    let within = request.within;
    let request = CorrelationRequest {
        filter,
        after,
        through,
        first_type: request.first_type.into(),
        then_type: request.then_type.into(),
        within: within.and_then(|given| duration("within", given, &mut wrong)),
        time: event_time(request.time, &mut wrong),
        as_of: as_of(request.as_of, &mut wrong),
    };
    wrong.or(request)
}

fn events(
    given: Option<proto::EventFilter>,
    wrong: &mut Wrong,
) -> (Filter, Position, Option<Position>) {
    let given = given.unwrap_or_default();
    let (after, through) = (given.after, given.through);
    (
        filter(given, wrong),
        after,
        (through > 0).then_some(through),
    )
}

fn event_time(time: i32, wrong: &mut Wrong) -> EventTime {
    match proto::EventTime::try_from(time) {
        Ok(proto::EventTime::Unspecified | proto::EventTime::Recorded) => EventTime::Recorded,
        Ok(proto::EventTime::Occurred) => EventTime::Occurred,
        Err(_) => {
            let what = "is none of the known ones: that of recording is 1, of occurrence 2";
            wrong.add("time", what);
            EventTime::Recorded
        }
    }
}

fn duration(field: &str, given: prost_types::Duration, wrong: &mut Wrong) -> Option<Duration> {
    let is_whole = (0..1_000_000_000).contains(&given.nanos);
    let known = Duration::try_from(given).ok().filter(|_| is_whole);
    if known.is_none() {
        wrong.add(field, NO_DURATION);
    }
    known
}

pub(in super::super) fn frequency(answer: Frequency) -> proto::GetEventFrequencyResponse {
    let series = answer.series.into_iter().map(|series| {
        let Series {
            event_type,
            entity_id,
            events,
            counts,
        } = series;
        proto::EventSeries {
            event_type: name(event_type.as_ref()),
            entity_id: name(entity_id.as_ref()),
            events,
            counts,
        }
    });
    proto::GetEventFrequencyResponse {
        start: answer.start.map(wire_time),
        bucket: Some(wire_duration(answer.bucket)),
        buckets: answer.buckets,
        series: series.collect(),
        events: answer.events,
        events_without_time: answer.events_without_time,
        head: answer.head,
        log_id: answer.log_id.to_string(),
    }
}

pub(in super::super) fn summaries(answer: &Summaries) -> proto::GetEventSummaryResponse {
    proto::GetEventSummaryResponse {
        total: Some(summary(&answer.total)),
        types: answer.types.iter().map(summary).collect(),
        head: answer.head,
        log_id: answer.log_id.to_string(),
    }
}

fn summary(summary: &Summary) -> proto::EventSummary {
    let time = |time: Option<Timestamp>| time.map(wire_time);
    proto::EventSummary {
        event_type: name(summary.event_type.as_ref()),
        events: summary.events,
        entities: summary.entities,
        event_types: summary.event_types,
        first_position: summary.first_position,
        last_position: summary.last_position,
        first_time: time(summary.first_time),
        last_time: time(summary.last_time),
        events_without_time: summary.events_without_time,
        intervals: Some(durations(&summary.intervals)),
        entity_intervals: Some(durations(&summary.entity_intervals)),
    }
}

pub(in super::super) fn correlation(answer: &Correlation) -> proto::GetEventCorrelationResponse {
    proto::GetEventCorrelationResponse {
        first_events: answer.first_events,
        then_events: answer.then_events,
        followed: answer.followed,
        share: answer.share,
        delays: Some(durations(&answer.delays)),
        head: answer.head,
        log_id: answer.log_id.to_string(),
    }
}

fn durations(of: &Durations) -> proto::Durations {
    let told = |time: Duration| (of.count > 0).then(|| wire_duration(time));
    proto::Durations {
        count: of.count,
        min: told(of.min),
        max: told(of.max),
        mean: told(of.mean),
        p50: told(of.p50),
        p90: told(of.p90),
        p99: told(of.p99),
    }
}

fn name(name: Option<&Text>) -> String {
    name.map(Text::to_string).unwrap_or_default()
}

fn wire_duration(time: Duration) -> prost_types::Duration {
    // Those of ours are far below what it holds.
    prost_types::Duration::try_from(time).unwrap_or_default()
}
