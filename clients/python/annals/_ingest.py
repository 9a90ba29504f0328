"""Appends the rows of a table, in batches of which several are on their way at once.

Invariant: a batch is kept until it is answered, with the event ids that it was first sent with. Batches are a matter of
the data and `batch_rows` alone, never of time, so that the same table with ids of its own makes the same batches again.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from annals import _tickets
from annals._flight import Connection, Upload
from annals._ids import uuid7_bytes
from annals._scanning import ended
from annals.conditions import CursorRecord, Guard
from annals.errors import AnnalsError
from annals.events import IngestResult
from annals.retry import RetryPolicy

UNANSWERED_MAX = 8
"""Batches on their way: enough to keep a disk busy that syncs, and little to send again."""
BATCH_BYTES_MAX = 4 << 20
"""Of the texts in a batch. The server takes 8 MiB in its own form, which has about 100 bytes for each event besides."""

_ID = pa.binary(16)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def ingest(
    connection: Connection,
    retry: RetryPolicy,
    data: object,
    guards: Sequence[Guard],
    cursors: Sequence[CursorRecord],
    batch_rows: int,
    log_id: str | None,
) -> IngestResult:
    """See `Tables.ingest`."""
    if batch_rows < 1:
        raise ValueError("batch_rows must be at least 1")
    command = _tickets.upload(guards, cursors, log_id)
    conditional = bool(guards or cursors)
    reader = reader_of(data)
    schema = schema_for(reader.schema)
    batches = whole(schema, reader) if conditional else divided(schema, reader, batch_rows)
    # Before anything is sent: what goes wrong until then must not look like the end of the table.
    first = next(batches, None)
    uploading = _Uploading(first, batches, conditional)
    failures = 0
    while True:
        answered = uploading.answers
        try:
            uploading.run(connection.put(command, schema))
        except AnnalsError as error:
            failures = 1 if uploading.answers > answered else failures + 1
            # Only events have ids that tell a repeat.
            delay = retry.delay(failures, error, repeatable=first is not None)
            if delay is None:
                error.ingested = uploading.result
                raise
            time.sleep(delay)
        else:
            return uploading.finished()


class _Uploading:
    """Batches on their way, and what was answered to those that arrived."""

    def __init__(self, first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch], conditional: bool) -> None:
        self.result = IngestResult(events=0, first_position=0, last_position=0, duplicates=0, log_id="")
        self.answers = 0
        self._unanswered = deque(() if first is None else (first,))
        self._rest = rest
        # Cursors alone are answered too.
        self._alone = conditional and first is None
        self._failure: Exception | None = None

    def finished(self) -> IngestResult:
        """What was stored; raises what ended the table before its end."""
        if self._failure is not None:
            self._failure.ingested = self.result  # type: ignore[attr-defined]
            raise self._failure
        return self.result

    def run(self, upload: Upload) -> None:
        """Send what is not answered and what is left; returns when all of it is answered."""
        arrived = self._send(upload)
        while self._awaits_answer(arrived) and self._take(upload):
            pass
        upload.close()
        if self._awaits_answer(arrived):
            raise ended()

    def _send(self, upload: Upload) -> bool:
        """False if the stream broke."""
        for batch in tuple(self._unanswered):
            if not upload.write(batch):
                return False
        while (batch := self._next()) is not None:
            self._unanswered.append(batch)
            if not upload.write(batch):
                return False
            if len(self._unanswered) >= UNANSWERED_MAX and not self._take(upload):
                return False
        upload.end()
        return True

    def _next(self) -> pa.RecordBatch | None:
        """The next batch, None after the last. What went before an error is stored, and told with it."""
        try:
            return None if self._failure else next(self._rest, None)
        except Exception as error:
            self._failure = error
            return None

    def _awaits_answer(self, arrived: bool) -> bool:
        return not arrived or len(self._unanswered) > 0 or (self._alone and self.answers == 0)

    def _take(self, upload: Upload) -> bool:
        """Take the next answer; False if there is none."""
        answer = upload.read()
        if answer is None:
            return False
        told = json.loads(answer)
        events = self._unanswered.popleft().num_rows if self._unanswered else 0
        so_far = self.result
        self.answers += 1
        self.result = IngestResult(
            events=so_far.events + events,
            first_position=so_far.first_position or told["first"] or 0,
            last_position=told["last"] or so_far.last_position,
            duplicates=so_far.duplicates + (events if told["duplicate"] else 0),
            log_id=told["log_id"],
        )
        return True


def reader_of(data: object) -> pa.RecordBatchReader:
    """Whatever Arrow can read as a table, as a stream of record batches."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        # By itself it would bring its index as a column.
        return pa.Table.from_pandas(data, preserve_index=False).to_reader()
    if isinstance(data, pa.RecordBatchReader):
        # What goes wrong in whoever makes its batches is raised as it is.
        return data
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data)
    if hasattr(data, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(data)]).to_reader()
    hint = "; collect it first" if hasattr(data, "collect") else ""
    raise TypeError(f"not a table that Arrow can read: {type(data).__name__}{hint}")


def schema_for(schema: pa.Schema) -> pa.Schema:
    """That of the batches that are sent: of plain types, and with ids."""
    fields = [pa.field(field.name, _ID if _lacks_ids(field) else _plain(field.type)) for field in schema]
    if not schema.get_all_field_indices("event_id"):
        fields.append(pa.field("event_id", _ID))
    return pa.schema(fields)


def divided(schema: pa.Schema, batches: Iterable[pa.RecordBatch], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of so many rows, or of fewer that are large, wherever those that came begin and end."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            part = _fitted(schema, batch.slice(start, min(batch_rows - rows, _some_rows(batch))))
            start += part.num_rows
            sizes = _row_bytes(part)
            total = pc.sum(sizes).as_py()
            if size + total > BATCH_BYTES_MAX:
                begin = 0
                for row, bytes_of_row in enumerate(sizes.to_pylist()):
                    if rows > 0 and size + bytes_of_row > BATCH_BYTES_MAX:
                        yield pa.concat_batches([*held, part.slice(begin, row - begin)])
                        held, begin, rows, size = [], row, 0, 0
                    rows += 1
                    size += bytes_of_row
                part = part.slice(begin)
            else:
                rows += part.num_rows
                size += total
            held.append(part)
            if rows == batch_rows:
                yield pa.concat_batches(held)
                held, rows, size = [], 0, 0
    if held:
        yield pa.concat_batches(held)


def _some_rows(batch: pa.RecordBatch) -> int:
    """So many rows to look at that they are about as large as a batch. Where batches end does not depend on it."""
    rows, size = int(batch.num_rows), int(batch.nbytes)
    return max(1, min(rows, BATCH_BYTES_MAX * rows // max(size, 1)))


def _row_bytes(batch: pa.RecordBatch) -> pa.Array:
    """Of texts, and whatever else has a length; what does not is small."""
    total: pa.Array = pa.repeat(pa.scalar(0, pa.int64()), batch.num_rows)
    for column in batch.columns:
        total = pc.add(total, _lengths(column))
    return total


def _lengths(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        # Between the ends of its elements, counted from the first row's.
        ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64()))
        inside = pc.cumulative_sum(_lengths(pc.list_flatten(column)))
        upto = pc.take(pa.concat_arrays([pa.array([0], pa.int64()), inside]), ends)
        before = pa.concat_arrays([pa.array([0], pa.int64()), upto.slice(0, max(len(upto) - 1, 0))])
        return pc.subtract(upto, before.slice(0, len(upto)))
    if any(test(kind) for test in _TEXTS):
        return pc.fill_null(pc.binary_length(column), 0).cast(pa.int64())
    return pa.repeat(pa.scalar(8, pa.int64()), len(column))


def whole(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """All rows as one batch; none if there are no rows."""
    held = [_fitted(schema, batch) for batch in batches if batch.num_rows > 0]
    if held:
        yield pa.concat_batches(held)


def _fitted(schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with the columns that are sent."""
    columns = []
    for place, field in enumerate(schema):
        if place == batch.num_columns or _lacks_ids(batch.schema.field(place)):
            columns.append(_new_ids(batch.num_rows))
            continue
        column = _cast(batch.column(place), field.type)
        if field.name == "event_id" and column.null_count > 0:
            column = _with_ids(column)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        return _cast(column.storage, kind)
    if isinstance(column, pa.DictionaryArray):
        # Arrow cannot yet look up views.
        return pa.DictionaryArray.from_arrays(column.indices, _cast(column.dictionary, kind)).dictionary_decode()
    views = pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type)
    lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if views or (lists and pa.types.is_dictionary(column.type.value_type)):
        # Nor cast views of lists without mistakes, and lists of dictionaries of views not at all. They are rare.
        return pa.array(column.to_pylist(), kind)
    return column.cast(kind)


def _lacks_ids(field: pa.Field) -> bool:
    return bool(field.name == "event_id" and pa.types.is_null(field.type))


def _new_ids(count: int) -> pa.Array:
    return pa.Array.from_buffers(_ID, count, [None, pa.py_buffer(uuid7_bytes(count))])


def _with_ids(column: pa.Array) -> pa.Array:
    """An id where there is none."""
    ids = _new_ids(len(column))
    if column.type != _ID:
        ids = pa.array([str(uuid.UUID(bytes=raw)) for raw in ids.to_pylist()], pa.string()).cast(column.type)
    return pc.coalesce(column, ids)


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type without dictionaries and views: of those all that they share would be sent with every part of a column."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_plain(kind.value_type))
    return kind
