"""Frequencies, summaries and correlations are those that DuckDB computes from the same events, exported as Parquet."""

# ruff: noqa: S608 - statements are made of names of columns of the tests

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from server import Server

import annals

PERMITS = Path(__file__).resolve().parents[3] / "tests" / "data" / "building-permits.jsonl.gz"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
PERMIT_PAIR = ("Confirmation of receipt", "T02 Check confirmation of receipt")


class Exported:
    """A server with a history, and the same history in DuckDB as the view `events`."""

    def __init__(self, server: Server, parquet: Path) -> None:
        self.url = server.url
        self.client = annals.connect(self.url)
        self.duckdb = duckdb.connect()
        self.duckdb.execute(f"create view events as from read_parquet('{parquet}')")

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.duckdb.execute(statement, parameters).fetchall()

    def row(self, statement: str, *parameters: object) -> tuple[Any, ...]:
        (row,) = self.rows(statement, *parameters)
        return row

    def close(self) -> None:
        self.client.close()
        self.duckdb.close()


def permits() -> Iterator[annals.NewEvent]:
    with gzip.open(PERMITS, "rt", encoding="utf-8") as lines:
        for event in map(json.loads, lines):
            at = datetime.fromisoformat(event["occurred_at"].replace("Z", "+00:00"))
            yield annals.NewEvent(event["entity_id"], event["event_type"], event["payload"], occurred_at=at)


def made(count: int) -> Iterator[annals.NewEvent]:
    """Of few entities, in no order of time, some without one, some at the same."""
    numbers = random.Random(5)
    for _ in range(count):
        at = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=numbers.randrange(-50_000, 50_000) // 7)
        yield annals.NewEvent(
            f"order {numbers.randrange(40)}",
            numbers.choice(["placed", "paid", "odd \"type'"]),
            None,
            occurred_at=at if numbers.random() < 0.9 else None,
        )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    folder = tmp_path_factory.mktemp("analytics")
    server = Server(folder / "data", "limits.seal_events=4000")
    server.start()
    events = [*permits(), *made(1_500)]
    with annals.connect(server.url) as client:
        for first in range(0, len(events), 500):
            client.append(events[first : first + 500])
    parquet = folder / "events.parquet"
    subprocess.run(
        [os.environ["ANNALS_BIN"], "read", f"--url={server.url}", "--format=parquet", f"--output={parquet}"], check=True
    )
    found = Exported(server, parquet)
    yield found
    found.close()
    server.kill()


def micros(time: datetime | timedelta | None) -> int | None:
    if isinstance(time, datetime):
        time -= EPOCH
    return None if time is None else time // MICROSECOND


def column(occurred: bool) -> str:
    return "occurred_at" if occurred else "recorded_at"


DURATIONS = """
    count(t), min(t), max(t), round(avg(t)), round(quantile_cont(t, 0.5)), round(quantile_cont(t, 0.9)),
    round(quantile_cont(t, 0.99))
"""


def is_near(durations: annals.Durations, expected: tuple[Any, ...]) -> bool:
    """To the microsecond: both round what lies between two values from doubles."""
    found = (
        durations.count,
        *map(
            micros,
            (durations.min, durations.max, durations.mean, durations.p50, durations.p90, durations.p99),
        ),
    )
    if durations.count == 0:
        return expected[0] == 0 and found[1:] == (None,) * 6
    return found[:3] == expected[:3] and all(
        mine is not None and abs(mine - theirs) <= 1 for mine, theirs in zip(found[3:], expected[3:], strict=True)
    )


@pytest.mark.parametrize("occurred", [False, True])
@pytest.mark.parametrize("divided", ["", "event_type", "entity_id"])
def test_frequency(exported: Exported, occurred: bool, divided: str) -> None:
    bucket = 7 * DAY if occurred else timedelta(milliseconds=250)
    at = column(occurred)
    # There are more entities than there may be series.
    top = 25 if divided == "entity_id" else None
    found = exported.client.frequency(
        bucket, occurred=occurred, by_type=divided == "event_type", by_entity=divided == "entity_id", top=top
    )
    (first, last, timeless) = exported.row(
        f"select min(epoch_us({at})) // $1, max(epoch_us({at})) // $1, count(*) filter ({at} is null) from events",
        micros(bucket),
    )
    assert micros(found.start) == first * (micros(bucket) or 0)
    assert (found.buckets, found.events_without_time) == (last - first + 1, timeless)
    key = divided or "''"
    expected = exported.rows(
        f"""
        with n as (
            select {key} as key, epoch_us({at}) // $1 - $2 as bucket, count(*) as events from events
            where {at} is not null group by all
        ), totals as (
            select key, sum(events) as total from n group by key order by total desc, key limit {top or 1_000}
        )
        select key, total::bigint as all_events, list((bucket, events)) from n join totals using (key) group by all
        order by all_events desc, key
        """,
        micros(bucket),
        first,
    )
    assert len(found.series) == len(expected)
    for series, (name, total, counts) in zip(found.series, expected, strict=True):
        assert (series.event_type or series.entity_id or "", series.events) == (name, total)
        assert {n: count for n, count in enumerate(series.counts) if count} == dict(counts)
    if not divided:
        assert found.counts == found.series[0].counts
        assert sum(found.counts) == found.events
        assert found.starts[-1] - found.starts[0] == (found.buckets - 1) * bucket


@pytest.mark.parametrize("occurred", [False, True])
@pytest.mark.parametrize("by_type", [False, True])
def test_summary(exported: Exported, occurred: bool, by_type: bool) -> None:
    at = column(occurred)
    found = exported.client.summary(occurred=occurred, by_type=by_type)
    key = "event_type" if by_type else "''"
    counts = exported.rows(
        f"""
        select {key} as key, count(*), count(distinct entity_id), count(distinct event_type), min(position),
            max(position), min(epoch_us({at})), max(epoch_us({at})), count(*) filter ({at} is null)
        from events group by key order by 2 desc, 1
        """
    )

    def intervals(divided: str) -> dict[str, tuple[Any, ...]]:
        rows = exported.rows(
            f"""
            select {key} as key, {DURATIONS} from (
                select *, epoch_us({at}) - lag(epoch_us({at})) over (partition by {divided} order by {at}) as t
                from events where {at} is not null
            ) where t is not null group by key
            """
        )
        return {name: durations for name, *durations in rows}  # type: ignore[misc]

    all_of, of_entities = intervals(key), intervals(f"{key}, entity_id")
    summaries = found.types if by_type else (found.total,)
    assert len(summaries) == len(counts)
    for summary, (name, *expected) in zip(summaries, counts, strict=True):
        assert (summary.event_type or "") == name
        assert [
            summary.events,
            summary.entities,
            summary.event_types,
            summary.first_position,
            summary.last_position,
            micros(summary.first_time),
            micros(summary.last_time),
            summary.events_without_time,
        ] == expected
        for durations, theirs in ((summary.intervals, all_of), (summary.entity_intervals, of_entities)):
            assert is_near(durations, tuple(theirs.get(name, (0,)))), (name, durations, theirs.get(name))


@pytest.mark.parametrize("occurred", [False, True])
@pytest.mark.parametrize("within", [None, timedelta(seconds=90), timedelta(0), 400 * DAY])
@pytest.mark.parametrize("pair", [("placed", "paid"), ("paid", "paid"), PERMIT_PAIR])
def test_correlation(
    exported: Exported,
    occurred: bool,
    within: timedelta | None,
    pair: tuple[str, str],
) -> None:
    at = column(occurred)
    found = exported.client.correlation(*pair, within=within, occurred=occurred)
    firsts, thens, *durations = exported.row(
        f"""
        with e as (select * from events where {at} is not null),
        a as (select * from e where event_type = $1), b as (select * from e where event_type = $2),
        followed as (
            select epoch_us(b.{at}) - epoch_us(a.{at}) as t from a asof join b
            on a.entity_id = b.entity_id and a.position < b.position
        )
        select (select count(*) from a), (select count(*) from b), {DURATIONS} from followed where t between 0 and $3
        """,
        *pair,
        (1 << 62) if within is None else micros(within),
    )
    assert (found.first_events, found.then_events, found.followed) == (firsts, thens, durations[0])
    assert found.share == (durations[0] / firsts if firsts else 0)
    assert is_near(found.delays, tuple(durations)), (found, durations)


def test_a_filter_and_a_point_of_the_past_narrow_all_three(exported: Exported) -> None:
    client = exported.client
    past = annals.at_position(9_000)
    order = ["order 1", "order 2"]
    (events,) = exported.row(
        "select count(*) from events where position <= 9000 and entity_id in ('order 1', 'order 2')"
    )
    assert events > 0
    summary = client.summary(entity_ids=order, as_of=past, intervals=False)
    assert (summary.total.events, summary.head) == (events, 9_000)
    assert summary.total.intervals == annals.Durations(0, *(None,) * 6)
    frequency = client.frequency(timedelta(seconds=1), entity_ids=order, as_of=past)
    assert (frequency.events, frequency.head) == (events, 9_000)
    (paid,) = exported.row(
        "select count(*) from events where position <= 9000 and entity_id = 'order 1' and event_type = 'paid'"
    )
    correlation = client.correlation("paid", "placed", entity_ids="order 1", as_of=past)
    assert correlation.first_events == paid


async def test_the_asyncio_client_does_the_same(exported: Exported) -> None:
    client = exported.client
    async with annals.aio.connect(exported.url) as aclient:
        assert await aclient.frequency(DAY, occurred=True) == client.frequency(DAY, occurred=True)
        assert await aclient.summary(by_type=True) == client.summary(by_type=True)
        assert await aclient.correlation("placed", "paid") == client.correlation("placed", "paid")


def test_what_makes_no_sense_is_refused(exported: Exported) -> None:
    client = exported.client
    with pytest.raises(annals.InvalidArgument) as caught:
        client.frequency(MICROSECOND, occurred=True)
    assert "the most is 10000" in str(caught.value)
    for bucket in (timedelta(0), timedelta(seconds=-1)):
        with pytest.raises(annals.InvalidArgument):
            client.frequency(bucket)
    with pytest.raises(annals.InvalidArgument):
        client.correlation("placed", "paid", event_types="placed")
    with pytest.raises(ValueError, match="top must be at least 1"):
        client.frequency(DAY, by_type=True, top=0)
    with pytest.raises(annals.OutOfRange):
        client.summary(as_of=annals.at_position(1 << 40))
