"""Real servers for tests, started once and stopped surely."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChromaServer:
    """`chroma run` on loopback; can be stopped and started again on the same port and path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(Path(sys.executable).with_name("chroma")),
            *("run", "--path", str(self.path), "--host", "127.0.0.1", "--port", str(self.port)),
        ]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(3_000):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.url}/api/v2/heartbeat", timeout=5),
            ):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(0.1)
                msg = f"chroma run ended with {code}"
                raise RuntimeError(msg)
        self.stop()
        msg = "chroma run did not answer"
        raise RuntimeError(msg)

    def create_database(self, name: str) -> None:
        request = urllib.request.Request(
            f"{self.url}/api/v2/tenants/default_tenant/databases",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=500):
            pass

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(30)
            self._process = None


@contextlib.contextmanager
def chroma_server(path: Path) -> Iterator[ChromaServer]:
    server = ChromaServer(path)
    server.start()
    try:
        yield server
    finally:
        server.stop()
