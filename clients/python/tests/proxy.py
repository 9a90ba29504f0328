"""A TCP proxy in front of the server, to lose answers and to break connections at a chosen moment."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Proxy:
    """Forwards bytes both ways; after `hold`, what the server says is lost; `cut` breaks every connection."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._bytes_left: int | None = None
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def hold(self, after_bytes: int = 0) -> None:
        """Let this many more bytes of answers through and lose the rest."""
        with self._lock:
            self._bytes_left = after_bytes

    def cut(self) -> None:
        """Break the connections that there are; new ones work as before `hold`."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
            self._bytes_left = None
        for pair in pairs:
            for end in pair:
                # Wakes the threads that read from it, which close alone would not.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(("127.0.0.1", self._upstream_port))
            except OSError:
                client.close()
                continue
            pair = (client, upstream)
            with self._lock:
                self._pairs.append(pair)
                self.connections += 1
            threading.Thread(target=self._forward, args=(pair, client, upstream), daemon=True).start()
            threading.Thread(target=self._forward, args=(pair, upstream, client), daemon=True).start()

    def _forward(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(self._let_through(pair, data) if sink is pair[0] else data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _let_through(self, pair: tuple[socket.socket, socket.socket], data: bytes) -> bytes:
        with self._lock:
            if pair not in self._pairs:
                # It was cut: an answer that was on its way is lost, too.
                return b""
            if self._bytes_left is None:
                return data
            data = data[: self._bytes_left]
            self._bytes_left -= len(data)
            return data
