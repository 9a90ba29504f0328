"""SQL through ADBC's driver for Flight SQL: statements, parameters, the past, cancelling, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import adbc_driver_flightsql
import adbc_driver_manager
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi
from server import Server

import annals

EVENTS = 30
DICTIONARY = pa.array(["order-1"]).dictionary_encode()
ENDLESS = "select a.position from events a, events b, events c, events d, events e, events f"
HEADER = adbc_driver_flightsql.DatabaseOptions.RPC_CALL_HEADER_PREFIX.value


def connect(server: Server, **headers: str) -> dbapi.Connection:
    options = {f"{HEADER}{name.replace('_', '-')}": value for name, value in headers.items()}
    return dbapi.connect(f"grpc://127.0.0.1:{server.port}", db_kwargs=options, autocommit=True)


@pytest.fixture
def connection(server: Server) -> Iterator[dbapi.Connection]:
    """To a server that has some events."""
    with annals.connect(server.url) as client:
        for n in range(EVENTS):
            event_type = "order.paid" if n % 2 else "order_placed"
            client.append([annals.NewEvent(f"order-{n % 3}", event_type, {"n": n})])
    with connect(server) as connection:
        yield connection


@pytest.fixture
def cursor(connection: dbapi.Connection) -> Iterator[dbapi.Cursor]:
    with connection.cursor() as cursor:
        yield cursor


def rows(cursor: dbapi.Cursor, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:  # noqa: ANN401
    return cursor.execute(statement, parameters).fetchall()


def test_a_statement_reads_the_log(cursor: dbapi.Cursor, server: Server) -> None:
    assert rows(cursor, "select count(*), max(position) from events") == [(EVENTS, EVENTS)]
    assert rows(cursor, "select entity_id, events from entities order by 1") == [
        ("order-0", 10),
        ("order-1", 10),
        ("order-2", 10),
    ]
    counted = rows(cursor, """select count(*), sum((payload ->> 'n')::int) from types."order.paid" """)
    assert counted == [(15, sum(range(1, EVENTS, 2)))]
    table = cursor.execute("select * from events order by position").fetch_arrow_table()
    with annals.connect(server.url) as client:
        assert table == client.scan().to_table()


def test_a_statement_without_rows_has_a_schema(cursor: dbapi.Cursor) -> None:
    table = cursor.execute("select position, tags from events where position > 1000").fetch_arrow_table()
    assert table.num_rows == 0
    assert table.column_names == ["position", "tags"]


def test_a_schema_is_the_same_wherever_it_is_told(connection: dbapi.Connection, cursor: dbapi.Cursor) -> None:
    for schema, name in [
        ("annals", "events"),
        ("annals", "entities"),
        ("types", "order.paid"),
        ("types", "order_placed"),
        ("information_schema", "tables"),
        ("information_schema", "columns"),
    ]:
        statement = f'select * from {schema}."{name}"'  # noqa: S608 - the names are those above
        told = connection.adbc_get_table_schema(name, db_schema_filter=schema)
        assert cursor.adbc_execute_schema(statement) == told
        _, partitioned = cursor.adbc_execute_partitions(statement)
        assert partitioned == told
        assert cursor.execute(statement).fetch_arrow_table().schema == told


@pytest.mark.parametrize(
    ("condition", "parameters"),
    [
        ("position > ? and entity_id = ?", [20, "order-1"]),
        ("position > $1 and entity_id = $2", [20, "order-1"]),
        ("entity_id = $2 and position > $1", [20, "order-1"]),
        ("position > $1 and position > $1 and entity_id = $2", [20, "order-1"]),
        ("position > $since and entity_id = $of", pa.record_batch({"of": ["order-1"], "since": [20]})),
        ("position > $since and entity_id = $of", pa.record_batch({"since": [20], "of": ["order-1"]})),
        # Without names that say which is which, in the order in which preparing lists them.
        ("position > $since and entity_id = $of", ["order-1", 20]),
        (
            "position > ? and entity_id = ?",
            pa.record_batch({"x": [20.5], "y": pa.array(["order-1"]).dictionary_encode()}),
        ),
        ("position > ? and entity_id = ?", pl.DataFrame({"x": [20], "y": ["order-1"]})),
    ],
)
def test_parameters_are_bound(cursor: dbapi.Cursor, condition: str, parameters: Any) -> None:  # noqa: ANN401
    statement = f"select position from events where {condition} order by 1"  # noqa: S608 - the conditions are those above
    found = rows(cursor, statement, parameters)
    assert found == [(23,), (26,), (29,)]


@pytest.mark.parametrize(
    "value",
    [
        True,
        7,
        -1.5,
        "ü 🚚",
        b"\x00\xff",
        None,
        Decimal("12.50"),
        date(2026, 1, 31),
        datetime(2026, 1, 31, 12, 0, 0, 1),
        datetime(2026, 1, 31, 12, tzinfo=timezone.utc),
        timedelta(seconds=5),
    ],
)
def test_a_parameter_of_any_type_comes_back_as_it_was(cursor: dbapi.Cursor, value: object) -> None:
    column = pa.array([value])
    table = cursor.execute("select $1 as a, $2 as b", pa.record_batch({"x": column, "y": ["y"]})).fetch_arrow_table()
    assert table.to_pylist() == [{"a": value, "b": "y"}]
    assert table.schema.field("a").type == column.type


def test_a_prepared_statement_says_what_its_parameters_are(cursor: dbapi.Cursor) -> None:
    statement = "select position from events where entity_id = ? and position > ? and recorded_at < ?"
    expected = [("$1", pa.string()), ("$2", pa.int64()), ("$3", pa.timestamp("us", "UTC"))]
    schema = cursor.adbc_prepare(statement)
    assert schema is not None
    assert [(field.name, field.type) for field in schema] == expected
    for least in (0, 10, 20):
        late = datetime(2100, 1, 1, tzinfo=timezone.utc)
        assert len(rows(cursor, statement, ["order-0", least, late])) == 10 - least // 3 - (least > 0)


def test_a_statement_runs_once_for_each_row_of_parameters(cursor: dbapi.Cursor) -> None:
    bound = pa.table({"a": [7, 3, 7, 1000]})
    assert rows(cursor, "select position from events where position = ?", bound) == [(7,), (3,), (7,)]
    with pytest.raises(dbapi.ProgrammingError, match="the most is 1000"):
        rows(cursor, "select ?", pa.table({"a": list(range(1001))}))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (None, "2 parameter"),
        ([1], r"1 column\(s\), and the statement has 2 parameter\(s\): \$1, \$2"),
        ([1, "a", 2], r"3 column\(s\)"),
        (pa.record_batch({"a": [[1]], "b": ["a"]}), "parameters.a: is a list"),
        (pa.record_batch({"a": ["x" * (128 << 10)], "b": ["a"]}), "bytes"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(cursor: dbapi.Cursor, parameters: Any, told: str) -> None:  # noqa: ANN401
    with pytest.raises(dbapi.ProgrammingError, match=told):
        rows(cursor, "select position from events where position > ? and entity_id = ?", parameters)
    assert rows(cursor, "select 1") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "error", "told"),
    [
        ("insert into events values (1)", dbapi.ProgrammingError, "INSERT is not allowed: SQL only reads here"),
        ("create table t (a int)", dbapi.ProgrammingError, "CREATE TABLE is not allowed"),
        ("begin", dbapi.ProgrammingError, "not allowed"),
        ("selec 1", dbapi.ProgrammingError, "invalid SQL"),
        ("select * from event", dbapi.ProgrammingError, "there is no table `event`"),
        ("select 1; select 2", dbapi.ProgrammingError, "there are 2 statements"),
        ("-- nothing", dbapi.ProgrammingError, "there is no statement"),
        ("select 1 / 0", dbapi.ProgrammingError, "[Dd]ivi"),
    ],
)
def test_what_cannot_be_answered_says_why(cursor: dbapi.Cursor, statement: str, error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        rows(cursor, statement)
    assert rows(cursor, "select 1") == [(1,)]


def test_a_statement_that_would_change_something_is_not_supported(cursor: dbapi.Cursor) -> None:
    with pytest.raises(dbapi.NotSupportedError, match="statements only read here"):
        cursor.executemany("select ?", [(1,), (2,)])
    cursor.adbc_statement.set_sql_query("select 1")
    with pytest.raises(dbapi.NotSupportedError, match="statements only read here"):
        cursor.adbc_statement.execute_update()


def test_a_statement_runs_without_being_prepared(cursor: dbapi.Cursor) -> None:
    statement = cursor.adbc_statement
    statement.set_sql_query("select position from events limit 3")
    handle, _ = statement.execute_query()
    assert pa.RecordBatchReader._import_from_c(handle.address).read_all().num_rows == 3


@pytest.mark.parametrize("prepared", [True, False])
def test_the_past_is_named_in_the_metadata(connection: dbapi.Connection, server: Server, prepared: bool) -> None:
    def count(point: str) -> int:
        with connect(server, annals_as_of=point) as past, past.cursor() as cursor:
            if prepared:
                (found,) = rows(cursor, "select count(*) from events where position > ?", [0])
                return int(found[0])
            cursor.adbc_statement.set_sql_query("select count(*) as n from events")
            handle, _ = cursor.adbc_statement.execute_query()
            table = pa.RecordBatchReader._import_from_c(handle.address).read_all()
            return int(table["n"][0].as_py())

    assert count("7") == 7
    assert count("0") == 0
    with connection.cursor() as cursor:
        ((time,),) = rows(cursor, "select recorded_at from events where position = 12")
    assert count(time.isoformat()) == 12
    with pytest.raises(dbapi.Error, match="head"):
        count("1000")
    with pytest.raises(dbapi.ProgrammingError, match="annals-as-of"):
        count("yesterday")


def test_another_tenant_is_named_in_the_metadata(cursor: dbapi.Cursor, server: Server) -> None:
    assert rows(cursor, "select 1") == [(1,)]
    # The cursor is closed before the connection.
    with connect(server, annals_tenant="nobody") as connection, connection.cursor() as other:  # noqa: SIM117
        with pytest.raises(dbapi.Error, match="nobody"):
            rows(other, "select 1")


def test_a_result_is_read_by_another_connection(cursor: dbapi.Cursor, server: Server) -> None:
    partitions, schema = cursor.adbc_execute_partitions("select position from events where entity_id = ?", ["order-2"])
    with annals.connect(server.url) as client:
        client.append([annals.NewEvent("order-2", "late", {})])
    found = []
    for partition in partitions:
        with connect(server) as other, other.cursor() as reader:
            for _ in range(2):
                reader.adbc_read_partition(partition)
                table = reader.fetch_arrow_table()
                assert table.schema == schema
            found += table["position"].to_pylist()
    assert sorted(found) == list(range(3, EVENTS + 1, 3))


def test_a_handle_holds_across_a_restart_of_the_server(connection: dbapi.Connection, server: Server) -> None:
    with connection.cursor() as cursor:
        statement = "select count(*) from events where position <= ?"
        assert rows(cursor, statement, [5]) == [(5,)]
        partitions, _ = cursor.adbc_execute_partitions(statement, [6])
        server.stop()
        server.start()
        with connect(server) as again, again.cursor() as reader:
            reader.adbc_read_partition(partitions[0])
            assert reader.fetchall() == [(6,)]


def test_a_statement_is_cancelled(cursor: dbapi.Cursor) -> None:
    cursor.execute(ENDLESS)
    reader = cursor.fetch_record_batch()
    assert reader.read_next_batch().num_rows > 0
    cursor.adbc_cancel()
    with pytest.raises((dbapi.Error, pa.ArrowException, OSError), match=r"(?i)cancel"):
        reader.read_all()
    assert rows(cursor, "select 1") == [(1,)]


def test_a_connection_is_closed_with_what_is_open_on_it(cursor: dbapi.Cursor, server: Server) -> None:
    other = connect(server)
    still_open = other.cursor()
    still_open.execute(ENDLESS)
    other.close()
    with pytest.raises(dbapi.Error):
        still_open.execute("select 1")
    assert rows(cursor, "select 1") == [(1,)]


def test_there_are_no_transactions(server: Server) -> None:
    with pytest.warns(Warning, match="Cannot disable autocommit"):
        connection = dbapi.connect(f"grpc://127.0.0.1:{server.port}")
    with connection, connection.cursor() as cursor:
        assert rows(cursor, "select 1") == [(1,)]
        connection.commit()
        connection.rollback()


def test_options_of_a_session_can_be_what_they_are(connection: dbapi.Connection) -> None:
    assert connection.adbc_current_catalog == "default"
    assert connection.adbc_current_db_schema == "annals"
    connection.adbc_current_catalog = "default"
    connection.adbc_current_db_schema = "annals"
    with pytest.raises(dbapi.ProgrammingError, match=r"'schema' \(invalid value\)"):
        connection.adbc_current_db_schema = "types"
    with pytest.raises(dbapi.ProgrammingError, match=r"'x' \(invalid name\)"):
        connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.x": "y"})
    options = connection.adbc_connection.get_option("adbc.flight.sql.session.options")
    assert json.loads(options) == {"catalog": "default", "schema": "annals"}


def test_substrait_is_not_supported(cursor: dbapi.Cursor) -> None:
    cursor.adbc_statement.set_substrait_plan(b"plan")
    with pytest.raises(adbc_driver_manager.NotSupportedError, match="no Substrait plans"):
        cursor.adbc_statement.execute_query()


def test_polars_and_pandas_read_with_it(connection: dbapi.Connection) -> None:
    statement = "select entity_id, count(*) as n from events group by 1 order by 1"
    expected = {"entity_id": ["order-0", "order-1", "order-2"], "n": [10, 10, 10]}
    assert pl.read_database(statement, connection).to_dict(as_series=False) == expected
    frame = pd.read_sql(statement, connection)
    assert frame.to_dict(orient="list") == expected
