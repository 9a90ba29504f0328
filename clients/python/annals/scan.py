"""Scans of tables: what they give to pyarrow, Polars, pandas and DuckDB, over connections that may break."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import grpc

from annals._extras import needed
from annals._scanning import Scanning, ended
from annals._tickets import Asked
from annals.errors import AnnalsError, Cancelled

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from typing_extensions import Self

    from annals._flight import Connection, Download

__all__ = ["Batches", "Scan"]


class Batches:
    """Record batches as they arrive. A broken connection is made anew and the rows resumed, each of them once."""

    def __init__(self, connection: Connection, scanning: Scanning) -> None:
        self.scanning = scanning
        """How far they got."""
        self.complete = False
        """All of them were handed out. What follows the log never is, and what was closed may not be."""
        self._connection = connection
        self._stream: Download | None = None
        self._schema: pa.Schema | None = None
        self._closed = threading.Event()

    @property
    def schema(self) -> pa.Schema:
        """Of every batch; asks the server if it has not answered yet."""
        while self._schema is None:
            if self._closed.is_set():
                raise Cancelled("closed before the server answered", code=grpc.StatusCode.CANCELLED)
            self._try(self._open)
        return self._schema

    @property
    def position(self) -> int:
        """Everything wanted up to here was handed out: with `log_id`, a place to resume from as `after`."""
        return self.scanning.position

    @property
    def head(self) -> int | None:
        """The position that the last batch was read at; None before the first."""
        return self.scanning.head

    @property
    def log_id(self) -> str:
        """The log that the position belongs to; empty before the first batch if it was not given."""
        return self.scanning.log_id

    def close(self) -> None:
        """Stop; an iteration that waits in another thread ends too."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        while not self._closed.is_set():
            rows = self.scanning.next()
            if rows is not None:
                return rows
            if self.complete:
                break
            self._try(self._receive)
        raise StopIteration

    def establish(self) -> None:
        """Wait for the first batch, which stays here until it is asked for."""
        while self.scanning.head is None and not self._closed.is_set():
            self._try(self._receive)

    def _receive(self) -> None:
        if self._stream is None and self.scanning.is_done():
            # It broke behind the last rows.
            self.complete = True
            return
        received = self._open().read()
        if received is not None:
            self.scanning.accept(*received)
        elif self.scanning.is_complete():
            self.complete = True
        else:
            raise ended()

    def _open(self) -> Download:
        stream = self._stream
        if stream is None:
            stream = self._stream = self._connection.get(self.scanning.request().ticket())
            self._schema = stream.schema
            if self._closed.is_set():
                stream.cancel()
        return stream

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except AnnalsError as error:
            self._stream = None
            if self._closed.is_set():
                return
            delay = self.scanning.wait_after(error)
            if delay is None:
                self._closed.set()
                raise
            self._closed.wait(delay)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def rows_of(batches: Batches) -> Iterator[pa.RecordBatch]:
    """All of them, or an error. Stops the server too when whoever reads them stops early."""
    with batches:
        yield from batches
        if not batches.complete:
            raise Cancelled("the client was closed", code=grpc.StatusCode.CANCELLED)


class Scan:
    """Rows of a table, or of a statement of SQL, as of one head.

    Nothing is asked of the server before something is asked of this. Every iteration and every conversion asks anew,
    for the same rows: those up to the head that the first answer told. For Arrow's C stream interface it is a table, so
    that `polars.DataFrame(scan)` and `duckdb.sql("FROM scan")` take it as it is.
    """

    def __init__(self, begin: Callable[[Any], Batches], selection: Asked, after: int = 0) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        # Pinned once there is an answer, whose batches wait here to be iterated.
        self._selection = selection
        self._waiting: Batches | None = None
        self._schema: pa.Schema | None = None
        self._head = 0
        self._log_id = ""
        self._position: Callable[[], int] = lambda: after

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        self._ask()
        return self._schema

    @property
    def head(self) -> int:
        """The position that the table is seen at."""
        self._ask()
        return self._head

    @property
    def log_id(self) -> str:
        """The log that it is a table of."""
        self._ask()
        return self._log_id

    @property
    def position(self) -> int:
        """How far the iteration got that was begun last: everything wanted up to here was handed out.

        With `log_id`, a place to go on from as `after`. Rows of entities and of statements have none; it stays 0.
        """
        return self._position()

    def __iter__(self) -> Batches:
        with self._lock:
            batches = self._answered()
            self._waiting = None
            # Not the batches: whoever drops them half read stops them.
            scanning = batches.scanning
            self._position = lambda: scanning.position
            return batches

    def to_reader(self) -> pa.RecordBatchReader:
        """As a stream, which can be read once."""
        with needed("arrow"):
            import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, self._rows())

    def to_table(self) -> pa.Table:
        """All rows, in memory."""
        with needed("arrow"):
            import pyarrow as pa

        return pa.Table.from_batches(self._rows(), self.schema)

    def to_polars(self) -> pl.DataFrame:
        """All rows, in memory."""
        with needed("polars"):
            import polars as pl

        return cast("pl.DataFrame", pl.from_arrow(self.to_table()))

    def to_pandas(self) -> pd.DataFrame:
        """All rows, in memory."""
        with needed("pandas"):
            import pandas  # noqa: F401 - pyarrow imports it, and says less clearly that it is missing

        return cast("pd.DataFrame", self.to_table().to_pandas())

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """A relation, of DuckDB's default connection if none is given; each query of it fetches the rows anew."""
        with needed("duckdb"):
            import duckdb

        return (duckdb.default_connection() if connection is None else connection).from_arrow(self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """For all that take tables through Arrow's C stream interface."""
        stream: object = self.to_reader().__arrow_c_stream__(requested_schema)
        return stream

    def _rows(self) -> Iterator[pa.RecordBatch]:
        # Begun when the first row is asked for.
        yield from rows_of(iter(self))

    def _ask(self) -> None:
        with self._lock:
            if self._schema is None:
                self._answered()

    def _answered(self) -> Batches:
        batches = self._waiting
        if batches is None:
            batches = self._begin(self._selection)
            batches.establish()
            self._selection = batches.scanning.selection
            self._schema = batches.schema
            self._head = batches.head or 0
            self._log_id = batches.log_id
            self._waiting = batches
        return batches
