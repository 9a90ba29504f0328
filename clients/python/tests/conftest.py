"""Fixtures: a real server on a data directory of its own, and a proxy that can break its connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from proxy import Proxy
from server import Server

import annals


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANNALS_URL", "ANNALS_TENANT", "ANNALS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(server: Server) -> Iterator[annals.Client]:
    with annals.connect(server.url) as client:
        yield client


@pytest.fixture
async def aclient(server: Server) -> AsyncIterator[annals.aio.Client]:
    async with annals.aio.connect(server.url) as client:
        yield client


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy
