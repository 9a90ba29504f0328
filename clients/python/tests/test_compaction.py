"""Segments become fewer and larger when a client asks for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from server import Server

import annals

SECONDS_MAX = 30.0
EVENTS = 95


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", "limits.seal_events=10", "compact.fan_in=64")
    server.start()
    yield server
    server.kill()


def fill(client: annals.Client) -> None:
    for number in range(EVENTS):
        client.append(annals.NewEvent(f"order-{number % 7}", "order.placed", {"n": number}))
    deadline = time.monotonic() + SECONDS_MAX
    while client.stats().tenants[0].segments < EVENTS // 10:
        assert time.monotonic() < deadline


def test_segments_are_compacted_when_it_is_asked_for(client: annals.Client) -> None:
    fill(client)
    events = list(client.read())
    before = client.compaction_stats()
    assert (before.segments, before.small_segments, before.running) == (9, 9, False)
    assert (before.compactions, before.last_error, before.last_took) == (0, "", None)
    assert before.target_bytes == 1 << 30
    asked = client.compact()
    assert asked.running or asked.compactions == 1
    deadline = time.monotonic() + SECONDS_MAX
    while (stats := client.compaction_stats()).running:
        assert time.monotonic() < deadline
    assert (stats.segments, stats.compactions, stats.compacted_segments, stats.failures) == (1, 1, 9, 0)
    assert stats.written_bytes == stats.segment_bytes < before.segment_bytes
    assert stats.last_took is not None
    assert stats.last_took > timedelta(0)
    assert list(client.read()) == events


async def test_the_asyncio_client_does_the_same(client: annals.Client, aclient: annals.aio.Client) -> None:
    fill(client)
    await aclient.compact()
    deadline = time.monotonic() + SECONDS_MAX
    while (stats := await aclient.compaction_stats()).running:
        assert time.monotonic() < deadline
    assert stats == client.compaction_stats()
    assert (stats.segments, stats.compacted_segments) == (1, 9)


def test_a_tenant_that_does_not_exist_has_nothing_to_compact(server: Server) -> None:
    with annals.connect(server.url, tenant="nobody") as client:
        for call in (client.compact, client.compaction_stats):
            with pytest.raises(annals.NotFound) as caught:
                call()
            assert caught.value.reason == "NO_SUCH_TENANT"
