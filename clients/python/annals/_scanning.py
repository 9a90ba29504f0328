"""How far a scan got and what it asks for next, without I/O.

Invariant: `position` is that of the last batch handed to the caller, never of one merely received. A resumed stream
starts after it, and what was received is handed out before the stream is opened anew: each row comes once. Rows of
entities have no position to resume after; the same cut is asked for again, and what was handed out is skipped.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc

from annals._tickets import ENTITIES, Asked, Selection, Statement
from annals.errors import AnnalsError, Unavailable
from annals.retry import RetryPolicy

if TYPE_CHECKING:
    import pyarrow as pa


class Scanning:
    """The state of one scan, or of one that follows."""

    def __init__(self, selection: Selection, retry: RetryPolicy, resume_attempts: int | None) -> None:
        self.position = selection.after
        """Everything wanted up to here was handed out."""
        self.head: int | None = None
        """The position that the rows were read at; None before the first answer."""
        self.log_id = selection.log_id
        self._selection = selection
        self._retry = retry
        self._resume_attempts = resume_attempts
        self._failures = 0
        self._rows = 0
        self._skip = 0
        self._received: tuple[pa.RecordBatch, int] | None = None

    @property
    def selection(self) -> Asked:
        """What was asked for, pinned to the cut that the server answered with."""
        return self._pinned()

    def _pinned(self) -> Selection:
        if self.head is None or self._selection.follow:
            return self._selection
        return self._selection.pinned(self.head, self.log_id)

    def request(self) -> Asked:
        """What to ask for now."""
        if self.head is None:
            return self._selection
        if self._selection.table == ENTITIES:
            self._skip = self._rows
            return self._pinned()
        limit = self._selection.limit
        return replace(
            self._pinned(),
            after=self.position,
            limit=None if limit is None else limit - self._rows,
            log_id=self.log_id,
        )

    def accept(self, rows: pa.RecordBatch, metadata: bytes) -> None:
        """Take a batch that was received, with what the server says of it."""
        told = json.loads(metadata)
        self._failures = 0
        self.head = told["head"]
        self.log_id = told["log_id"]
        skipped = min(self._skip, rows.num_rows)
        self._skip -= skipped
        # A range that ends before it begins is told to end there.
        self._received = rows.slice(skipped), max(self.position, told.get("position", 0))

    def next(self) -> pa.RecordBatch | None:
        """The rows to hand to the caller, None if more must be received first."""
        if self._received is None:
            return None
        (rows, self.position), self._received = self._received, None
        self._rows += rows.num_rows
        return rows if rows.num_rows > 0 else None

    def is_done(self) -> bool:
        """Whether nothing is left to ask for."""
        if self._selection.follow or self.head is None:
            return False
        at_limit = self._selection.limit is not None and self._rows >= self._selection.limit
        return at_limit or (self._selection.table != ENTITIES and self.position >= self.head)

    def is_complete(self) -> bool:
        """Whether a stream that ended here has told everything. Only of events is it known where they end."""
        return self.is_done() or (self._selection.table == ENTITIES and self.head is not None)

    def wait_after(self, error: AnnalsError) -> float | None:
        """Seconds to wait before the stream is opened anew, None if the error ends the scan."""
        self._failures += 1
        # Until the server has answered once, a scan is a call like any other.
        attempts = self._retry.attempts - 1 if self.head is None else self._resume_attempts
        return self._retry.resume_delay(self._failures, attempts, error)


class Answering(Scanning):
    """The state of one statement of SQL.

    Its rows have no order of their own: what was lost after the first of them is not asked for again but raised.
    """

    def __init__(self, statement: Statement, retry: RetryPolicy) -> None:
        super().__init__(Selection(log_id=statement.log_id), retry, None)
        self._statement = statement

    @property
    def selection(self) -> Asked:
        """The statement, pinned to the head that the server answered with."""
        return self._statement if self.head is None else self._statement.pinned(self.head, self.log_id)

    def request(self) -> Asked:
        """What to ask for now."""
        return self.selection

    def is_done(self) -> bool:
        """Only the end of the stream tells."""
        return False

    def is_complete(self) -> bool:
        """Whether a stream that ended here has told everything."""
        return self.head is not None

    def wait_after(self, error: AnnalsError) -> float | None:
        """Seconds to wait before the statement is asked for anew, None if the error ends it."""
        return super().wait_after(error) if self.head is None else None


def ended() -> AnnalsError:
    """The error for a stream that ended before everything was told, as it does when the server shuts down."""
    return Unavailable("the server ended the stream", code=grpc.StatusCode.UNAVAILABLE)
