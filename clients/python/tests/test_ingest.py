"""Tables appended to a real server: from every library, under guards, in spite of lost answers."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from proxy import Proxy
from server import Server

import annals
from annals._ingest import BATCH_BYTES_MAX, divided, schema_for

AT = datetime(2026, 2, 3, 4, 5, 6, 789_012, tzinfo=timezone.utc)
IDS = [str(uuid.UUID(int=uuid.UUID("0190f5fe-7c00-7a00-8000-000000000000").int + n)) for n in range(3)]


def plain(count: int, first: int = 0) -> pa.Table:
    """As many rows with what is required, and an entity for each three."""
    numbers = range(first, first + count)
    return pa.table(
        {
            "entity_id": [f"order-{n % 3}" for n in numbers],
            "event_type": ["order.changed"] * count,
            "payload": [f'{{"n":{n}}}' for n in numbers],
        }
    )


def full() -> pa.Table:
    """Rows with all that an event can have, and rows without it."""
    return pa.table(
        {
            "payload": ['{"名前":"Zoë 🚚"}', "null", "[1, 2]"],
            "entity_id": ["Bestellung Nº 1 🚚", "b", "b"],
            "event_type": ["заказ.создан", "t", "t"],
            "event_id": IDS,
            "occurred_at": pa.array([AT, None, datetime.min.replace(tzinfo=timezone.utc)], pa.timestamp("us", "UTC")),
            "metadata": ['{"correlation_id":"ü-1"}', None, "{}"],
            "tags": [["регион:eu", "vip"], [], None],
        }
    )


def stored(client: annals.Client) -> list[tuple[Any, ...]]:
    return [
        (e.entity_id, e.event_type, e.payload_text, e.event_id, e.occurred_at, e.metadata_text, e.tags)
        for e in client.read()
    ]


FULL = [
    (
        "Bestellung Nº 1 🚚",
        "заказ.создан",
        '{"名前":"Zoë 🚚"}',
        IDS[0],
        AT,
        '{"correlation_id":"ü-1"}',
        ("регион:eu", "vip"),
    ),
    ("b", "t", "null", IDS[1], None, None, ()),
    ("b", "t", "[1, 2]", IDS[2], datetime.min.replace(tzinfo=timezone.utc), "{}", ()),
]


def in_duckdb(table: pa.Table) -> object:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection.from_arrow(table).project("* REPLACE (event_id::UUID AS event_id)")


def with_views(table: pa.Table) -> pa.Table:
    text, texts = pa.string_view(), pa.list_view(pa.string_view())
    types = {"tags": texts, "occurred_at": pa.timestamp("us", "UTC")}
    return pa.table(table.to_pydict(), pa.schema([(name, types.get(name, text)) for name in table.schema.names]))


KINDS: dict[str, Callable[[pa.Table], object]] = {
    "a table": lambda table: table,
    "a batch": lambda table: table.to_batches()[0],
    "a reader": lambda table: table.to_reader(max_chunksize=2),
    "views": with_views,
    "dictionaries": lambda table: table.set_column(1, "entity_id", table["entity_id"].dictionary_encode()),
    "binary ids": lambda table: table.set_column(
        3, "event_id", pa.array([uuid.UUID(text).bytes for text in IDS], pa.binary(16))
    ),
    "Polars": pl.from_arrow,
    "Polars with categories": lambda table: pl.DataFrame(table).with_columns(pl.col("entity_id").cast(pl.Categorical)),
    "pandas": lambda table: table.to_pandas().set_index(pd.Index(["x", "y", "z"], name="position")),
    "DuckDB": in_duckdb,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_any_kind_is_stored_as_it_was(client: annals.Client, kind: str) -> None:
    result = client.ingest(KINDS[kind](full()))
    assert (result.events, result.first_position, result.last_position, result.duplicates) == (3, 1, 3, 0)
    assert result.log_id == client.read(limit=1).log_id
    assert stored(client) == FULL


def test_times_of_any_unit_and_zone_are_stored_in_utc(client: annals.Client) -> None:
    whole = AT.replace(microsecond=0)
    for unit, zone in (("s", None), ("ms", "UTC"), ("us", "America/Denver"), ("ns", "+02:00")):
        times = pa.array([whole.replace(tzinfo=None)], pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
        client.ingest(plain(1).append_column("occurred_at", times))
    assert [event.occurred_at for event in client.read()] == [whole] * 4


def test_columns_without_a_value_may_have_no_type(client: annals.Client) -> None:
    frame = pd.DataFrame(
        {"entity_id": ["a"], "event_type": ["t"], "payload": ["1"], "metadata": [None], "tags": [None]}
    )
    client.ingest(frame)
    client.ingest(pl.DataFrame(frame.to_dict("list")))
    assert [(e.metadata, e.tags) for e in client.read()] == [(None, ())] * 2


def test_batches_are_appended_in_order(client: annals.Client) -> None:
    result = client.ingest(plain(1_000), batch_rows=7)
    assert (result.events, result.first_position, result.last_position) == (1_000, 1, 1_000)
    events = list(client.read())
    assert [event.payload["n"] for event in events] == list(range(1_000))
    assert {uuid.UUID(event.event_id).version for event in events} == {7}
    # What was durable together has one time, and each batch was.
    times = [event.recorded_at for event in events]
    for first in range(0, 1_000, 7):
        assert len(set(times[first : first + 7])) == 1


def test_large_rows_are_no_reason_to_divide_a_table_by_hand(client: annals.Client) -> None:
    table = pa.table({"entity_id": ["a"] * 60, "event_type": ["t"] * 60, "payload": [f'"{"x" * 500_000}"'] * 60})
    assert client.ingest(table).events == 60
    assert client.read(limit=1).head == 60


def test_a_table_without_rows_is_nothing(client: annals.Client) -> None:
    assert client.ingest(plain(0)) == annals.IngestResult(0, 0, 0, 0, "")


def test_a_table_with_ids_may_come_again(client: annals.Client) -> None:
    client.ingest(full())
    again = client.ingest(full())
    assert (again.events, again.first_position, again.last_position, again.duplicates) == (3, 1, 3, 3)
    more = pa.concat_tables([full(), plain(5)], promote_options="default")
    result = client.ingest(more, batch_rows=3)
    assert (result.events, result.first_position, result.last_position, result.duplicates) == (8, 1, 8, 3)
    with pytest.raises(annals.AlreadyExists):
        client.ingest(full().set_column(0, "payload", pa.array(["0", "0", "0"])))


def test_without_ids_every_ingest_is_another(client: annals.Client) -> None:
    for _ in range(2):
        assert client.ingest(plain(3)).duplicates == 0
    assert client.read(limit=1).head == 6


def test_guards_are_about_all_rows_at_once(client: annals.Client) -> None:
    # More than `batch_rows`: not divided.
    table = full()
    guards: list[annals.Guard] = [annals.absent("b"), annals.no_match(annals.item(tags="vip"), after=0)]
    assert client.ingest(table, guards=guards, batch_rows=2).events == 3
    # The repeat is one, whatever the guards would say now.
    assert client.ingest(table, guards=guards, batch_rows=2).duplicates == 3

    with pytest.raises(annals.VersionConflict) as conflict:
        client.ingest(plain(5), guards=[annals.exists("b"), annals.version("b", 1)])
    error = conflict.value
    assert (error.entity_id, error.expected, error.found, error.index) == ("b", 1, 2, 1)
    assert (error.reason, error.code.name) == ("VERSION_CONFLICT", "ABORTED")
    assert error.ingested == annals.IngestResult(0, 0, 0, 0, "")
    with pytest.raises(annals.QueryMatched) as matched:
        client.ingest(plain(5), guards=annals.no_match(annals.item(tags="vip"), after=0))
    assert matched.value.found_position == 1
    assert client.read(limit=1).head == 3
    client.ingest(plain(5), guards=annals.version("b", 2))


def test_cursors_are_committed_with_the_rows_or_alone(client: annals.Client) -> None:
    client.ingest(plain(2))
    result = client.ingest(plain(2), cursors=annals.CursorRecord("worker", 1, expected=0))
    assert (result.events, result.last_position) == (2, 4)
    assert client.cursor("worker").position == 1
    alone = client.ingest(plain(0), cursors=[annals.CursorRecord("worker", 2, expected=1)])
    assert (alone.events, alone.first_position, alone.last_position) == (0, 0, 0)
    assert alone.log_id == result.log_id
    assert client.cursor("worker").position == 2
    with pytest.raises(annals.CursorConflict) as conflict:
        client.ingest(plain(2), cursors=annals.CursorRecord("worker", 3, expected=1))
    assert (conflict.value.name, conflict.value.expected, conflict.value.found) == ("worker", 1, 2)
    assert client.read(limit=1).head == 4


def test_what_was_stored_before_a_refusal_stays_and_is_told(client: annals.Client) -> None:
    payloads = ["{}"] * 100
    payloads[57] = "{"
    table = plain(100).set_column(2, "payload", pa.array(payloads))
    with pytest.raises(annals.InvalidArgument) as caught:
        client.ingest(table, batch_rows=20)
    error = caught.value
    assert error.ingested is not None
    assert (error.ingested.events, error.ingested.last_position) == (40, 40)
    assert [violation.field for violation in error.violations] == ["events[17].payload"]
    assert client.read(limit=1).head == 40


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda table: table.drop_columns(["payload"]), "payload"),
        (lambda table: table.append_column("position", pa.array([1, 2])), "position"),
        (lambda table: table.append_column("amount", pa.array([1, 2])), "amount"),
        (lambda table: table.set_column(2, "payload", pa.array([{"a": 1}, {"a": 2}])), "payload"),
        (lambda table: table.set_column(0, "entity_id", pa.array(["a", None])), "events[1].entity_id"),
        (lambda table: table.append_column("event_id", pa.array([1, 2])), "event_id"),
    ],
    ids=str,
)
def test_a_column_that_is_none_is_named(
    client: annals.Client, change: Callable[[pa.Table], pa.Table], field: str
) -> None:
    with pytest.raises(annals.InvalidArgument) as caught:
        client.ingest(change(plain(2)))
    assert [violation.field for violation in caught.value.violations] == [field]
    assert caught.value.reason
    assert client.read().head == 0


def test_what_is_no_table_is_refused_at_once(client: annals.Client) -> None:
    for data in (plain(2).to_pylist(), pl.LazyFrame({"entity_id": ["a"]}), annals.NewEvent("a", "t", 1)):
        with pytest.raises(TypeError, match="not a table"):
            client.ingest(data)
    with pytest.raises(ValueError, match="batch_rows"):
        client.ingest(plain(2), batch_rows=0)
    with pytest.raises(TypeError, match="not a guard"):
        client.ingest(plain(2), guards=["a"])  # type: ignore[list-item]


@pytest.mark.parametrize("conditions", [{}, {"cursors": annals.CursorRecord("worker", 1)}], ids=["alone", "guarded"])
def test_what_goes_wrong_in_the_source_is_raised_as_it_is(client: annals.Client, conditions: dict[str, Any]) -> None:
    def source() -> Iterator[pa.RecordBatch]:
        yield from plain(10).to_batches()
        raise LookupError("the source is gone")

    client.ingest(plain(1))
    reader = pa.RecordBatchReader.from_batches(plain(1).schema, source())
    with pytest.raises(LookupError, match="the source is gone") as caught:
        client.ingest(reader, batch_rows=5, **conditions)
    # Of a guarded table nothing is stored, not its cursors either.
    assert client.read().head == (1 if conditions else 11)
    assert client.cursor("worker").position == 0
    if not conditions:
        ingested: annals.IngestResult = caught.value.ingested  # type: ignore[attr-defined]
        assert (ingested.events, ingested.first_position, ingested.last_position) == (10, 2, 11)


def test_large_rows_are_divided_by_their_bytes_wherever_batches_begin(client: annals.Client) -> None:
    sizes = [*[10] * 300, *[700_000] * 20, *[10] * 50, *[900_000] * 9, 10]
    table = pa.table(
        {
            "entity_id": ["a"] * len(sizes),
            "event_type": ["t"] * len(sizes),
            "payload": [json.dumps("x" * size) for size in sizes],
            "tags": [["one", "two"]] * len(sizes),
        }
    )
    made = []
    for chunk_rows in (1, 7, 1_000):
        reader = table.to_reader(max_chunksize=chunk_rows)
        parts = list(divided(schema_for(reader.schema), reader, 350))
        assert (
            pa.Table.from_batches(parts).column("payload").combine_chunks() == table.column("payload").combine_chunks()
        )
        assert all(sum(map(len, part.column("payload").to_pylist())) <= BATCH_BYTES_MAX for part in parts)
        made.append([part.num_rows for part in parts])
    assert made[0] == made[1] == made[2]
    assert len(made[0]) > 5
    assert client.ingest(table).events == len(sizes)
    assert [len(event.payload) for event in client.read()] == sizes


def test_a_table_that_fits_no_arrow_array_is_ingested_by_parts() -> None:
    # 2.7 GB of texts, which share their memory, within the rows of one batch.
    one = pa.record_batch(
        {"entity_id": ["a"] * 30, "event_type": ["t"] * 30, "payload": ['"' + "x" * 900_000 + '"'] * 30}
    )
    parts = divided(schema_for(one.schema), (one for _ in range(100)), 8_192)
    rows = [part.num_rows for part in parts]
    assert sum(rows) == 3_000
    assert set(rows[:-1]) == {4}


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["a", "b"])])
def test_tags_may_be_categories(client: annals.Client, kind: type[pl.Categorical] | pl.Enum) -> None:
    tags = pl.Series([["a"], [], ["b", "a"]], dtype=pl.List(kind))
    frame = pl.DataFrame({"entity_id": ["x"] * 3, "event_type": ["t"] * 3, "payload": ["{}"] * 3, "tags": tags})
    assert client.ingest(frame).events == 3
    assert [list(event.tags) for event in client.read()] == [["a"], [], ["b", "a"]]


def test_another_incarnation_of_the_log_is_refused(client: annals.Client) -> None:
    log_id = client.ingest(plain(1)).log_id
    assert client.ingest(plain(1), log_id=log_id).events == 1
    with pytest.raises(annals.FailedPrecondition):
        client.ingest(plain(1), log_id=str(uuid.uuid4()))


def test_batches_whose_answers_are_lost_are_stored_once(client: annals.Client, proxy: Proxy) -> None:
    live = client.subscribe()
    with annals.connect(proxy.url) as far:
        far.ingest(plain(1))
        proxy.hold()
        answer: list[annals.IngestResult] = []
        ingesting = threading.Thread(target=lambda: answer.append(far.ingest(plain(100, first=1), batch_rows=5)))
        ingesting.start()
        # They are on disk although their client does not know.
        seen = [next(live).payload["n"] for _ in range(12)]
        proxy.cut()
        ingesting.join()
    (result,) = answer
    assert (result.events, result.first_position, result.last_position) == (100, 2, 101)
    assert 0 < result.duplicates < 100
    assert seen == list(range(12))
    assert [event.payload["n"] for event in client.read()] == list(range(101))
    assert proxy.connections == 2


def test_guarded_rows_whose_answer_is_lost_are_stored_once(client: annals.Client, proxy: Proxy) -> None:
    live = client.subscribe()
    with annals.connect(proxy.url) as far:
        far.ingest(plain(0))
        proxy.hold()
        answer: list[annals.IngestResult] = []
        ingesting = threading.Thread(
            target=lambda: answer.append(far.ingest(plain(3), guards=annals.absent("order-0")))
        )
        ingesting.start()
        assert next(live).version == 1
        proxy.cut()
        ingesting.join()
    assert (answer[0].events, answer[0].duplicates) == (3, 3)
    assert client.read().head == 3


def test_cursors_alone_whose_answer_is_lost_are_not_sent_again(client: annals.Client, proxy: Proxy) -> None:
    client.ingest(plain(1))
    with annals.connect(proxy.url) as far:
        far.ingest(plain(0))
        proxy.hold()
        caught: list[annals.AnnalsError] = []

        def ingest() -> None:
            try:
                far.ingest(plain(0), cursors=annals.CursorRecord("worker", 1))
            except annals.AnnalsError as error:
                caught.append(error)

        ingesting = threading.Thread(target=ingest)
        ingesting.start()
        while client.cursor("worker").position == 0:
            pass
        proxy.cut()
        ingesting.join()
    assert type(caught[0]) is annals.Unavailable
    assert proxy.connections == 1


def test_an_ingest_outlives_its_server(server: Server, client: annals.Client) -> None:
    def source() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(plain(400).to_batches(max_chunksize=10)):
            if number == 9:
                server.kill()
                server.start()
            if number == 25:
                server.stop()
                server.start()
            yield batch

    reader = pa.RecordBatchReader.from_batches(plain(1).schema, source())
    result = client.ingest(reader, batch_rows=10)
    assert (result.events, result.first_position, result.last_position) == (400, 1, 400)
    assert [event.payload["n"] for event in client.read()] == list(range(400))


def test_attempts_end_when_no_server_is_there(server: Server) -> None:
    server.kill()
    retry = annals.RetryPolicy(attempts=3, delay_seconds_first=0.01)
    with annals.connect(server.url, retry=retry) as client, pytest.raises(annals.Unavailable) as caught:
        client.ingest(plain(3))
    assert caught.value.ingested == annals.IngestResult(0, 0, 0, 0, "")


def test_a_scan_of_one_log_is_appended_to_another(server: Server, client: annals.Client, tmp_path: Any) -> None:  # noqa: ANN401
    client.ingest(full())
    other = Server(tmp_path / "other")
    other.start()
    try:
        with annals.connect(other.url) as there:
            columns = full().schema.names
            assert there.ingest(client.scan(columns=columns)).events == 3
            assert stored(there) == FULL
    finally:
        other.kill()


def test_a_time_of_occurrence_may_be_long_ago(client: annals.Client) -> None:
    times = pl.Series([AT - timedelta(days=365_000)], dtype=pl.Datetime("ms", "UTC"))
    client.ingest(pl.DataFrame(plain(1)).with_columns(occurred_at=times))
    assert client.get_event(position=1).occurred_at == (AT - timedelta(days=365_000)).replace(microsecond=789_000)
