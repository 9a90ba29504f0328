"""The client for asyncio: the methods of `annals.Client`, to be awaited.

A client belongs to the event loop that it was made in.
"""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast, overload

import grpc
import grpc.aio

from annals import _computing, _endpoint, _wire
from annals._following import Following, ended
from annals._proto.v1 import admin_pb2, admin_pb2_grpc, ingest_pb2_grpc, query_pb2, query_pb2_grpc
from annals.analytics import Correlation, Frequency, Summaries
from annals.conditions import AsOf, CursorRecord, Guard
from annals.errors import AnnalsError, Cancelled, from_rpc_error
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

__all__ = ["Client", "Read", "Subscription", "connect"]

_Item = TypeVar("_Item", bound=Event | Checkpoint, covariant=True)
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
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
    """A client of the server at `url`; the arguments are those of `annals.connect`. Call it within the event loop.

    >>> import annals, asyncio
    >>> async def main():
    ...     async with annals.aio.connect() as client:
    ...         await client.append(annals.NewEvent("order-8", "order.placed", {"total": 30}))
    ...         return [event.payload async for event in client.read(entity_ids="order-8")]
    >>> asyncio.run(main())
    [{'total': 30}]
    """
    endpoint = _endpoint.resolve(url, tenant, token)
    options = _endpoint.channel_options(receive_bytes_max)
    if endpoint.secure:
        channel = grpc.aio.secure_channel(
            endpoint.target, grpc.ssl_channel_credentials(root_certificates), options=options
        )
    else:
        channel = grpc.aio.insecure_channel(endpoint.target, options=options)
    return Client(channel, endpoint.metadata, timeout, retry or RetryPolicy())


class Client:
    """What one tenant's log can be asked; made by `connect`, closed by `close` or at the end of an `async with`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        metadata: tuple[tuple[str, str], ...],
        timeout: float | None,
        retry: RetryPolicy,
    ) -> None:
        self._channel = channel
        self._metadata = metadata
        self._timeout = timeout
        self._retry = retry
        self._ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        self._query = query_pb2_grpc.QueryServiceStub(channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(channel)
        self._streams: weakref.WeakSet[Read | Subscription[Event | Checkpoint]] = weakref.WeakSet()

    async def append(
        self,
        events: NewEvent | Iterable[NewEvent] = (),
        guards: Guard | Iterable[Guard] = (),
        cursors: CursorRecord | Iterable[CursorRecord] = (),
        log_id: str | None = None,
    ) -> AppendResult:
        """Append a batch: all of it or nothing; see `annals.Client.append`. A cancelled call may still commit."""
        request = _wire.append_request(events, guards, cursors, log_id)
        response = await self._call(self._ingest.Append, request, repeatable=len(request.events) > 0)
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
        """Events in the order of the log; see `annals.Client.read`.

        Iterate the result with `async for`. To know its `head` before that, or to have a refusal raised here, await
        it: `read = await client.read(...)`.
        """
        filter_ = _wire.event_filter(after=after, through=through, **events)
        request = _wire.read_request(filter_, backward=backward, limit=limit, as_of=as_of, log_id=log_id)
        read = Read(lambda: self._query.ReadEvents(request, metadata=self._metadata), self._repeat)
        self._streams.add(read)
        return read

    async def get_event(self, *, position: int | None = None, event_id: str | uuid.UUID | None = None) -> Event:
        """One event, by its position or by its id; `NotFound` if there is none."""
        request = _wire.get_event_request(position, event_id)
        return _wire.event_of((await self._call(self._query.GetEvent, request)).event)

    async def state(self, entity_id: str, as_of: AsOf | None = None) -> EntityState:
        """The merge of an entity's payloads, now or as of a point of the past; see `annals.Client.state`."""
        request = query_pb2.GetEntityStateRequest(entity_id=entity_id, as_of=_wire.point(as_of))
        return _wire.state_of(await self._call(self._query.GetEntityState, request))

    async def entities(self, prefix: str = "", *, page_size: int = 0) -> AsyncIterator[EntitySummary]:
        """The entities whose name starts with `prefix`, by name, as of one position; fetched by the page."""
        token = ""
        while True:
            request = query_pb2.ListEntitiesRequest(prefix=prefix, page_size=page_size, page_token=token)
            page = await self._call(self._query.ListEntities, request)
            for entity in page.entities:
                yield _wire.entity_of(entity)
            token = page.next_page_token
            if not token:
                return

    async def event_types(self, prefix: str = "", *, page_size: int = 0) -> AsyncIterator[EventTypeSummary]:
        """The event types that start with `prefix`, by name, as of one position; fetched by the page."""
        token = ""
        while True:
            request = query_pb2.ListEventTypesRequest(prefix=prefix, page_size=page_size, page_token=token)
            page = await self._call(self._query.ListEventTypes, request)
            for event_type in page.event_types:
                yield _wire.event_type_of(event_type)
            token = page.next_page_token
            if not token:
                return

    async def cursor(self, name: str) -> Cursor:
        """Where a cursor stands that was committed with a batch."""
        return _wire.cursor_of(await self._call(self._query.GetCursor, query_pb2.GetCursorRequest(name=name)))

    async def stats(self, *, all_tenants: bool = False) -> Stats:
        """Counts of this tenant, or of all, and of the process."""
        request = query_pb2.GetStatsRequest(all_tenants=all_tenants)
        return _wire.stats_of(await self._call(self._query.GetStats, request))

    async def frequency(
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
        """How many events there were in each span of time; see `annals.Client.frequency`."""
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
        return _computing.frequency_of(request, await self._call(self._query.GetEventFrequency, request))

    async def summary(
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
        """How many events there are, of what, and the times between them; see `annals.Client.summary`."""
        filter_ = _wire.event_filter(after=after, through=through, **events)
        request = _computing.summary_request(
            filter_, by_type=by_type, occurred=occurred, intervals=intervals, as_of=as_of
        )
        return _computing.summaries_of(await self._call(self._query.GetEventSummary, request))

    async def correlation(
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
        """How often events of one type are followed by one of another; see `annals.Client.correlation`."""
        filter_ = _wire.event_filter(after=after, through=through, **events)
        request = _computing.correlation_request(
            filter_, first_type, then_type, within=within, occurred=occurred, as_of=as_of
        )
        return _computing.correlation_of(await self._call(self._query.GetEventCorrelation, request))

    async def compact(self) -> CompactionStats:
        """Start to compact segments until no two neighbours would fit into one, and return at once.

        Reads and appends go on; `compaction_stats` tells how far it is.
        """
        request = admin_pb2.TriggerCompactionRequest()
        return _wire.compaction_stats_of((await self._call(self._admin.TriggerCompaction, request)).stats)

    async def compaction_stats(self) -> CompactionStats:
        """Segments of this tenant, and their compaction."""
        request = admin_pb2.GetCompactionStatsRequest()
        return _wire.compaction_stats_of((await self._call(self._admin.GetCompactionStats, request)).stats)

    async def verify(self, *, on_progress: Callable[[int, int], object] | None = None) -> Integrity:
        """Have the server verify what it has of this tenant on disk; see `annals.Client.verify`."""
        verifying = Verifying(on_progress)
        call = self._admin.VerifyIntegrity(admin_pb2.VerifyIntegrityRequest(), metadata=self._metadata)
        try:
            async for message in call:
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
        """Events from a position on, then live; see `annals.Client.subscribe`.

        Iterate the result with `async for`. To wait until the server has answered, so that with `from_head` whatever
        is appended next is seen, await it (`subscription = await client.subscribe(from_head=True)`) or enter it
        (`async with`).
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
        self._streams.add(subscription)
        return subscription

    async def close(self) -> None:
        """End every read and subscription of this client, then its connection."""
        for stream in list(self._streams):
            await stream.close()
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        repeatable: bool = True,
    ) -> _Response:
        async def attempt() -> _Response:
            return await method(request, timeout=self._timeout, metadata=self._metadata)

        return await self._repeat(attempt, repeatable)

    async def _repeat(self, attempt: Callable[[], Awaitable[_Result]], repeatable: bool) -> _Result:
        failures = 0
        while True:
            try:
                return await attempt()
            except grpc.RpcError as error:
                failures += 1
                typed = from_rpc_error(error)
                delay = self._retry.delay(failures, typed, repeatable=repeatable)
                if delay is None:
                    raise typed from error
            await asyncio.sleep(delay)


class Read:
    """Events of one snapshot of the log, received as they are iterated."""

    def __init__(
        self,
        open_stream: Callable[[], _ReadCall],
        repeat: Callable[
            [Callable[[], Awaitable[query_pb2.ReadEventsResponse | None]], bool],
            Awaitable[query_pb2.ReadEventsResponse | None],
        ],
    ) -> None:
        self._open_stream = open_stream
        self._repeat = repeat
        self._call: _ReadCall | None = None
        self._closed = False
        self._cancelled = False
        self._received: Iterator[Event] = iter(())
        self.head = 0
        """The position that the read sees the log at, once the first event came or the read was awaited."""
        self.log_id = ""
        """The log that it reads."""

    async def close(self) -> None:
        """Stop reading; the server stops too."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    def __await__(self) -> Generator[object, None, Self]:
        return self._opened().__await__()

    async def _opened(self) -> Self:
        if self._call is None and not self._closed:
            first = await self._repeat(self._open, True)
            if first is not None:
                self.head = first.head
                self.log_id = first.log_id
                self._received = map(_wire.event_of, first.batch.events)
        return self

    async def _open(self) -> query_pb2.ReadEventsResponse | None:
        self._call = self._open_stream()
        try:
            return await _next(self._call)
        except (grpc.RpcError, asyncio.CancelledError):
            self._call = None
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._cancelled:
            # Its call went with the task that waited for it; to end here would pass a part for the whole.
            raise Cancelled("the read was cancelled: read again", code=grpc.StatusCode.CANCELLED)
        try:
            await self._opened()
            while not self._closed and self._call is not None:
                event = next(self._received, None)
                if event is not None:
                    return event
                message = await _next(self._call)
                if message is None:
                    break
                self._received = map(_wire.event_of, message.batch.events)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            if not self._closed or _is_cancelled():
                self._cancelled = self._call is not None
                raise
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Subscription(Generic[_Item]):
    """Events as they come; ends only when it is closed, from this task or another, or with an error."""

    def __init__(self, open_stream: Callable[[], _SubscribeCall], following: Following) -> None:
        self._open_stream = open_stream
        self._following = following
        self._call: _SubscribeCall | None = None
        self._closed = asyncio.Event()

    @property
    def position(self) -> int:
        """Where it stands: the position of the last event, or checkpoint, that was handed out or passed over."""
        return self._following.position or 0

    @property
    def log_id(self) -> str:
        """The log that the position belongs to."""
        return self._following.log_id

    async def close(self) -> None:
        """End the subscription; an iteration that waits in another task ends too."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def __await__(self) -> Generator[object, None, Self]:
        return self._opened().__await__()

    async def _opened(self) -> Self:
        while not self._following.established and not self._closed.is_set():
            await self._receive()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        while not self._closed.is_set():
            received = self._following.next()
            if received is not None:
                return cast("_Item", received)
            await self._receive()
        raise StopAsyncIteration

    async def _receive(self) -> None:
        if self._call is None:
            self._call = self._open_stream()
        try:
            message = await _next(self._call)
        except grpc.RpcError as error:
            await self._resume_after(from_rpc_error(error), error)
        except asyncio.CancelledError:
            # A reader that is cancelled takes its call with it: should the caller go on, with the next `anext` after
            # an `asyncio.wait_for` that ran out, a new call takes over at the position.
            self._call = None
            # To cancel the call, as `close` does, looks to its reader like being cancelled itself.
            if not self._closed.is_set() or _is_cancelled():
                raise
        else:
            if message is None:
                await self._resume_after(ended(), None)
            else:
                self._following.accept(message)

    async def _resume_after(self, error: AnnalsError, cause: Exception | None) -> None:
        self._call = None
        if self._closed.is_set():
            return
        delay = self._following.wait_after(error)
        if delay is None:
            self._closed.set()
            raise error from cause
        try:
            await asyncio.wait_for(self._closed.wait(), delay)
        except asyncio.TimeoutError:
            return

    async def __aenter__(self) -> Self:
        return await self._opened()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


if TYPE_CHECKING:
    _ReadCall = grpc.aio.UnaryStreamCall[query_pb2.ReadEventsRequest, query_pb2.ReadEventsResponse]
    _SubscribeCall = grpc.aio.UnaryStreamCall[query_pb2.SubscribeRequest, query_pb2.SubscribeResponse]


async def _next(call: grpc.aio.UnaryStreamCall[_Request, _Response]) -> _Response | None:
    """The next message, None at the end of the stream."""
    message = await call.read()
    return None if message is grpc.aio.EOF else cast("_Response", message)


def _is_cancelled() -> bool:
    """Whether the running task itself was asked to stop; before Python 3.11 it cannot be known."""
    task = asyncio.current_task()
    cancelling: Callable[[], int] | None = getattr(task, "cancelling", None)
    return cancelling is not None and cancelling() > 0
