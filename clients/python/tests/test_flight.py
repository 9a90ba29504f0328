"""Arrow Flight as its clients know it, without ours: pyarrow.flight for all that it has calls for, gRPC for the rest.

What Arrow's own integration tests ask of two implementations (`ordered`, `expiration_time`, `poll_flight_info`,
`app_metadata_flight_info_endpoint`, `location:reuse_connection`), asked of our tables.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import grpc
import pyarrow as pa
import pytest
from doors import Raw, descriptor, dialled, made, told
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from proxy import Proxy
from pyarrow import flight
from server import Server
from test_parquet import ROOT, sealed_through

import annals

EVENTS = 1_000
SEAL_EVENTS = 300
# A table of so many events has two endpoints, the smallest that are divided.
LIMITS = (ROOT / "src" / "types" / "limits.rs").read_text("utf-8")
ENDPOINT_EVENTS_MIN = 1 << int(re.findall(r"ENDPOINT_EVENTS_MIN: u64 = 1 << (\d+);", LIMITS)[0])
LARGE_EVENTS = 2 * ENDPOINT_EVENTS_MIN + 1_001


def _messages() -> dict[str, Any]:
    """Messages of Flight.proto that pyarrow has no classes for; messages in them stay the bytes that it gives."""
    bytes_, double, int32 = (
        descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
        descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
        descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    )
    fields = {
        "PollInfo": [("info", bytes_), ("flight_descriptor", bytes_), ("progress", double), ("expires", bytes_)],
        "CancelFlightInfoRequest": [("info", bytes_)],
        "CancelFlightInfoResult": [("status", int32)],
        "RenewFlightEndpointRequest": [("endpoint", bytes_)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="tests/flight.proto", package="tests", syntax="proto3")
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for number, (member, kind) in enumerate(members, 1):
            message.field.add(
                name=member, number=number, type=kind, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tests.{name}")) for name in fields}


MESSAGES = _messages()
CANCELLED = 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A thousand events of all kinds, partly sealed; and a second tenant."""
    server = Server(
        tmp_path_factory.mktemp("flight") / "data", f"limits.seal_events={SEAL_EVENTS}", "tenants.auto_create=true"
    )
    server.start()
    try:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        for tenant in ("default", "other"):
            with annals.connect(server.url, tenant=tenant) as client:
                for _ in range(0, EVENTS, 100):
                    client.append([made(rng) for _ in range(100)])
                assert 0 < sealed_through(client, SEAL_EVENTS).sealed < EVENTS
        yield server
    finally:
        server.kill()


@pytest.fixture
def raw(small: Server) -> Iterator[Raw]:
    with dialled(small.url) as raw:
        yield raw


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """More events than one endpoint has."""
    server = Server(tmp_path_factory.mktemp("endpoints") / "data", "limits.seal_events=1048576")
    server.start()
    try:
        with annals.connect(server.url) as client:
            numbers = range(LARGE_EVENTS)
            table = pa.table(
                {
                    "entity_id": pa.array([f"e-{n % 997}" for n in numbers]),
                    "event_type": pa.array([f"t-{n % 3}" for n in numbers]),
                    "payload": pa.array([str(n) for n in numbers]),
                }
            )
            client.ingest(table)
        yield server
    finally:
        server.kill()


@pytest.fixture
def wide(large: Server) -> Iterator[Raw]:
    with dialled(large.url) as raw:
        yield raw


def act(raw: Raw, name: str, body: bytes) -> bytes:
    (answer,) = raw.client.do_action(flight.Action(name, body), raw.options)
    answered: bytes = answer.body.to_pybytes()
    return answered


def cancel(raw: Raw, info: Any) -> int:  # noqa: ANN401 - pyarrow brings no types
    request = MESSAGES["CancelFlightInfoRequest"](info=info.serialize())
    result = MESSAGES["CancelFlightInfoResult"].FromString(act(raw, "CancelFlightInfo", request.SerializeToString()))
    status: int = result.status
    return status


def renew(raw: Raw, endpoint: Any) -> Any:  # noqa: ANN401 - pyarrow brings no types
    request = MESSAGES["RenewFlightEndpointRequest"](endpoint=endpoint.serialize())
    return flight.FlightEndpoint.deserialize(act(raw, "RenewFlightEndpoint", request.SerializeToString()))


def resealed(server: Server, endpoint: Any, expires_at: datetime) -> Any:  # noqa: ANN401 - pyarrow brings no types
    """The endpoint as if it had been given out earlier: its ticket expires at another time."""
    key = (server.data / "ticket.key").read_bytes()
    content = endpoint.ticket.ticket[: -hashlib.sha256().digest_size]
    since_1970 = expires_at - datetime(1970, 1, 1, tzinfo=timezone.utc)
    micros = (since_1970 // timedelta(microseconds=1)).to_bytes(8, "little")
    content = content[:8] + micros + content[16:]
    ticket = content + hmac.digest(key, content, "sha256")
    return flight.FlightEndpoint(ticket, [], pa.scalar(expires_at, pa.timestamp("ns", "UTC")))


def refused(call: Callable[[], object]) -> str:
    """What a refusal says: which class of Arrow's, and the message."""
    with pytest.raises((pa.ArrowException, flight.FlightError)) as caught:
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


def positions(table: pa.Table | pa.RecordBatch) -> list[int]:
    found: list[int] = table.column("position").to_pylist()
    return found


# And whether the number of rows is known beforehand: of what nothing narrows.
ASKED: list[tuple[dict[str, Any] | list[str], bool]] = [
    (["events"], True),
    (["entities"], False),
    (["types", "заказ.создан"], True),
    (["types", "never"], True),
    ({}, True),
    ({"table": "entities", "columns": ["events", "entity_id"]}, False),
    ({"types": ["order.paid"], "tags": ["vip"], "columns": ["tags", "position"]}, False),
    ({"after": 400, "through": 700}, True),
    ({"limit": 7, "columns": ["payload"]}, True),
    ({"as_of": 250}, True),
]


@pytest.mark.parametrize(("asked", "known"), ASKED, ids=str)
def test_a_flight_info_describes_the_rows_that_its_endpoints_give(
    raw: Raw, small: Server, asked: dict[str, Any] | list[str], known: bool
) -> None:
    before = datetime.now(timezone.utc)
    info = raw.info(asked)
    assert info.descriptor == descriptor(asked)
    assert info.schema == raw.client.get_schema(descriptor(asked), raw.options).schema
    with annals.connect(small.url) as client:
        read = client.read(limit=1)
        assert told(info.app_metadata)["log_id"] == read.log_id
        assert told(info.app_metadata)["head"] <= read.head == EVENTS
    assert info.ordered
    for endpoint in info.endpoints:
        assert endpoint.locations == []
        assert before < endpoint.expiration_time.as_py() < before + timedelta(days=1)
    typed = asked if isinstance(asked, dict) else {"table": asked}
    table = raw.all_of(info)
    one_stream = raw.get(typed).read_all()
    assert table.schema == one_stream.schema == info.schema
    assert table.equals(one_stream)
    assert info.total_records == (table.num_rows if known else -1)


def test_every_listed_table_is_the_one_that_its_path_names(raw: Raw, small: Server) -> None:
    listed = list(raw.client.list_flights(options=raw.options))
    with annals.connect(small.url) as client:
        types = [known.event_type for known in client.event_types()]
    assert len(types) > 1
    wanted = [["events"], ["entities"], *(["types", name] for name in types)]
    assert sorted([name.decode() for name in info.descriptor.path] for info in listed) == sorted(wanted)
    rows = {}
    for info in listed:
        table = raw.all_of(info)
        assert info.schema == table.schema == raw.client.get_schema(info.descriptor, raw.options).schema
        assert table.equals(raw.all_of(raw.client.get_flight_info(info.descriptor, raw.options)))
        assert info.ordered
        assert info.total_records in (-1, table.num_rows)
        rows[tuple(info.descriptor.path)] = table.num_rows
    assert rows.pop((b"events",)) == EVENTS
    assert rows.pop((b"entities",)) > 0
    assert sum(rows.values()) == EVENTS


def test_what_is_no_table_is_refused_with_those_that_there_are(raw: Raw) -> None:
    for asked, said in (
        (["event"], "`event` is no table"),
        (["types"], "`types` is no table"),
        (["events", "x"], "`events/x` is no table"),
        ({"table": "event"}, "entities"),
        ({"columns": ["palyoad"]}, "payload"),
        ({"tabel": "events"}, "table"),
        ({"log_id": "6b8e7d5c-1111-4222-8333-944455556666"}, "6b8e7d5c"),
    ):
        for call in (raw.info, lambda asked: raw.client.get_schema(descriptor(asked), raw.options)):
            assert said in refused(lambda asked=asked, call=call: call(asked))  # type: ignore[misc]
    assert "criteria" in refused(lambda: list(raw.client.list_flights(b"t", raw.options)))


def test_a_polled_flight_info_is_complete_at_once(raw: Raw, small: Server) -> None:
    # pyarrow has no call for it.
    with grpc.insecure_channel(small.url.removeprefix("http://")) as channel:
        poll: Any = channel.unary_unary("/arrow.flight.protocol.FlightService/PollFlightInfo")
        for asked, known in ASKED:
            answer = poll(descriptor(asked).serialize(), metadata=(("annals-tenant", "default"),))
            polled = MESSAGES["PollInfo"].FromString(answer)
            # Nothing to poll again.
            assert (polled.flight_descriptor, polled.progress) == (b"", 1.0)
            info = flight.FlightInfo.deserialize(polled.info)
            got = raw.info(asked)
            assert info.descriptor == got.descriptor == descriptor(asked)
            assert info.schema == got.schema
            assert (info.total_records, info.ordered, info.app_metadata) == (
                got.total_records,
                got.ordered,
                got.app_metadata,
            )
            assert raw.all_of(info).equals(raw.all_of(got))
            assert (info.total_records >= 0) == known
        with pytest.raises(grpc.RpcError) as caught:
            poll(descriptor(["nothing"]).serialize())
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_each_chunk_says_from_where_another_stream_goes_on(raw: Raw) -> None:
    info = raw.info(["events"])
    head = told(info.app_metadata)["head"]
    (endpoint,) = info.endpoints
    whole = raw.get(endpoint.ticket).read_all()
    ends = []
    rows = 0
    for chunk in raw.get(endpoint.ticket):
        said = told(chunk.app_metadata)
        rows += chunk.data.num_rows
        assert said == {"position": positions(chunk.data)[-1], **told(info.app_metadata)}
        rest = raw.get({"after": said["position"], "through": head, "log_id": said["log_id"]}).read_all()
        assert rest.equals(whole.slice(rows))
        ends.append(said["position"])
    assert len(ends) > 1
    assert ends == sorted(set(ends))
    assert ends[-1] == rows == head
    # And where the position is none of the columns.
    narrow = raw.get({"columns": ["payload"], "through": head})
    ends = [(chunk.data.num_rows, told(chunk.app_metadata)["position"]) for chunk in narrow]
    assert ends[-1][1] == head
    counts = [end - before for (_, before), (_, end) in pairwise([(0, 0), *ends])]
    assert counts == [rows for rows, _ in ends]


def test_a_large_table_is_divided_into_endpoints_that_follow_each_other(wide: Raw) -> None:
    for after in (0, 1_000, ENDPOINT_EVENTS_MIN):
        info = wide.info({"after": after})
        head = told(info.app_metadata)["head"]
        expected = (head - after) // ENDPOINT_EVENTS_MIN
        assert (len(info.endpoints), info.ordered, info.total_records) == (expected, True, head - after)
        assert len({endpoint.ticket.ticket for endpoint in info.endpoints}) == expected
        # Each begins where the one before ends, and none is small.
        firsts = [positions(wide.get(endpoint.ticket).read_chunk().data)[0] for endpoint in info.endpoints]
        assert firsts[0] == after + 1
        assert all(end - first >= ENDPOINT_EVENTS_MIN for first, end in pairwise([*firsts, head + 1]))


def test_endpoints_read_at_once_over_one_connection_are_one_stream_of_one_head(large: Server) -> None:
    with annals.connect(large.url) as client, Proxy(large.port) as proxy, dialled(proxy.url) as wide:
        # Through a proxy of Python, which is slow.
        columns = ["entity_id", "position"]
        info = wide.info({"columns": columns})
        assert [endpoint.locations for endpoint in info.endpoints] == [[], []]
        head = told(info.app_metadata)["head"]
        client.append(annals.NewEvent("late", "late", None))
        joined = wide.all_of(info)
        assert joined.num_rows == info.total_records == head
        assert joined.equals(wide.get({"columns": columns, "through": head}).read_all())
        # No location is told: they are where they were asked for.
        assert proxy.connections == 1
        client.append(annals.NewEvent("late", "late", None))
        assert told(wide.info(["events"]).app_metadata)["head"] == head + 2
        # Tickets may be used again until they expire, and stay with their head.
        again = wide.get(info.endpoints[-1].ticket).read_all()
        assert again.equals(joined.slice(joined.num_rows - again.num_rows))


def test_a_cancelled_query_ends_with_an_error_wherever_it_is_read(wide: Raw) -> None:
    follow = {"follow": True, "columns": ["position", "payload"]}
    info, other = wide.info(follow), wide.info(follow)
    readers = [wide.get(info.endpoints[0].ticket) for _ in range(2)]
    going_on = wide.get(other.endpoints[0].ticket)
    for reader in [*readers, going_on]:
        assert reader.read_chunk().data.num_rows > 0
    assert cancel(wide, info) == CANCELLED
    for reader in readers:
        said = refused(lambda reader=reader: list(reader))  # type: ignore[misc]
        assert "was cancelled" in said
        assert "FlightCancelledError" not in said
    again = [lambda: wide.get(info.endpoints[0].ticket).read_all(), lambda: renew(wide, info.endpoints[0])]
    for call in again:
        assert "cancelled: ask GetFlightInfo for a new one" in refused(call)
    # Once more is no error, and another query of the same rows is none of this.
    assert cancel(wide, info) == CANCELLED
    end = 0
    while end < LARGE_EVENTS:
        end = told(going_on.read_chunk().app_metadata)["position"]
    going_on.cancel()


def test_a_scan_that_is_cancelled_halfway_does_not_look_complete(wide: Raw) -> None:
    info = wide.info(["events"])
    assert len(info.endpoints) > 1
    readers = [wide.get(endpoint.ticket) for endpoint in info.endpoints]
    rows = [reader.read_chunk().data.num_rows for reader in readers]
    assert cancel(wide, info) == CANCELLED
    for reader in readers:
        assert "was cancelled" in refused(lambda reader=reader: rows.extend(chunk.data.num_rows for chunk in reader))  # type: ignore[misc]
    assert 0 < sum(rows) < LARGE_EVENTS
    assert "ask GetFlightInfo" in refused(lambda: wide.get(info.endpoints[-1].ticket).read_all())


READS_ALL = """
import sys
from pyarrow import ArrowException, flight

client = flight.connect(sys.argv[1])
reader = client.do_get(flight.Ticket(bytes.fromhex(sys.argv[2])))
reader.read_chunk()
print("reads", flush=True)
try:
    reader.read_all()
except (ArrowException, flight.FlightError) as error:
    print(error)
"""


def test_a_program_that_reads_all_of_a_cancelled_query_catches_the_error_and_goes_on(large: Server, wide: Raw) -> None:
    info = wide.info({"follow": True})
    (endpoint,) = info.endpoints
    program = [sys.executable, "-c", READS_ALL, large.url.replace("http", "grpc"), endpoint.ticket.ticket.hex()]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reading:
        assert reading.stdout is not None
        assert reading.stdout.readline() == "reads\n"
        cancel(wide, info)
        out, err = reading.communicate()
    assert "was cancelled" in out
    assert (reading.returncode, err) == (0, "")


def test_what_cannot_be_cancelled_is_told(raw: Raw) -> None:
    info = raw.info(["events"])
    nothing = flight.FlightInfo(info.schema, info.descriptor, [])
    assert "give back what GetFlightInfo gave" in refused(lambda: cancel(raw, nothing))
    typed = flight.FlightInfo(info.schema, info.descriptor, [flight.FlightEndpoint(b"{}", [])])
    assert "end its stream instead" in refused(lambda: cancel(raw, typed))
    assert raw.all_of(info).num_rows == EVENTS


def test_a_renewed_endpoint_expires_later_and_gives_the_same_rows(raw: Raw, small: Server) -> None:
    info = raw.info({"after": 3, "through": 950})
    (endpoint,) = info.endpoints
    rows = raw.get(endpoint.ticket).read_all()
    life = endpoint.expiration_time.as_py() - datetime.now(timezone.utc)
    soon = datetime.now(timezone.utc) + life / 2
    old = resealed(small, endpoint, soon)
    renewed = renew(raw, old)
    assert renewed.expiration_time.as_py() >= endpoint.expiration_time.as_py() > soon
    assert renewed.locations == []
    assert len({one.ticket.ticket for one in (endpoint, old, renewed)}) == 3
    for one in (renewed, renew(raw, renewed), old, endpoint):
        assert raw.get(one.ticket).read_all().equals(rows)


def test_an_expired_ticket_is_refused_and_not_renewed(raw: Raw, small: Server) -> None:
    (endpoint,) = raw.info(["events"]).endpoints
    at = datetime.now(timezone.utc)
    over = resealed(small, endpoint, at)
    for call in (lambda: raw.get(over.ticket).read_all(), lambda: renew(raw, over)):
        said = refused(call)
        assert f"expired at {at:%Y-%m-%dT%H:%M}" in said
        assert "GetFlightInfo" in said


def test_actions_are_listed_and_no_others_are_done(raw: Raw) -> None:
    # Behind them are those of Flight SQL.
    listed = list(raw.client.list_actions(raw.options))[:2]
    assert [action.type for action in listed] == ["CancelFlightInfo", "RenewFlightEndpoint"]
    assert all(action.description for action in listed)
    said = refused(lambda: act(raw, "Drop", b""))
    assert all(action.type in said for action in listed)
    for action in listed:
        assert refused(lambda action=action: act(raw, action.type, b"\xff\xff")).startswith("ArrowInvalid")  # type: ignore[misc]


def test_only_what_the_server_sealed_for_this_log_is_a_ticket(raw: Raw, small: Server, large: Server) -> None:
    (endpoint,) = raw.info(["events"]).endpoints
    ticket: bytes = endpoint.ticket.ticket
    for at in range(0, len(ticket), 7):
        altered = bytearray(ticket)
        altered[at] ^= 1
        said = refused(lambda altered=altered: raw.get(flight.Ticket(bytes(altered))).read_all())  # type: ignore[misc]
        assert said.startswith("ArrowInvalid")
        assert "GetFlightInfo" in said
    for other in (ticket[:-1], ticket + b"\0", b"", b"events"):
        assert "GetFlightInfo" in refused(lambda other=other: raw.get(flight.Ticket(other)).read_all())  # type: ignore[misc]
    with dialled(large.url) as elsewhere:
        assert "another data folder" in refused(lambda: elsewhere.get(endpoint.ticket).read_all())
        assert "another data folder" in refused(lambda: renew(elsewhere, endpoint))
    with dialled(small.url, tenant="other") as other_tenant:
        mine = told(raw.info(["events"]).app_metadata)["log_id"]
        theirs = told(other_tenant.info(["events"]).app_metadata)["log_id"]
        said = refused(lambda: other_tenant.get(endpoint.ticket).read_all())
        assert mine in said
        assert theirs in said
    assert raw.get(endpoint.ticket).read_all().num_rows == EVENTS
