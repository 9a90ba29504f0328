"""What a client does with whole tables, over a connection of its own: Arrow Flight, which needs pyarrow."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from annals import _wire
from annals._extras import needed
from annals._scanning import Answering, Scanning
from annals._tickets import Parameters, Selection, Statement, Table, select
from annals.conditions import AsOf, AtVersion, CursorRecord, Guard, as_cursors, as_guards
from annals.events import IngestResult
from annals.retry import RetryPolicy
from annals.scan import Batches, Scan

if TYPE_CHECKING:
    import polars as pl
    from typing_extensions import Unpack

    from annals._flight import Connection

INGEST_ROWS = 8_192


class Tables:
    """The part of `annals.Client` that reads and writes record batches."""

    def __init__(self, dial: Callable[[], Connection], retry: RetryPolicy) -> None:
        self._dial = dial
        self._retry = retry
        self._connection: Connection | None = None
        self._batches: weakref.WeakSet[Batches] = weakref.WeakSet()
        self._tables_lock = threading.Lock()

    def scan(
        self,
        table: Table = "events",
        *,
        columns: str | Iterable[str] | None = None,
        after: int = 0,
        through: int | None = None,
        limit: int | None = None,
        as_of: AsOf | None = None,
        log_id: str | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Scan:
        """Rows of a table, as Arrow record batches and whatever is made of them; needs `annals[arrow]`.

        `table` is `"events"`, `"entities"`, or `("types", "order.paid")` for the events of one type. `columns` are
        given in their order, all if there are none. The other keywords are those of `read`.
        """
        selection = select(
            table, columns=columns, after=after, through=through, limit=limit, as_of=as_of, log_id=log_id, **events
        )
        return Scan(self._begin, selection, after)

    def sql(
        self,
        statement: str,
        parameters: Parameters = (),
        *,
        as_of: AsOf | None = None,
        log_id: str | None = None,
    ) -> Scan:
        """Rows of a statement of SQL, as Arrow record batches and whatever is made of them; needs `annals[arrow]`.

        The tables are `events`, `entities`, and `types."order.paid"` for the events of one type; `payload ->> 'amount'`
        takes a field out of a payload. All of them are read as of one position: the head, or `as_of`. `parameters` are
        the values of `$1`, `$2`, …, or of `$name` if they have names: text, numbers, booleans, None, and datetimes,
        which arrive as text (`recorded_at >= CAST($1 AS TIMESTAMP)`). A statement whose connection breaks
        after its first rows raises: they have no order to go on in.

            totals = client.sql(
                "SELECT entity_id, sum(CAST(payload ->> 'amount' AS DOUBLE)) AS total "
                "FROM events WHERE event_type = $1 GROUP BY entity_id",
                ["order.paid"],
            ).to_polars()
        """
        asked = Statement(statement, parameters, as_of, log_id or "")
        asked.ticket()  # Values that are none are refused where the call was made.
        return Scan(self._ask, asked)

    def follow(
        self,
        table: Table = "events",
        *,
        columns: str | Iterable[str] | None = None,
        after: int | None = None,
        from_head: bool = False,
        log_id: str | None = None,
        resume_attempts: int | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Batches:
        """Rows of a table from a position on, then live: what `subscribe` is to events; needs `annals[arrow]`.

        Ends only when it is closed. Its `position` moves on also while nothing matches; `resume_attempts` and the other
        keywords are those of `subscribe`.
        """
        if from_head:
            if after is not None:
                raise TypeError("give either after or from_head")
            if log_id is not None:
                raise TypeError("log_id belongs to a position: give it with after")
            now = self._begin(Selection(columns=("position",), limit=1))
            now.establish()
            after, log_id = now.head, now.log_id
        selection = select(table, columns=columns, after=after or 0, follow=True, log_id=log_id, **events)
        batches = self._open(selection, resume_attempts)
        # Answered here: a refusal is raised where the call was made.
        _ = batches.schema
        return batches

    def lazy(
        self,
        table: Table = "events",
        *,
        after: int = 0,
        through: int | None = None,
        as_of: AsOf | None = None,
        log_id: str | None = None,
        **events: Unpack[_wire.Filter],
    ) -> pl.LazyFrame:
        """A table as a Polars LazyFrame, as of the head at this call; needs `annals[polars]`.

        Queries fetch the columns that they use, and of the rows those that a filter may match as far as the server
        understands it: equality and `is_in` on `entity_id` and `event_type`, `str.starts_with` on `event_type`,
        `list.contains` on `tags`, comparisons of `position`, `recorded_at` and `occurred_at`, and several of them
        joined by `&`. The keywords are those of `scan`.
        """
        with needed("polars"):
            from annals import _lazy

        selection = select(table, after=after, through=through, as_of=as_of, log_id=log_id, **events)
        # One row tells the head and the columns. A version is one entity's.
        entities = selection.entities if isinstance(as_of, AtVersion) else ()
        now = self._begin(
            Selection(table=selection.table, entities=entities, as_of=as_of, limit=1, log_id=selection.log_id)
        )
        now.establish()
        head = now.head or 0
        if through is not None:
            head = min(head, through)
        return _lazy.frame(self._begin, selection.pinned(head, now.log_id), now.schema)

    def ingest(
        self,
        data: object,
        *,
        guards: Guard | Iterable[Guard] = (),
        cursors: CursorRecord | Iterable[CursorRecord] = (),
        batch_rows: int = INGEST_ROWS,
        log_id: str | None = None,
    ) -> IngestResult:
        """Append the rows of a table, and return when they are on disk; needs `annals[arrow]`.

        `data` is whatever Arrow can read as a table: of pyarrow, Polars, pandas, DuckDB. Its columns are `entity_id`,
        `event_type`, `payload` (JSON text), and if there are any `event_id`, `occurred_at`, `metadata` (JSON text) and
        `tags`. Rows without an `event_id` get one here, so that those whose outcome is unknown can be sent again: as in
        `append`, they are stored once.

        Every `batch_rows` rows, or fewer that are large, are one append: all of them or nothing. When one is refused
        those before it stay; the error says in `ingested` how many. With `guards` or `cursors` all rows are one.
        """
        with needed("arrow"):
            from annals import _ingest

        return _ingest.ingest(
            self._connected(), self._retry, data, as_guards(guards), as_cursors(cursors), batch_rows, log_id
        )

    def _close_tables(self) -> None:
        with self._tables_lock:
            open_now, connection = list(self._batches), self._connection
        for batches in open_now:
            batches.close()
        if connection is not None:
            connection.close()

    def _begin(self, selection: Selection) -> Batches:
        return self._open(selection, self._retry.attempts - 1)

    def _ask(self, statement: Statement) -> Batches:
        return self._batches_of(Answering(statement, self._retry))

    def _open(self, selection: Selection, resume_attempts: int | None) -> Batches:
        return self._batches_of(Scanning(selection, self._retry, resume_attempts))

    def _batches_of(self, scanning: Scanning) -> Batches:
        batches = Batches(self._connected(), scanning)
        with self._tables_lock:
            self._batches.add(batches)
        return batches

    def _connected(self) -> Connection:
        with self._tables_lock:
            if self._connection is None:
                self._connection = self._dial()
            return self._connection
