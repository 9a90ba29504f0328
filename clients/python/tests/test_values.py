"""What needs no server: ids, encoding, addresses, decisions about retries."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest

import annals
from annals import _endpoint, _ids, _wire
from annals._proto.v1 import ingest_pb2

CLIENT = Path(__file__).resolve().parent.parent


def new_event(payload: object, **fields: object) -> annals.NewEvent:
    return annals.NewEvent("order-1", "order.placed", payload, **fields)  # type: ignore[arg-type]


def encoded(payload: object) -> str:
    return _wire.new_event(new_event(payload)).payload


def test_uuid7_has_version_variant_and_the_time_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = _ids.uuid7()
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    # Past ids of one process may have pushed the time ahead by some 1/4096 ms.
    assert before <= made.int >> 80 <= after + 1


def test_uuid7_matches_the_vector_of_rfc_9562() -> None:
    # Appendix A.6: unix_ts_ms 0x017F22E279B0, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    made = _ids.from_ticks(0x017F22E279B0 << 12 | 0xCC3, 0x18C4DC0C0C07398F)
    assert str(made) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_uuid7s_of_one_process_ascend() -> None:
    made = [_ids.uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_event_gets_its_id_once() -> None:
    event = new_event({})
    assert uuid.UUID(event.event_id).version == 7
    assert _wire.new_event(event).event_id == _wire.new_event(event).event_id == event.event_id


def test_an_event_id_is_made_canonical() -> None:
    wanted = "0190f5fe-7c00-7a00-8000-000000000001"
    assert new_event({}, event_id=wanted.upper()).event_id == wanted
    assert new_event({}, event_id=uuid.UUID(wanted)).event_id == wanted


@pytest.mark.parametrize("event_id", ["", "order-1"])
def test_an_event_id_that_is_no_uuid_is_refused(event_id: str) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        new_event({}, event_id=event_id)


def test_payloads_are_compact_json_in_utf8() -> None:
    assert encoded({"名": "Zoë", "n": [1, 2.5, None, True]}) == '{"名":"Zoë","n":[1,2.5,null,true]}'
    assert encoded(None) == "null"
    assert encoded("text") == '"text"'
    assert encoded(2**100) == str(2**100)


@pytest.mark.parametrize("payload", [math.nan, math.inf, {"deep": [-math.inf]}])
def test_nan_and_infinity_are_refused_and_the_event_is_named(payload: object) -> None:
    with pytest.raises(ValueError, match=r"payload of `order\.placed` for `order-1` is not JSON"):
        encoded(payload)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        encoded("\ud800")


def test_nesting_too_deep_to_encode_is_refused() -> None:
    payload: list[object] = []
    for _ in range(200_000):
        payload = [payload]
    with pytest.raises(ValueError, match="nested too deep"):
        encoded(payload)


def test_what_json_does_not_know_is_refused_and_the_event_is_named() -> None:
    with pytest.raises(TypeError, match=r"payload of `order\.placed` for `order-1` is not JSON"):
        encoded({"when": datetime.now(timezone.utc)})


def test_metadata_must_be_an_object() -> None:
    with pytest.raises(TypeError, match="JSON object"):
        new_event({}, metadata=["a"])


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        new_event({}, occurred_at=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="recorded_since has no time zone"):
        _wire.event_filter(recorded_since=datetime(2026, 1, 1))


@pytest.mark.parametrize(
    "time",
    [
        datetime(1, 1, 1, tzinfo=timezone.utc),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
        datetime(2026, 3, 1, 12, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
    ],
)
def test_times_keep_their_microseconds(time: datetime) -> None:
    stamp = _wire.timestamp(time, "time")
    assert 0 <= stamp.nanos < 1_000_000_000
    assert _wire.time_of(stamp) == time
    assert _wire.time_of(stamp).utcoffset() == timedelta(0)


def test_a_single_text_stands_for_a_list_of_one() -> None:
    assert list(_wire.event_filter(entity_ids="order-1", tags="eu").entity_ids) == ["order-1"]
    assert new_event({}, tags="eu").tags == ("eu",)
    assert annals.item(types="a", tags=["b", "c"]) == annals.QueryItem(("a",), ("b", "c"))


def test_an_empty_list_in_a_filter_is_refused_rather_than_meaning_all() -> None:
    with pytest.raises(ValueError, match="entity_ids is empty"):
        _wire.event_filter(entity_ids=[])
    with pytest.raises(ValueError, match="partitions is empty"):
        _wire.event_filter(partitions=range(0))


def test_zero_is_refused_where_the_wire_takes_it_for_no_bound() -> None:
    with pytest.raises(ValueError, match="through"):
        _wire.event_filter(through=0)
    with pytest.raises(ValueError, match="limit"):
        _wire.read_request(_wire.event_filter(), backward=False, limit=0, as_of=None, log_id=None)


def test_a_bare_number_is_refused_as_a_point_of_the_past() -> None:
    with pytest.raises(TypeError, match="at_version"):
        _wire.point(3)  # type: ignore[arg-type]


def test_guards_become_what_the_contract_says() -> None:
    request = _wire.append_request(
        (),
        [
            annals.version("a", 3),
            annals.version("b", 0),
            annals.absent("c"),
            annals.exists("d"),
            annals.no_match([annals.item(types=["t"], tags=["x", "y"])], after=9),
        ],
        [annals.CursorRecord("worker", 4), annals.CursorRecord("worker", 4, expected=0)],
        "log",
    )
    entities = [guard.entity for guard in request.guards[:4]]
    assert [guard.WhichOneof("expect") for guard in entities] == ["version", "absent", "absent", "exists"]
    assert entities[0].version == 3
    no_match = request.guards[4].no_match
    assert no_match.after == 9
    assert (list(no_match.query.items[0].event_types), list(no_match.query.items[0].tags)) == (["t"], ["x", "y"])
    assert [record.HasField("expected") for record in request.cursors] == [False, True]
    assert request.log_id == "log"


def test_event_ids_of_a_result_are_those_that_were_sent() -> None:
    request = ingest_pb2.AppendRequest(events=[_wire.new_event(new_event({}))])
    result = _wire.append_result(request, ingest_pb2.AppendResponse(first_position=1, last_position=1, versions=[1]))
    assert result.event_ids == (request.events[0].event_id,)


@pytest.mark.parametrize(
    ("url", "target", "secure"),
    [
        ("http://127.0.0.1:4747", "127.0.0.1:4747", False),
        ("https://events.example.com/", "events.example.com:443", True),
        ("http://events.example.com", "events.example.com:80", False),
        ("http://[::1]:4747", "[::1]:4747", False),
    ],
)
def test_urls_name_host_port_and_security(url: str, target: str, secure: bool) -> None:
    assert _endpoint.parse_url(url) == (target, secure)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:4747", "localhost", "ftp://h:1", "http://", "http://h:x", "http://h/path", "http://u@h:1"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"looks like http://127\.0\.0\.1:4747"):
        annals.connect(url)


def test_tenant_and_token_travel_as_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _endpoint.resolve(None, None, None) == _endpoint.Endpoint(
        "127.0.0.1:4747", False, (("annals-tenant", "default"),)
    )
    monkeypatch.setenv("ANNALS_URL", "https://events.example.com:8443")
    monkeypatch.setenv("ANNALS_TENANT", "blue")
    monkeypatch.setenv("ANNALS_TOKEN", "secret")
    from_environment = _endpoint.resolve(None, None, None)
    assert from_environment.target == "events.example.com:8443"
    assert from_environment.metadata == (("annals-tenant", "blue"), ("authorization", "Bearer secret"))
    assert "secret" not in repr(from_environment)
    assert _endpoint.resolve(None, "red", None).metadata[0] == ("annals-tenant", "red")


def test_metadata_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="token has characters"):
        annals.connect(token="a\nb")
    with pytest.raises(ValueError, match="tenant has characters"):
        annals.connect(tenant="blå")


def error(kind: type[annals.AnnalsError], code: grpc.StatusCode, **fields: object) -> annals.AnnalsError:
    return kind("failed", code=code, **fields)  # type: ignore[arg-type]


UNAVAILABLE = error(annals.Unavailable, grpc.StatusCode.UNAVAILABLE)
UNKNOWN = error(annals.UnknownOutcome, grpc.StatusCode.UNKNOWN)
FULL = error(annals.ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=timedelta(seconds=3))
TOO_LARGE = error(annals.ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED)
LATE = error(annals.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED)
GUARD = error(annals.GuardFailed, grpc.StatusCode.ABORTED)


def test_attempts_are_bounded_and_waits_grow_to_a_bound() -> None:
    policy = annals.RetryPolicy(attempts=8, delay_seconds_first=0.1, delay_seconds_max=1.0)
    waits = [policy.delay(failures, UNAVAILABLE) for failures in range(1, 9)]
    for wait, full in zip(waits, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0], strict=False):
        assert wait is not None
        assert full / 2 <= wait <= full
    assert waits[-1] is None


def test_only_unknown_outcomes_and_hints_are_tried_again() -> None:
    policy = annals.RetryPolicy()
    assert policy.delay(1, UNKNOWN) is not None
    assert policy.delay(1, TOO_LARGE) is None
    assert policy.delay(1, GUARD) is None
    assert policy.delay(1, LATE) is None
    assert annals.RetryPolicy(deadline_exceeded=True).delay(1, LATE) is not None


def test_the_hint_of_a_full_server_is_waited_for_unless_it_is_too_long() -> None:
    wait = annals.RetryPolicy().delay(1, FULL)
    assert wait is not None
    assert 3.0 <= wait <= 3.1
    assert annals.RetryPolicy(hint_seconds_max=2.0).delay(1, FULL) is None


def test_a_call_that_must_not_happen_twice_is_repeated_only_if_it_was_refused() -> None:
    policy = annals.RetryPolicy(deadline_exceeded=True)
    assert policy.delay(1, FULL, repeatable=False) is not None
    for unknown in (UNAVAILABLE, UNKNOWN, LATE):
        assert policy.delay(1, unknown, repeatable=False) is None


def test_a_subscription_resumes_after_breaks_but_not_after_refusals() -> None:
    policy = annals.RetryPolicy()
    reset = error(annals.Internal, grpc.StatusCode.INTERNAL)
    defect = error(annals.Internal, grpc.StatusCode.INTERNAL, reason="INTERNAL")
    assert policy.resume_delay(1_000_000, None, UNAVAILABLE) is not None
    assert policy.resume_delay(1, None, reset) is not None
    assert policy.resume_delay(1, None, defect) is None
    assert policy.resume_delay(1, None, GUARD) is None
    assert policy.resume_delay(3, 2, UNAVAILABLE) is None


def test_a_policy_without_attempts_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        annals.RetryPolicy(attempts=0)


def test_the_committed_stubs_are_those_of_the_proto_files() -> None:
    check = subprocess.run(
        [sys.executable, str(CLIENT / "scripts" / "generate_stubs.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stderr
