"""Whoever reads a table, by whichever door, reads the rows that gRPC reads up to the same head: column for column,
while appends go on, wherever the rows stand.

Where they stand is not left to chance: the server counts the rows that it takes from segments and from the log.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from doors import DOORS, TYPES, Appender, Rows, dialled, eventually, made, told
from server import Server
from test_parquet import row_of, sealed_through

import annals

NEVER = 1 << 18
PART_EVENTS = 1_500
# Some rows stay behind the last part, and what the tests append does not make it complete.
EVENTS = 1_600
BATCHES_AT_ONCE = 3


@dataclass(frozen=True)
class Stand:
    """Where the rows stand that are read."""

    seal_events: int
    origins: set[str]
    """All rows are from there, and some from each."""
    only_sealed: bool = False
    """What is not sealed is left out."""
    gone: bool = False
    """The server was started anew, and what is read stands in no log file."""


STANDS = {
    "hot": Stand(NEVER, {"log"}),
    "sealed": Stand(PART_EVENTS, {"segment"}, only_sealed=True),
    "cold": Stand(PART_EVENTS, {"segment"}, only_sealed=True, gone=True),
    "mixed": Stand(PART_EVENTS, {"segment", "log"}),
}

# As a ticket, as keywords of `scan`, as those of `read`.
WANTED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "everything": ({}, {}, {}),
    "a tag and two types": (
        {"tags": ["vip"], "types": ["order.paid", "x"]},
        {"tags": "vip", "event_types": ["order.paid", "x"]},
        {"tags": "vip", "event_types": ["order.paid", "x"]},
    ),
    "the table of a type": (
        {"table": ["types", "order."]},
        {"table": ("types", "order.")},
        {"event_types": "order."},
    ),
}


class Place:
    """A server whose rows stand somewhere, and whose log grows when it is asked to."""

    def __init__(self, stand: Stand, server: Server, client: annals.Client, appender: Appender, through: int) -> None:
        self.stand = stand
        self.server = server
        self.client = client
        self.appender = appender
        self.cut: dict[str, Any] = {"through": through} if stand.only_sealed else {}
        self.sealed = through

    def meanwhile(self, head: int) -> None:
        """Appends beyond the head, before the first row is taken and while the others are."""
        self.appender.pass_by(head)
        self.appender.more(BATCHES_AT_ONCE)

    def counted(self) -> Counter[str]:
        """Rows that were scanned so far, by where they stood."""
        found = self.server.samples("annals_table_rows_total")
        return Counter({origin: int(found.get(f'origin="{origin}"', 0)) for origin in ("segment", "log")})


@pytest.fixture(scope="module", params=STANDS)
def place(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Place]:
    stand = STANDS[request.param]
    server = Server(
        tmp_path_factory.mktemp("doors") / "data",
        "metrics=127.0.0.1:0",
        f"limits.seal_events={stand.seal_events}",
        "limits.row_group_events=400",
        # Several log files.
        "limits.event_bytes_max=256 KiB",
        "limits.batch_bytes_max=1 MiB",
        "limits.log_file_bytes=2 MiB",
        *(["limits.keep_bytes=0"] if stand.gone else []),
    )
    server.start()
    try:
        through = fill(server, stand)
        if stand.gone:
            server.stop()
            server.start()
        seed = random.randrange(1 << 32)
        print(f"{request.param}: seed {seed}")
        with annals.connect(server.url) as client, Appender(server, seed) as appender:
            yield Place(stand, server, client, appender, through)
    finally:
        server.kill()


def fill(server: Server, stand: Stand) -> int:
    """Appends what stands there, and returns up to where it is sealed, and gone from the log if it has to be."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with annals.connect(server.url) as client:
        for _ in range(0, EVENTS, 50):
            client.append([made(rng) for _ in range(50)])
        if stand.seal_events == NEVER:
            return 0
        sealed = sealed_through(client, PART_EVENTS).sealed
        if not stand.gone:
            return sealed
        eventually("log files are gone", lambda: first_logged(server.data) > 1)
        return min(sealed, first_logged(server.data) - 1)


def first_logged(data: Path) -> int:
    """The first position that a log file has."""
    return min(int(file.name.partition("-")[0]) for file in (data / "tenants" / "default" / "log").glob("*-*.log"))


def read(place: Place, head: int, wanted: dict[str, Any]) -> Rows:
    read = place.client.read(through=head, **wanted)
    return [row_of(event) for event in read]


@pytest.mark.parametrize(
    ("door", "wanted"),
    # The other doors get their rows by one of these.
    [
        (door, wanted)
        for door in DOORS
        for wanted in WANTED
        if wanted == "everything" or door in ("pyarrow.flight with endpoints", "scan", "lazy Polars")
    ],
)
def test_a_door_shows_what_grpc_shows_while_appends_go_on(place: Place, door: str, wanted: str) -> None:
    ticket, scan, filters = WANTED[wanted]
    before = place.counted()
    heads: list[int] = []

    def meanwhile(head: int) -> None:
        heads.append(head)
        place.meanwhile(head)

    rows = DOORS[door](place.server, place.client, {**ticket, **place.cut}, {**scan, **place.cut}, meanwhile)
    counted = place.counted() - before
    (head,) = heads
    assert rows == read(place, head, filters)
    if wanted == "everything":
        assert [row["position"] for row in rows] == list(range(1, head + 1))
        assert counted.total() >= head
    assert len(rows) > 0
    assert place.client.read(limit=1).head > head
    origins = {origin for origin, count in counted.items() if count > 0}
    assert origins == place.stand.origins if wanted == "everything" else origins <= place.stand.origins


def test_entities_are_those_of_the_events_up_to_the_same_head(place: Place) -> None:
    scan = place.client.scan("entities")
    with dialled(place.server.url) as raw:
        reader = raw.get({"table": "entities"})
        first = reader.read_chunk()
        place.meanwhile(max(scan.head, told(first.app_metadata)["head"]))
        rest = [chunk.data for chunk in reader]
    by_flight = pa.Table.from_batches([first.data, *rest]).to_pylist()
    for found, head in ((by_flight, told(first.app_metadata)["head"]), (scan.to_polars().to_dicts(), scan.head)):
        entities: dict[str, dict[str, Any]] = {}
        for row in read(place, head, {}):
            at = row["position"]
            entity = entities.setdefault(row["entity_id"], {"entity_id": row["entity_id"], "first_position": at})
            entity.update(events=row["version"], last_position=at)
        assert found == [entities[name] for name in sorted(entities)]


COUNTS: dict[str, Callable[[annals.Scan], list[Any]]] = {
    "pyarrow": lambda scan: [
        (row["event_type"], row["event_type_count"])
        for row in pa.table(scan).group_by("event_type").aggregate([("event_type", "count")]).to_pylist()
    ],
    "Polars": lambda scan: pl.DataFrame(scan).group_by("event_type").len().rows(),
    "DuckDB": lambda scan: duckdb.execute("SELECT event_type, count(*) FROM scan GROUP BY ALL").fetchall(),
    "pandas": lambda scan: list(scan.to_pandas()["event_type"].value_counts().items()),
}


@pytest.mark.parametrize("engine", COUNTS)
def test_an_engine_counts_what_grpc_counts_while_appends_go_on(place: Place, engine: str) -> None:
    scan = place.client.scan(columns=["event_type"], **place.cut)
    place.meanwhile(scan.head)
    counts = COUNTS[engine](scan)
    wanted = Counter(event.event_type for event in place.client.read(through=scan.head))
    assert len(counts) == len(TYPES)
    assert dict(counts) == wanted
