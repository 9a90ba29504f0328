"""What a scan or an upload asks for, and its form in JSON: the only place that knows both.

Nothing here does I/O or judges what the server judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from annals import _wire
from annals._proto.v1 import common_pb2
from annals.conditions import (
    AsOf,
    AtPosition,
    AtVersion,
    CursorRecord,
    EntityGuard,
    Guard,
    NoMatchGuard,
    QueryItem,
    texts,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

EVENTS = ("events",)
ENTITIES = ("entities",)

Table: TypeAlias = str | Sequence[str]
"""`"events"`, `"entities"`, or `("types", "order.paid")`: the events of one type."""


Value: TypeAlias = str | int | float | bool | datetime | None
"""Of a parameter."""

Parameters: TypeAlias = Sequence[Value] | Mapping[str, Value]
"""Of a statement: in the order of `$1`, `$2` (or of each `?`), or by name for `$name`."""


@dataclass(frozen=True)
class Times:
    """A range of time, half open; without an end it is open there."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Selection:
    """What a scan asks for; the fields are those of a ticket."""

    table: tuple[str, ...] = EVENTS
    columns: tuple[str, ...] = ()
    """In this order; none: all."""
    entities: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    type_prefix: str = ""
    tags: tuple[str, ...] = ()
    partitions: tuple[int, ...] = ()
    query: tuple[QueryItem, ...] = ()
    after: int = 0
    through: int | None = None
    recorded: Times = Times()
    occurred: Times = Times()
    as_of: AsOf | None = None
    limit: int | None = None
    follow: bool = False
    log_id: str = ""

    def pinned(self, head: int, log_id: str) -> Selection:
        """The same rows of the same cut, whenever it is asked for: `head` is what an answer told."""
        if self.table == ENTITIES:
            return replace(self, as_of=AtPosition(head), log_id=log_id)
        # The head that is told is the last position of the range, and what a point of the past stood for.
        return replace(self, through=head, as_of=None, log_id=log_id)

    def ticket(self) -> bytes:
        """The ticket of `DoGet`; what is not asked for is left out."""
        fields: dict[str, Any] = {
            "table": None if self.table == EVENTS else self.table[0] if len(self.table) == 1 else self.table,
            "columns": self.columns,
            "entities": self.entities,
            "types": self.types,
            "type_prefix": self.type_prefix,
            "tags": self.tags,
            "partitions": self.partitions,
            "query": _items(self.query),
            "after": self.after or None,
            "through": self.through,
            "recorded": _times(self.recorded),
            "occurred": _times(self.occurred),
            "as_of": None if self.as_of is None else _point(self.as_of),
            "limit": self.limit,
            "follow": self.follow or None,
            "log_id": self.log_id,
        }
        return _json({key: value for key, value in fields.items() if value not in (None, (), [], {}, "")})


@dataclass(frozen=True)
class Statement:
    """What a statement of SQL asks for; the fields are those of a ticket."""

    sql: str
    parameters: Parameters = ()
    as_of: AsOf | None = None
    log_id: str = ""

    def pinned(self, head: int, log_id: str) -> Statement:
        """The same statement at the head that an answer told."""
        return replace(self, as_of=AtPosition(head), log_id=log_id)

    def ticket(self) -> bytes:
        """The ticket of `DoGet`; what is not asked for is left out."""
        fields: dict[str, Any] = {
            "sql": self.sql,
            "parameters": _values(self.parameters),
            "as_of": None if self.as_of is None else _point(self.as_of),
            "log_id": self.log_id,
        }
        return _json({key: value for key, value in fields.items() if value not in (None, [], {}, "")})


Asked: TypeAlias = Selection | Statement
"""What a ticket is made of."""


def select(
    table: Table = EVENTS,
    *,
    columns: str | Iterable[str] | None = None,
    after: int = 0,
    through: int | None = None,
    as_of: AsOf | None = None,
    limit: int | None = None,
    follow: bool = False,
    log_id: str | None = None,
    **events: Unpack[_wire.Filter],
) -> Selection:
    """A selection from the keywords of a call, which are refused for what they are refused for in every read."""
    wanted = _wire.event_filter(after=after, through=through, **events)
    _wire.read_request(wanted, backward=False, limit=limit, as_of=as_of, log_id=log_id)
    names = None if columns is None else texts(columns)
    if names == ():
        raise ValueError("columns is empty, which would mean all of them: leave it out if that is meant")
    return Selection(
        table=texts(table),
        columns=names or (),
        entities=tuple(wanted.entity_ids),
        types=tuple(wanted.event_types),
        type_prefix=wanted.event_type_prefix,
        tags=tuple(wanted.tags),
        partitions=tuple(wanted.partitions),
        query=tuple(QueryItem(tuple(item.event_types), tuple(item.tags)) for item in wanted.query.items),
        after=after,
        through=through,
        recorded=_times_of(wanted.recorded),
        occurred=_times_of(wanted.occurred),
        as_of=as_of,
        limit=limit,
        follow=follow,
        log_id=log_id or "",
    )


def upload(guards: Sequence[Guard], cursors: Sequence[CursorRecord], log_id: str | None) -> bytes:
    """The command of `DoPut`."""
    fields: dict[str, Any] = {
        "table": EVENTS[0],
        "guards": [_guard(guard) for guard in guards],
        "cursors": [_cursor(record) for record in cursors],
        "log_id": log_id,
    }
    return _json({key: value for key, value in fields.items() if value})


def _guard(guard: Guard) -> dict[str, Any]:
    if isinstance(guard, NoMatchGuard):
        return {"no_match": _items(guard.items), "after": guard.after}
    if not isinstance(guard, EntityGuard):
        raise TypeError(f"not a guard: {guard!r}; make one with version, absent, exists or no_match")
    if guard.version is None:
        return {"entity": guard.entity_id, "expect": "exists"}
    if guard.version == 0:
        return {"entity": guard.entity_id, "expect": "absent"}
    return {"entity": guard.entity_id, "version": guard.version}


def _cursor(record: CursorRecord) -> dict[str, Any]:
    expected = {} if record.expected is None else {"expected": record.expected}
    return {"name": record.name, "position": record.position, **expected}


def _items(items: Iterable[QueryItem]) -> list[dict[str, Any]]:
    return [{key: value for key, value in (("types", item.types), ("tags", item.tags)) if value} for item in items]


def _values(parameters: Parameters) -> list[Any] | dict[str, Any]:
    if isinstance(parameters, Mapping):
        return {name: _value(value) for name, value in parameters.items()}
    if isinstance(parameters, str):
        raise TypeError("parameters is a list of values or a dict of them by name, not a string")
    return [_value(value) for value in parameters]


def _value(value: Value) -> str | int | float | bool | None:
    if isinstance(value, datetime):
        return _time(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a parameter is text, a number, a boolean, a datetime or None, not {type(value).__name__}")


def _point(as_of: AsOf) -> int | str:
    if isinstance(as_of, AtPosition):
        return as_of.position
    return f"v{as_of.version}" if isinstance(as_of, AtVersion) else _time(as_of)


def _times(times: Times) -> dict[str, str]:
    ends = (("since", times.since), ("until", times.until))
    return {name: _time(end) for name, end in ends if end is not None}


def _times_of(times: common_pb2.TimeRange) -> Times:
    return Times(
        since=_wire.time_of(times.since) if times.HasField("since") else None,
        until=_wire.time_of(times.until) if times.HasField("until") else None,
    )


def _time(time: datetime) -> str:
    return time.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
