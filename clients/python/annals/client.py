"""The client for threads. Every method may be called from any thread."""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar, cast, overload

import grpc

from annals import _computing, _endpoint, _wire
from annals._extras import needed
from annals._following import Following, ended
from annals._proto.v1 import admin_pb2, admin_pb2_grpc, ingest_pb2_grpc, query_pb2, query_pb2_grpc
from annals._tables import Tables
from annals.analytics import Correlation, Frequency, Summaries
from annals.conditions import AsOf, CursorRecord, Guard
from annals.errors import AnnalsError, from_rpc_error
from annals.events import (
    AppendResult,
    Checkpoint,
    CompactionStats,
    Cursor,
    EntityState,
    EntitySummary,
    Event,
    EventTypeSummary,
    NewEvent,
    Stats,
)
from annals.integrity import Integrity, Verifying
from annals.retry import RetryPolicy

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from annals._flight import Connection

__all__ = ["Client", "Read", "Subscription", "connect"]

_Item = TypeVar("_Item", bound=Event | Checkpoint, covariant=True)
_Request = TypeVar("_Request", contravariant=True)
_Response = TypeVar("_Response", covariant=True)
_Result = TypeVar("_Result")


def connect(
    url: str | None = None,
    tenant: str | None = None,
    token: str | None = None,
    *,
    timeout: float | None = _endpoint.TIMEOUT_SECONDS,
    retry: RetryPolicy | None = None,
    root_certificates: bytes | None = None,
    receive_bytes_max: int = _endpoint.RECEIVE_BYTES_MAX,
) -> Client:
    """A client of the server at `url`. The connection is made by the first call.

    What is not given comes from `ANNALS_URL`, `ANNALS_TENANT` and `ANNALS_TOKEN`, else it is
    `http://127.0.0.1:4747`, the tenant `default`, and no token. `timeout` bounds, in seconds, each attempt of a call
    that has one answer. For `https`, `root_certificates` (PEM) replace the authorities that gRPC brings along. Over
    `http` a token is readable on the way.

    >>> import annals
    >>> with annals.connect() as client:
    ...     placed = annals.NewEvent("order-7", "order.placed", {"total": 12})
    ...     result = client.append(placed, guards=annals.absent("order-7"))
    ...     [event.payload for event in client.read(entity_ids="order-7")]
    [{'total': 12}]
    """
    endpoint = _endpoint.resolve(url, tenant, token)
    options = _endpoint.channel_options(receive_bytes_max)
    if endpoint.secure:
        channel = grpc.secure_channel(endpoint.target, grpc.ssl_channel_credentials(root_certificates), options=options)
    else:
        channel = grpc.insecure_channel(endpoint.target, options=options)

    def dial() -> Connection:
        with needed("arrow"):
            from annals._flight import Connection

        return Connection(endpoint, root_certificates)

    return Client(channel, endpoint.metadata, timeout, retry or RetryPolicy(), dial)


class Client(Tables):
    """What one tenant's log can be asked; made by `connect`, closed by `close` or at the end of a `with`."""

    def __init__(
        self,
        channel: grpc.Channel,
        metadata: tuple[tuple[str, str], ...],
        timeout: float | None,
        retry: RetryPolicy,
        dial: Callable[[], Connection],
    ) -> None:
        super().__init__(dial, retry)
        self._channel = channel
        self._metadata = metadata
        self._timeout = timeout
        self._ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        self._query = query_pb2_grpc.QueryServiceStub(channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(channel)
        self._streams: weakref.WeakSet[Read | Subscription[Event | Checkpoint]] = weakref.WeakSet()
        self._streams_lock = threading.Lock()

    def append(
        self,
        events: NewEvent | Iterable[NewEvent] = (),
        guards: Guard | Iterable[Guard] = (),
        cursors: CursorRecord | Iterable[CursorRecord] = (),
        log_id: str | None = None,
    ) -> AppendResult:
        """Append a batch: all of it or nothing. Returns when it is on disk.

        All `guards` must hold, else `GuardFailed`. `cursors` are committed with the events. With `log_id`, the batch
        is refused unless the log has this id.

        A batch whose event ids already stand in the log with the same content succeeds with `duplicate` set,
        whatever its guards would say now. The server looks for ids at least in the last 1,000,000 events of the
        tenant; with a `version` guard also at the versions that follow it.
        """
        request = _wire.append_request(events, guards, cursors, log_id)
        response = self._call(self._ingest.Append, request, repeatable=len(request.events) > 0)
        return _wire.append_result(request, response)

    def read(
        self,
        *,
        after: int = 0,
        through: int | None = None,
        backward: bool = False,
        limit: int | None = None,
        as_of: AsOf | None = None,
        log_id: str | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Read:
        """Events in the order of the log, of one snapshot whose position is the result's `head`.

        Positions are greater than `after` and at most `through`; `backward` starts with the last. `as_of` reads the
        log as it was then: `at_position(n)`, a datetime, or, with one entity in the filter, `at_version(n)`. The
        other keywords are those of `Filter`.
        """
        filter_ = _wire.event_filter(after=after, through=through, **events)
        request = _wire.read_request(filter_, backward=backward, limit=limit, as_of=as_of, log_id=log_id)
        # The first message is awaited here: it holds the head, and a refusal is raised where the call was made.
        call, first = self._repeat(lambda: self._open_read(request), repeatable=True)
        read = Read(call, first)
        self._remember(read)
        return read

    def get_event(self, *, position: int | None = None, event_id: str | uuid.UUID | None = None) -> Event:
        """One event, by its position or by its id; `NotFound` if there is none."""
        request = _wire.get_event_request(position, event_id)
        return _wire.event_of(self._call(self._query.GetEvent, request).event)

    def state(self, entity_id: str, as_of: AsOf | None = None) -> EntityState:
        """The merge (RFC 7396) of an entity's payloads, now or as of a version, position or time.

        Of an entity without events the version is 0 and the state None.
        """
        request = query_pb2.GetEntityStateRequest(entity_id=entity_id, as_of=_wire.point(as_of))
        return _wire.state_of(self._call(self._query.GetEntityState, request))

    def entities(self, prefix: str = "", *, page_size: int = 0) -> Iterator[EntitySummary]:
        """The entities whose name starts with `prefix`, by name, as of one position; fetched by the page."""
        token = ""
        while True:
            request = query_pb2.ListEntitiesRequest(prefix=prefix, page_size=page_size, page_token=token)
            page = self._call(self._query.ListEntities, request)
            yield from map(_wire.entity_of, page.entities)
            token = page.next_page_token
            if not token:
                return

    def event_types(self, prefix: str = "", *, page_size: int = 0) -> Iterator[EventTypeSummary]:
        """The event types that start with `prefix`, by name, as of one position; fetched by the page."""
        token = ""
        while True:
            request = query_pb2.ListEventTypesRequest(prefix=prefix, page_size=page_size, page_token=token)
            page = self._call(self._query.ListEventTypes, request)
            yield from map(_wire.event_type_of, page.event_types)
            token = page.next_page_token
            if not token:
                return

    def cursor(self, name: str) -> Cursor:
        """Where a cursor stands that was committed with a batch."""
        return _wire.cursor_of(self._call(self._query.GetCursor, query_pb2.GetCursorRequest(name=name)))

    def stats(self, *, all_tenants: bool = False) -> Stats:
        """Counts of this tenant, or of all, and of the process."""
        request = query_pb2.GetStatsRequest(all_tenants=all_tenants)
        return _wire.stats_of(self._call(self._query.GetStats, request))

    def frequency(
        self,
        bucket: timedelta,
        *,
        by_type: bool = False,
        by_entity: bool = False,
        top: int | None = None,
        occurred: bool = False,
        origin: datetime | None = None,
        after: int = 0,
        through: int | None = None,
        as_of: AsOf | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Frequency:
        """How many events there were in each span of time, `bucket` wide; spans without events are there too.

        Spans begin a whole number of widths from `origin`, 1970 if it is not given, and cover the times that the
        filter asks for, else those of the events. `by_type` and `by_entity` give a series for each, `top` only those
        with the most events. Times are those of recording, or with `occurred` those of the clients. The other
        keywords are those of `read`.

        There may be at most 10,000 spans, 1,000 series, and 200,000 counts in all.
        """
        filter_ = _wire.event_filter(after=after, through=through, **events)
        request = _computing.frequency_request(
            filter_,
            bucket,
            by_type=by_type,
            by_entity=by_entity,
            top=top,
            occurred=occurred,
            origin=origin,
            as_of=as_of,
        )
        return _computing.frequency_of(request, self._call(self._query.GetEventFrequency, request))

    def summary(
        self,
        *,
        by_type: bool = False,
        occurred: bool = False,
        intervals: bool = True,
        after: int = 0,
        through: int | None = None,
        as_of: AsOf | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Summaries:
        """How many events there are, of what, and the times between them; `by_type` also of each type.

        `intervals=False` leaves out the times between events: those of an entity cost a sort of all events that
        match, in memory. Times are those of recording, or with `occurred` those of the clients. The other keywords
        are those of `read`.
        """
        filter_ = _wire.event_filter(after=after, through=through, **events)
        request = _computing.summary_request(
            filter_, by_type=by_type, occurred=occurred, intervals=intervals, as_of=as_of
        )
        return _computing.summaries_of(self._call(self._query.GetEventSummary, request))

    def correlation(
        self,
        first_type: str,
        then_type: str,
        *,
        within: timedelta | None = None,
        occurred: bool = False,
        after: int = 0,
        through: int | None = None,
        as_of: AsOf | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Correlation:
        """How often events of one type are followed by one of another, of the same entity, `within` a time.

        An event is followed by the first one of the other type that has a greater position, if the time from the one
        to the other is not negative and at most `within`. Times are those of recording, or with `occurred` those of
        the clients, and events without one are left out. The other keywords are those of `read`.
        """
        filter_ = _wire.event_filter(after=after, through=through, **events)
        request = _computing.correlation_request(
            filter_, first_type, then_type, within=within, occurred=occurred, as_of=as_of
        )
        return _computing.correlation_of(self._call(self._query.GetEventCorrelation, request))

    def compact(self) -> CompactionStats:
        """Start to compact segments until no two neighbours would fit into one, and return at once.

        Reads and appends go on; `compaction_stats` tells how far it is.
        """
        request = admin_pb2.TriggerCompactionRequest()
        return _wire.compaction_stats_of(self._call(self._admin.TriggerCompaction, request).stats)

    def compaction_stats(self) -> CompactionStats:
        """Segments of this tenant, and their compaction."""
        request = admin_pb2.GetCompactionStatsRequest()
        return _wire.compaction_stats_of(self._call(self._admin.GetCompactionStats, request).stats)

    def verify(self, *, on_progress: Callable[[int, int], object] | None = None) -> Integrity:
        """Have the server read every byte of this tenant and compare its forms, while it goes on serving.

        Takes as long as the disk needs; `on_progress` is told the bytes that were read, and how many there are.
        """
        verifying = Verifying(on_progress)
        call = self._admin.VerifyIntegrity(admin_pb2.VerifyIntegrityRequest(), metadata=self._metadata)
        try:
            for message in call:
                verifying.see(message)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()
        return verifying.done()

    @overload
    def subscribe(
        self,
        *,
        after: int | None = None,
        from_head: bool = False,
        log_id: str | None = None,
        with_checkpoints: Literal[False] = False,
        resume_attempts: int | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Subscription[Event]: ...

    @overload
    def subscribe(
        self,
        *,
        after: int | None = None,
        from_head: bool = False,
        log_id: str | None = None,
        with_checkpoints: bool,
        resume_attempts: int | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Subscription[Event | Checkpoint]: ...

    def subscribe(
        self,
        *,
        after: int | None = None,
        from_head: bool = False,
        log_id: str | None = None,
        with_checkpoints: bool = False,
        resume_attempts: int | None = None,
        **events: Unpack[_wire.Filter],
    ) -> Subscription[Event] | Subscription[Event | Checkpoint]:
        """Events from a position on, then live: after `after` (0, the beginning, if not given) or after the head.

        Returns when the server has answered, so that with `from_head` whatever is appended next is seen. A broken
        connection is made anew and the stream resumed after the last event handed out, without gap or repeat; with
        `resume_attempts`, that many times in a row at most. To resume in another process, keep the position and
        `log_id` and give both; another incarnation of the log is then refused. With `with_checkpoints`,
        `Checkpoint` and `CaughtUp` come between the events. The other keywords are those of `Filter`.
        """
        following = Following(
            _wire.event_filter(**events),
            after=after,
            from_head=from_head,
            log_id=log_id,
            with_checkpoints=with_checkpoints,
            retry=self._retry,
            resume_attempts=resume_attempts,
        )
        subscription: Subscription[Event | Checkpoint] = Subscription(
            lambda: self._query.Subscribe(following.request(), metadata=self._metadata), following
        )
        self._remember(subscription)
        return subscription

    def close(self) -> None:
        """End every read, scan and subscription of this client, then its connections."""
        self._close_tables()
        with self._streams_lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: _Method[_Request, _Response], request: _Request, *, repeatable: bool = True) -> _Response:
        return self._repeat(
            lambda: method(request, timeout=self._timeout, metadata=self._metadata), repeatable=repeatable
        )

    def _remember(self, stream: Read | Subscription[Event | Checkpoint]) -> None:
        with self._streams_lock:
            self._streams.add(stream)

    def _repeat(self, attempt: Callable[[], _Result], *, repeatable: bool) -> _Result:
        failures = 0
        while True:
            try:
                return attempt()
            except grpc.RpcError as error:
                failures += 1
                typed = from_rpc_error(error)
                delay = self._retry.delay(failures, typed, repeatable=repeatable)
                if delay is None:
                    raise typed from error
            time.sleep(delay)

    def _open_read(
        self, request: query_pb2.ReadEventsRequest
    ) -> tuple[_Stream[query_pb2.ReadEventsResponse], query_pb2.ReadEventsResponse | None]:
        call = self._query.ReadEvents(request, metadata=self._metadata)
        return call, next(call, None)


class Read:
    """Events of one snapshot of the log, received as they are iterated."""

    def __init__(
        self,
        call: _Stream[query_pb2.ReadEventsResponse],
        first: query_pb2.ReadEventsResponse | None,
    ) -> None:
        self._call = call
        self._closed = False
        self._received: Iterator[Event] = iter(())
        self.head = 0
        """The position that the read sees the log at."""
        self.log_id = ""
        """The log that it reads."""
        if first is not None:
            self.head = first.head
            self.log_id = first.log_id
            self._received = map(_wire.event_of, first.batch.events)

    def close(self) -> None:
        """Stop reading; the server stops too."""
        self._closed = True
        self._call.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._closed:
            event = next(self._received, None)
            if event is not None:
                return event
            try:
                message = next(self._call)
            except grpc.RpcError as error:
                if self._closed:
                    break
                raise from_rpc_error(error) from error
            self._received = map(_wire.event_of, message.batch.events)
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Subscription(Generic[_Item]):
    """Events as they come; ends only when it is closed, from this thread or another, or with an error."""

    def __init__(self, open_stream: Callable[[], _Stream[query_pb2.SubscribeResponse]], following: Following) -> None:
        self._open_stream = open_stream
        self._following = following
        self._call: _Stream[query_pb2.SubscribeResponse] | None = None
        self._closed = threading.Event()
        while not following.established and not self._closed.is_set():
            self._receive()

    @property
    def position(self) -> int:
        """Where it stands: the position of the last event, or checkpoint, that was handed out or passed over."""
        return self._following.position or 0

    @property
    def log_id(self) -> str:
        """The log that the position belongs to."""
        return self._following.log_id

    def close(self) -> None:
        """End the subscription; an iteration that waits in another thread ends too."""
        self._closed.set()
        call = self._call
        if call is not None:
            call.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        while not self._closed.is_set():
            received = self._following.next()
            if received is not None:
                return cast("_Item", received)
            self._receive()
        raise StopIteration

    def _receive(self) -> None:
        call = self._call
        if call is None:
            call = self._call = self._open_stream()
            if self._closed.is_set():
                call.cancel()
        try:
            message = next(call, None)
        except grpc.RpcError as error:
            self._resume_after(from_rpc_error(error), error)
        else:
            if message is None:
                self._resume_after(ended(), None)
            else:
                self._following.accept(message)

    def _resume_after(self, error: AnnalsError, cause: Exception | None) -> None:
        self._call = None
        if self._closed.is_set():
            return
        delay = self._following.wait_after(error)
        if delay is None:
            self._closed.set()
            raise error from cause
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


class _Method(Protocol[_Request, _Response]):
    """A call with one request and one answer."""

    def __call__(
        self,
        request: _Request,
        timeout: float | None = None,
        metadata: tuple[tuple[str, str], ...] | None = None,
    ) -> _Response: ...


class _Stream(Protocol[_Response]):
    """A call with a stream of answers."""

    def __iter__(self) -> Iterator[_Response]: ...

    def __next__(self) -> _Response: ...

    def cancel(self) -> bool: ...
