"""Values to messages and back: the only place that knows both.

Nothing here does I/O or judges what the server judges; refused is only what a message could not carry as it was meant.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, TypedDict, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from annals._proto.v1 import admin_pb2, common_pb2, ingest_pb2, query_pb2
from annals.conditions import (
    AsOf,
    AtPosition,
    AtVersion,
    CursorRecord,
    EntityGuard,
    Guard,
    NoMatchGuard,
    QueryItem,
    as_cursors,
    as_guards,
    texts,
)
from annals.events import (
    AppendResult,
    CompactionStats,
    Cursor,
    EntityState,
    EntitySummary,
    Event,
    EventTypeSummary,
    NewEvent,
    ProcessStats,
    Stats,
    TenantStats,
)

_T = TypeVar("_T")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)


class Filter(TypedDict, total=False):
    """Which events; every field narrows, none given means all. A single text may stand for a list of one.

    A list that is given but empty is refused: on the wire it would mean all events, and whoever computed it most
    likely means none.
    """

    entity_ids: str | Iterable[str] | None
    """Events of any of these entities."""
    event_types: str | Iterable[str] | None
    """Events of any of these types."""
    event_type_prefix: str
    """Events whose type starts so."""
    tags: str | Iterable[str] | None
    """Events that have all of these tags."""
    partitions: Iterable[int] | None
    """Events of any of these partitions, out of as many as `stats()` counts."""
    query: QueryItem | Iterable[QueryItem] | None
    """Events that match any of these items."""
    recorded_since: datetime | None
    """Events recorded at this time or later."""
    recorded_until: datetime | None
    """Events recorded before this time."""
    occurred_since: datetime | None
    """Events that occurred at this time or later, by their client's clock."""
    occurred_until: datetime | None
    """Events that occurred before this time."""


def append_request(
    events: Iterable[NewEvent] | NewEvent,
    guards: Iterable[Guard] | Guard,
    cursors: Iterable[CursorRecord] | CursorRecord,
    log_id: str | None,
) -> ingest_pb2.AppendRequest:
    """A batch; a single event, guard or cursor may stand for a list of one."""
    return ingest_pb2.AppendRequest(
        events=map(new_event, (events,) if isinstance(events, NewEvent) else events),
        guards=map(guard, as_guards(guards)),
        cursors=map(cursor_record, as_cursors(cursors)),
        log_id=log_id or "",
    )


def new_event(event: NewEvent) -> common_pb2.NewEvent:
    """An event to append."""
    return common_pb2.NewEvent(
        event_id=event.event_id,
        entity_id=event.entity_id,
        event_type=event.event_type,
        payload=encode_json(event.payload, f"payload of `{event.event_type}` for `{event.entity_id}`"),
        metadata=None
        if event.metadata is None
        else encode_json(dict(event.metadata), f"metadata of `{event.event_type}` for `{event.entity_id}`"),
        tags=event.tags,
        occurred_at=None if event.occurred_at is None else timestamp(event.occurred_at, "occurred_at"),
    )


def encode_json(value: Any, what: str) -> str:  # noqa: ANN401 - any JSON value
    """Compact JSON text; refuses what JSON or UTF-8 cannot express."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode("utf-8")
    except TypeError as error:
        raise TypeError(f"{what} is not JSON: {error}") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} has half of a surrogate pair, which UTF-8 cannot express") from error
    except ValueError as error:
        raise ValueError(f"{what} is not JSON: {error}") from error
    except RecursionError:
        raise ValueError(f"{what} is nested too deep") from None
    return text


def timestamp(time: datetime, what: str) -> Timestamp:
    """A time, exact to the microsecond."""
    if time.utcoffset() is None:
        raise ValueError(f"{what} has no time zone: give an aware datetime, such as datetime.now(timezone.utc)")
    seconds, rest = divmod(time - _EPOCH, _SECOND)
    return Timestamp(seconds=seconds, nanos=rest // _MICROSECOND * 1000)


def time_of(stamp: Timestamp) -> datetime:
    """A time in UTC."""
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def guard(guard: Guard) -> common_pb2.Guard:
    """A condition of a batch."""
    if isinstance(guard, NoMatchGuard):
        return common_pb2.Guard(no_match=common_pb2.NoMatchGuard(query=event_query(guard.items), after=guard.after))
    if not isinstance(guard, EntityGuard):
        raise TypeError(f"not a guard: {guard!r}; make one with version, absent, exists or no_match")
    if guard.version is None:
        expected = common_pb2.EntityGuard(entity_id=guard.entity_id, exists=Empty())
    elif guard.version == 0:
        expected = common_pb2.EntityGuard(entity_id=guard.entity_id, absent=Empty())
    else:
        expected = common_pb2.EntityGuard(entity_id=guard.entity_id, version=guard.version)
    return common_pb2.Guard(entity=expected)


def event_query(items: QueryItem | Iterable[QueryItem]) -> common_pb2.EventQuery:
    """Items joined by OR."""
    items = (items,) if isinstance(items, QueryItem) else items
    return common_pb2.EventQuery(
        items=[common_pb2.EventQueryItem(event_types=item.types, tags=item.tags) for item in items]
    )


def cursor_record(record: CursorRecord) -> common_pb2.CursorRecord:
    """How far a consumer got."""
    return common_pb2.CursorRecord(name=record.name, position=record.position, expected=record.expected)


def event_filter(
    *,
    after: int = 0,
    through: int | None = None,
    entity_ids: str | Iterable[str] | None = None,
    event_types: str | Iterable[str] | None = None,
    event_type_prefix: str = "",
    tags: str | Iterable[str] | None = None,
    partitions: Iterable[int] | None = None,
    query: QueryItem | Iterable[QueryItem] | None = None,
    recorded_since: datetime | None = None,
    recorded_until: datetime | None = None,
    occurred_since: datetime | None = None,
    occurred_until: datetime | None = None,
) -> common_pb2.EventFilter:
    """The keywords of `Filter`, and a range of positions."""
    if through is not None and through < 1:
        raise ValueError("through is a position, 1 or more: leave it out to set no bound")
    return common_pb2.EventFilter(
        entity_ids=_texts("entity_ids", entity_ids),
        event_types=_texts("event_types", event_types),
        event_type_prefix=event_type_prefix,
        tags=_texts("tags", tags),
        partitions=() if partitions is None else _filled("partitions", tuple(partitions)),
        query=None if query is None else event_query(query),
        after=after,
        through=through or 0,
        recorded=_range("recorded", recorded_since, recorded_until),
        occurred=_range("occurred", occurred_since, occurred_until),
    )


def read_request(
    events: common_pb2.EventFilter,
    *,
    backward: bool,
    limit: int | None,
    as_of: AsOf | None,
    log_id: str | None,
) -> query_pb2.ReadEventsRequest:
    """A read of many events."""
    if limit is not None and limit < 1:
        raise ValueError("limit must be at least 1: leave it out to read everything")
    return query_pb2.ReadEventsRequest(
        filter=events,
        direction=query_pb2.DIRECTION_BACKWARD if backward else query_pb2.DIRECTION_FORWARD,
        limit=limit or 0,
        as_of=point(as_of),
        log_id=log_id or "",
    )


def get_event_request(position: int | None, event_id: str | uuid.UUID | None) -> query_pb2.GetEventRequest:
    """A read of one event, by the one key that is given."""
    if (position is None) == (event_id is None):
        raise TypeError("give either position or event_id")
    if position is not None:
        return query_pb2.GetEventRequest(position=position)
    return query_pb2.GetEventRequest(event_id=str(event_id))


def point(as_of: AsOf | None) -> common_pb2.AsOf | None:
    """A point of the past."""
    if as_of is None:
        return None
    if isinstance(as_of, AtVersion):
        return common_pb2.AsOf(version=as_of.version)
    if isinstance(as_of, AtPosition):
        return common_pb2.AsOf(position=as_of.position)
    if isinstance(as_of, datetime):
        return common_pb2.AsOf(recorded_at=timestamp(as_of, "as_of"))
    raise TypeError(f"as_of is at_version(n), at_position(n) or an aware datetime, not {as_of!r}")


def append_result(request: ingest_pb2.AppendRequest, response: ingest_pb2.AppendResponse) -> AppendResult:
    """The answer to an append."""
    return AppendResult(
        first_position=response.first_position,
        last_position=response.last_position,
        versions=tuple(response.versions),
        event_ids=tuple(response.event_ids) or tuple(event.event_id for event in request.events),
        recorded_at=time_of(response.recorded_at) if response.HasField("recorded_at") else None,
        duplicate=response.duplicate,
        log_id=response.log_id,
    )


def event_of(event: common_pb2.Event) -> Event:
    """An event of the log."""
    return Event(
        position=event.position,
        entity_id=event.entity_id,
        version=event.version,
        event_type=event.event_type,
        event_id=event.event_id,
        recorded_at=time_of(event.recorded_at),
        occurred_at=time_of(event.occurred_at) if event.HasField("occurred_at") else None,
        payload_text=event.payload,
        metadata_text=event.metadata if event.HasField("metadata") else None,
        tags=tuple(event.tags),
    )


def state_of(response: query_pb2.GetEntityStateResponse) -> EntityState:
    """An entity's state."""
    return EntityState(
        entity_id=response.entity_id,
        version=response.version,
        position=response.position,
        head=response.head,
        recorded_at=time_of(response.recorded_at) if response.HasField("recorded_at") else None,
        state_text=response.state,
    )


def entity_of(entity: query_pb2.EntitySummary) -> EntitySummary:
    """One entity of a listing."""
    return EntitySummary(entity.entity_id, entity.version, entity.first_position, entity.last_position)


def event_type_of(event_type: query_pb2.EventTypeSummary) -> EventTypeSummary:
    """One event type of a listing."""
    return EventTypeSummary(
        event_type.event_type, event_type.events, event_type.first_position, event_type.last_position
    )


def cursor_of(response: query_pb2.GetCursorResponse) -> Cursor:
    """Where a cursor stands."""
    return Cursor(response.name, response.position, response.log_id)


def stats_of(response: query_pb2.GetStatsResponse) -> Stats:
    """Counts."""
    process = response.process
    return Stats(
        tenants=tuple(map(_tenant_of, response.tenants)),
        process=ProcessStats(
            version=process.version,
            started_at=time_of(process.started_at) if process.HasField("started_at") else None,
            resident_bytes=process.resident_bytes,
        ),
    )


def _tenant_of(tenant: query_pb2.TenantStats) -> TenantStats:
    return TenantStats(
        tenant=tenant.tenant,
        log_id=tenant.log_id,
        head=tenant.head,
        floor=tenant.floor,
        entities=tenant.entities,
        event_types=tenant.event_types,
        events_per_partition=tuple(tenant.events_per_partition),
        log_bytes=tenant.log_bytes,
        log_files=tenant.log_files,
        sealed=tenant.sealed,
        segments=tenant.segments,
        subscribers=tenant.subscribers,
        recorded_at=time_of(tenant.recorded_at) if tenant.HasField("recorded_at") else None,
        poisoned=tenant.poisoned,
    )


def compaction_stats_of(stats: admin_pb2.CompactionStats) -> CompactionStats:
    """A tenant's segments."""
    return CompactionStats(
        segments=stats.segments,
        segment_bytes=stats.segment_bytes,
        small_segments=stats.small_segments,
        target_bytes=stats.target_bytes,
        running=stats.running,
        progress_bytes=stats.progress_bytes,
        progress_bytes_total=stats.progress_bytes_total,
        compactions=stats.compactions,
        compacted_segments=stats.compacted_segments,
        written_bytes=stats.written_bytes,
        failures=stats.failures,
        last_error=stats.last_error,
        last_took=stats.last_took.ToTimedelta() if stats.HasField("last_took") else None,
    )


def _range(name: str, since: datetime | None, until: datetime | None) -> common_pb2.TimeRange | None:
    if since is None and until is None:
        return None
    return common_pb2.TimeRange(
        since=None if since is None else timestamp(since, f"{name}_since"),
        until=None if until is None else timestamp(until, f"{name}_until"),
    )


def _texts(name: str, value: str | Iterable[str] | None) -> tuple[str, ...]:
    return () if value is None else _filled(name, texts(value))


def _filled(name: str, values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise ValueError(f"{name} is empty, which would mean all events: leave it out if that is meant")
    return values
