"""What tables need no server for: tickets, commands, ids in columns, batches, and how a scan goes on."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import grpc
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import annals
from annals import _ids, _ingest, _tickets
from annals._scanning import Scanning
from annals._tickets import Selection, select
from annals.errors import from_status

AT = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
LOG_ID = "6b8e7d5c-1111-4222-8333-944455556666"


def ticket(*args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever `select` takes
    return json.loads(select(*args, **keywords).ticket())


def test_a_ticket_says_what_is_asked_for_and_nothing_else() -> None:
    assert ticket() == {}
    assert ticket("entities") == {"table": "entities"}
    assert ticket(
        ("types", "order.paid"),
        columns=["tags", "position"],
        entity_ids="a",
        event_types=["b", "c"],
        event_type_prefix="order.",
        tags=["ü 🚚"],
        partitions=[0, 7],
        query=[annals.item(types="x"), annals.item(tags=["y", "z"])],
        after=3,
        through=4,
        recorded_since=AT.astimezone(timezone(timedelta(hours=-7))),
        occurred_until=AT + timedelta(microseconds=1),
        as_of=annals.at_version(5),
        limit=6,
        follow=True,
        log_id=LOG_ID,
    ) == {
        "table": ["types", "order.paid"],
        "columns": ["tags", "position"],
        "entities": ["a"],
        "types": ["b", "c"],
        "type_prefix": "order.",
        "tags": ["ü 🚚"],
        "partitions": [0, 7],
        "query": [{"types": ["x"]}, {"tags": ["y", "z"]}],
        "after": 3,
        "through": 4,
        "recorded": {"since": "2026-01-31T12:00:00.000000Z"},
        "occurred": {"until": "2026-01-31T12:00:00.000001Z"},
        "as_of": "v5",
        "limit": 6,
        "follow": True,
        "log_id": LOG_ID,
    }
    assert ticket(as_of=annals.at_position(0)) == {"as_of": 0}
    assert ticket(as_of=AT) == {"as_of": "2026-01-31T12:00:00.000000Z"}
    # Positions and versions of which nothing was ever told are told all the same.
    assert ticket(occurred_since=datetime.min.replace(tzinfo=timezone.utc)) == {
        "occurred": {"since": "0001-01-01T00:00:00.000000Z"}
    }


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"columns": []}, "all of them"),
        ({"entity_ids": []}, "all events"),
        ({"limit": 0}, "limit"),
        ({"through": 0}, "through"),
        ({"recorded_since": datetime(2026, 1, 1)}, "time zone"),
        ({"as_of": datetime(2026, 1, 1)}, "time zone"),
    ],
)
def test_what_was_hardly_meant_is_refused(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        select("events", **keywords)


def test_a_cut_is_pinned_by_what_the_server_answered() -> None:
    events = select(after=3, as_of=AT).pinned(17, LOG_ID)
    assert json.loads(events.ticket()) == {"after": 3, "through": 17, "log_id": LOG_ID}
    assert json.loads(select().pinned(0, LOG_ID).ticket()) == {"through": 0, "log_id": LOG_ID}
    entities = select("entities", as_of=AT, entity_ids="a").pinned(17, LOG_ID)
    assert json.loads(entities.ticket()) == {"table": "entities", "entities": ["a"], "as_of": 17, "log_id": LOG_ID}


def test_the_command_of_an_upload_carries_guards_and_cursors() -> None:
    guards: list[annals.Guard] = [
        annals.absent("a"),
        annals.exists("a"),
        annals.version("a", 3),
        annals.no_match([annals.item(types="x", tags="t"), annals.item(tags="u")], after=7),
    ]
    cursors = [annals.CursorRecord("c", 5, expected=0), annals.CursorRecord("d", 6)]
    assert json.loads(_tickets.upload(guards, cursors, LOG_ID)) == {
        "table": "events",
        "guards": [
            {"entity": "a", "expect": "absent"},
            {"entity": "a", "expect": "exists"},
            {"entity": "a", "version": 3},
            {"no_match": [{"types": ["x"], "tags": ["t"]}, {"tags": ["u"]}], "after": 7},
        ],
        "cursors": [{"name": "c", "position": 5, "expected": 0}, {"name": "d", "position": 6}],
        "log_id": LOG_ID,
    }
    assert json.loads(_tickets.upload((), (), None)) == {"table": "events"}
    with pytest.raises(TypeError, match="not a guard"):
        _tickets.upload(["a"], (), None)  # type: ignore[list-item]


def test_ids_of_a_column_are_those_that_events_get_one_by_one() -> None:
    before = _ids.uuid7()
    raw = _ids.uuid7_bytes(10_000)
    made = [uuid.UUID(bytes=raw[n : n + 16]) for n in range(0, len(raw), 16)]
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    assert all(a < b for a, b in pairwise([before, *made, _ids.uuid7()]))
    assert len({one.int & (1 << 62) - 1 for one in made}) == len(made)


def rows(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(numbers, pa.int64())})


def told(position: int | None, head: int, log_id: str = LOG_ID) -> bytes:
    at = {} if position is None else {"position": position}
    return json.dumps({**at, "head": head, "log_id": log_id}).encode()


def numbers_of(batch: pa.RecordBatch | None) -> list[int] | None:
    return None if batch is None else batch.column("n").to_pylist()


def scanning(selection: Selection) -> Scanning:
    return Scanning(selection, annals.RetryPolicy(attempts=3), 2)


BROKEN = from_status(grpc.StatusCode.UNAVAILABLE, "broken", None)


def test_a_scan_goes_on_after_the_last_batch_that_was_handed_out() -> None:
    scan = scanning(select(after=2, limit=10, as_of=AT, tags="t"))
    assert json.loads(scan.request().ticket()) == {
        "after": 2,
        "limit": 10,
        "as_of": "2026-01-31T12:00:00.000000Z",
        "tags": ["t"],
    }
    scan.accept(rows(3, 5), told(6, 20))
    assert (scan.position, scan.head, scan.log_id) == (2, 20, LOG_ID)
    assert numbers_of(scan.next()) == [3, 5]
    assert scan.next() is None
    assert scan.position == 6
    # Without rows it comes further all the same.
    scan.accept(rows(), told(9, 20))
    assert scan.next() is None
    assert not scan.is_complete()
    assert scan.wait_after(BROKEN) is not None
    assert json.loads(scan.request().ticket()) == {
        "after": 9,
        "through": 20,
        "limit": 8,
        "tags": ["t"],
        "log_id": LOG_ID,
    }
    scan.accept(rows(12), told(20, 20))
    assert numbers_of(scan.next()) == [12]
    assert scan.is_done()
    assert scan.is_complete()


def test_a_scan_is_complete_at_its_limit() -> None:
    scan = scanning(select(limit=2))
    scan.accept(rows(3, 5), told(4, 20))
    assert not scan.is_done()
    assert numbers_of(scan.next()) == [3, 5]
    assert scan.is_done()
    assert scan.is_complete()


def test_entities_go_on_behind_those_that_were_handed_out() -> None:
    scan = scanning(select("entities", limit=9))
    scan.accept(rows(1, 2, 3), told(None, 20))
    assert numbers_of(scan.next()) == [1, 2, 3]
    assert scan.wait_after(BROKEN) is not None
    again = {"table": "entities", "as_of": 20, "limit": 9, "log_id": LOG_ID}
    assert json.loads(scan.request().ticket()) == again
    for batch, wanted in ((rows(1, 2), None), (rows(3, 4), [4]), (rows(5), [5])):
        scan.accept(batch, told(None, 20))
        assert numbers_of(scan.next()) == wanted
    assert scan.wait_after(BROKEN) is not None
    scan.request()
    scan.accept(rows(1, 2, 3, 4, 5, 6), told(None, 20))
    assert numbers_of(scan.next()) == [6]
    assert not scan.is_done()
    assert scan.is_complete()
    assert scan.position == 0


def test_what_follows_is_never_complete_nor_pinned() -> None:
    scan = scanning(select(after=4, follow=True))
    scan.accept(rows(), told(7, 7))
    assert scan.next() is None
    assert not scan.is_complete()
    assert json.loads(scan.request().ticket()) == {"after": 7, "follow": True, "log_id": LOG_ID}


def test_a_scan_gives_up_after_as_many_failures_in_a_row_as_a_read() -> None:
    scan = scanning(select())
    assert [scan.wait_after(BROKEN) is None for _ in range(3)] == [False, False, True]
    scan.accept(rows(1), told(1, 2))
    assert [scan.wait_after(BROKEN) is None for _ in range(3)] == [False, False, True]
    refused = from_status(grpc.StatusCode.INVALID_ARGUMENT, "no", None)
    assert scanning(select()).wait_after(refused) is None


def divided(data: object, batch_rows: int) -> list[pa.RecordBatch]:
    reader = _ingest.reader_of(data)
    schema = _ingest.schema_for(reader.schema)
    batches = list(_ingest.divided(schema, reader, batch_rows))
    assert all(batch.schema.equals(schema, check_metadata=True) for batch in batches)
    return batches


def test_batches_are_a_matter_of_the_rows_alone() -> None:
    numbers = pa.table({"n": list(range(100))})
    for chunk in (1, 7, 30, 100):
        pieces = pa.RecordBatchReader.from_batches(numbers.schema, numbers.to_batches(max_chunksize=chunk))
        batches = divided(pieces, 30)
        assert [numbers_of(batch) for batch in batches] == [
            list(range(first, min(first + 30, 100))) for first in range(0, 100, 30)
        ]


def test_batches_of_large_rows_are_smaller() -> None:
    table = pa.table({"payload": ["x" * 100_000] * 100, "n": list(range(100))})
    batches = divided(table, 8_192)
    assert pa.Table.from_batches(batches).column("n").to_pylist() == list(range(100))
    assert max(batch.nbytes for batch in batches) <= _ingest.BATCH_BYTES_MAX < table.nbytes
    assert min(batch.nbytes for batch in batches) > _ingest.BATCH_BYTES_MAX // 4
    enormous = pa.table({"payload": ["x" * (_ingest.BATCH_BYTES_MAX + 1)] * 2})
    assert [batch.num_rows for batch in divided(enormous, 10)] == [1, 1]


KEPT = "0190f5fe-7c00-7a00-8000-000000000001"


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([KEPT, None]),
        pa.array([KEPT, None], pa.large_string()),
        pa.array([KEPT, None], pa.string_view()),
        pa.array([KEPT, None]).dictionary_encode(),
        pa.array([uuid.UUID(KEPT).bytes, None], pa.binary(16)),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(KEPT).bytes, None], pa.binary(16))),
    ],
    ids=lambda ids: str(ids.type),
)
def test_only_rows_without_an_id_get_one(ids: pa.Array) -> None:
    (batch,) = divided(pa.table({"event_id": ids}), 10)
    kept, made = (
        uuid.UUID(value) if isinstance(value, str) else uuid.UUID(bytes=value)
        for value in batch.column("event_id").to_pylist()
    )
    assert str(kept) == KEPT
    assert made.version == 7


@pytest.mark.parametrize("data", [pa.table({"n": [1, 2]}), pa.table({"event_id": pa.nulls(2), "n": [1, 2]})])
def test_a_table_without_ids_gets_a_column_of_them(data: pa.Table) -> None:
    first, second = (divided(data, 10)[0].column("event_id") for _ in range(2))
    assert first.type == pa.binary(16)
    assert first.null_count == 0
    assert len({*first.to_pylist(), *second.to_pylist()}) == 4


def test_tables_of_every_kind_become_batches_of_plain_types() -> None:
    polars = pl.DataFrame(
        {
            "entity_id": pl.Series(["a", "b"], dtype=pl.Categorical),
            "payload": ["{}", "a text that is longer than what a view holds"],
            "tags": [["x", "y"], None],
        }
    )
    pandas = polars.to_pandas().set_index(pd.Index([5, 6]))
    for data in (polars, pandas, polars.to_arrow(), polars.to_arrow().to_batches()[0], polars.to_arrow().to_reader()):
        (batch,) = divided(data, 10)
        assert batch.schema.names == ["entity_id", "payload", "tags", "event_id"]
        text = (pa.string(), pa.large_string())
        assert batch.schema.field("entity_id").type in text
        assert batch.schema.field("payload").type in text
        assert batch.schema.field("tags").type.value_type in text
        assert batch.drop_columns(["event_id"]).to_pylist() == [
            {"entity_id": "a", "payload": "{}", "tags": ["x", "y"]},
            {"entity_id": "b", "payload": "a text that is longer than what a view holds", "tags": None},
        ]
    with pytest.raises(TypeError, match="LazyFrame; collect it first"):
        _ingest.reader_of(polars.lazy())
