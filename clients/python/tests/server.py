"""Runs the server that the tests talk to."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
import urllib.request
from pathlib import Path

STARTUP_SECONDS_MAX = 30.0


class Server:
    """One server process; it may be killed and started again on the same port and data."""

    def __init__(self, data: Path, *settings: str) -> None:
        """With settings, like `drain_seconds=5`; with `metrics=127.0.0.1:0` it can be asked for `samples`."""
        self.data = data
        self.settings = settings
        self.port = 0
        self._metrics_url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """Of memory."""
        pages = Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def open_files(self) -> int:
        """Connections are some of them."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def samples(self, name: str) -> dict[str, float]:
        """The metric of that name as it is now, by its labels as they are written; none that was never counted."""
        with urllib.request.urlopen(self._metrics_url) as page:  # noqa: S310 - our own
            text = page.read().decode("utf-8")
        found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def start(self) -> None:
        binary = os.environ.get("ANNALS_BIN")
        if not binary or not os.access(binary, os.X_OK):
            raise RuntimeError(
                "the tests need a server: set ANNALS_BIN to the path of an `annals` binary, or run `make test`"
            )
        self._process = subprocess.Popen(
            [
                binary,
                "serve",
                f"--data={self.data}",
                f"--listen=127.0.0.1:{self.port}",
                *(f"--set={setting}" for setting in self.settings),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            # What is set for the tests is not meant for the server.
            env={name: value for name, value in os.environ.items() if not name.startswith("ANNALS_")},
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._drain, args=(self._process, lines), daemon=True).start()
        said = ""
        keeps_metrics = any(setting.startswith("metrics=") for setting in self.settings)
        self._metrics_url = ""
        listens = False
        while (line := self._next_line(lines)) is not None:
            said += line
            if (metrics := re.search(r"http://\S+/metrics", line)) is not None:
                self._metrics_url = metrics[0]
            elif (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)) is not None:
                self.port = int(found[1])
                listens = True
            if listens and (self._metrics_url or not keeps_metrics):
                return
        self.kill()
        raise RuntimeError(f"the server did not say where it listens; it said:\n{said}")

    def kill(self) -> None:
        """SIGKILL: nothing is flushed or said."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM: the server drains and exits."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(STARTUP_SECONDS_MAX) == 0
        self._process = None

    @staticmethod
    def _drain(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                lines.put(line)
        lines.put(None)

    @staticmethod
    def _next_line(lines: queue.Queue[str | None]) -> str | None:
        try:
            return lines.get(timeout=STARTUP_SECONDS_MAX)
        except queue.Empty:
            return None
