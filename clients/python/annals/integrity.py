"""What a server found when it verified what it has on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from annals._proto.v1 import admin_pb2
from annals.errors import Unavailable

__all__ = ["Integrity", "IntegrityFault"]


@dataclass(frozen=True)
class IntegrityFault:
    """Something on disk is not what was written."""

    path: str
    """Relative to the server's data directory."""
    offset: int
    """Where in the file, in bytes."""
    what: str
    """What was found."""


@dataclass(frozen=True)
class Integrity:
    """What was verified; all is well if there are no `faults`."""

    files: int
    """Files read."""
    events: int
    """Events found, in whichever form."""
    faults: tuple[IntegrityFault, ...]


class Verifying:
    """Gathers what a server tells until its summary."""

    def __init__(self, on_progress: Callable[[int, int], object] | None) -> None:
        self._on_progress = on_progress
        self._faults: list[IntegrityFault] = []
        self._summary: admin_pb2.VerifySummary | None = None

    def see(self, message: admin_pb2.VerifyIntegrityResponse) -> None:
        """Take in what the server tells next."""
        told = message.WhichOneof("message")
        if told == "progress" and self._on_progress is not None:
            self._on_progress(message.progress.bytes_done, message.progress.bytes_total)
        elif told == "fault":
            fault = message.fault
            self._faults.append(IntegrityFault(fault.path, fault.offset, fault.what))
        elif told == "summary":
            self._summary = message.summary

    def done(self) -> Integrity:
        """What was told in all; refuses to call well what was not read to its end."""
        if self._summary is None:
            raise Unavailable("the server ended the verification", code=grpc.StatusCode.UNAVAILABLE)
        return Integrity(self._summary.files, self._summary.events, tuple(self._faults))
