"""Where the server is and who calls: the only reader of the environment and the only maker of channel options."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:4747"
DEFAULT_TENANT = "default"
TIMEOUT_SECONDS = 30.0
RECEIVE_BYTES_MAX = 64 << 20
"""Response messages hold about 1 MiB of events, more only if a single event is larger; gRPC's own limit is 4 MiB."""


@dataclass(frozen=True)
class Endpoint:
    """A server's address, and what is said with every call."""

    target: str
    secure: bool
    metadata: tuple[tuple[str, str], ...] = field(repr=False)


def resolve(url: str | None, tenant: str | None, token: str | None) -> Endpoint:
    """Arguments, else the environment, else the defaults."""
    url = url or os.environ.get("ANNALS_URL") or DEFAULT_URL
    tenant = tenant or os.environ.get("ANNALS_TENANT") or DEFAULT_TENANT
    token = token or os.environ.get("ANNALS_TOKEN")
    target, secure = parse_url(url)
    metadata = [("annals-tenant", _ascii("tenant", tenant))]
    if token is not None:
        metadata.append(("authorization", f"Bearer {_ascii('token', token)}"))
    return Endpoint(target, secure, tuple(metadata))


def parse_url(url: str) -> tuple[str, bool]:
    """The address that gRPC dials, and whether over TLS."""
    wrong = ValueError(f"not a URL of an Annals server: {url!r}; it looks like {DEFAULT_URL}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise wrong
    secure = parts.scheme == "https"
    if port is None:
        port = 443 if secure else 80
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}", secure


def channel_options(receive_bytes_max: int) -> list[tuple[str, str | int]]:
    """How the channel behaves, for threads and for asyncio alike."""
    return [
        ("grpc.max_receive_message_length", receive_bytes_max),
        # The server states how much it takes and says so in a typed error.
        ("grpc.max_send_message_length", -1),
        # A peer that vanished without a word is noticed within half a minute, also by a quiet subscription.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # gRPC waits up to two minutes between connection attempts, which would outlast every retry of ours.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Each client has a connection, and a reconnect backoff, of its own.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.primary_user_agent", f"annals-python/{_version()}"),
    ]


def _ascii(what: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{what} has characters other than printable ASCII, which request metadata cannot carry")
    return value


def _version() -> str:
    try:
        return version("annals")
    except PackageNotFoundError:
        return "0"
