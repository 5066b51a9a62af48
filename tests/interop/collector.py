"""Arize Phoenix as a real OTLP collector: start it, read spans back over its REST API, stop it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Talks to loopback whatever proxy the environment names."""
LAUNCHER = Path(__file__).with_name("serve_phoenix.py")
POLL_INTERVAL_S = 0.2
START_ATTEMPTS = 600
"""Phoenix imports for 10 s on two idle cores; the rest is for a busy machine."""
READ_ATTEMPTS = 150
"""Phoenix answers an export before it has stored the spans."""
STOP_TIMEOUT_S = 20
LOG_TAIL_LINES = 40


@dataclass(frozen=True, kw_only=True)
class CollectedSpan:
    """A span as the collector gives it back, with its ids in hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    started_at: datetime
    ended_at: datetime
    status: str
    """`OK`, `ERROR` or `UNSET`."""
    status_message: str
    collector_kind: str
    """What Phoenix takes the span for, by its `gen_ai.*` attributes: `AGENT`, `TOOL`, ..."""
    attributes: dict[str, Any]
    events: list[dict[str, Any]]


class Phoenix:
    """A Phoenix server of its own, on free loopback ports, with its database in `directory`.

    Args:
        python: The interpreter of the virtual environment that has arize-phoenix.
        directory: An empty directory for the database and the log.
    """

    def __init__(self, python: Path, directory: Path) -> None:
        http_port, grpc_port = free_ports(2)
        self.http_endpoint = f"http://127.0.0.1:{http_port}"
        """Base URL: OTLP over HTTP is taken at `/v1/traces` below it."""
        self.grpc_endpoint = f"http://127.0.0.1:{grpc_port}"
        self._log_path = directory / "phoenix.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), str(LAUNCHER), "serve", "--no-ui"],
                env=server_environment(directory, http_port, grpc_port),
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when it serves: HTTP is opened last, after gRPC and the database.

        Raises:
            RuntimeError: It ended, or it was not ready after the last attempt; with its log.
        """
        for _ in range(START_ATTEMPTS):
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"Phoenix ended with {self._process.returncode} while starting:\n{self.log()}"
                )
            if self._answers("/readyz"):
                return
            time.sleep(POLL_INTERVAL_S)
        raise RuntimeError(f"Phoenix was not ready after {START_ATTEMPTS} attempts:\n{self.log()}")

    def spans(
        self, project: str, trace_id: str, *, expect: Collection[str]
    ) -> dict[str, CollectedSpan]:
        """Return every span of one OpenTelemetry trace, by span id.

        Args:
            project: The Phoenix project the spans were sent to.
            trace_id: 32 hexadecimal digits.
            expect: Ids of spans to wait for.

        Raises:
            AssertionError: Spans of `expect` were still missing after the last attempt.
        """
        found: dict[str, CollectedSpan] = {}
        for _ in range(READ_ATTEMPTS):
            found = self._read_spans(project, trace_id)
            if found.keys() >= set(expect):
                return found
            time.sleep(POLL_INTERVAL_S)
        missing = sorted(set(expect) - found.keys())
        names = {span.span_id: span.name for span in found.values()}
        raise AssertionError(
            f"Phoenix never showed the spans {missing} of trace {trace_id} in project "
            f"{project!r}; it has {names}\n{self.log()}"
        )

    def stop(self) -> None:
        """End the server, gently or not; calling it again does nothing."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log(self) -> str:
        """Return the end of what the server wrote."""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _read_spans(self, project: str, trace_id: str) -> dict[str, CollectedSpan]:
        path = f"/v1/projects/{urllib.parse.quote(project, safe='')}/spans"
        spans: dict[str, CollectedSpan] = {}
        cursor: str | None = None
        while True:
            query = {"trace_id": trace_id, "limit": "100"} | ({"cursor": cursor} if cursor else {})
            try:
                page = self._get_json(f"{path}?{urllib.parse.urlencode(query)}")
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 404:  # the project is made when its first span is stored
                        return {}
                    raise
            spans.update((span.span_id, span) for span in map(parse_span, page["data"]))
            cursor = page["next_cursor"]
            if cursor is None:
                return spans

    def _get_json(self, path: str) -> Any:
        with DIRECT.open(self.http_endpoint + path, timeout=30) as response:
            return json.load(response)

    def _answers(self, path: str) -> bool:
        try:
            with DIRECT.open(self.http_endpoint + path, timeout=5):
                return True
        except OSError:  # refused while it starts; an HTTP error status is one too
            return False


def server_environment(directory: Path, http_port: int, grpc_port: int) -> dict[str, str]:
    """Return the whole environment of the server: nothing of the caller's gets in."""
    return {
        "PATH": os.defpath,
        "HOME": str(directory),
        "PHOENIX_WORKING_DIR": str(directory),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(http_port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        "PHOENIX_ENABLE_MCP_SERVER": "false",
        "PHOENIX_LOG_MIGRATIONS": "false",
        "PHOENIX_LOGGING_LEVEL": "warning",
    }


def parse_span(raw: dict[str, Any]) -> CollectedSpan:
    """Return a span of Phoenix's REST API as a value."""
    return CollectedSpan(
        name=raw["name"],
        trace_id=raw["context"]["trace_id"],
        span_id=raw["context"]["span_id"],
        parent_id=raw["parent_id"],
        started_at=datetime.fromisoformat(raw["start_time"]),
        ended_at=datetime.fromisoformat(raw["end_time"]),
        status=raw["status_code"],
        status_message=raw["status_message"],
        collector_kind=raw["span_kind"],
        attributes=raw["attributes"],
        events=raw["events"],
    )


def free_ports(count: int) -> list[int]:
    """Return loopback ports that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()
