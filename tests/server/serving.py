"""`autotrace serve` as a process, and as an application in this one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from autotrace.embedding.choice import embedding_of
from autotrace.server.app import create_app
from autotrace.server.app_state import AppState
from autotrace.server.auth.principal import KeyRole
from autotrace.settings import Settings, load_server_settings, load_settings
from tests.embedders import HashEmbedder

REPOSITORY = Path(__file__).parents[2]
TRACES = "/api/v1/public/memory/v2/traces"
DECISIONS = "/api/v1/decisions"


def environment(**changes: str) -> dict[str, str]:
    """Return what a server is started with: nothing of the machine's own settings."""
    own = ("OTEL_", "AUTOTRACE_", "FORCE_COLOR", "PROMETHEUS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    quick = {"AUTOTRACE_EMBEDDER": "tests.embedders:HashEmbedder"}
    return inherited | {"PYTHONPATH": str(REPOSITORY)} | quick | changes


@dataclass
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    said: list[str]
    """What it has printed."""
    log_path: Path

    def read_line(self) -> str:
        """Return what else it prints, line by line."""
        assert self.process.stdout is not None
        self.said.append(self.process.stdout.readline().rstrip("\n"))
        return self.said[-1]

    def first_key(self) -> str:
        """Return the agent's key that it has made, which it must have."""
        return self.first_keys()[0]

    def first_keys(self) -> tuple[str, str]:
        """Return the keys that it has made, which it must have: an agent's and an approver's."""
        while sum(line.startswith("atk_") for line in self.said) < 2:
            assert self.read_line(), self.said
        agent, approver = (line for line in self.said if line.startswith("atk_"))
        return agent, approver

    def log(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.log_path.read_text("utf-8").splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(500)


@contextlib.contextmanager
def serving(
    store: Path | str, log_path: Path, *options: str, **changes: str
) -> Iterator[ServerProcess]:
    """Run `autotrace serve` on a free port."""
    command = [sys.executable, "-m", "autotrace.cli", "serve", "--port", "0"]
    with log_path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "--store", str(store), *options],
            env=environment(**changes),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline().rstrip("\n")]
        assert " on http://" in said[0], log_path.read_text("utf-8")
        yield ServerProcess(process, said[0].rpartition(" ")[2], said, log_path)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(500)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class Client:
    """Asks an application in this process, with one key."""

    http: TestClient
    key: str

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Make a request; return the response."""
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        if body is not None:
            options["json"] = body
        return self.http.request(method, path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> Any:
        return self("POST", path, body, **options)


@dataclass
class App:
    """An application in this process, and the keys to it."""

    served: AppState
    http: TestClient
    clients: dict[tuple[str, str, str], Client] = field(default_factory=dict)

    def client(
        self, agent: str = "ann", role: KeyRole = "agent", tenant: str = "default"
    ) -> Client:
        """Return who asks with a key of an agent."""
        who = (agent, role, tenant)
        if who not in self.clients:
            made = self.served.keys.create(agent, tenant, role)
            self.clients[who] = Client(self.http, made.key)
        return self.clients[who]


@contextlib.contextmanager
def application(store: Path | str, **settings: Any) -> Iterator[App]:
    """Run an application in this process; with settings of the server, and of the store."""
    of_store = {name: settings.pop(name) for name in set(settings) & set(Settings.model_fields)}
    loaded = load_settings(store=str(store), flush_interval_ms=0, **of_store)
    server = load_server_settings(**{"requests_per_second": 0.0} | settings)
    served = AppState(loaded, server, embedding_of(HashEmbedder()))
    with TestClient(create_app(served), raise_server_exceptions=False) as http:
        yield App(served, http)


def completed_trace(client: Client, task: str, *, success: bool = True) -> str:
    """Have a trace recorded; return its id."""
    trace_id: str = client.post(f"{TRACES}/start", {"task": task, "session_id": "s1"}).json()[
        "trace_id"
    ]
    client.post(f"{TRACES}/{trace_id}/step", {"thought": "think", "action": "act"})
    client.post(f"{TRACES}/{trace_id}/complete", {"outcome": "done", "success": success})
    return trace_id


def problem(response: Any) -> Mapping[str, Any]:
    """Return the one thing that is wrong."""
    (found,) = response.json()["detail"]
    return found
