"""When a call that failed is sent again, and after how long. Pure decisions: the clients do the waiting.

gRPC's own retries (service config) are not used: they cannot tell a batch of events, which may be repeated, from one
that holds only cursors, and do not read the server's `RetryInfo`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from annals.errors import (
    AnnalsError,
    Cancelled,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
    UnknownOutcome,
)

__all__ = ["RetryPolicy"]


@dataclass(frozen=True)
class RetryPolicy:
    """How calls are repeated whose outcome is unknown, or that the server asks to repeat.

    Sent again are calls that end `UNAVAILABLE` or `UNKNOWN`, and those that end `RESOURCE_EXHAUSTED` with a hint of
    the server when to come back. An append is sent again with the same event ids, so that it is stored once. A batch
    without events has no ids: of those only what the server certainly refused is sent again.
    """

    attempts: int = 6
    """How often a call is sent at most; 1: never again."""
    delay_seconds_first: float = 0.1
    """The wait after the first failure, doubled after each one, less up to half of it at random."""
    delay_seconds_max: float = 2.0
    """Where the doubling ends."""
    hint_seconds_max: float = 30.0
    """A server that asks for a longer wait than this is not waited for."""
    deadline_exceeded: bool = False
    """Also send again what was not answered within the client's `timeout`."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts counts the first one too: give at least 1")
        if min(self.delay_seconds_first, self.delay_seconds_max, self.hint_seconds_max) < 0:
            raise ValueError("a delay cannot be negative")

    def delay(self, failures: int, error: AnnalsError, *, repeatable: bool = True) -> float | None:
        """Seconds to wait after the `failures`-th failure in a row, None to give up.

        `repeatable` says that the call may take effect twice without harm.
        """
        if failures >= self.attempts or not self._is_worth_it(error, repeatable):
            return None
        return self._wait(failures, error)

    def resume_delay(self, failures: int, attempts: int | None, error: AnnalsError) -> float | None:
        """The same for a subscription, which nothing but its end can harm; `attempts` None: without end."""
        if attempts is not None and failures > attempts:
            return None
        # What bears no reason was not said by the server but by the connection, in one of the codes that gRPC has
        # for a stream that was reset.
        broken = isinstance(error, Cancelled | Internal | UnknownOutcome) and error.reason is None
        if not broken and not isinstance(error, Unavailable) and not _asks_to_return(error):
            return None
        return self._wait(failures, error)

    def _is_worth_it(self, error: AnnalsError, repeatable: bool) -> bool:
        if _asks_to_return(error):
            return True
        if not repeatable:
            return False
        if isinstance(error, DeadlineExceeded):
            return self.deadline_exceeded
        return isinstance(error, Unavailable | UnknownOutcome)

    def _wait(self, failures: int, error: AnnalsError) -> float | None:
        backoff = min(self.delay_seconds_first * 2.0 ** min(failures - 1, 32), self.delay_seconds_max)
        hint = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
        if hint > self.hint_seconds_max:
            return None
        # Jitter parts clients that failed together; it never comes before the time that the server named.
        return hint + backoff * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret


def _asks_to_return(error: AnnalsError) -> bool:
    return isinstance(error, ResourceExhausted) and error.retry_after is not None
