"""The application in this process, with keys of every kind, and JSON-RPC as plain POSTs."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from autotrace.server.auth.api_keys import KeyRing
from autotrace.server.auth.principal import KeyRole
from autotrace.settings import load_settings
from tests.server.serving import App, application, serving

KEYS: dict[str, tuple[str, str, KeyRole]] = {
    "bot": ("bot", "default", "agent"),
    "other": ("other-bot", "default", "agent"),
    "approver": ("ada", "default", "approver"),
    "admin": ("root", "default", "admin"),
    "foreign": ("bot", "acme", "admin"),
}
"""A name for each key: its agent, its tenant, its role."""


class Api:
    """A server, and calls to it in the name of any of its keys."""

    def __init__(self, app: App, keys: dict[str, str]) -> None:
        self.app = app
        self.served = app.served
        self.client = app.http
        self.keys = keys
        self._ids = itertools.count(1)

    def post(self, body: Any, *, by: str | None = "bot", path: str = "/mcp") -> httpx.Response:
        """POST something as `requests.post(json=...)` would."""
        headers = {"Accept": "*/*"}
        if by is not None:
            headers["Authorization"] = f"Agent {self.keys.get(by, by)}"
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
            return self.client.post(path, content=body, headers=headers)
        return self.client.post(path, json=body, headers=headers)

    def response(self, tool: str, arguments: Any, *, by: str | None = "bot") -> httpx.Response:
        """Call a tool; return the whole response."""
        params = {"name": tool, "arguments": arguments}
        request_id = next(self._ids)
        return self.post(
            {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}, by=by
        )

    def call(self, tool: str, *, by: str = "bot", **arguments: Any) -> dict[str, Any]:
        """Call a tool that must succeed; return what it answers."""
        answer = self.response(tool, arguments, by=by).json()
        assert "result" in answer, answer
        return answer["result"]["structuredContent"]

    def refused(
        self, tool: str, *, by: str = "bot", **arguments: Any
    ) -> tuple[int, dict[str, Any]]:
        """Call a tool that must fail; return the HTTP status and the error."""
        response = self.response(tool, arguments, by=by)
        answer = response.json()
        assert "error" in answer, answer
        return response.status_code, answer["error"]

    def answer(self, decision_id: str, word: str, *, by: str = "approver", **body: Any) -> None:
        """Approve or reject a decision over REST."""
        response = self.client.post(
            f"/api/v1/decisions/{decision_id}/{word}",
            json=body,
            headers={"Authorization": f"Bearer {self.keys[by]}"},
        )
        assert response.status_code == 200, response.text


@contextlib.contextmanager
def open_api(store: Path, **settings: Any) -> Iterator[Api]:
    """Run an application in this process, with all the keys."""
    with application(store, **settings) as app:
        keys = {name: app.served.keys.create(*whose).key for name, whose in KEYS.items()}
        yield Api(app, keys)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with open_api(tmp_path_factory.mktemp("mcp") / "store") as opened:
        yield opened


@dataclass(frozen=True)
class Running:
    """`autotrace serve` with two workers, either of which may answer, and the keys to it."""

    url: str
    keys: dict[str, str]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("mcp-server")
    ring = KeyRing.of(load_settings(store=str(folder / "store")))
    keys = {name: ring.create(*whose).key for name, whose in KEYS.items()}
    ring.close()
    policies = json.dumps(["tests.server.mcp.policies"])
    options = {"AUTOTRACE_POLICIES": policies}
    with serving(folder / "store", folder / "log", "--workers", "2", **options) as process:
        yield Running(process.url, keys)
