"""Tables of a real server: what they hold, what they become, and how they go on over broken connections."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from proxy import Proxy
from server import Server
from test_parquet import SCHEMA, made_events, row_of, sealed_through

import annals

SECONDS_MAX = 30.0
BATCH_EVENTS = 100


class History:
    """A server and the rows that its client reads."""

    def __init__(self, client: annals.Client) -> None:
        self.client = client
        self.rows = [row_of(event) for event in client.read()]
        self.log_id = client.read(limit=1).log_id

    def read(self, **filters: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - whatever `read` takes
        return [row_of(event) for event in self.client.read(**filters)]


@pytest.fixture(scope="module", params=["in the log", "sealed but for the newest"])
def history(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[History]:
    seal_events = 1 << 18 if request.param == "in the log" else 300
    server = Server(tmp_path_factory.mktemp("scan") / "data", f"limits.seal_events={seal_events}")
    server.start()
    try:
        with annals.connect(server.url) as client:
            events = list(made_events())
            for first in range(0, len(events), BATCH_EVENTS):
                client.append(events[first : first + BATCH_EVENTS])
            sealed = len(events) // seal_events * seal_events
            tenant = sealed_through(client, sealed)
            assert tenant.sealed < len(events) == tenant.head
            assert (tenant.segments > 1) == (sealed > 0)
            yield History(client)
    finally:
        server.kill()


def positions(table: pa.Table | pa.RecordBatch) -> list[int]:
    found: list[int] = table.column("position").to_pylist()
    return found


def test_the_table_of_events_has_what_a_read_gives(history: History) -> None:
    scan = history.client.scan()
    table = scan.to_table()
    assert scan.schema.equals(SCHEMA)
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == history.rows
    assert (scan.head, scan.log_id, scan.position) == (len(history.rows), history.log_id, len(history.rows))


@pytest.mark.parametrize(
    "filters",
    [
        {"entity_ids": ["Bestellung Nº 5 🚚", "Bestellung Nº 7 🚚"]},
        {"event_types": "заказ.создан", "tags": ["vip", "регион:eu"]},
        {"event_type_prefix": "order."},
        {"partitions": [0, 1, 2, 3, 30]},
        {"query": [annals.item(types="order.placed", tags="tag:3"), annals.item(tags="регион:eu")]},
        {"after": 250, "through": 1_420},
        {"after": 290, "limit": 33},
        {"occurred_since": datetime(1969, 1, 1, tzinfo=timezone.utc), "after": 40},
        {"as_of": annals.at_position(777), "after": 5},
        {"entity_ids": "Bestellung Nº 5 🚚", "as_of": annals.at_version(3)},
        {"entity_ids": "nobody"},
    ],
    ids=str,
)
def test_filters_are_those_of_a_read(history: History, filters: dict[str, Any]) -> None:
    assert history.client.scan(**filters).to_table().to_pylist() == history.read(**filters)


def test_a_range_of_time_is_that_of_a_read(history: History) -> None:
    since, until = (history.rows[n]["recorded_at"] for n in (450, 1_100))
    times: dict[str, Any] = {"recorded_since": since, "recorded_until": until}
    wanted = history.read(**times)
    assert 0 < len(wanted) < len(history.rows)
    assert history.client.scan(**times).to_table().to_pylist() == wanted
    assert history.client.scan(as_of=since).to_table().to_pylist() == history.read(as_of=since)


def test_the_table_of_a_type_has_its_events(history: History) -> None:
    scan = history.client.scan(("types", "заказ.создан"), tags="vip")
    assert scan.to_table().to_pylist() == history.read(event_types="заказ.создан", tags="vip")


def test_the_table_of_entities_has_them_by_name(history: History) -> None:
    scan = history.client.scan("entities")
    assert scan.to_table().to_pylist() == [
        {
            "entity_id": entity.entity_id,
            "events": entity.version,
            "first_position": entity.first_position,
            "last_position": entity.last_position,
        }
        for entity in history.client.entities()
    ]
    assert (scan.head, scan.log_id, scan.position) == (len(history.rows), history.log_id, 0)
    early = history.client.scan("entities", as_of=annals.at_position(3), columns=["events", "entity_id"])
    assert early.to_table().to_pylist() == [{"events": 1, "entity_id": f"Bestellung Nº {n} 🚚"} for n in range(3)]


def test_columns_come_in_their_order_and_positions_go_on_without_them(history: History) -> None:
    scan = history.client.scan(columns=["tags", "version"], tags="vip")
    assert scan.schema.names == ["tags", "version"]
    assert scan.to_table().to_pylist() == [
        {"tags": row["tags"], "version": row["version"]} for row in history.read(tags="vip")
    ]
    assert scan.position == len(history.rows)


CONVERSIONS: list[Callable[[annals.Scan], list[dict[str, Any]]]] = [
    lambda scan: [row for batch in scan for row in batch.to_pylist()],
    lambda scan: scan.to_reader().read_all().to_pylist(),
    lambda scan: pa.table(scan).to_pylist(),
    lambda scan: scan.to_polars().to_dicts(),
    lambda scan: pl.DataFrame(scan).to_dicts(),
    lambda scan: pa.Table.from_pandas(scan.to_pandas(), SCHEMA).to_pylist(),
    lambda scan: rows_of_duckdb(scan.to_duckdb()),
    lambda scan: rows_of_duckdb(scan.to_duckdb(duckdb.connect())),
    lambda scan: asked_by_name(scan),
]


def asked_by_name(scan: annals.Scan) -> list[dict[str, Any]]:
    relation = duckdb.sql("FROM scan")
    assert relation is not None
    return rows_of_duckdb(relation)


def rows_of_duckdb(relation: duckdb.DuckDBPyRelation) -> list[dict[str, Any]]:
    # A relation may be asked more than once.
    assert relation.aggregate("count(*)").fetchall() == relation.aggregate("count(*)").fetchall()
    return relation.arrow().read_all().cast(SCHEMA).to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", range(len(CONVERSIONS)))
def test_whatever_it_becomes_the_rows_are_the_same(history: History, number: int) -> None:
    scan = history.client.scan(after=100)
    assert CONVERSIONS[number](scan) == history.rows[100:]
    assert scan.position == len(history.rows)


def test_whoever_stops_early_has_what_it_read(history: History) -> None:
    scan = history.client.scan()
    first = next(iter(scan))
    assert 0 < first.num_rows < len(history.rows)
    assert scan.position == positions(first)[-1]
    assert scan.to_duckdb().project("position").limit(3).fetchall() == [(1,), (2,), (3,)]
    # From there another scan goes on.
    rest = history.client.scan(after=positions(first)[-1], log_id=scan.log_id)
    assert positions(first) + positions(rest.to_table()) == list(range(1, len(history.rows) + 1))


def test_pages_follow_each_other_without_gap_or_repeat(history: History) -> None:
    seen: list[int] = []
    after = 0
    while True:
        page = history.client.scan(after=after, limit=37, tags="регион:eu")
        rows = positions(page.to_table())
        if not rows:
            break
        seen += rows
        after = page.position
    assert seen == [row["position"] for row in history.read(tags="регион:eu")]


def order(number: int, event_type: str = "order.placed") -> annals.NewEvent:
    return annals.NewEvent(f"order-{number}", event_type, {}, tags=[f"order:{number}"])


def append_megabytes(client: annals.Client, megabytes: int) -> int:
    for _ in range(megabytes):
        client.append([annals.NewEvent("large", "t", "x" * 50_000) for _ in range(20)])
    return client.read(limit=1).head


def test_a_scan_is_of_one_head_however_often_it_is_read(client: annals.Client) -> None:
    log_id = client.append([order(1), order(2)]).log_id
    scan, entities = client.scan(), client.scan("entities")
    assert (scan.head, entities.head) == (2, 2)
    client.append(order(3))
    for _ in range(2):
        assert positions(scan.to_table()) == [1, 2]
        assert entities.to_table().column("last_position").to_pylist() == [1, 2]
    assert (scan.head, scan.log_id) == (2, log_id)
    assert positions(client.scan().to_table()) == [1, 2, 3]


def test_an_empty_log_has_empty_tables(client: annals.Client) -> None:
    for table in ("events", "entities", ("types", "t")):
        scan = client.scan(table)
        assert (scan.to_table().num_rows, scan.head, scan.position) == (0, 0, 0)
        assert scan.log_id
        assert list(scan) == []


def test_nothing_is_asked_before_something_is_needed(server: Server, client: annals.Client) -> None:
    client.append(order(1))
    server.kill()
    scan = client.scan()
    server.start()
    assert positions(scan.to_table()) == [1]


def test_a_scan_that_is_broken_off_goes_on_with_each_position_once(client: annals.Client, proxy: Proxy) -> None:
    head = append_megabytes(client, 16)
    with annals.connect(proxy.url) as far:
        scan = far.scan(columns=["payload", "position"])
        seen: list[int] = []
        cuts = 0
        for batch in scan:
            seen += positions(batch)
            if cuts < 3 and len(seen) > cuts * head // 4:
                proxy.cut()
                cuts += 1
            # Not of this cut.
            client.append(order(1))
    assert seen == list(range(1, head + 1))
    assert scan.head == scan.position == head
    assert proxy.connections > 1


def test_a_scan_outlives_its_server(server: Server, client: annals.Client) -> None:
    head = append_megabytes(client, 12)
    seen: list[int] = []
    for number, batch in enumerate(client.scan(limit=head - 7)):
        seen += positions(batch)
        if number == 1:
            server.kill()
            server.start()
        if number == 3:
            server.stop()
            server.start()
    assert seen == list(range(1, head - 6))


def test_entities_that_are_broken_off_go_on_with_each_name_once(client: annals.Client, proxy: Proxy) -> None:
    names = [f"{n:06}-{'x' * 400}" for n in range(20_000)]
    client.ingest(pl.DataFrame({"entity_id": names, "event_type": "t", "payload": "1"}))
    with annals.connect(proxy.url) as far:
        scan = far.scan("entities")
        seen: list[str] = []
        for batch in scan:
            seen += batch.column("entity_id").to_pylist()
            if len(seen) < 15_000:
                proxy.cut()
            # Not of this cut.
            client.append([annals.NewEvent(f"000000-{len(seen)}", "t", 1), annals.NewEvent(names[-1], "t", 1)])
        assert batch.column("events").to_pylist()[-1] == 1
    assert seen == names
    assert proxy.connections > 1


def test_a_scan_does_not_go_on_in_another_log(server: Server, client: annals.Client) -> None:
    append_megabytes(client, 12)
    scan = iter(client.scan())
    next(scan)
    server.kill()
    server.data = server.data.with_name("other")
    server.start()
    append_megabytes(client, 12)
    with pytest.raises(annals.FailedPrecondition):
        list(scan)


def test_attempts_end_when_no_server_is_there(server: Server) -> None:
    server.kill()
    retry = annals.RetryPolicy(attempts=3, delay_seconds_first=0.01)
    with annals.connect(server.url, retry=retry) as client:
        for call in (client.scan().to_table, client.scan().to_polars, client.lazy, client.follow):
            with pytest.raises(annals.Unavailable):
                call()


def test_refusals_are_typed_errors_with_their_details(server: Server, client: annals.Client) -> None:
    client.append(order(1))
    with pytest.raises(annals.InvalidArgument) as invalid:
        client.scan(columns=["position", "palyoad"]).to_table()
    assert invalid.value.reason == "INVALID_REQUEST"
    assert [violation.field for violation in invalid.value.violations] == ["columns"]
    assert "payload" in invalid.value.message
    with pytest.raises(annals.InvalidArgument, match="entities"):
        client.scan("enttities").to_table()
    with pytest.raises(annals.OutOfRange) as beyond:
        _ = client.scan(after=1_000).head
    assert beyond.value.reason == "BEYOND_HEAD"
    with pytest.raises(annals.FailedPrecondition):
        list(client.scan(log_id=str(uuid.uuid4())))
    with annals.connect(server.url, tenant="nobody") as other, pytest.raises(annals.NotFound):
        other.scan().to_table()
    with pytest.raises(annals.InvalidArgument):
        client.follow("entities")
    with pytest.raises(annals.OutOfRange):
        client.follow(after=1_000)
    # Whoever asks again is answered again.
    scan = client.scan(("types", ""))
    for _ in range(2):
        with pytest.raises(annals.InvalidArgument):
            scan.to_table()


def test_a_message_may_be_as_large_as_an_event(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "limits.event_bytes_max=8000000")
    server.start()
    try:
        with annals.connect(server.url, receive_bytes_max=1_000) as client:
            client.ingest(pa.table({"entity_id": ["a"], "event_type": ["t"], "payload": [f'"{"x" * 7_000_000}"']}))
            assert [len(text) for text in client.scan().to_polars()["payload"]] == [7_000_002]
    finally:
        server.kill()


def test_a_table_is_that_of_the_tenant(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "tenants.auto_create=true")
    server.start()
    try:
        for number, tenant in enumerate(["default", "other"], 1):
            with annals.connect(server.url, tenant=tenant, token="a token") as client:
                client.append([order(n) for n in range(number)])
                assert client.ingest(client.scan(columns=["entity_id", "event_type", "payload"])).events == number
                assert positions(client.scan().to_table()) == list(range(1, 2 * number + 1))
    finally:
        server.kill()


def test_a_closed_iteration_ends_and_a_closed_client_is_an_error(server: Server, client: annals.Client) -> None:
    append_megabytes(client, 12)
    scan = client.scan()
    with iter(scan) as batches:
        next(batches)
    assert list(batches) == []
    assert not batches.complete
    with annals.connect(server.url) as other:
        reader = other.scan().to_reader()
        reader.read_next_batch()
        batches = iter(other.scan())
        next(batches)
    # Not a table that ends here.
    with pytest.raises(annals.Cancelled):
        reader.read_all()
    assert list(batches) == []
    with pytest.raises(ValueError, match="closed"):
        other.scan().to_table()


def test_following_goes_from_the_past_into_the_present(client: annals.Client) -> None:
    log_id = client.append([order(1), order(2)]).log_id
    with client.follow(after=1, columns=["position", "entity_id"]) as batches:
        assert batches.schema.names == ["position", "entity_id"]
        assert next(batches).to_pylist() == [{"position": 2, "entity_id": "order-2"}]
        client.append([order(3), order(4)])
        assert positions(next(batches)) == [3, 4]
        assert (batches.position, batches.log_id) == (4, log_id)


def test_following_from_the_head_sees_what_is_appended_next(client: annals.Client) -> None:
    first = client.follow(from_head=True)
    client.append(order(1))
    second = client.follow(from_head=True)
    assert (first.position, second.position) == (0, 1)
    client.append(order(2))
    assert positions(next(first)) in ([1], [1, 2])
    assert positions(next(second)) == [2]
    with pytest.raises(TypeError, match="either after or from_head"):
        client.follow(after=1, from_head=True)
    with pytest.raises(TypeError, match="log_id"):
        client.follow(from_head=True, log_id=str(uuid.uuid4()))


def test_following_knows_how_far_it_is_while_nothing_matches(client: annals.Client) -> None:
    client.append([order(1), order(2), order(1)])
    batches = client.follow(("types", "order.paid"))
    seen: list[pa.RecordBatch] = []
    thread = threading.Thread(target=lambda: seen.extend(batches))
    thread.start()
    deadline = time.monotonic() + SECONDS_MAX
    while batches.position < 3:
        assert time.monotonic() < deadline
    client.append(order(1, "order.paid"))
    while not seen:
        assert time.monotonic() < deadline
    batches.close()
    thread.join()
    assert [positions(batch) for batch in seen] == [[4]]


def test_following_resumes_after_a_broken_connection_and_a_killed_server(
    server: Server, client: annals.Client, proxy: Proxy
) -> None:
    with annals.connect(proxy.url) as far:
        batches = far.follow(from_head=True, tags="order:1")
        for number in range(1, 4):
            client.append([order(2), order(1)])
            assert positions(next(batches)) == [number * 2]
            proxy.cut()
    batches = client.follow(after=6)
    server.kill()
    server.start()
    client.append(order(1))
    assert positions(next(batches)) == [7]
    server.stop()
    server.start()
    client.append(order(1))
    assert positions(next(batches)) == [8]


def test_following_does_not_resume_on_another_log(server: Server, client: annals.Client) -> None:
    client.append(order(1))
    batches = client.follow()
    assert positions(next(batches)) == [1]
    server.kill()
    server.data = server.data.with_name("other")
    server.start()
    client.append([order(1), order(2)])
    with pytest.raises(annals.FailedPrecondition):
        next(batches)
    assert list(batches) == []


def test_following_gives_up_after_as_many_attempts_as_were_asked_for(server: Server, client: annals.Client) -> None:
    client.append(order(1))
    batches = client.follow(resume_attempts=1)
    next(batches)
    server.kill()
    with pytest.raises(annals.Unavailable):
        next(batches)


@pytest.mark.parametrize("how", ["batches", "client"])
def test_closing_ends_an_iteration_that_waits_in_another_thread(server: Server, how: str) -> None:
    client = annals.connect(server.url)
    client.append(order(1))
    batches = client.follow()
    first = threading.Event()
    seen: list[int] = []

    def iterate() -> None:
        for batch in batches:
            seen.extend(positions(batch))
            first.set()

    thread = threading.Thread(target=iterate)
    thread.start()
    first.wait()
    (batches if how == "batches" else client).close()
    thread.join()
    assert seen == [1]
    client.close()


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("pyarrow", "client.scan().to_table()", "arrow"),
        ("pyarrow", "client.follow()", "arrow"),
        ("pyarrow", "client.ingest([])", "arrow"),
        ("polars", "client.lazy()", "polars"),
        ("polars", "client.scan().to_polars()", "polars"),
        ("pandas", "client.scan().to_pandas()", "pandas"),
        ("duckdb", "client.scan().to_duckdb()", "duckdb"),
    ],
)
def test_what_is_not_installed_is_named_with_what_brings_it(missing: str, call: str, extra: str) -> None:
    # The client itself needs none of them.
    code = f"import sys; sys.modules['{missing}'] = None\nimport annals\nwith annals.connect() as client: {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (told,) = done.stderr.splitlines()[-1:]
    assert told == (f"ModuleNotFoundError: this needs {missing}, which is not installed: pip install 'annals[{extra}]'")


def test_the_clock_of_a_scan_is_that_of_its_events(client: annals.Client) -> None:
    before = datetime.now(timezone.utc) - timedelta(minutes=1)
    recorded_at = client.append(order(1)).recorded_at
    assert client.scan(columns="recorded_at", recorded_since=before).to_table().to_pylist() == [
        {"recorded_at": recorded_at}
    ]
