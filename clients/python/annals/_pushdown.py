"""What of a Polars predicate the ticket of a scan can say.

Invariant: a ticket lets through all rows that the predicate does; of those that it lets through besides, the predicate
itself gets rid afterwards. So what is not understood is left out.

An expression is understood by taking it apart and putting it together anew: only if that gives the same one was it what
it was taken for. That needs nothing but public calls of Polars, whose expressions have no documented form.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeGuard

import polars as pl

from annals._tickets import ENTITIES, Selection, Times

# What the server takes: other names no event has, and longer lists no ticket.
NAME_BYTES_MAX = 512
NAMES_MAX = 1_000
NAMES_BYTES_MAX = 64 << 10
TICKET_BYTES_MAX = 256 << 10


@dataclass(frozen=True)
class _Condition:
    """A column compared with a constant."""

    column: str
    operator: str
    value: Any


def narrowed(selection: Selection, predicate: pl.Expr) -> Selection | None:
    """A selection without rows that the predicate certainly refuses; None if it refuses all."""
    for term in _terms(predicate):
        condition = _condition(term)
        narrower = selection if condition is None else _narrowed(selection, condition)
        if narrower is None:
            return None
        if _fits(narrower):
            selection = narrower
    return selection


def _fits(selection: Selection) -> bool:
    """Whether its ticket is one that the server takes."""
    names = (*selection.entities, *selection.types, *selection.tags)
    # A character has at most so many bytes in JSON.
    surely = 6 * sum(map(len, names)) + 3 * len(names) < TICKET_BYTES_MAX // 2
    return surely or len(selection.ticket()) <= TICKET_BYTES_MAX


def _terms(predicate: pl.Expr) -> Iterator[pl.Expr]:
    """What `&` joins."""
    rest = [predicate]
    while rest:
        term = rest.pop()
        parts = term.meta.pop()
        if len(parts) == 2 and (parts[1] & parts[0]).meta.eq(term):
            rest += parts
        else:
            yield term


_Build = Callable[[pl.Expr, pl.Expr], pl.Expr]

_OPERATORS: dict[str, _Build] = {
    "==": lambda left, right: left == right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "in": lambda left, right: left.is_in(right),
    "starts with": lambda left, right: left.str.starts_with(right),
    "contains": lambda left, right: left.list.contains(right),
}
_MIRRORED = {"==": "==", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _condition(term: pl.Expr) -> _Condition | None:
    """What a term compares, if it does just that."""
    # Operands come last first.
    operands = term.meta.pop()[::-1]
    if len(operands) == 2:
        return _comparison(term, *operands)
    if len(operands) == 3:
        return _between(term, *operands)
    return None


def _comparison(term: pl.Expr, left: pl.Expr, right: pl.Expr) -> _Condition | None:
    column, values = _column(left), _constants(right)
    if column is not None and values is not None:
        for operator, build in _OPERATORS.items():
            if build(left, right).meta.eq(term):
                return _Condition(column, operator, values[0])
    column, values = _column(right), _constants(left)
    if column is not None and values is not None:
        for operator, mirrored in _MIRRORED.items():
            if _OPERATORS[operator](left, right).meta.eq(term):
                return _Condition(column, mirrored, values[0])
    return None


def _between(term: pl.Expr, middle: pl.Expr, low: pl.Expr, high: pl.Expr) -> _Condition | None:
    column, values = _column(middle), _constants(low, high)
    if column is None or values is None:
        return None
    for closed in ("both", "left", "right", "none"):
        if middle.is_between(low, high, closed=closed).meta.eq(term):
            return _Condition(column, closed, values)
    return None


def _column(expression: pl.Expr) -> str | None:
    """The name, if it is a column and nothing else."""
    names = expression.meta.root_names()
    return names[0] if len(names) == 1 and expression.meta.eq(pl.col(names[0])) else None


def _constants(*expressions: pl.Expr) -> list[Any] | None:
    """The values of what is made of literals alone, by whatever calls; None if one of the expressions is not."""
    if not all(map(_is_constant, expressions)):
        return None
    try:
        found = [pl.select(expression).to_series().to_list() for expression in expressions]
    except (pl.exceptions.PolarsError, ValueError, OverflowError):
        # It fails, or is a time before the year 1 or after 9999, which Python has not.
        return None
    return [values[0] for values in found] if all(len(values) == 1 for values in found) else None


def _is_constant(expression: pl.Expr) -> bool:
    rest = [expression]
    while rest:
        part = rest.pop()
        parts = part.meta.pop()
        if not parts and not part.meta.is_literal(allow_aliasing=True):
            return False
        rest += parts
    return True


def _narrowed(selection: Selection, condition: _Condition) -> Selection | None:
    column, operator, value = condition.column, condition.operator, condition.value
    if column == "entity_id":
        entities = _among(selection.entities, operator, value)
        return None if entities is None else replace(selection, entities=entities)
    if selection.table == ENTITIES:
        return selection
    if column == "event_type":
        if operator == "starts with":
            return _starting(selection, value)
        types = _among(selection.types, operator, value)
        return None if types is None else replace(selection, types=types)
    if column == "tags":
        return _tagged(selection, operator, value)
    if column == "position":
        return _at(selection, operator, value)
    if column == "recorded_at":
        recorded = _during(selection.recorded, operator, value)
        return None if recorded is None else replace(selection, recorded=recorded)
    if column == "occurred_at":
        occurred = _during(selection.occurred, operator, value)
        return None if occurred is None else replace(selection, occurred=occurred)
    return selection


def _among(before: tuple[str, ...], operator: str, value: object) -> tuple[str, ...] | None:
    """Names out of those that there were, of which none means any; None if none is left."""
    if operator == "==":
        value = [value]
    elif operator != "in":
        return before
    names = _names(value)
    if names is None:
        return before
    return tuple(name for name in names if not before or name in before) or None


def _names(value: object) -> list[str] | None:
    """What the server takes as a list of names."""
    if not isinstance(value, list):
        return None
    # No column of names has nulls.
    names = [name for name in dict.fromkeys(value) if name is not None]
    if len(names) > NAMES_MAX or not all(map(_is_name, names)):
        return None
    return names if sum(len(name.encode()) for name in names) <= NAMES_BYTES_MAX else None


def _starting(selection: Selection, value: object) -> Selection | None:
    if not _is_name(value):
        return selection
    short, long = sorted((selection.type_prefix, value), key=len)
    return replace(selection, type_prefix=long) if long.startswith(short) else None


def _tagged(selection: Selection, operator: str, value: object) -> Selection:
    if operator != "contains" or not _is_name(value) or value in selection.tags or len(selection.tags) == NAMES_MAX:
        return selection
    return replace(selection, tags=(*selection.tags, value))


def _at(selection: Selection, operator: str, value: object) -> Selection | None:
    low, high = _bounds(operator, value, int, 1)
    after, through = selection.after, selection.through
    if low is not None:
        after = max(after, low - 1)
    if high is not None:
        through = high if through is None else min(through, high)
    return replace(selection, after=after, through=through) if through is None or after < through else None


def _during(times: Times, operator: str, value: object) -> Times | None:
    microsecond = timedelta(microseconds=1)
    since, until = times.since, times.until
    try:
        low, high = _bounds(operator, value, datetime, microsecond)
        end = None if high is None else high + microsecond
    except OverflowError:
        return times
    if low is not None:
        since = low if since is None else max(since, low)
    if end is not None:
        until = end if until is None else min(until, end)
    return Times(since, until) if since is None or until is None or since < until else None


def _bounds(operator: str, value: Any, kind: type, step: Any) -> tuple[Any, Any]:  # noqa: ANN401 - numbers or times
    """The least and the greatest that a condition lets through; None where it has no bound."""
    values = value if isinstance(value, list) else [value]
    values = [value for value in values if value is not None]
    if not values or not all(_is_exactly(kind, value) for value in values):
        return None, None
    first, last = values[0], values[-1]
    match operator:
        case "==":
            return first, first
        case "<":
            return None, first - step
        case "<=":
            return None, first
        case ">":
            return first + step, None
        case ">=":
            return first, None
        case "in":
            return min(values), max(values)
        case "both" | "left" | "right" | "none" if len(values) == 2:
            low = first if operator in ("both", "left") else first + step
            return low, last if operator in ("both", "right") else last - step
    return None, None


def _is_exactly(kind: type, value: object) -> bool:
    """No boolean for a number, and no time without a zone."""
    return type(value) is kind and (not isinstance(value, datetime) or value.tzinfo is not None)


def _is_name(value: object) -> TypeGuard[str]:
    """What the server takes as a name."""
    return (
        isinstance(value, str)
        and 0 < len(value.encode()) <= NAME_BYTES_MAX
        and not value.startswith("$")
        and not any(unicodedata.category(letter) == "Cc" for letter in value)
    )
