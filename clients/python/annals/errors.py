"""Typed errors, and how a gRPC status becomes one.

Every error of a call is an `AnnalsError` of the class that its status code names. Misuse that is seen before anything
is sent (a naive datetime, NaN, a malformed URL) is a `ValueError` or `TypeError` as everywhere in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from annals._proto.v1 import common_pb2
from annals.events import IngestResult

__all__ = [
    "AlreadyExists",
    "AnnalsError",
    "Cancelled",
    "CursorConflict",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "GuardFailed",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "QueryMatched",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownOutcome",
    "VersionConflict",
    "Violation",
]

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a request: the field, as a path, and what to do about it."""

    field: str
    description: str


class AnnalsError(Exception):
    """A call failed."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str | None = None,
        info: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        """The status code of the call."""
        self.reason = reason
        """The server's stable name for what went wrong, such as `DISK_FULL`; None if the server was not reached."""
        self.info: Mapping[str, str] = dict(info or {})
        """The values that belong to `reason`."""
        self.violations = violations
        """What is wrong with the request, field by field."""
        self.retry_after = retry_after
        """How long the server asks to wait before another attempt."""
        self.ingested: IngestResult | None = None
        """What an `ingest` had stored before it failed: it stays. None if this is the error of another call."""

    @property
    def message(self) -> str:
        """What went wrong, in one line."""
        return str(self)


class InvalidArgument(AnnalsError):
    """The request is malformed; see `violations`."""


class NotFound(AnnalsError):
    """There is no such event, cursor or tenant."""


class AlreadyExists(AnnalsError):
    """An event id is taken by an event of other content, or by another batch."""


class FailedPrecondition(AnnalsError):
    """The state of the server or the log refuses the call: another incarnation of the log, for one."""


class OutOfRange(AnnalsError):
    """A position is beyond the head or below the floor."""


class ResourceExhausted(AnnalsError):
    """The server is full or a limit was passed; with `retry_after`, it asks to try again."""


class Unavailable(AnnalsError):
    """The server was not reached, is shutting down, or lost the call.

    Of an append the outcome is unknown; to append the same `NewEvent`s again is safe.
    """


class UnknownOutcome(AnnalsError):
    """Whether the call took effect is unknown; to append the same `NewEvent`s again is safe."""


class DeadlineExceeded(AnnalsError):
    """No answer in time. Of an append the outcome is unknown; to append the same `NewEvent`s again is safe."""


class DataLoss(AnnalsError):
    """Something on the server's disk is damaged; the message names the place."""


class Unimplemented(AnnalsError):
    """The server does not know the call."""


class PermissionDenied(AnnalsError):
    """The credentials do not allow the call."""


class Unauthenticated(AnnalsError):
    """The credentials are missing or wrong."""


class Internal(AnnalsError):
    """A defect of the server, or a message that its way mangled."""


class Cancelled(AnnalsError):
    """The call was cancelled."""


class GuardFailed(AnnalsError):
    """A guard of the batch does not hold: nothing was appended. Read again, decide again, then append again."""

    index: int | None = None
    """The place of the guard among `guards`, or of the cursor among `cursors`."""


class VersionConflict(GuardFailed):
    """An entity is not at the version that its guard asked for."""

    entity_id: str
    expected: int | None
    """The version asked for; 0 for `absent`, None for `exists`."""
    found: int
    """The entity's version now, 0 if it has no event."""


class QueryMatched(GuardFailed):
    """An event matches the query of a `no_match` guard."""

    found_position: int
    """The first position after the guard's that matches."""


class CursorConflict(GuardFailed):
    """A cursor does not stand where the batch expected it."""

    name: str
    expected: int
    found: int
    """Where the cursor stands, 0 if it was never written."""


_CLASSES: dict[grpc.StatusCode, type[AnnalsError]] = {
    grpc.StatusCode.ABORTED: GuardFailed,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.DATA_LOSS: DataLoss,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.UNKNOWN: UnknownOutcome,
}


def from_rpc_error(error: grpc.RpcError) -> AnnalsError:
    """The typed error for one that grpc raised."""
    # The types of grpc have metadata as pairs of their own kind; at run time they are tuples.
    return from_status(error.code(), error.details(), cast("Metadata | None", error.trailing_metadata()))


def from_status(code: grpc.StatusCode, message: str | None, metadata: Metadata | None) -> AnnalsError:
    """The typed error for a status with its trailing metadata."""
    info = error_details_pb2.ErrorInfo()
    violations: list[Violation] = []
    retry_after: timedelta | None = None
    failure: common_pb2.GuardFailure | None = None

    for detail in _status(metadata).details:
        bad_request = error_details_pb2.BadRequest()
        retry_info = error_details_pb2.RetryInfo()
        guard_failure = common_pb2.GuardFailure()
        try:
            if detail.Unpack(info):
                continue
            if detail.Unpack(bad_request):
                violations += [Violation(v.field, v.description) for v in bad_request.field_violations]
            elif detail.Unpack(retry_info):
                retry_after = retry_info.retry_delay.ToTimedelta()
            elif detail.Unpack(guard_failure):
                failure = guard_failure
        except DecodeError:
            # A detail that cannot be read must not hide the status itself.
            continue

    kind = _CLASSES.get(code, AnnalsError)
    if code is grpc.StatusCode.ABORTED and failure is not None:
        kind = _guard_class(failure)
    error = kind(
        message or code.name.lower().replace("_", " "),
        code=code,
        reason=info.reason or None,
        info=info.metadata,
        violations=tuple(violations),
        retry_after=retry_after,
    )
    if isinstance(error, GuardFailed) and failure is not None:
        _fill(error, failure)
    return error


def from_metadata(metadata: Metadata) -> AnnalsError | None:
    """The typed error for trailing metadata alone, whose details repeat code and message; None if there are none."""
    status = _status(metadata)
    codes = (code for code in grpc.StatusCode if code.value[0] == status.code and code is not grpc.StatusCode.OK)
    code = next(codes, None)
    return None if code is None else from_status(code, status.message, metadata)


def _status(metadata: Metadata | None) -> status_pb2.Status:
    for key, value in metadata or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _guard_class(failure: common_pb2.GuardFailure) -> type[GuardFailed]:
    which = failure.WhichOneof("failure")
    if which == "entity":
        return VersionConflict
    if which == "no_match":
        return QueryMatched
    if which == "cursor":
        return CursorConflict
    return GuardFailed


def _fill(error: GuardFailed, failure: common_pb2.GuardFailure) -> None:
    error.index = failure.index
    if isinstance(error, VersionConflict):
        guard = failure.entity.expected
        error.entity_id = guard.entity_id
        error.expected = None if guard.WhichOneof("expect") == "exists" else guard.version
        error.found = failure.entity.found_version
    elif isinstance(error, QueryMatched):
        error.found_position = failure.no_match.found_position
    elif isinstance(error, CursorConflict):
        error.name = failure.cursor.name
        error.expected = failure.cursor.expected
        error.found = failure.cursor.found
