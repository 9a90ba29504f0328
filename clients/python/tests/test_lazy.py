"""Polars queries of a real server: equal to those of the whole table, and what they fetch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest
from server import Server
from test_parquet import made_events, sealed_through

import annals
from annals._flight import Connection, Download

ENTITY = "Bestellung Nº 5 🚚"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[annals.Client]:
    """Of a server whose events are sealed, but for the newest."""
    server = Server(tmp_path_factory.mktemp("lazy") / "data", "limits.seal_events=500")
    server.start()
    try:
        with annals.connect(server.url) as client:
            events = list(made_events())
            for first in range(0, len(events), 100):
                client.append(events[first : first + 100])
            assert 0 < sealed_through(client, 1_500).sealed < len(events)
            yield client
    finally:
        server.kill()


@pytest.fixture(scope="module")
def whole(client: annals.Client) -> pl.LazyFrame:
    """The table in memory."""
    return client.scan().to_polars().lazy()


class Wire:
    """The tickets that were sent, and the rows that came for them."""

    def __init__(self) -> None:
        self.tickets: list[dict[str, Any]] = []
        self.rows = 0


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    get, read = Connection.get, Download.read

    def watched_get(connection: Connection, ticket: bytes) -> Download:
        wire.tickets.append(json.loads(ticket))
        return get(connection, ticket)

    def watched_read(download: Download) -> Any:  # noqa: ANN401 - as `read`
        received = read(download)
        wire.rows += 0 if received is None else received[0].num_rows
        return received

    monkeypatch.setattr(Connection, "get", watched_get)
    monkeypatch.setattr(Download, "read", watched_read)
    return wire


QUERIES: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "everything": lambda events: events,
    "an entity": lambda events: events.filter(pl.col("entity_id") == ENTITY),
    "entities and a type": lambda events: events.filter(
        pl.col("entity_id").is_in([ENTITY, "Bestellung Nº 6 🚚"]), pl.col("event_type") == "заказ.создан"
    ).select("position", "tags"),
    "a prefix and tags": lambda events: events.filter(
        pl.col("event_type").str.starts_with("order."),
        pl.col("tags").list.contains("vip"),
        pl.col("tags").list.contains("регион:eu"),
    ),
    "positions": lambda events: events.filter(pl.col("position").is_between(990, 1_520)).select("version", "position"),
    "either": lambda events: events.filter((pl.col("entity_id") == ENTITY) | (pl.col("position") > 1_590)),
    "recorded": lambda events: events.filter(
        pl.col("recorded_at") > events.filter(pl.col("position") == 700).select("recorded_at").collect().item()
    ),
    "occurred": lambda events: events.filter(
        pl.col("occurred_at") < pl.datetime(1970, 1, 1, time_zone="UTC"), pl.col("position") > 40
    ),
    "occurred at no time": lambda events: events.filter(pl.col("occurred_at").is_null()),
    "inside the payload": lambda events: events.filter(
        pl.col("payload").str.json_path_match("$.n").is_not_null()
    ).select("event_type", "payload"),
    "counts": lambda events: (
        events.group_by("event_type").agg(pl.len(), pl.col("entity_id").n_unique()).sort("event_type")
    ),
    "the first": lambda events: events.head(7),
    "some of the first": lambda events: events.head(700).filter(pl.col("entity_id") == ENTITY),
    "the first of some": lambda events: events.filter(pl.col("entity_id") == ENTITY).head(3),
    "the last": lambda events: events.tail(5),
    "nothing": lambda events: events.filter(pl.col("position") > 1_600),
    "with itself": lambda events: (
        events.filter(pl.col("entity_id") == ENTITY)
        .join(events.filter(pl.col("event_type") == "order.placed").select("position", before="payload"), on="position")
        .sort("position")
    ),
}


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize("name", QUERIES)
def test_a_query_gives_what_it_gives_of_the_whole_table(
    client: annals.Client,
    whole: pl.LazyFrame,
    name: str,
    engine: Any,  # noqa: ANN401 - Polars names its type privately
) -> None:
    query = QUERIES[name]
    found, wanted = query(client.lazy()).collect(engine=engine), query(whole).collect()
    assert found.equals(wanted)
    assert found.schema == wanted.schema
    assert len(wanted) > 0 or name == "nothing"


def test_only_the_rows_and_columns_of_a_query_travel(client: annals.Client, whole: pl.LazyFrame, wire: Wire) -> None:
    log_id = client.scan().log_id
    events = client.lazy()
    wire.tickets.clear()
    wire.rows = 0
    condition = (pl.col("entity_id") == ENTITY) & pl.col("tags").list.contains("vip") & (pl.col("position") > 100)
    found = events.filter(condition).select("position", "version").collect()
    assert wire.tickets == [
        {
            "columns": ["position", "entity_id", "version", "tags"],
            "entities": [ENTITY],
            "tags": ["vip"],
            "after": 100,
            "through": 1_600,
            "log_id": log_id,
        }
    ]
    assert wire.rows == len(found) == len(whole.filter(condition).collect()) > 0


def test_what_the_server_does_not_understand_is_filtered_here(client: annals.Client, wire: Wire) -> None:
    events = client.lazy(tags="vip")
    wire.rows = 0
    vips = events.select(pl.len()).collect().item()
    assert wire.rows == vips
    wire.rows = 0
    some = events.filter(pl.col("version") > 12, pl.col("position") <= 1_200).select(pl.len()).collect().item()
    assert some < wire.rows < vips


def test_the_first_rows_are_all_that_travels(client: annals.Client, wire: Wire) -> None:
    events = client.lazy()
    wire.tickets.clear()
    wire.rows = 0
    assert len(events.head(7).collect()) == wire.rows == 7
    assert [ticket["limit"] for ticket in wire.tickets] == [7]


def test_what_cannot_be_is_not_asked_for(client: annals.Client, wire: Wire) -> None:
    events = client.lazy()
    wire.tickets.clear()
    for impossible in (pl.col("position") > 10**9, (pl.col("entity_id") == "a") & (pl.col("entity_id") == "b")):
        assert events.filter(impossible).collect().is_empty()
    assert wire.tickets == []


def test_filters_of_the_call_hold_for_every_query(client: annals.Client, whole: pl.LazyFrame) -> None:
    events = client.lazy(
        after=200, through=1_400, entity_ids=[ENTITY, "Bestellung Nº 6 🚚"], event_types="заказ.создан"
    )
    wanted = whole.filter(
        pl.col("position").is_between(201, 1_400),
        pl.col("entity_id").is_in([ENTITY, "Bestellung Nº 6 🚚"]),
        pl.col("event_type") == "заказ.создан",
    )
    assert events.collect().equals(wanted.collect())
    one = pl.col("entity_id") == ENTITY
    assert events.filter(one).collect().equals(wanted.filter(one).collect())
    assert events.filter(pl.col("entity_id") == "Bestellung Nº 7 🚚").collect().is_empty()
    assert events.filter(pl.col("position") > 1_400).collect().is_empty()


def test_other_tables_and_other_times(client: annals.Client, whole: pl.LazyFrame) -> None:
    placed = client.lazy(("types", "order.placed"), as_of=annals.at_position(999))
    wanted = whole.filter(pl.col("position") < 1_000, pl.col("event_type") == "order.placed")
    assert placed.collect().equals(wanted.collect())
    version = client.lazy(entity_ids=ENTITY, as_of=annals.at_version(3))
    assert version.select("version").collect().to_series().to_list() == [1, 2, 3]
    entities = client.lazy("entities").filter(pl.col("entity_id") == ENTITY).select("events", "last_position").collect()
    last = whole.filter(pl.col("entity_id") == ENTITY).select("version", "position").last().collect()
    assert entities.rows() == last.rows()
    early = client.lazy("entities", as_of=annals.at_position(3))
    assert early.select(pl.len()).collect().item() == 3


@pytest.fixture
def own(tmp_path: Any) -> Iterator[Server]:  # noqa: ANN401 - a path
    """A server whose events change."""
    server = Server(tmp_path / "data")
    server.start()
    yield server
    server.kill()


def test_a_frame_is_as_of_the_head_that_it_was_made_at(own: Server) -> None:
    with annals.connect(own.url) as client:
        assert client.lazy().collect().is_empty()
        client.append(annals.NewEvent("a", "t", 1))
        events, entities = client.lazy(), client.lazy("entities")
        client.append([annals.NewEvent("a", "t", 2), annals.NewEvent("b", "t", 3)])
        for _ in range(2):
            assert events.select("payload").collect().rows() == [("1",)]
            assert entities.select("entity_id", "events").collect().rows() == [("a", 1)]
        assert len(client.lazy().collect()) == 3


def test_errors_are_those_of_the_client(own: Server) -> None:
    retry = annals.RetryPolicy(attempts=2, delay_seconds_first=0.01)
    with annals.connect(own.url, retry=retry) as client:
        client.append(annals.NewEvent("a", "t", 1))
        with pytest.raises(annals.InvalidArgument):
            client.lazy("nothing")
        # Early versions of Polars tell it in an error of theirs.
        with pytest.raises((annals.InvalidArgument, pl.exceptions.ComputeError), match="needs event types or tags"):
            client.lazy(query=annals.item()).collect()
        events = client.lazy()
        own.kill()
        with pytest.raises((annals.Unavailable, pl.exceptions.ComputeError), match="connect"):
            events.collect()
        with pytest.raises(annals.Unavailable):
            client.lazy()
