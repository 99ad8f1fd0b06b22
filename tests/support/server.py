"""A real server process on a home of its own, as an operator starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

READY = re.compile(r"Serving on (\S+) from")
KEY = re.compile(r"shown this once: (\S+)")
START_SECONDS = 120
URLS: set[str] = set()
"""Where servers of this run were started."""


class Server:
    """A running appliance. ``admin_key`` and ``member_key`` are keys of its default account."""

    module = "appliance"

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = {**os.environ, "APPLIANCE_HOME": str(home), **environment}
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.admin_key = ""
        self.member_key = ""
        self.curl_line = ""
        self._output: list[str] = []

    def start(self, port: int = 0) -> None:
        """Start and wait until it answers."""
        command = [sys.executable, "-m", self.module, "serve", "--port", str(port)]
        with (self.home.parent / f"{self.home.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        watchdog = threading.Timer(START_SECONDS, self.process.kill)
        watchdog.start()
        try:
            self._read_banner()
        finally:
            watchdog.cancel()
        if not self.member_key:
            with self.client() as client:
                made = client.post("/admin/keys", json={"name": "tests", "role": "member"}).raise_for_status().json()
            self.member_key = made["secret"]

    def _read_banner(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._output.append(line)
            if found := KEY.search(line):
                self.admin_key = found.group(1)
            if line.strip().startswith("curl "):
                self.curl_line = line.strip()
            if found := READY.search(line):
                self.url = found.group(1)
                URLS.add(self.url)
                return
        raise AssertionError(f"the server did not start:\n{''.join(self._output)}\n{self.log()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def cli(self, *arguments: str) -> str:
        """Standard output of an ``appliance`` command on the same home."""
        done = subprocess.run(
            [sys.executable, "-m", "appliance", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self) -> str:
        """What the server wrote to standard error."""
        return (self.home.parent / f"{self.home.name}.log").read_text()

    def client(self, key: str | None = None) -> httpx.Client:
        """An HTTP client with a key; the admin's by default."""
        return httpx.Client(base_url=self.url, headers={"x-api-key": key or self.admin_key}, timeout=120)

    def state(self) -> dict[str, Any]:
        """``GET /admin/state``."""
        with self.client() as client:
            found: dict[str, Any] = client.get("/admin/state").raise_for_status().json()
            return found

    def metric(self, name: str) -> float:
        """A metric without labels."""
        found = re.search(rf"^{name} (\S+)$", httpx.get(f"{self.url}/metrics").text, re.MULTILINE)
        assert found, name
        return float(found.group(1))


@contextmanager
def running_server(home: Path, **environment: str) -> Iterator[Server]:
    """A server that is stopped at the end, whatever happens."""
    server = Server(home, **environment)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.stop()
