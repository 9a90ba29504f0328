"""How a status of gRPC, made of the real messages, becomes a typed error."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import annals
from annals._proto.v1 import common_pb2
from annals.errors import from_metadata, from_status

CODES = {
    grpc.StatusCode.ABORTED: annals.GuardFailed,
    grpc.StatusCode.ALREADY_EXISTS: annals.AlreadyExists,
    grpc.StatusCode.CANCELLED: annals.Cancelled,
    grpc.StatusCode.DATA_LOSS: annals.DataLoss,
    grpc.StatusCode.DEADLINE_EXCEEDED: annals.DeadlineExceeded,
    grpc.StatusCode.FAILED_PRECONDITION: annals.FailedPrecondition,
    grpc.StatusCode.INTERNAL: annals.Internal,
    grpc.StatusCode.INVALID_ARGUMENT: annals.InvalidArgument,
    grpc.StatusCode.NOT_FOUND: annals.NotFound,
    grpc.StatusCode.OUT_OF_RANGE: annals.OutOfRange,
    grpc.StatusCode.PERMISSION_DENIED: annals.PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: annals.ResourceExhausted,
    grpc.StatusCode.UNAUTHENTICATED: annals.Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: annals.Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: annals.Unimplemented,
    grpc.StatusCode.UNKNOWN: annals.UnknownOutcome,
}


def trailers(*details: Message) -> list[tuple[str, str | bytes]]:
    status = status_pb2.Status()
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return [("x-other", "1"), ("grpc-status-details-bin", status.SerializeToString())]


def aborted(failure: common_pb2.GuardFailure) -> annals.AnnalsError:
    return from_status(grpc.StatusCode.ABORTED, "a guard failed", trailers(failure))


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_has_its_class(code: grpc.StatusCode) -> None:
    error = from_status(code, "what happened", None)
    assert type(error) is CODES[code]
    assert isinstance(error, annals.AnnalsError)
    assert (error.code, error.message, str(error)) == (code, "what happened", "what happened")
    assert (error.reason, error.violations, error.retry_after) == (None, (), None)


def test_reason_violations_and_retry_hint_are_told() -> None:
    info = error_details_pb2.ErrorInfo(reason="INVALID_EVENT", domain="annals", metadata={"index": "3"})
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="events[3].entity_id", description="must not be empty")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    error = from_status(grpc.StatusCode.INVALID_ARGUMENT, "invalid", trailers(info, bad, retry))
    assert error.reason == "INVALID_EVENT"
    assert error.info == {"index": "3"}
    assert error.violations == (annals.Violation("events[3].entity_id", "must not be empty"),)
    assert error.retry_after == timedelta(milliseconds=1500)


def test_details_alone_tell_the_code_and_the_message_too() -> None:
    info = Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="DISK_FULL", domain="annals"))
    for code, kind in CODES.items():
        status = status_pb2.Status(code=code.value[0], message="what happened", details=[info])
        error = from_metadata([("grpc-status-details-bin", status.SerializeToString())])
        assert type(error) is kind
        assert (error.code, error.message, error.reason) == (code, "what happened", "DISK_FULL")
    assert from_metadata([("content-type", "application/grpc")]) is None


@pytest.mark.parametrize(
    ("guard", "expected"),
    [
        (common_pb2.EntityGuard(entity_id="order-1", version=3), 3),
        (common_pb2.EntityGuard(entity_id="order-1", version=0), 0),
        (common_pb2.EntityGuard(entity_id="order-1", absent={}), 0),
        (common_pb2.EntityGuard(entity_id="order-1", exists={}), None),
    ],
)
def test_a_failed_entity_guard_is_a_version_conflict(guard: common_pb2.EntityGuard, expected: int | None) -> None:
    failure = common_pb2.EntityGuardFailure(expected=guard, found_version=5)
    error = aborted(common_pb2.GuardFailure(index=2, entity=failure))
    assert isinstance(error, annals.VersionConflict)
    assert (error.entity_id, error.expected, error.found, error.index) == ("order-1", expected, 5, 2)


def test_a_failed_query_guard_names_the_position() -> None:
    error = aborted(common_pb2.GuardFailure(no_match=common_pb2.NoMatchGuardFailure(found_position=17)))
    assert isinstance(error, annals.QueryMatched)
    assert (error.found_position, error.index) == (17, 0)


def test_a_failed_cursor_names_what_was_expected_and_found() -> None:
    error = aborted(common_pb2.GuardFailure(cursor=common_pb2.CursorFailure(name="worker", expected=3, found=7)))
    assert isinstance(error, annals.CursorConflict)
    assert (error.name, error.expected, error.found) == ("worker", 3, 7)


def test_details_that_cannot_be_read_do_not_hide_the_status() -> None:
    broken = status_pb2.Status()
    broken.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
    broken.details.add(type_url="type.googleapis.com/annals.v9.Unknown", value=b"")
    for value in (b"\xff", broken.SerializeToString()):
        error = from_status(grpc.StatusCode.NOT_FOUND, None, [("grpc-status-details-bin", value)])
        assert type(error) is annals.NotFound
        assert str(error) == "not found"
