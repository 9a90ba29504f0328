"""Readers that stop reading: those that leave cost nothing afterwards, those that stay are in nobody's way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from doors import Raw, Rows, dialled, eventually, rows_of, told
from proxy import Proxy
from server import Server
from test_parquet import compact, row_of, sealed_through

import annals

SEAL_EVENTS = 500
# More than what connections take ahead of their readers.
EVENTS = 5_001
PAYLOAD_BYTES = 8_000
ROUNDS = 8
ROUND_EARLY = 2
STREAMS = 30
STREAMS_OURS = 4
# Of the rounds in between, some 200 KiB a stream: much less than the batch that each has on its way.
GROWTH_BYTES_MAX = 32 << 20
STALLED = 40


def large(number: int) -> annals.NewEvent:
    return annals.NewEvent(f"e-{number % 10}", f"t-{number % 3}", f"{number}:" + "x" * PAYLOAD_BYTES, tags=["a"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Events of which all but the last are sealed, 40 MB, in more segments than a scan begins with."""
    server = Server(
        tmp_path_factory.mktemp("slow") / "data",
        "metrics=127.0.0.1:0",
        f"limits.seal_events={SEAL_EVENTS}",
        # Several batches of each.
        "limits.row_group_events=250",
        "compact.fan_in=64",
    )
    server.start()
    try:
        with annals.connect(server.url) as client:
            numbers = iter(range(EVENTS))
            while batch := [large(number) for number in islice(numbers, 250)]:
                client.append(batch)
            assert sealed_through(client, EVENTS - 1).sealed == EVENTS - 1
        yield server
    finally:
        server.kill()


def ended(server: Server) -> int:
    """Streams of tables that are no more, however they ended."""
    calls = server.samples("annals_calls_total")
    return int(sum(count for labels, count in calls.items() if 'method="DoGet"' in labels))


def subscribers(server: Server) -> int:
    return int(sum(server.samples("annals_subscribers").values()))


def open_streams(raw: Raw, client: annals.Client) -> tuple[list[Any], list[annals.Batches]]:
    """Streams of every kind, of each of which one batch was read."""
    readers = []
    for number in range(STREAMS):
        after = number * 25
        ticket = [{"after": after, "follow": True}, {"after": after}, {"after": after, "tags": ["a"]}][number % 3]
        readers.append(raw.get(ticket))
        assert readers[-1].read_chunk().data.num_rows > 0
    batches = [client.follow(), iter(client.scan()), client.follow(tags="a"), iter(client.scan(tags="a"))]
    assert all(next(one).num_rows > 0 for one in batches)
    return readers, batches


def give_up(readers: list[Any], batches: list[annals.Batches], number: int) -> None:
    """In turns: all are cancelled; some are; all are dropped, which ends them as well."""
    for count, one in enumerate([*readers, *batches]):
        if number % 3 == 0 or (number % 3 == 1 and count % 2 == 0):
            (one.close if isinstance(one, annals.Batches) else one.cancel)()
    readers.clear()
    batches.clear()


def test_streams_that_are_given_up_leave_neither_memory_nor_files_nor_subscribers(server: Server) -> None:
    # What the server keeps open of its segments it opens now.
    with dialled(server.url) as raw:
        raw.get({}).read_all()
        assert subscribers(server) == 0
        connected = server.open_files
    eventually("the connection is closed", lambda: server.open_files < connected)
    files = server.open_files
    early = 0
    for number in range(ROUNDS):
        begun = ended(server)
        through = begun + STREAMS + STREAMS_OURS
        is_cut = number % 4 == 3
        with ExitStack() as open_now:
            proxy = open_now.enter_context(Proxy(server.port))
            url = proxy.url if is_cut else server.url
            raw = open_now.enter_context(dialled(url, takes_ahead=False))
            client = open_now.enter_context(annals.connect(url))
            readers, batches = open_streams(raw, client)
            # The scans of ours may have come to their end, which nobody has read yet.
            assert subscribers(server) == STREAMS // 3 + STREAMS_OURS // 2
            assert ended(server) <= begun + STREAMS_OURS // 2
            assert server.open_files > files
            if is_cut:
                proxy.cut()
            else:
                give_up(readers, batches, number)
            eventually("all streams ended", lambda through=through: ended(server) == through)  # type: ignore[misc]
        eventually("no subscriber is left", lambda: subscribers(server) == 0)
        eventually("no file is left open", lambda: server.open_files <= files)
        if number == ROUND_EARLY:
            early = min(resident_bytes(server) for _ in range(30))
    eventually("memory is as before", lambda: resident_bytes(server) < early + GROWTH_BYTES_MAX)
    with dialled(server.url) as raw:
        assert raw.get({}).read_all().num_rows == EVENTS


def resident_bytes(server: Server) -> int:
    """After a small scan: the allocator gives back what is free only where something goes on."""
    with dialled(server.url) as raw:
        assert raw.get({"limit": 1}).read_all().num_rows == 1
    return server.resident_bytes


def wanted_rows(client: annals.Client) -> Rows:
    return [row_of(event) for event in client.read()]


def test_readers_that_stall_are_in_nobodys_way(server: Server) -> None:
    before = ended(server)
    with ExitStack() as open_now:
        # Half of them have a connection of their own, the others share that of the scan that comes.
        raw = open_now.enter_context(dialled(server.url, takes_ahead=False))
        client = open_now.enter_context(annals.connect(server.url))
        stalled = []
        for number in range(STALLED):
            own = open_now.enter_context(dialled(server.url, takes_ahead=False)) if number % 2 == 0 else raw
            reader = own.get({})
            stalled.append((reader, [reader.read_chunk()]))
        batches = [iter(client.scan()) for _ in range(5)]
        reads = [client.read() for _ in range(5)]
        assert all(next(one).num_rows > 0 for one in batches)
        assert all(next(one).position == 1 for one in reads)

        wanted = wanted_rows(client)
        assert [row["position"] for row in wanted] == list(range(1, EVENTS + 1))
        assert rows_of(raw.get({}).read_all()) == wanted
        assert rows_of(client.scan().to_table()) == wanted
        with annals.connect(server.url) as other:
            assert wanted_rows(other) == wanted
            assert rows_of(other.scan().to_table()) == wanted
        # They stalled all the while: others than the three scans of here ended not, but for what ours took ahead.
        assert before + 3 <= ended(server) <= before + 3 + len(batches)
        # And have missed nothing, although the segments that they stall in are no more.
        compact(client)
        for reader, chunks in (stalled[0], stalled[1], stalled[-1]):
            chunks += list(reader)
            assert told(chunks[-1].app_metadata)["position"] == EVENTS
            assert rows_of(pa.Table.from_batches([chunk.data for chunk in chunks])) == wanted
        for read in reads[:2]:
            assert [row_of(event) for event in read] == wanted[1:]
        rest = list(batches[0])
        assert sum(batch.num_rows for batch in rest) < EVENTS
        assert rows_of(pa.Table.from_batches(rest)) == wanted[-sum(batch.num_rows for batch in rest) :]


def test_who_follows_and_stalls_is_in_nobodys_way_and_misses_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "limits.seal_events=300")
    server.start()
    try:
        with annals.connect(server.url) as client, dialled(server.url, takes_ahead=False) as raw:
            client.append(large(0))
            ticket = {"follow": True, "columns": ["position", "payload"]}
            stalled = raw.get(ticket)
            stalled_ours = client.follow()
            begun = [positions(stalled.read_chunk().data), positions(next(stalled_ours))]
            assert begun == [[1], [1]]
            following = raw.get({**ticket, "after": 1})
            following_ours = client.follow(after=1)
            subscription = client.subscribe(after=1)
            head = 1
            # Many times what a connection takes ahead of its reader.
            for _ in range(40):
                result = client.append([large(head + number) for number in range(100)])
                appended = list(range(head + 1, head + 101))
                assert result.last_position == appended[-1]
                assert taken(lambda: positions(following.read_chunk().data), len(appended)) == appended
                assert taken(lambda: positions(next(following_ours)), len(appended)) == appended
                assert [next(subscription).position for _ in appended] == appended
                head = appended[-1]
            missed = list(range(2, head + 1))
            assert taken(lambda: positions(stalled.read_chunk().data), len(missed)) == missed
            assert taken(lambda: positions(next(stalled_ours)), len(missed)) == missed
            following.cancel()
            stalled.cancel()
    finally:
        server.kill()


def taken(read: Callable[[], list[int]], count: int) -> list[int]:
    """Positions, as many as are to come; there may be batches without any between them."""
    found: list[int] = []
    while len(found) < count:
        found += read()
    return found


def positions(batch: pa.RecordBatch) -> list[int]:
    found: list[int] = batch.column("position").to_pylist()
    return found
