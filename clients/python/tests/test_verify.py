"""A server verifies what it has on disk: well, damaged, and given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server import Server

import annals

EVENTS = 250
SEAL_SECONDS_MAX = 30.0


@pytest.fixture
def sealing(tmp_path: Path) -> Iterator[Server]:
    """A server with some segments, on which appends go on."""
    server = Server(tmp_path / "data", "limits.seal_events=50")
    server.start()
    with annals.connect(server.url) as client:
        for n in range(EVENTS):
            client.append(annals.NewEvent(f"order-{n % 7}", "order.noted", {"n": n}))
        give_up_at = time.monotonic() + SEAL_SECONDS_MAX
        while client.stats().tenants[0].sealed < EVENTS - 50:
            assert time.monotonic() < give_up_at, "nothing is sealed"
            time.sleep(0.02)
    yield server
    server.kill()


def damage(server: Server) -> Path:
    """Flips a byte in the middle of the first segment; its path in the data directory."""
    path = min((server.data / "tenants" / "default" / "segments").glob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(bytes(content))
    return path.relative_to(server.data)


def test_verify_reads_everything_and_tells_what_is_wrong(sealing: Server) -> None:
    progress: list[tuple[int, int]] = []
    with annals.connect(sealing.url) as client:
        found = client.verify(on_progress=lambda done, total: progress.append((done, total)))
        assert (found.events, found.faults) == (EVENTS, ())
        assert found.files > 2
        assert progress == sorted(progress)
        assert progress[-1][1] > 0

        path = damage(sealing)
        (fault,) = client.verify().faults
        assert fault.path == str(path)
        assert fault.what
        assert client.append(annals.NewEvent("order-1", "order.noted", {})).first_position == EVENTS + 1


def test_verify_is_given_up_with_whoever_listens(sealing: Server) -> None:
    class EnoughError(Exception):
        pass

    def enough(done: int, total: int) -> None:
        raise EnoughError

    with annals.connect(sealing.url) as client:
        with pytest.raises(EnoughError):
            client.verify(on_progress=enough)
        assert client.verify().faults == ()


def test_verify_of_a_tenant_that_is_not_there_is_refused(server: Server) -> None:
    with annals.connect(server.url, tenant="nobody") as client, pytest.raises(annals.NotFound):
        client.verify()


async def test_verify_works_without_threads(sealing: Server) -> None:
    async with annals.aio.connect(sealing.url) as client:
        found = await client.verify()
        assert (found.events, found.faults) == (EVENTS, ())
        path = damage(sealing)
        (fault,) = (await client.verify()).faults
        assert fault.path == str(path)
    async with annals.aio.connect(sealing.url, tenant="nobody") as client:
        with pytest.raises(annals.NotFound):
            await client.verify()
