"""Events and what else the server tells: plain values, without any I/O.

Times are aware `datetime`s in UTC, kept to the microsecond. JSON arrives as text and is parsed when it is asked for.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from annals._ids import uuid7

__all__ = [
    "AppendResult",
    "CaughtUp",
    "Checkpoint",
    "CompactionStats",
    "Cursor",
    "EntityState",
    "EntitySummary",
    "Event",
    "EventTypeSummary",
    "IngestResult",
    "NewEvent",
    "ProcessStats",
    "Stats",
    "TenantStats",
]


@dataclass(frozen=True, init=False)
class NewEvent:
    """An event to append.

    `payload` is any value that JSON can express; NaN and the infinities are refused. `metadata` is a JSON object.
    `occurred_at` must be an aware datetime. An event without an `event_id` gets a UUIDv7 here, once: appending the
    same `NewEvent` again is a repeat, which the server recognises and does not store twice.
    """

    entity_id: str
    event_type: str
    payload: Any
    event_id: str
    metadata: Mapping[str, Any] | None
    tags: tuple[str, ...]
    occurred_at: datetime | None

    def __init__(
        self,
        entity_id: str,
        event_type: str,
        payload: Any,  # noqa: ANN401 - any JSON value
        *,
        event_id: str | uuid.UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: str | Iterable[str] = (),
        occurred_at: datetime | None = None,
    ) -> None:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"metadata is a JSON object: give a mapping, not {type(metadata).__name__}")
        if occurred_at is not None and occurred_at.utcoffset() is None:
            raise ValueError("occurred_at has no time zone: give an aware datetime, such as datetime.now(timezone.utc)")
        set_field = object.__setattr__
        set_field(self, "entity_id", entity_id)
        set_field(self, "event_type", event_type)
        set_field(self, "payload", payload)
        set_field(self, "event_id", _canonical(event_id))
        set_field(self, "metadata", metadata)
        set_field(self, "tags", (tags,) if isinstance(tags, str) else tuple(tags))
        set_field(self, "occurred_at", occurred_at)


def _canonical(event_id: str | uuid.UUID | None) -> str:
    if event_id is None:
        return str(uuid7())
    if isinstance(event_id, uuid.UUID):
        return str(event_id)
    try:
        return str(uuid.UUID(event_id))
    except ValueError:
        raise ValueError(f"event_id is not a UUID: {event_id!r}") from None


@dataclass(frozen=True)
class Event:
    """An event as it stands in the log."""

    position: int
    """Place in the tenant's log: 1, 2, 3, … without gaps."""
    entity_id: str
    version: int
    """Place in the entity's stream: 1, 2, 3, … without gaps."""
    event_type: str
    event_id: str
    recorded_at: datetime
    """The server's clock when the event was made durable."""
    occurred_at: datetime | None
    """The time its client gave it."""
    payload_text: str
    metadata_text: str | None
    tags: tuple[str, ...]

    @cached_property
    def payload(self) -> Any:  # noqa: ANN401 - any JSON value
        """The payload, parsed when first asked for."""
        return json.loads(self.payload_text)

    @cached_property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata, parsed when first asked for; None if the event has none."""
        if self.metadata_text is None:
            return None
        parsed: dict[str, Any] = json.loads(self.metadata_text)
        return parsed


@dataclass(frozen=True)
class AppendResult:
    """What the server answered to an append: the batch is on disk."""

    first_position: int
    """0, as is `last_position`, if the batch held only cursors."""
    last_position: int
    versions: tuple[int, ...]
    """The version of each event in its entity's stream, in order."""
    event_ids: tuple[str, ...]
    """The id of each event, in order."""
    recorded_at: datetime | None
    duplicate: bool
    """The batch already stood in the log: this is where."""
    log_id: str


@dataclass(frozen=True)
class IngestResult:
    """What `ingest` stored."""

    events: int
    """How many, those that the log had already included."""
    first_position: int
    """Of the first event, 0 if there was none. Positions between the first and the last may be of others."""
    last_position: int
    duplicates: int
    """How many the log had already, an earlier attempt of this call included."""
    log_id: str


@dataclass(frozen=True)
class EntityState:
    """The merge (RFC 7396) of an entity's payloads up to a version."""

    entity_id: str
    version: int
    """The version of the last event merged; 0 before the first."""
    position: int
    """The position of the last event merged; 0 before the first."""
    head: int
    """The position that the state was read at."""
    recorded_at: datetime | None
    """When the last event merged was recorded."""
    state_text: str

    @cached_property
    def state(self) -> Any:  # noqa: ANN401 - any JSON value
        """The state, parsed when first asked for; None before the first event."""
        return json.loads(self.state_text)


@dataclass(frozen=True)
class EntitySummary:
    """One entity of a listing."""

    entity_id: str
    version: int
    """The number of its events."""
    first_position: int
    last_position: int


@dataclass(frozen=True)
class EventTypeSummary:
    """One event type of a listing."""

    event_type: str
    events: int
    """The number of events of this type."""
    first_position: int
    last_position: int


@dataclass(frozen=True)
class Cursor:
    """Where a cursor stands that was committed with a batch."""

    name: str
    position: int
    log_id: str


@dataclass(frozen=True)
class Checkpoint:
    """Everything up to `position` that matches was sent: a place to resume from, with its `log_id`."""

    position: int
    log_id: str


@dataclass(frozen=True)
class CaughtUp(Checkpoint):
    """A checkpoint at the head: what follows is live."""


@dataclass(frozen=True)
class TenantStats:
    """What one tenant's log holds."""

    tenant: str
    log_id: str
    head: int
    """The last durable position."""
    floor: int
    """The last position removed by retention; 0 at first."""
    entities: int
    event_types: int
    events_per_partition: tuple[int, ...]
    log_bytes: int
    log_files: int
    sealed: int
    """The last position that stands in a segment; 0 before the first."""
    segments: int
    """Parquet files on disk that hold every event up to `sealed`."""
    subscribers: int
    recorded_at: datetime | None
    """When the last event was recorded."""
    poisoned: str
    """Why appends are refused until the server is restarted; empty while they are not."""


@dataclass(frozen=True)
class ProcessStats:
    """The server's process."""

    version: str
    started_at: datetime | None
    resident_bytes: int


@dataclass(frozen=True)
class Stats:
    """Counts of one tenant or of all, and of the process."""

    tenants: tuple[TenantStats, ...]
    process: ProcessStats


@dataclass(frozen=True)
class CompactionStats:
    """A tenant's segments and their compaction. Counts are since the server opened the tenant."""

    segments: int
    """Parquet files on disk."""
    segment_bytes: int
    small_segments: int
    """Those of less than half of `target_bytes`: they may still be compacted."""
    target_bytes: int
    """Of a segment that smaller ones are compacted into, about."""
    running: bool
    """Compaction is at work, or waits for that of another tenant."""
    progress_bytes: int
    """What the present compaction read, of `progress_bytes_total` about; both 0 between two."""
    progress_bytes_total: int
    compactions: int
    """Compactions done; each makes one segment of several."""
    compacted_segments: int
    """Segments that they made fewer ones of."""
    written_bytes: int
    """Of the segments that they made."""
    failures: int
    """Compactions that failed. They changed nothing, and are tried again."""
    last_error: str
    """Why the last one of these did; empty if there was none."""
    last_took: timedelta | None
    """How long the last compaction that was done took."""
