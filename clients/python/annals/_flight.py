"""The connection that tables travel over: Arrow Flight, and what its errors mean. The only user of `pyarrow.flight`.

Arrow has fewer kinds of errors than gRPC has codes and leaves out their details, so both are taken from the trailing
metadata of the call, which a middleware sees. Errors that are not of a call, such as of columns that do not fit, stay
what they are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import pyarrow as pa
from pyarrow import flight

from annals._endpoint import Endpoint, channel_options
from annals.errors import AnnalsError, from_metadata, from_status

# Classes of Arrow for codes of gRPC, where the server said nothing: those that the connection itself ends with.
_CODES = (
    (flight.FlightUnavailableError, grpc.StatusCode.UNAVAILABLE),
    (flight.FlightCancelledError, grpc.StatusCode.CANCELLED),
    (flight.FlightTimedOutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (flight.FlightUnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (flight.FlightUnauthorizedError, grpc.StatusCode.PERMISSION_DENIED),
    (flight.FlightInternalError, grpc.StatusCode.INTERNAL),
    (pa.ArrowNotImplementedError, grpc.StatusCode.UNIMPLEMENTED),
)
_RAISED = (pa.ArrowException, OSError)


class Connection:
    """Calls to one server, for one tenant; from any thread."""

    def __init__(self, endpoint: Endpoint, root_certificates: bytes | None) -> None:
        scheme = "grpc+tls" if endpoint.secure else "grpc+tcp"
        self._calls = _Calls()
        self._client = flight.FlightClient(
            f"{scheme}://{endpoint.target}",
            tls_root_certs=root_certificates,
            middleware=[self._calls],
            # The server cuts its messages. Of one beyond a bound of ours Arrow would say that the call was cancelled.
            generic_options=channel_options(receive_bytes_max=-1),
        )
        self._options = flight.FlightCallOptions(
            headers=[(name.encode(), value.encode()) for name, value in endpoint.metadata]
        )

    def get(self, ticket: bytes) -> Download:
        """Rows that a ticket stands for; returns when the server has answered."""
        call = self._calls.begin()
        with call.errors():
            return Download(self._client.do_get(flight.Ticket(ticket), self._options), call)

    def put(self, command: bytes, schema: pa.Schema) -> Upload:
        """Rows to append."""
        call = self._calls.begin()
        with call.errors():
            descriptor = flight.FlightDescriptor.for_command(command)
            writer, answers = self._client.do_put(descriptor, schema, self._options)
            return Upload(writer, answers, call)

    def close(self) -> None:
        """End the connection; what goes on over it ends with an error."""
        self._client.close()


class Download:
    """Record batches on their way here."""

    def __init__(self, reader: Any, call: _Call) -> None:  # noqa: ANN401 - pyarrow brings no types
        self._reader = reader
        self._call = call
        with call.errors():
            self.schema: pa.Schema = reader.schema

    def read(self) -> tuple[pa.RecordBatch, bytes] | None:
        """The next batch and its metadata, None at the end."""
        with self._call.errors():
            try:
                chunk = self._reader.read_chunk()
            except StopIteration:
                return None
        return chunk.data, chunk.app_metadata.to_pybytes()

    def cancel(self) -> None:
        """Stop, from any thread; the server stops too."""
        self._reader.cancel()


class Upload:
    """Record batches on their way to the server, and its answers."""

    def __init__(self, writer: Any, answers: Any, call: _Call) -> None:  # noqa: ANN401 - pyarrow brings no types
        self._writer = writer
        self._answers = answers
        self._call = call

    def write(self, batch: pa.RecordBatch) -> bool:
        """Send a batch; False if the stream is broken, so that `close` tells why."""
        try:
            self._writer.write_batch(batch)
        except _RAISED:
            return False
        return True

    def end(self) -> None:
        """Say that no batch follows."""
        try:
            self._writer.done_writing()
        except _RAISED:
            # Said again, with the reason, by `close`.
            return

    def read(self) -> bytes | None:
        """The next answer, None if there is no more: `close` tells why."""
        try:
            answer = self._answers.read()
        except _RAISED:
            return None
        return None if answer is None else answer.to_pybytes()

    def close(self) -> None:
        """End the stream; raises what the server ended it with."""
        with self._call.errors():
            self._writer.close()


class _Call(flight.ClientMiddleware):  # type: ignore[misc]
    """What one call ended with."""

    def __init__(self) -> None:
        super().__init__()
        self._trailers: list[tuple[str, str | bytes]] = []
        self._error: Exception | None = None

    def received_headers(self, headers: Mapping[str, list[str | bytes]]) -> None:
        """Of both ends of the answer."""
        self._trailers += [(name, value) for name, values in headers.items() for value in values]

    def call_completed(self, exception: Exception | None) -> None:
        """As Arrow sees it."""
        self._error = exception

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises errors of the call as typed ones."""
        try:
            yield
        except _RAISED as error:
            typed = self._typed()
            if typed is None:
                raise
            raise typed from error

    def _typed(self) -> AnnalsError | None:
        if self._error is None:
            return None
        told = from_metadata(self._trailers)
        if told is not None:
            return told
        codes = (code for kind, code in _CODES if isinstance(self._error, kind))
        # What Arrow adds in front says the same as the code.
        message = str(self._error).partition(", with message: ")
        return from_status(next(codes, grpc.StatusCode.UNKNOWN), message[2] or message[0], None)


class _Calls(flight.ClientMiddlewareFactory):  # type: ignore[misc]
    """Begins a record of each call, which Arrow asks for in the thread that calls."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()

    def begin(self) -> _Call:
        """The record of the call that this thread makes next."""
        call = self._thread.call = _Call()
        return call

    def start_call(self, info: object) -> _Call:
        """The record of the call that this thread makes now."""
        call: _Call = self._thread.call
        return call
