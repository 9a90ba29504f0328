"""What there is, as ADBC's driver for Flight SQL tells it, and bulk ingestion into it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi
from server import Server
from test_flight_sql import connect, rows

import annals

INFORMATION = ["columns", "df_settings", "parameters", "routines", "schemata", "tables", "views"]
TYPES = ["a%b", "order", "order.paid", "order_placed"]
Objects = dict[str, dict[str, list[str]]]


@pytest.fixture
def connection(server: Server) -> Iterator[dbapi.Connection]:
    """To a server that has events of a few types."""
    with annals.connect(server.url) as client:
        client.append([annals.NewEvent("e", event_type, {}) for event_type in TYPES])
    with connect(server) as connection:
        yield connection


@pytest.fixture
def cursor(connection: dbapi.Connection) -> Iterator[dbapi.Cursor]:
    with connection.cursor() as cursor:
        yield cursor


def objects(connection: dbapi.Connection, **filters: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    found: list[dict[str, Any]] = connection.adbc_get_objects(**filters).read_all().to_pylist()
    return found


def tables(connection: dbapi.Connection, depth: Any = "tables", **filters: Any) -> Objects:  # noqa: ANN401
    (catalog,) = objects(connection, depth=depth, **filters)
    assert catalog["catalog_name"] == "default"
    return {
        schema["db_schema_name"]: {
            table["table_name"]: [column["column_name"] for column in table["table_columns"] or []]
            for table in schema["db_schema_tables"] or []
        }
        for schema in catalog["catalog_db_schemas"]
    }


def test_objects_are_listed_at_every_depth(connection: dbapi.Connection) -> None:
    assert objects(connection, depth="catalogs") == [{"catalog_name": "default", "catalog_db_schemas": None}]
    schemas = tables(connection, "db_schemas")
    assert schemas == {"annals": {}, "information_schema": {}, "types": {}}
    found = tables(connection)
    assert {schema: list(tables) for schema, tables in found.items()} == {
        "annals": ["entities", "events"],
        "information_schema": INFORMATION,
        "types": TYPES,
    }
    columns = tables(connection, "all")
    assert columns["annals"]["entities"][:4] == ["entity_id", "events", "first_position", "last_position"]
    assert columns["annals"]["events"][:4] == ["position", "entity_id", "version", "event_type"]
    assert columns["types"]["order.paid"] == columns["annals"]["events"]
    assert columns["information_schema"]["tables"] == ["table_catalog", "table_schema", "table_name", "table_type"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("order", ["order"]),
        ("order%", ["order", "order.paid", "order_placed"]),
        ("order_paid", ["order.paid"]),
        ("order_placed", ["order_placed"]),
        (r"order\_%", ["order_placed"]),
        ("%d", ["order.paid", "order_placed"]),
        ("%", TYPES),
        ("", []),
        ("ORDER", []),
        ("a%b", ["a%b"]),
        (r"a\%b", ["a%b"]),
        ("nothing", []),
    ],
)
def test_tables_are_found_by_patterns(connection: dbapi.Connection, pattern: str, found: list[str]) -> None:
    assert list(tables(connection, db_schema_filter="types", table_name_filter=pattern)["types"]) == found


def test_objects_are_filtered(connection: dbapi.Connection) -> None:
    assert objects(connection, depth="catalogs", catalog_filter="other") == []
    assert tables(connection, "db_schemas", db_schema_filter="%n%s") == {"annals": {}}
    assert tables(connection, "db_schemas", catalog_filter="def%", db_schema_filter="t_pes") == {"types": {}}
    views = tables(connection, table_types_filter=["VIEW"])
    assert list(views["information_schema"]) == INFORMATION
    assert views["annals"] == views["types"] == {}
    assert list(tables(connection, table_types_filter=["TABLE"])["annals"]) == ["entities", "events"]
    columns = tables(connection, "all", table_name_filter="entities", column_name_filter="%_position")
    assert columns["annals"] == {"entities": ["first_position", "last_position"]}


@pytest.mark.usefixtures("connection")
def test_tables_are_those_of_the_past(server: Server) -> None:
    with connect(server, annals_as_of="2") as past:
        assert list(tables(past, db_schema_filter="types")["types"]) == TYPES[:2]


def test_types_of_tables_are_listed(connection: dbapi.Connection) -> None:
    assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]


def test_a_table_that_is_not_there_has_no_schema(connection: dbapi.Connection) -> None:
    assert connection.adbc_get_table_schema("events").field("position").type == pa.int64()
    for name, schema in [("nothing", None), ("events", "types"), ("order.paid", "annals"), ("order-placed", "types")]:
        with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
            connection.adbc_get_table_schema(name, db_schema_filter=schema)
    with pytest.raises(dbapi.ProgrammingError, match="NOT_FOUND"):
        connection.adbc_get_table_schema("events", catalog_filter="other")


def test_the_server_says_who_it_is(connection: dbapi.Connection) -> None:
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Annals"
    assert info["vendor_version"]
    assert info["vendor_arrow_version"]


def some(count: int, **columns: Any) -> pa.Table:  # noqa: ANN401
    default = {"entity_id": ["e"] * count, "event_type": ["made"] * count, "payload": ["{}"] * count}
    return pa.table({**default, **columns})


def test_rows_are_ingested(cursor: dbapi.Cursor) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    at = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    table = some(3, event_id=ids, tags=[["x"], [], ["y", "z"]], occurred_at=[at] * 3, metadata=['{"a": 1}', None, None])
    assert cursor.adbc_ingest("events", table, mode="append") == 3
    # Ids make repeats harmless: the rows are there, and are there once.
    assert cursor.adbc_ingest("events", table, mode="append") == 3
    found = rows(cursor, "select event_id, tags, occurred_at from events where event_type = 'made' order by position")
    assert found == [(ids[0], ["x"], at), (ids[1], [], at), (ids[2], ["y", "z"], at)]
    assert rows(cursor, "select count(*) from events") == [(len(TYPES) + 3,)]


def test_rows_come_as_batches_readers_and_frames(
    cursor: dbapi.Cursor, connection: dbapi.Connection, server: Server
) -> None:
    table = some(4)
    assert cursor.adbc_ingest("events", table.to_batches()[0], mode="append") == 4
    assert cursor.adbc_ingest("events", table.to_reader(max_chunksize=1), mode="append", db_schema_name="annals") == 4
    assert cursor.adbc_ingest("events", table, mode="create_append", catalog_name="default") == 4
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    assert frame.write_database("events", connection, engine="adbc", if_table_exists="append") == 4
    assert rows(cursor, "select count(*) from events where event_type = 'made'") == [(16,)]


def test_a_table_of_any_size_is_ingested(tmp_path: Any) -> None:  # noqa: ANN401
    limits = {"batch_events_max": 100, "batch_bytes_max": 20_000, "event_bytes_max": 1_000}
    server = Server(tmp_path / "data", *(f"limits.{name}={value}" for name, value in limits.items()))
    server.start()
    try:
        payloads = [f'{{"n": {n}, "text": "{"x" * (n * 13 % 500)}"}}' for n in range(1234)]
        with connect(server) as connection, connection.cursor() as cursor:
            assert cursor.adbc_ingest("events", some(1234, payload=payloads), mode="append") == 1234
            found = rows(cursor, "select payload from events order by position")
            assert [payload for (payload,) in found] == payloads
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"mode": "create"}, dbapi.NotSupportedError, "neither made anew nor replaced"),
        ({"mode": "replace"}, dbapi.NotSupportedError, "neither made anew nor replaced"),
        ({"temporary": True}, dbapi.NotSupportedError, "no temporary tables"),
        ({"table_name": "entities"}, dbapi.ProgrammingError, 'is not "events"'),
        ({"db_schema_name": "types"}, dbapi.ProgrammingError, 'is not "events" in the schema "annals"'),
        ({"catalog_name": "other"}, dbapi.ProgrammingError, 'is not the catalog "default"'),
        ({"data": some(1).drop_columns(["payload"])}, dbapi.ProgrammingError, "payload: is missing"),
        ({"data": some(1, position=[7])}, dbapi.ProgrammingError, "position: is assigned by the server"),
        ({"data": some(1, x=[7])}, dbapi.ProgrammingError, "x: is no column of an event"),
        ({"data": some(2, payload=["{}", "{"])}, dbapi.ProgrammingError, r"events\[1\].payload"),
        ({"data": some(1, entity_id=pa.array([None], pa.string()))}, dbapi.ProgrammingError, "entity_id"),
    ],
)
def test_what_cannot_be_ingested_is_refused(
    cursor: dbapi.Cursor, arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        cursor.adbc_ingest(**{"table_name": "events", "data": some(1), "mode": "append", **arguments})
    assert rows(cursor, "select count(*) from events") == [(len(TYPES),)]
