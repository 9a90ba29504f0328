"""How far a subscription got and what it asks for next: the part that threads and asyncio share, without I/O.

Invariant: `position` is that of the last thing handed to the caller, never of one merely received. A resumed stream
starts after it, so nothing is skipped; what was received but not handed out yet is handed out before the stream is
opened anew, so nothing comes twice.
"""

from __future__ import annotations

from collections import deque

import grpc

from annals import _wire
from annals._proto.v1 import common_pb2, query_pb2
from annals.errors import AnnalsError, Unavailable
from annals.events import CaughtUp, Checkpoint, Event
from annals.retry import RetryPolicy


class Following:
    """The state of one subscription."""

    def __init__(
        self,
        events: common_pb2.EventFilter,
        *,
        after: int | None,
        from_head: bool,
        log_id: str | None,
        with_checkpoints: bool,
        retry: RetryPolicy,
        resume_attempts: int | None,
    ) -> None:
        if from_head and after is not None:
            raise TypeError("give either after or from_head")
        if from_head and log_id is not None:
            raise TypeError("log_id belongs to a position: give it with after")
        self.position: int | None = None if from_head else after or 0
        self.log_id = log_id or ""
        self._filter = events
        self._with_checkpoints = with_checkpoints
        self._received: deque[Event | Checkpoint] = deque()
        self._retry = retry
        self._resume_attempts = resume_attempts
        self._failures = 0
        self._established = False

    @property
    def established(self) -> bool:
        """The server has answered, so that the place where the subscription started is known."""
        return self._established

    def request(self) -> query_pb2.SubscribeRequest:
        """What to ask for now."""
        if self.position is None:
            return query_pb2.SubscribeRequest(filter=self._filter, head={})
        return query_pb2.SubscribeRequest(filter=self._filter, after=self.position, log_id=self.log_id)

    def accept(self, message: query_pb2.SubscribeResponse) -> None:
        """Take a message that was received."""
        self._failures = 0
        which = message.WhichOneof("message")
        if which == "events":
            self._received.extend(map(_wire.event_of, message.events.events))
        elif which == "caught_up":
            self._received.append(CaughtUp(message.caught_up.position, message.caught_up.log_id))
        elif which == "checkpoint":
            self._received.append(Checkpoint(message.checkpoint.position, message.checkpoint.log_id))
        if not self._established and self._received:
            self._established = True
            first = self._received[0]
            if isinstance(first, Checkpoint):
                # The checkpoint at the start says where a subscription from the head begins.
                self.position = first.position
                self.log_id = first.log_id

    def next(self) -> Event | Checkpoint | None:
        """The next thing to hand to the caller, None if more must be received first."""
        while self._received:
            received = self._received.popleft()
            self.position = received.position
            if isinstance(received, Event):
                return received
            self.log_id = received.log_id
            if self._with_checkpoints:
                return received
        return None

    def wait_after(self, error: AnnalsError) -> float | None:
        """Seconds to wait before the stream is opened anew, None if the error ends the subscription."""
        self._failures += 1
        # Until the server has answered once, a subscription is a call like any other.
        attempts = self._resume_attempts if self._established else self._retry.attempts - 1
        return self._retry.resume_delay(self._failures, attempts, error)


def ended() -> AnnalsError:
    """The error for a stream that the server ended without one, as it does when it shuts down."""
    return Unavailable("the server ended the subscription", code=grpc.StatusCode.UNAVAILABLE)
