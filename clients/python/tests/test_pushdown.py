"""What of a Polars query the server is asked for: never less than the query needs, and what is expected of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import reduce
from typing import Any, Literal

import polars as pl
import pytest
from polars.io.plugins import register_io_source

from annals import _lazy
from annals._pushdown import NAMES_MAX, TICKET_BYTES_MAX, narrowed
from annals._tickets import Selection, Times

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
FIRST, LAST = datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)
TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, pl.DataType] = {
    "position": pl.Int64(),
    "entity_id": pl.String(),
    "version": pl.Int64(),
    "event_type": pl.String(),
    "recorded_at": TIME,
    "occurred_at": TIME,
    "payload": pl.String(),
    "tags": pl.List(pl.String()),
}
ENTITIES = ["a", "b", "ü 🚚", "ab"]
TYPES = ["order.placed", "order.paid", "заказ.создан", "or"]
TAGS = ["vip", "регион:eu", "x"]
EVENTS = 60
ALL = Selection(through=EVENTS, log_id="a log")

position, entity_id, event_type = pl.col("position"), pl.col("entity_id"), pl.col("event_type")
recorded_at, occurred_at, tags = pl.col("recorded_at"), pl.col("occurred_at"), pl.col("tags")


def made_rows(seed: int) -> pl.DataFrame:
    choose = random.Random(seed)
    rows = [
        {
            "position": n,
            "entity_id": choose.choice(ENTITIES),
            "version": choose.randint(1, 5),
            "event_type": choose.choice(TYPES),
            "recorded_at": START + n * SECOND,
            "occurred_at": choose.choice([None, FIRST, START + choose.randint(-5, 70) * SECOND, LAST]),
            "payload": f'{{"n":{n}}}',
            "tags": choose.sample(TAGS, choose.randint(0, len(TAGS))),
        }
        for n in range(1, EVENTS + 1)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def lets_through(selection: Selection, row: dict[str, Any]) -> bool:
    """What the server does with a ticket, as the protocol says it."""

    def within(times: Times, time: datetime | None) -> bool:
        if times == Times():
            return True
        return (
            time is not None
            and (times.since is None or time >= times.since)
            and (times.until is None or time < times.until)
        )

    return (
        row["position"] > selection.after
        and (selection.through is None or row["position"] <= selection.through)
        and (not selection.entities or row["entity_id"] in selection.entities)
        and (not selection.types or row["event_type"] in selection.types)
        and row["event_type"].startswith(selection.type_prefix)
        and set(selection.tags) <= set(row["tags"])
        and within(selection.recorded, row["recorded_at"])
        and within(selection.occurred, row["occurred_at"])
    )


def served(frame: pl.DataFrame, selection: Selection) -> pl.DataFrame:
    rows = frame.filter([lets_through(selection, row) for row in frame.to_dicts()])
    return rows.slice(0, selection.limit).select(selection.columns or frame.columns)


class Table:
    """A frame that is queried through the plans that are made for a server, which it remembers."""

    def __init__(self, frame: pl.DataFrame, base: Selection = ALL) -> None:
        self.frame = frame
        self.plans: list[Selection | None] = []

        def rows(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
        ) -> Iterator[pl.DataFrame]:
            plan = _lazy.plan(base, with_columns, predicate, n_rows)
            self.plans.append(plan)
            found = self.frame.clear() if plan is None else served(self.frame, plan)
            if with_columns is not None:
                found = found.select(with_columns)
            yield found if predicate is None else found.filter(predicate)

        self.lazy = register_io_source(rows, schema=SCHEMA)


def random_time(choose: random.Random) -> datetime | pl.Expr:
    if choose.random() < 0.3:
        return choose.choice([FIRST, LAST])
    time = START + choose.randint(-3, EVENTS + 3) * SECOND
    nanos = pl.Series([int(time.timestamp()) * 1_000_000_000 + choose.choice([0, 1, 999])])
    forms: list[datetime | pl.Expr] = [
        time,
        time.astimezone(timezone(timedelta(hours=-7))),
        pl.lit(time, pl.Datetime("ms", "UTC")),
        pl.lit(nanos.cast(pl.Datetime("ns", "UTC"))),
    ]
    return choose.choice(forms)


def random_term(choose: random.Random) -> pl.Expr:
    """A condition of any kind, most of which a ticket can say."""
    number = choose.choice([-1, 0, 1, EVENTS, 2**62, *range(1, EVENTS, 7)])
    text, other = choose.choice([*ENTITIES, *TYPES, "", "$all", "x" * 600, "\n"]), choose.choice(ENTITIES)
    time = choose.choice([recorded_at, occurred_at])
    closed: Literal["both", "left", "right", "none"] = choose.choice(["both", "left", "right", "none"])
    comparisons: list[Callable[[Any, Any], Any]] = [
        lambda a, b: a == b,
        lambda a, b: a < b,
        lambda a, b: a <= b,
        lambda a, b: a > b,
        lambda a, b: a >= b,
        lambda a, b: a != b,
        lambda a, b: pl.lit(b) < a if not isinstance(b, pl.Expr) else b < a,
        lambda a, b: pl.lit(b) >= a if not isinstance(b, pl.Expr) else b >= a,
    ]
    compare = choose.choice(comparisons)
    terms: list[Callable[[], pl.Expr]] = [
        lambda: compare(position, number),
        lambda: compare(position, number),
        lambda: compare(position, number + 0.5),
        lambda: compare(time, random_time(choose)),
        lambda: compare(time, random_time(choose)),
        lambda: compare(entity_id, text),
        lambda: compare(event_type, text),
        lambda: compare(pl.col("version"), 3),
        lambda: position.is_between(choose.randint(-2, 30), choose.randint(20, 70), closed=closed),
        lambda: time.is_between(random_time(choose), random_time(choose), closed=closed),
        lambda: entity_id.is_in([text, other]),
        lambda: entity_id.is_in([other, None]),
        lambda: event_type.is_in(choose.sample(TYPES, 2)),
        lambda: event_type.is_in([]),
        lambda: position.is_in([number, 7, 11]),
        lambda: event_type.str.starts_with(choose.choice(["order.", "or", "order.p", "", "$", "z"])),
        lambda: entity_id.str.starts_with("a"),
        lambda: event_type.str.ends_with("d"),
        lambda: tags.list.contains(choose.choice([*TAGS, "nobody's", ""])),
        lambda: tags.list.contains(entity_id),
        lambda: tags.list.len() > 1,
        lambda: occurred_at.is_null(),
        lambda: entity_id.eq_missing(text),
        lambda: recorded_at.dt.second() == 7,
        lambda: position == pl.col("version") + 1,
    ]
    return choose.choice(terms)()


def random_predicate(choose: random.Random, depth: int = 0) -> pl.Expr:
    kind = choose.random()
    if depth < 3 and kind < 0.45:
        parts = [random_predicate(choose, depth + 1) for _ in range(choose.randint(2, 3))]
        return reduce(lambda a, b: a & b, parts)
    if depth < 3 and kind < 0.6:
        return random_predicate(choose, depth + 1) | random_predicate(choose, depth + 1)
    if depth < 3 and kind < 0.65:
        return ~random_predicate(choose, depth + 1)
    return random_term(choose)


def random_base(choose: random.Random) -> Selection:
    return choose.choice(
        [
            ALL,
            ALL,
            Selection(after=choose.randint(0, 20), through=choose.randint(10, EVENTS)),
            Selection(through=EVENTS, entities=("a", "b"), tags=("vip",)),
            Selection(through=EVENTS, types=("order.paid", "or"), type_prefix="order."),
            Selection(through=EVENTS, recorded=Times(START + 5 * SECOND, START + 40 * SECOND)),
            Selection(through=EVENTS, occurred=Times(since=START)),
        ]
    )


@pytest.mark.parametrize("seed", range(24))
def test_a_query_gives_what_it_gives_of_the_whole_table(seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(10):
        base, predicate = random_base(choose), random_predicate(choose)
        table = Table(made_rows(seed), base)
        everything = served(table.frame, base)
        wanted = everything.filter(predicate)
        columns = choose.sample(list(SCHEMA), choose.randint(1, 4))
        rows = choose.randint(0, 20)
        for found, expected in (
            (table.lazy.filter(predicate), wanted),
            (table.lazy.filter(predicate).select(columns), wanted.select(columns)),
            (table.lazy.select(columns), everything.select(columns)),
            (table.lazy.filter(predicate).head(rows), wanted.head(rows)),
            (table.lazy.head(rows).filter(predicate), everything.head(rows).filter(predicate)),
            (table.lazy.slice(rows, 5).select(columns), everything.slice(rows, 5).select(columns)),
            (table.lazy.filter(predicate).select(pl.len()), wanted.select(pl.len())),
        ):
            for engine in ("in-memory", "streaming"):
                assert found.collect(engine=engine).equals(expected), (base, str(predicate), table.plans[-1])


@pytest.mark.parametrize("seed", range(24))
def test_nothing_that_a_predicate_lets_through_is_missing_in_what_is_asked_for(seed: int) -> None:
    # As it was written: without what Polars makes of it before it plans a query.
    choose = random.Random(1_000 + seed)
    frame = made_rows(seed)
    for _ in range(60):
        predicate = random_predicate(choose)
        plan = narrowed(ALL, predicate)
        asked = frame.clear() if plan is None else served(frame, plan)
        assert asked.filter(predicate).equals(frame.filter(predicate)), (str(predicate), plan)


AT = START + 5 * SECOND


@pytest.mark.parametrize(
    ("predicate", "asked"),
    [
        (entity_id == "a", {"entities": ("a",)}),
        (pl.lit("a") == entity_id, {"entities": ("a",)}),
        (entity_id.is_in(["a", "b", "a", None]), {"entities": ("a", "b")}),
        (event_type == "or", {"types": ("or",)}),
        (event_type.is_in(["or"]), {"types": ("or",)}),
        (event_type.str.starts_with("order."), {"type_prefix": "order."}),
        (tags.list.contains("vip"), {"tags": ("vip",)}),
        (tags.list.contains("vip") & tags.list.contains("x"), {"tags": ("vip", "x")}),
        (position == 7, {"after": 6, "through": 7}),
        (position > 7, {"after": 7}),
        (position >= 7, {"after": 6}),
        (position < 7, {"through": 6}),
        (position <= 7, {"through": 7}),
        (pl.lit(7) < position, {"after": 7}),
        (position > 6.5, {}),
        (position.is_between(3, 9), {"after": 2, "through": 9}),
        (position.is_between(3, 9, closed="none"), {"after": 3, "through": 8}),
        (position.is_in([9, 4, 5]), {"after": 3, "through": 9}),
        (position > -3, {}),
        (position < 2**62, {}),
        (recorded_at >= AT, {"recorded": Times(since=AT)}),
        (recorded_at > AT, {"recorded": Times(since=AT + MICROSECOND)}),
        (recorded_at < AT, {"recorded": Times(until=AT)}),
        (recorded_at <= AT, {"recorded": Times(until=AT + MICROSECOND)}),
        (recorded_at == AT, {"recorded": Times(AT, AT + MICROSECOND)}),
        (occurred_at.is_between(AT, AT + SECOND, closed="left"), {"occurred": Times(AT, AT + SECOND)}),
        (occurred_at >= AT.astimezone(timezone(timedelta(hours=2))), {"occurred": Times(since=AT)}),
        (occurred_at <= LAST, {}),
        (
            recorded_at > pl.lit("2026-01-01T00:00:05").str.to_datetime(time_zone="UTC"),
            {"recorded": Times(since=AT + MICROSECOND)},
        ),
        # Several at once, of which one is not understood.
        (
            (entity_id == "a") & (position > 7) & (pl.col("version") > 1) & event_type.str.starts_with("or"),
            {"entities": ("a",), "after": 7, "type_prefix": "or"},
        ),
        ((position > 7) & (position <= 20) & (position > 9), {"after": 9, "through": 20}),
        (event_type.str.starts_with("or") & event_type.str.starts_with("order."), {"type_prefix": "order."}),
        # Not understood, or not taken by the server.
        ((entity_id == "a") | (position > 7), {}),
        (~(entity_id == "a"), {}),
        (entity_id != "a", {}),
        (entity_id > "a", {}),
        (entity_id == event_type, {}),
        (entity_id == "", {}),
        (entity_id == "$all", {}),
        (entity_id.is_in([str(n) for n in range(NAMES_MAX + 1)]), {}),
        (entity_id.is_in([f"{n:0512}" for n in range(NAMES_MAX)]), {}),
        (entity_id.str.to_lowercase() == "a", {}),
        (entity_id.str.starts_with("a"), {}),
        (tags.list.contains(entity_id), {}),
        (recorded_at.dt.year() == 2026, {}),
        (position >= pl.len() - 2, {}),
        (position >= pl.col("version").max(), {}),
        # What cannot be is not asked for at all.
        (position > EVENTS, None),
        (position < 1, None),
        ((position > 9) & (position < 5), None),
        ((entity_id == "a") & (entity_id == "b"), None),
        ((event_type == "or") & event_type.is_in(["order.paid"]), None),
        (event_type.str.starts_with("a") & event_type.str.starts_with("b"), None),
        ((recorded_at > AT) & (recorded_at < AT), None),
    ],
    ids=str,
)
def test_what_is_asked_for(predicate: pl.Expr, asked: dict[str, Any] | None) -> None:
    table = Table(made_rows(0))
    found = table.lazy.filter(predicate).select("position", "payload").collect()
    assert found.equals(table.frame.filter(predicate).select("position", "payload"))
    (plan,) = table.plans
    if asked is None:
        assert plan is None
        return
    assert plan is not None
    assert {"position", "payload"} <= set(plan.columns) < set(SCHEMA)
    wanted = Selection(**{"through": EVENTS, "log_id": "a log", "columns": plan.columns, **asked})
    assert plan == wanted


def test_only_the_columns_that_a_query_uses_are_asked_for() -> None:
    table = Table(made_rows(0))
    table.lazy.group_by("event_type").agg(pl.len(), pl.col("position").max()).collect()
    (plan,) = table.plans
    assert plan is not None
    assert plan.columns == ("position", "event_type")


def test_rows_are_limited_only_as_the_table_begins() -> None:
    table = Table(made_rows(0))
    table.lazy.head(5).collect()
    # The first five, of which those are wanted: not the first five of those.
    table.lazy.head(5).filter(entity_id == "a").collect()
    table.lazy.filter(entity_id == "a").head(5).collect()
    table.lazy.head(0).collect()
    assert table.plans[:3] == [
        Selection(through=EVENTS, log_id="a log", limit=5),
        Selection(through=EVENTS, log_id="a log", limit=5),
        Selection(through=EVENTS, log_id="a log", entities=("a",)),
    ]
    assert table.plans[3:] in ([], [None])


def test_of_entities_only_the_name_is_asked_for() -> None:
    entities = Selection(table=("entities",))
    assert narrowed(entities, (entity_id == "a") & (pl.col("events") > 3)) == Selection(
        table=("entities",), entities=("a",)
    )
    assert narrowed(entities, position > 3) == entities


def test_what_would_make_too_large_a_ticket_is_left_out() -> None:
    long = reduce(lambda left, right: left & right, (tags.list.contains(f"{n:03d}" + '"' * 400) for n in range(600)))
    selection = narrowed(ALL, long & (position > 7))
    assert selection is not None
    assert 100 < len(selection.tags) < 600
    assert len(selection.ticket()) <= TICKET_BYTES_MAX
    assert selection.after == 7
