"""The tables of a server through each client of Arrow Flight, and a thread that appends meanwhile."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
from pyarrow import flight
from server import Server
from test_parquet import SCHEMA

import annals

if TYPE_CHECKING:
    from typing_extensions import Self

SECONDS_MAX = 30.0
TYPES = ["order.placed", "order.paid", "order.", "заказ.создан", "x"]
TAGS = ["vip", "регион:eu", "region:us", *(f"customer:{n}" for n in range(20))]
ENTITIES = [f"Bestellung Nº {n} 🚚" for n in range(40)]

Rows = list[dict[str, Any]]


def made(rng: random.Random) -> annals.NewEvent:
    """An event of some size, most of them small."""
    payload: Any = None
    match rng.randrange(20):
        case 0:
            payload = "é" * rng.randrange(30_000)
        case 1 | 2 | 3:
            payload = {"text": "x" * rng.randrange(4_000), "nul": "a\u0000b"}
        case n if n > 5:
            payload = {"名前": "Zoë 🚚", "n": rng.randrange(2**60), "list": [1, 2.5, None, True]}
    at = datetime(1950, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=rng.randrange(1 << 52))
    return annals.NewEvent(
        rng.choice(ENTITIES),
        rng.choice(TYPES),
        payload,
        occurred_at=rng.choice([None, at]),
        metadata=rng.choice([None, {}, {"correlation_id": f"ü-{rng.randrange(99)}"}]),
        tags=rng.sample(TAGS, rng.choice([0, 0, 1, 2, 9])),
    )


class Appender:
    """Appends batches in a thread of its own, by gRPC and by Flight in turns, as many as it was asked for."""

    def __init__(self, server: Server, seed: int) -> None:
        self._client = annals.connect(server.url)
        self._rng = random.Random(seed)
        self._changed = threading.Condition()
        self._wanted = 0
        self._ended = False
        self._error: BaseException | None = None
        self.head = 0
        """What was answered last."""
        self._thread = threading.Thread(target=self._run)

    def more(self, batches: int) -> None:
        """Goes on with so many batches, and returns at once."""
        with self._changed:
            self._wanted += batches
            self._changed.notify_all()

    def pass_by(self, position: int) -> None:
        """Returns when something behind a position was appended."""
        with self._changed:
            if self.head <= position:
                self._wanted += 1
                self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.head > position or self._error, SECONDS_MAX)
        self._check()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        self._client.close()
        if kind is None:
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise AssertionError("the appender failed") from self._error

    def _run(self) -> None:
        number = 0
        try:
            while self._next():
                number += 1
                events = [made(self._rng) for _ in range(self._rng.randrange(1, 16))]
                head = self._ingest(events) if number % 3 == 0 else self._client.append(events).last_position
                with self._changed:
                    self.head = head
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._wanted > 0)
            self._wanted -= 1
            return not self._ended

    def _ingest(self, events: list[annals.NewEvent]) -> int:
        table = pa.table(
            {
                "entity_id": [event.entity_id for event in events],
                "event_type": [event.event_type for event in events],
                "payload": [json.dumps(event.payload) for event in events],
                "tags": [list(event.tags) for event in events],
            }
        )
        last = self._client.ingest(table).last_position
        assert last is not None
        return last


def eventually(what: str, holds: Callable[[], bool]) -> None:
    """Asks until it holds."""
    deadline = time.monotonic() + SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, f"in {SECONDS_MAX} s it did not come to be: {what}"


@contextmanager
def dialled(url: str, tenant: str = "default", *, takes_ahead: bool = True) -> Iterator[Raw]:
    """A connection of pyarrow's, without our client. gRPC takes tens of MiB ahead of who reads, unless it must not."""
    options = [] if takes_ahead else [("grpc.http2.bdp_probe", 0)]
    client = flight.connect(url.replace("http://", "grpc://"), generic_options=options)
    try:
        yield Raw(client, flight.FlightCallOptions(headers=[(b"annals-tenant", tenant.encode())]))
    finally:
        client.close()


class Raw:
    """Calls of `pyarrow.flight`, as they are."""

    def __init__(self, client: Any, options: Any) -> None:  # noqa: ANN401 - pyarrow brings no types
        self.client = client
        self.options = options

    def get(self, ticket: Any) -> Any:  # noqa: ANN401 - pyarrow brings no types
        """A stream, of a ticket or of a scan."""
        if not isinstance(ticket, flight.Ticket):
            ticket = flight.Ticket(json.dumps(ticket))
        return self.client.do_get(ticket, self.options)

    def info(self, asked: dict[str, Any] | list[str]) -> Any:  # noqa: ANN401 - pyarrow brings no types
        """What is told of a scan, or of a table by its path."""
        return self.client.get_flight_info(descriptor(asked), self.options)

    def all_of(self, info: Any) -> pa.Table:  # noqa: ANN401 - pyarrow brings no types
        """The rows of all endpoints, read at once over this connection, in their order."""
        with ThreadPoolExecutor(max(1, len(info.endpoints))) as threads:
            return pa.concat_tables(threads.map(lambda endpoint: self.get(endpoint.ticket).read_all(), info.endpoints))


def descriptor(asked: dict[str, Any] | list[str]) -> Any:  # noqa: ANN401 - pyarrow brings no types
    """Of a scan, or of a table by its path."""
    if isinstance(asked, dict):
        return flight.FlightDescriptor.for_command(json.dumps(asked))
    return flight.FlightDescriptor.for_path(*asked)


def told(metadata: Any) -> Any:  # noqa: ANN401 - JSON of a buffer or of bytes
    """What the server says of a batch or a table."""
    return json.loads(bytes(metadata))


# Each takes what is wanted as a ticket and as keywords of `scan`, begins, tells the head that it is pinned to, and only
# goes on when that returns. It gives the rows of that head.
Meanwhile = Callable[[int], None]
Door = Callable[[Server, annals.Client, dict[str, Any], dict[str, Any], Meanwhile], Rows]


def typed_ticket(
    server: Server, client: annals.Client, ticket: dict[str, Any], scan: dict[str, Any], meanwhile: Meanwhile
) -> Rows:
    with dialled(server.url) as raw:
        reader = raw.get(ticket)
        chunk = reader.read_chunk()
        head = told(chunk.app_metadata)["head"]
        meanwhile(head)
        batches = [chunk.data]
        for chunk in reader:
            assert told(chunk.app_metadata)["head"] == head
            batches.append(chunk.data)
        assert told(chunk.app_metadata)["position"] == head
        assert reader.schema.equals(SCHEMA)
        return rows_of(pa.Table.from_batches(batches, reader.schema))


def pinned(take: Callable[[Raw, Any], pa.Table]) -> Door:
    """Of a FlightInfo, whose tickets are of one head."""

    def door(
        server: Server, client: annals.Client, ticket: dict[str, Any], scan: dict[str, Any], meanwhile: Meanwhile
    ) -> Rows:
        with dialled(server.url) as raw:
            info = raw.info(ticket)
            meanwhile(told(info.app_metadata)["head"])
            rows = rows_of(take(raw, info))
            assert info.total_records in (-1, len(rows))
            return rows

    return door


def scanned(take: Callable[[annals.Scan], pa.Table]) -> Door:
    """Of a scan of our client."""

    def door(
        server: Server, client: annals.Client, ticket: dict[str, Any], scan: dict[str, Any], meanwhile: Meanwhile
    ) -> Rows:
        begun = client.scan(**scan)
        meanwhile(begun.head)
        return rows_of(take(begun))

    return door


def lazy(
    server: Server, client: annals.Client, ticket: dict[str, Any], scan: dict[str, Any], meanwhile: Meanwhile
) -> Rows:
    # It does not tell its head: it is known once nothing was appended in between.
    for _ in range(100):
        before = client.read(limit=1).head
        frame = client.lazy(**scan)
        if client.read(limit=1).head == before:
            break
    else:
        raise AssertionError("the log was never at rest")
    meanwhile(min(before, scan.get("through", before)))
    return rows_of(frame.collect(engine="streaming").to_arrow())


def only_ticket(info: Any) -> Any:  # noqa: ANN401 - pyarrow brings no types
    (endpoint,) = info.endpoints
    return endpoint.ticket


def through_duckdb(data: Any) -> pa.Table:  # noqa: ANN401 - whatever DuckDB takes
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.from_arrow(data).arrow().read_all()


def rows_of(table: pa.Table) -> Rows:
    assert table.schema.names == SCHEMA.names
    rows: Rows = table.cast(SCHEMA).to_pylist()
    return rows


DOORS: dict[str, Door] = {
    "pyarrow.flight with a typed ticket": typed_ticket,
    "pyarrow.flight with endpoints": pinned(lambda raw, info: raw.all_of(info)),
    "Polars of pyarrow.flight": pinned(
        lambda raw, info: pl.DataFrame(raw.get(only_ticket(info)).to_reader()).to_arrow()
    ),
    "DuckDB of pyarrow.flight": pinned(lambda raw, info: through_duckdb(raw.get(only_ticket(info)).to_reader())),
    "pandas of pyarrow.flight": pinned(
        lambda raw, info: pa.Table.from_pandas(raw.get(only_ticket(info)).read_pandas(), SCHEMA)
    ),
    "scan": scanned(lambda scan: pa.Table.from_batches(list(scan), scan.schema)),
    "scan to Polars": scanned(lambda scan: scan.to_polars().to_arrow()),
    "scan to DuckDB": scanned(through_duckdb),
    "scan to pandas": scanned(lambda scan: pa.Table.from_pandas(scan.to_pandas(), SCHEMA)),
    "lazy Polars": lazy,
}
