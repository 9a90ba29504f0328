"""UUIDv7 as in RFC 9562: the event ids that the client makes, so that every retry is recognised as one."""

from __future__ import annotations

import os
import struct
import threading
import time
import uuid

_lock = threading.Lock()
_last_ticks = 0


def uuid7() -> uuid.UUID:
    """A new UUIDv7; within one process each is greater than the one before.

    The 12 bits after the version hold the fraction of the millisecond (RFC 9562, section 6.2, method 3), 62 bits are
    random.
    """
    return from_ticks(_next_ticks(), int.from_bytes(os.urandom(8), "big"))


def uuid7_bytes(count: int) -> bytes:
    """As many new ones, 16 bytes each: a column of them at once, for which objects would take too long."""
    randoms = struct.unpack(f"{count}Q", os.urandom(8 * count))
    halves: list[int] = []
    for ticks, random in enumerate(randoms, _next_ticks(count)):
        millis, fraction = ticks >> 12 & (1 << 48) - 1, ticks & (1 << 12) - 1
        halves += (millis << 16 | 0x7 << 12 | fraction, 0b10 << 62 | random & (1 << 62) - 1)
    return struct.pack(f">{2 * count}Q", *halves)


def from_ticks(ticks: int, random: int) -> uuid.UUID:
    """The UUIDv7 of a time in 1/4096 ms since 1970; of `random` the lowest 62 bits are used."""
    millis, fraction = divmod(ticks, 1 << 12)
    value = (millis & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | fraction << 64
    value |= 0b10 << 62 | random & ((1 << 62) - 1)
    return uuid.UUID(int=value)


def _next_ticks(count: int = 1) -> int:
    """The first of so many in a row that nobody else gets."""
    global _last_ticks
    ticks = (time.time_ns() << 12) // 1_000_000
    with _lock:
        first = max(ticks, _last_ticks + 1)
        _last_ticks = first + count - 1
        return first
