"""What an append asks of the log, and which point of the past a read asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

__all__ = [
    "AsOf",
    "AtPosition",
    "AtVersion",
    "CursorRecord",
    "EntityGuard",
    "Guard",
    "NoMatchGuard",
    "QueryItem",
    "absent",
    "at_position",
    "at_version",
    "exists",
    "item",
    "no_match",
    "version",
]


@dataclass(frozen=True)
class EntityGuard:
    """What must hold of one entity's stream; made by `version`, `absent` and `exists`."""

    entity_id: str
    version: int | None
    """The version it must have, 0 for none yet; None: it must have an event, whatever its version."""


@dataclass(frozen=True)
class QueryItem:
    """Matches an event whose type is one of `types` (empty: any) and that has all `tags`; made by `item`."""

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoMatchGuard:
    """No event after position `after` matches any of the items; made by `no_match`."""

    items: tuple[QueryItem, ...]
    after: int


Guard: TypeAlias = EntityGuard | NoMatchGuard


@dataclass(frozen=True)
class CursorRecord:
    """How far a consumer got, committed together with the events of a batch.

    With `expected`, the batch is refused (`CursorConflict`) unless the cursor stands there now; 0 also stands for a
    cursor that was never written.
    """

    name: str
    position: int
    expected: int | None = None


@dataclass(frozen=True)
class AtVersion:
    """The log after an entity's event of this version."""

    version: int


@dataclass(frozen=True)
class AtPosition:
    """The log after the event at this position."""

    position: int


AsOf: TypeAlias = AtVersion | AtPosition | datetime
"""A point of the past; a datetime means after the last event recorded at or before it."""


def version(entity_id: str, version: int) -> EntityGuard:
    """The entity's last event has exactly this version; 0: it has no event yet."""
    return EntityGuard(entity_id, version)


def absent(entity_id: str) -> EntityGuard:
    """The entity has no event yet."""
    return EntityGuard(entity_id, 0)


def exists(entity_id: str) -> EntityGuard:
    """The entity has an event."""
    return EntityGuard(entity_id, None)


def item(*, types: str | Iterable[str] = (), tags: str | Iterable[str] = ()) -> QueryItem:
    """Events of any of these types (none given: of any) that have all these tags. At least one of the two is needed."""
    return QueryItem(texts(types), texts(tags))


def no_match(items: QueryItem | Iterable[QueryItem], *, after: int) -> NoMatchGuard:
    """No event after position `after` (exclusive) matches any of the items.

    This is the append condition of the Dynamic Consistency Boundary specification: `after` is the `head` of the read
    that the decision rests on.
    """
    return NoMatchGuard((items,) if isinstance(items, QueryItem) else tuple(items), after)


def at_version(version: int) -> AtVersion:
    """As of an entity's event of this version."""
    return AtVersion(version)


def at_position(position: int) -> AtPosition:
    """As of this position."""
    return AtPosition(position)


def texts(value: str | Iterable[str]) -> tuple[str, ...]:
    """One text or many, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def as_guards(value: Guard | Iterable[Guard]) -> tuple[Guard, ...]:
    """One guard or many, as a tuple."""
    return (value,) if isinstance(value, EntityGuard | NoMatchGuard) else tuple(value)


def as_cursors(value: CursorRecord | Iterable[CursorRecord]) -> tuple[CursorRecord, ...]:
    """One cursor or many, as a tuple."""
    return (value,) if isinstance(value, CursorRecord) else tuple(value)
