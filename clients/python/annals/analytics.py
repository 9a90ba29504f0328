"""What the server computes over many events: plain values, without any I/O. Times are as those of events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Correlation", "Durations", "Frequency", "Series", "Summaries", "Summary"]


@dataclass(frozen=True)
class Series:
    """Events of one kind, over time."""

    event_type: str | None
    """None if series are not divided by type."""
    entity_id: str | None
    """None if series are not divided by entity."""
    events: int
    """The sum of its counts."""
    counts: tuple[int, ...]
    """Events in each bucket, in order."""


@dataclass(frozen=True)
class Frequency:
    """How many events there were in each span of time."""

    start: datetime | None
    """When the first bucket begins; None if there is none."""
    bucket: timedelta
    """The width of every bucket."""
    buckets: int
    """How many there are, empty ones included."""
    series: tuple[Series, ...]
    """Those with more events come first, then by name. Without a choice of series, one if there is a bucket."""
    events: int
    """Events that match and have such a time, whether a series has them or not."""
    events_without_time: int
    """Events that match and have no such time."""
    head: int
    """The position that the log was read at."""
    log_id: str

    @property
    def starts(self) -> tuple[datetime, ...]:
        """When each bucket begins, in order."""
        if self.start is None:
            return ()
        return tuple(self.start + n * self.bucket for n in range(self.buckets))

    @property
    def counts(self) -> tuple[int, ...]:
        """Events in each bucket, in order, of all series together."""
        return tuple(map(sum, zip(*(series.counts for series in self.series), strict=True)))


@dataclass(frozen=True)
class Durations:
    """What many durations are like, exact to the microsecond; all but `count` are None if there are none."""

    count: int
    min: timedelta | None
    max: timedelta | None
    mean: timedelta | None
    p50: timedelta | None
    """The median. Where a percentile falls between two values, it lies between them in proportion."""
    p90: timedelta | None
    p99: timedelta | None


@dataclass(frozen=True)
class Summary:
    """What events are there."""

    event_type: str | None
    """None in that of all."""
    events: int
    entities: int
    event_types: int
    first_position: int
    """0 without events, as is `last_position`."""
    last_position: int
    first_time: datetime | None
    """The earliest time; None if no event has one."""
    last_time: datetime | None
    events_without_time: int
    intervals: Durations
    """Between one event and the next, whichever entity they are of, in the order of their times."""
    entity_intervals: Durations
    """Between one event of an entity and the next of the same entity, in the order of their times."""


@dataclass(frozen=True)
class Summaries:
    """How many events there are, of what, and the times between them."""

    total: Summary
    """Of all events that match."""
    types: tuple[Summary, ...]
    """Of each type, if asked for: those with more events come first, then by name."""
    head: int
    """The position that the log was read at."""
    log_id: str


@dataclass(frozen=True)
class Correlation:
    """How often events of one type are followed by one of another, of the same entity."""

    first_events: int
    """Events of the type that is followed."""
    then_events: int
    """Events of the type that follows."""
    followed: int
    """Events of the first type that are followed."""
    share: float
    """`followed` out of `first_events`: 0 to 1; 0 if there are none."""
    delays: Durations
    """From each event that is followed to the one that follows."""
    head: int
    """The position that the log was read at."""
    log_id: str
