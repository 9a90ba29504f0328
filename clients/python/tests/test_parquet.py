"""Segments are Parquet that other readers understand: each finds in them what the client reads."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from server import Server

import annals

ROOT = Path(__file__).resolve().parents[3]
PERMITS = ROOT / "tests" / "data" / "building-permits.jsonl.gz"
SEAL_EVENTS = 1_000
BATCH_EVENTS = 250
SEAL_SECONDS_MAX = 30.0

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("recorded_at", TIME, nullable=False),
        pa.field("occurred_at", TIME),
        pa.field("schema_id", pa.int32()),
        pa.field("payload", pa.string(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("tags", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)


class History:
    """What a server sealed: the rows that its client reads, and the files they stand in, each of so many row groups."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], groups: int) -> None:
        # Where `make run` has its data.
        self.folder = folder
        self.segments = folder / "data" / "tenants" / "default" / "segments"
        self.files = sorted(self.segments.glob("*.parquet"))
        self.glob = str(self.segments / "*.parquet")
        self.rows = rows
        self.groups = groups
        self.file_rows = len(rows) // len(self.files)


@pytest.fixture(scope="module", params=["sealed", "copied", "written anew"])
def history(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[History]:
    """As it was sealed; compacted by copying row groups, as that does with large ones; by making one of small ones."""
    folder = tmp_path_factory.mktemp("history")
    group_events = SEAL_EVENTS if request.param == "copied" else 1 << 17
    settings = (f"limits.seal_events={SEAL_EVENTS}", f"limits.row_group_events={group_events}", "compact.fan_in=64")
    server = Server(folder / "data", *settings)
    server.start()
    events = [*permits(), *made_events()]
    sealed = (len(events) - 1) // SEAL_EVENTS * SEAL_EVENTS
    assert sealed < len(events) < sealed + SEAL_EVENTS
    with annals.connect(server.url) as client:
        for first in range(0, len(events), BATCH_EVENTS):
            client.append(events[first : first + BATCH_EVENTS])
        tenant = sealed_through(client, sealed)
        assert (tenant.head, tenant.segments) == (len(events), sealed // SEAL_EVENTS)
        if request.param != "sealed":
            compact(client)
        rows = [row_of(event) for event in client.read(through=sealed)]
    assert len(rows) == sealed
    found = History(folder, rows, sealed // SEAL_EVENTS if request.param == "copied" else 1)
    assert len(found.files) == (tenant.segments if request.param == "sealed" else 1)
    # The files are read beside a server that goes on.
    yield found
    server.kill()


def sealed_through(client: annals.Client, position: int) -> annals.TenantStats:
    """Polls until everything up to a position is sealed."""
    deadline = time.monotonic() + SEAL_SECONDS_MAX
    while True:
        (tenant,) = client.stats().tenants
        if tenant.sealed >= position:
            return tenant
        assert time.monotonic() < deadline, tenant


def compact(client: annals.Client) -> None:
    """Compacts everything into one segment."""
    deadline = time.monotonic() + SEAL_SECONDS_MAX
    stats = client.compact()
    while stats.running:
        assert time.monotonic() < deadline, stats
        stats = client.compaction_stats()
    assert (stats.segments, stats.failures) == (1, 0), stats


def permits() -> Iterator[annals.NewEvent]:
    with gzip.open(PERMITS, "rt", encoding="utf-8") as lines:
        for event in map(json.loads, lines):
            yield annals.NewEvent(
                event["entity_id"],
                event["event_type"],
                event["payload"],
                occurred_at=datetime.fromisoformat(event["occurred_at"].replace("Z", "+00:00")),
            )


def made_events() -> Iterator[annals.NewEvent]:
    """Everything an event can have, in every combination."""
    tags: list[tuple[str, ...]] = [(), ("vip",), ("регион:eu", "vip"), tuple(f"tag:{n}" for n in range(40))]
    metadata: list[dict[str, Any] | None] = [None, {}, {"correlation_id": "ü-1", "名前": {"of": [1, None, "🚚"]}}]
    times = [
        None,
        datetime(1, 1, 1, tzinfo=timezone.utc),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
        datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=timezone(timedelta(hours=-7))),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
    ]
    payloads: list[Any] = [
        None,
        {"名前": "Zoë 🚚", "n": 2**60, "list": [1, 2.5, None, True], "nul": "a\u0000b"},
        "é" * 40_000,
    ]
    # As many as make a whole segment and the beginning of another.
    for n in range(1_600):
        yield annals.NewEvent(
            f"Bestellung Nº {n % 97} 🚚",
            ["order.placed", "заказ.создан"][n % 2],
            payloads[n % len(payloads) if n < 300 else 1],
            metadata=metadata[n // 3 % len(metadata)],
            tags=tags[n // 9 % len(tags)],
            occurred_at=times[n // 36 % len(times)],
        )


def row_of(event: annals.Event) -> dict[str, Any]:
    return {
        "position": event.position,
        "entity_id": event.entity_id,
        "version": event.version,
        "event_type": event.event_type,
        "event_id": event.event_id,
        "recorded_at": event.recorded_at,
        "occurred_at": event.occurred_at,
        "schema_id": None,
        "payload": event.payload_text,
        "metadata": event.metadata_text,
        "tags": list(event.tags),
    }


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    """Without extensions from elsewhere."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(config=config) as connection:
        yield connection


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_the_sample_has_everything_that_an_event_can_have(history: History) -> None:
    for column in ("occurred_at", "metadata"):
        assert {row[column] is None for row in history.rows} == {True, False}
    assert {len(row["tags"]) for row in history.rows} == {0, 1, 2, 40}
    assert min(row["occurred_at"] for row in history.rows if row["occurred_at"]).year == 1
    assert max(row["occurred_at"] for row in history.rows if row["occurred_at"]).year == 9999


def test_every_segment_has_the_documented_schema(history: History) -> None:
    for file in history.files:
        assert pq.read_schema(file).remove_metadata().equals(SCHEMA, check_metadata=False), file


def test_a_segment_is_named_by_its_positions_and_says_them(history: History) -> None:
    for number, file in enumerate(history.files):
        first, last = number * history.file_rows + 1, (number + 1) * history.file_rows
        assert file.name == f"{first:020}-{last:020}.parquet"
        metadata = pq.read_metadata(file)
        said = metadata.metadata
        assert (said[b"annals.format"], said[b"annals.first"], said[b"annals.last"]) == (
            b"1",
            str(first).encode(),
            str(last).encode(),
        )
        assert (metadata.num_rows, metadata.num_row_groups) == (history.file_rows, history.groups)


def test_pyarrow_reads_what_the_client_reads(history: History) -> None:
    dataset = ds.dataset(history.files, format="parquet")
    assert dataset.schema.remove_metadata().equals(SCHEMA)
    assert rows_of(dataset.to_table()) == history.rows


def test_polars_reads_what_the_client_reads(history: History) -> None:
    time, text = pl.Datetime("us", "UTC"), pl.String()
    events = pl.scan_parquet(history.glob).collect()
    assert events.schema == {
        "position": pl.Int64(),
        "entity_id": text,
        "version": pl.Int64(),
        "event_type": text,
        "event_id": text,
        "recorded_at": time,
        "occurred_at": time,
        "schema_id": pl.Int32(),
        "payload": text,
        "metadata": text,
        "tags": pl.List(text),
    }
    assert events.to_dicts() == history.rows


def test_duckdb_reads_what_the_client_reads(history: History, duck: duckdb.DuckDBPyConnection) -> None:
    described = duck.sql(f"DESCRIBE FROM read_parquet('{history.glob}')").fetchall()
    assert [(column[0], column[1]) for column in described] == [
        ("position", "BIGINT"),
        ("entity_id", "VARCHAR"),
        ("version", "BIGINT"),
        ("event_type", "VARCHAR"),
        ("event_id", "VARCHAR"),
        ("recorded_at", "TIMESTAMP WITH TIME ZONE"),
        ("occurred_at", "TIMESTAMP WITH TIME ZONE"),
        ("schema_id", "INTEGER"),
        ("payload", "VARCHAR"),
        ("metadata", "VARCHAR"),
        ("tags", "VARCHAR[]"),
    ]
    duck.execute("SET TimeZone = 'UTC'")
    assert rows_of(duck.sql(f"FROM read_parquet('{history.glob}')").arrow().read_all()) == history.rows


def test_statistics_spare_readers_what_they_do_not_ask_for(history: History) -> None:
    dataset = ds.dataset(history.files, format="parquet")

    def groups(condition: ds.Expression) -> int:
        return sum(len(fragment.subset(condition).row_groups) for fragment in dataset.get_fragments())

    assert groups(ds.field("position") >= 0) == len(history.files) * history.groups
    assert groups(ds.field("position") == SEAL_EVENTS) == 1
    assert groups(ds.field("position") > history.rows[-1]["position"]) == 0
    assert groups(ds.field("recorded_at") > history.rows[-1]["recorded_at"]) == 0
    assert groups(ds.field("entity_id") == "zzz") == 0
    # The smallest and the largest payload exclude nothing, so there is no room for them.
    group = pq.read_metadata(history.files[0]).row_group(0)
    with_statistics = {group.column(n).path_in_schema for n in range(group.num_columns) if group.column(n).is_stats_set}
    assert with_statistics == set(SCHEMA.names) - {"payload", "metadata", "tags"}
    for file in history.files:
        metadata = pq.read_metadata(file)
        for column in (
            metadata.row_group(g).column(n) for g in range(history.groups) for n in range(group.num_columns)
        ):
            assert column.has_offset_index, column
            assert column.has_column_index == column.is_stats_set, column


def test_filters_give_what_filtering_the_rows_gives(history: History, duck: duckdb.DuckDBPyConnection) -> None:
    entity_id = "Bestellung Nº 5 🚚"
    middle = history.rows[len(history.rows) // 2]["position"]
    for condition, is_wanted in (
        (f"position = {middle}", lambda row: row["position"] == middle),
        (f"position BETWEEN 995 AND {middle}", lambda row: 995 <= row["position"] <= middle),
        (f"entity_id = '{entity_id}'", lambda row: row["entity_id"] == entity_id),
        ("entity_id = 'case-891'", lambda row: row["entity_id"] == "case-891"),
        ("entity_id = 'nobody'", lambda _: False),
        (
            f"entity_id = '{entity_id}' AND position > 9000",
            lambda r: r["entity_id"] == entity_id and r["position"] > 9000,
        ),
        ("list_contains(tags, 'vip')", lambda row: "vip" in row["tags"]),
        ("metadata IS NULL", lambda row: row["metadata"] is None),
    ):
        wanted = [row["position"] for row in history.rows if is_wanted(row)]
        query = f"SELECT position FROM read_parquet('{history.glob}') WHERE {condition} ORDER BY position"  # noqa: S608
        assert [position for (position,) in duck.sql(query).fetchall()] == wanted, condition


def test_bloom_filters_are_understood(history: History, duck: duckdb.DuckDBPyConnection) -> None:
    for file in history.files:
        entities = {row["entity_id"] for row in rows_of(pq.read_table(file, columns=["entity_id"]))}
        # Of all row groups: one that a filter does not exclude may have it.
        probe = "SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe(?, 'entity_id', ?)"
        for entity_id in sorted(entities)[:20]:
            assert duck.execute(probe, [str(file), entity_id]).fetchone() == (False,)
        excluded = sum(duck.execute(probe, [str(file), f"nobody-{n}"]).fetchone() == (True,) for n in range(20))
        assert excluded > 10


def section_of_the_readme() -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"^## The history as Parquet$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


RECIPES = re.findall(r"^```python\n(.*?)^```$", section_of_the_readme(), re.MULTILINE | re.DOTALL)


def test_the_readme_has_a_recipe_for_each_reader() -> None:
    assert [recipe.split()[1] for recipe in RECIPES] == ["glob", "polars", "duckdb"]


@pytest.mark.parametrize("recipe", RECIPES, ids=["pyarrow", "polars", "duckdb"])
def test_a_recipe_of_the_readme_counts_the_events_of_each_type(
    history: History, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.chdir(history.folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(recipe, "<README>", "exec"), names)  # noqa: S102
    types = names["types"]
    match types:
        case pa.Table():
            counts = [tuple(row.values()) for row in rows_of(types)]
        case pl.DataFrame():
            counts = types.rows()
        case _:
            counts = types.fetchall()
    wanted = Counter(row["event_type"] for row in history.rows)
    assert dict(counts) == wanted
    assert [count for _, count in counts] == sorted(wanted.values(), reverse=True)
