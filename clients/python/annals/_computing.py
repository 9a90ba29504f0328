"""What is asked of the server to compute over many events, and its answers: values to messages and back."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from annals import _wire
from annals._proto.v1 import analytics_pb2, common_pb2
from annals.analytics import Correlation, Durations, Frequency, Series, Summaries, Summary
from annals.conditions import AsOf


def frequency_request(
    events: common_pb2.EventFilter,
    bucket: timedelta,
    *,
    by_type: bool,
    by_entity: bool,
    top: int | None,
    occurred: bool,
    origin: datetime | None,
    as_of: AsOf | None,
) -> analytics_pb2.GetEventFrequencyRequest:
    """Events in buckets of time."""
    if top is not None and top < 1:
        raise ValueError("top must be at least 1: leave it out to have all series")
    return analytics_pb2.GetEventFrequencyRequest(
        filter=events,
        bucket=_duration(bucket),
        time=_event_time(occurred=occurred),
        origin=None if origin is None else _wire.timestamp(origin, "origin"),
        by_type=by_type,
        by_entity=by_entity,
        top=top or 0,
        as_of=_wire.point(as_of),
    )


def frequency_of(
    request: analytics_pb2.GetEventFrequencyRequest, response: analytics_pb2.GetEventFrequencyResponse
) -> Frequency:
    """The answer to such a request."""
    return Frequency(
        start=_wire.time_of(response.start) if response.HasField("start") else None,
        bucket=response.bucket.ToTimedelta(),
        buckets=response.buckets,
        series=tuple(
            Series(
                event_type=series.event_type if request.by_type else None,
                entity_id=series.entity_id if request.by_entity else None,
                events=series.events,
                counts=tuple(series.counts),
            )
            for series in response.series
        ),
        events=response.events,
        events_without_time=response.events_without_time,
        head=response.head,
        log_id=response.log_id,
    )


def summary_request(
    events: common_pb2.EventFilter, *, by_type: bool, occurred: bool, intervals: bool, as_of: AsOf | None
) -> analytics_pb2.GetEventSummaryRequest:
    """What events are there."""
    return analytics_pb2.GetEventSummaryRequest(
        filter=events,
        time=_event_time(occurred=occurred),
        by_type=by_type,
        without_intervals=not intervals,
        as_of=_wire.point(as_of),
    )


def summaries_of(response: analytics_pb2.GetEventSummaryResponse) -> Summaries:
    """The answer to such a request."""
    return Summaries(
        total=_summary(response.total, None),
        types=tuple(_summary(summary, summary.event_type) for summary in response.types),
        head=response.head,
        log_id=response.log_id,
    )


def correlation_request(
    events: common_pb2.EventFilter,
    first_type: str,
    then_type: str,
    *,
    within: timedelta | None,
    occurred: bool,
    as_of: AsOf | None,
) -> analytics_pb2.GetEventCorrelationRequest:
    """What follows what."""
    return analytics_pb2.GetEventCorrelationRequest(
        filter=events,
        first_type=first_type,
        then_type=then_type,
        within=None if within is None else _duration(within),
        time=_event_time(occurred=occurred),
        as_of=_wire.point(as_of),
    )


def correlation_of(response: analytics_pb2.GetEventCorrelationResponse) -> Correlation:
    """The answer to such a request."""
    return Correlation(
        first_events=response.first_events,
        then_events=response.then_events,
        followed=response.followed,
        share=response.share,
        delays=_durations(response.delays),
        head=response.head,
        log_id=response.log_id,
    )


def _summary(summary: analytics_pb2.EventSummary, event_type: str | None) -> Summary:
    return Summary(
        event_type=event_type,
        events=summary.events,
        entities=summary.entities,
        event_types=summary.event_types,
        first_position=summary.first_position,
        last_position=summary.last_position,
        first_time=_wire.time_of(summary.first_time) if summary.HasField("first_time") else None,
        last_time=_wire.time_of(summary.last_time) if summary.HasField("last_time") else None,
        events_without_time=summary.events_without_time,
        intervals=_durations(summary.intervals),
        entity_intervals=_durations(summary.entity_intervals),
    )


def _durations(durations: analytics_pb2.Durations) -> Durations:
    def told(duration: Duration) -> timedelta | None:
        return duration.ToTimedelta() if durations.count else None

    return Durations(
        count=durations.count,
        min=told(durations.min),
        max=told(durations.max),
        mean=told(durations.mean),
        p50=told(durations.p50),
        p90=told(durations.p90),
        p99=told(durations.p99),
    )


def _duration(length: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(length)
    return duration


def _event_time(*, occurred: bool) -> analytics_pb2.EventTime:
    return analytics_pb2.EVENT_TIME_OCCURRED if occurred else analytics_pb2.EVENT_TIME_RECORDED
