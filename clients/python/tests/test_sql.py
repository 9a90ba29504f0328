"""SQL against DuckDB on what the same server exported as Parquet: hot, sealed, cold and mixed, now and in the past."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from doors import Appender, eventually
from server import Server

import annals

EVENTS = 3_000
TYPES = ["order.placed", "order.paid", "order.shipped", "invoice.sent", 'it\'s "odd"']
OFFICES = ["north", "south", "Zürich", ""]
SEALING = ("limits.seal_events=400", "limits.row_group_events=128")
COLD = ("limits.keep_bytes=0",)

# Both engines are asked the same text.
QUERIES = Path(__file__).with_name("queries.sql").read_text("utf-8").splitlines()[1:]


@dataclass
class Case:
    """A server, and what DuckDB has of it."""

    client: annals.Client
    as_of: annals.AsOf | None
    duck: duckdb.DuckDBPyConnection


def made(n: int, rng: random.Random) -> annals.NewEvent:
    payload: Any = {"amount": rng.randrange(1_000), "price": rng.randrange(10_000) / 8, "flag": rng.random() < 0.5}
    match rng.randrange(10):
        case 0:
            payload = {"amount": None, "nested": {"a": [1, 2], "b": None}}
        case 1:
            payload["nested"] = {"a": rng.choice(["x", "y", 7, True])}
    if rng.random() < 0.8:
        payload["office"] = rng.choice(OFFICES)
    occurred = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=rng.randrange(300 * 24 * 60))
    return annals.NewEvent(
        f"order-{rng.randrange(60)}",
        TYPES[min(rng.randrange(8), 4)],
        payload,
        occurred_at=rng.choice([None, occurred, occurred]),
        metadata=rng.choice([None, {"correlation_id": f"c-{n % 9}"}]),
        tags=rng.sample(["vip", "region:eu", "region:us", "größe:l"], rng.choice([0, 0, 1, 2])),
    )


def fill(client: annals.Client, rng: random.Random, count: int) -> None:
    for first in range(0, count, 100):
        client.append([made(first + n, rng) for n in range(100)])


@pytest.fixture(scope="module", params=["hot", "sealed", "cold", "mixed", "past"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    settings = () if kind == "hot" else SEALING if kind in {"sealed", "past"} else (*SEALING, *COLD)
    server = Server(folder / "data", *settings)
    server.start()
    rng = random.Random(7)
    try:
        with annals.connect(server.url) as client:
            fill(client, rng, EVENTS)
            as_of = None
            if kind != "hot":
                eventually("it is sealed", lambda: client.stats().tenants[0].sealed >= 2_000)
            if kind == "past":
                as_of = annals.at_position(EVENTS)
                fill(client, rng, 500)
        if kind == "cold":
            server.stop()
            server.start()
        with annals.connect(server.url) as client, duckdb.connect() as duck:
            duck.execute("SET TimeZone = 'UTC'")
            for table in ("events", "entities"):
                exported = folder / f"{table}.parquet"
                pq.write_table(client.scan(table, as_of=as_of).to_table(), exported)
                duck.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{exported}')")  # noqa: S608
            duck.execute("CREATE SCHEMA types")
            for event_type in TYPES:
                name, text = event_type.replace('"', '""'), event_type.replace("'", "''")
                duck.execute(f"CREATE VIEW types.\"{name}\" AS SELECT * FROM events WHERE event_type = '{text}'")  # noqa: S608
            yield Case(client, as_of, duck)
    finally:
        server.stop()


def cell(value: Any) -> Any:  # noqa: ANN401 - whatever an engine gives
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc)
    return tuple(map(cell, value)) if isinstance(value, list) else value if isinstance(value, bytes) else str(value)


def rows_of(rows: list[tuple[Any, ...]], *, ordered: bool) -> list[tuple[Any, ...]]:
    plain = [tuple(None if value is None else cell(value) for value in row) for row in rows]
    return plain if ordered else sorted(plain, key=repr)


def test_there_are_a_hundred_queries() -> None:
    assert len(set(QUERIES)) == len(QUERIES) >= 100


@pytest.mark.parametrize("query", QUERIES)
def test_duckdb_gives_the_same_answer(case: Case, query: str) -> None:
    query = query.format(t='types."order.paid"')
    table = case.client.sql(query, as_of=case.as_of).to_table()
    ours = [
        tuple(row.values()) for row in table.rename_columns([f"c{n}" for n in range(table.num_columns)]).to_pylist()
    ]
    ordered = "ORDER BY" in query and "OVER" not in query
    theirs = case.duck.execute(query).fetchall()
    assert rows_of(ours, ordered=ordered) == rows_of(theirs, ordered=ordered)


@pytest.mark.parametrize(
    ("condition", "same"),
    [
        ("payload ->> 'office' = 'north'", "(payload ->> 'office') = 'north'"),
        ("payload ->> 'missing' IS NULL", "(payload ->> 'missing') IS NULL"),
        ("payload ->> 'amount' IN ('1', '2')", "(payload ->> 'amount') IN ('1', '2')"),
        ("payload -> 'nested' ->> 'a' = 'x'", "((payload -> 'nested') ->> 'a') = 'x'"),
        ("payload ->> 'office' LIKE 'n%'", "(payload ->> 'office') LIKE 'n%'"),
        ("payload ? 'nested' AND position > 5", "(payload ? 'nested') AND (position > 5)"),
    ],
)
def test_json_operators_bind_as_in_postgresql(case: Case, condition: str, same: str) -> None:
    found, expected = (
        case.client.sql(f"SELECT position FROM events WHERE {where} ORDER BY 1", as_of=case.as_of).to_table()  # noqa: S608
        for where in (condition, same)
    )
    assert found.num_rows > 0
    assert found == expected


def test_a_statement_sees_one_position_while_appends_go_on(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", *SEALING)
    server.start()
    statement = """
        SELECT (SELECT count(*) FROM events) AS a, (SELECT max(position) FROM events) AS b,
               (SELECT sum(events) FROM entities) AS c, count(*) AS d, count(DISTINCT e.position) AS e
        FROM events e JOIN entities n ON e.entity_id = n.entity_id"""
    try:
        with annals.connect(server.url) as client, Appender(server, 5) as appender:
            seen = []
            appender.pass_by(0)
            for _ in range(12):
                appender.more(20)
                asked = client.sql(statement)
                (row,) = asked.to_table().to_pylist()
                assert set(row.values()) == {asked.head}
                seen.append((asked.head, row))
                appender.pass_by(asked.head)
            for head, row in seen:
                again = client.sql(statement, as_of=annals.at_position(head))
                assert (again.head, again.to_table().to_pylist()) == (head, [row])
    finally:
        server.stop()
