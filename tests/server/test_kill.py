"""`autotrace serve`, killed amid requests: what it had answered is there after a restart."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.faults.processes import LINUX, MARK, kill_storekeepers

from .serving import TRACES, ServerProcess, serving

CLIENTS = 4
TRACES_AT_LEAST = 15
"""How many are complete when the kill comes."""

Acknowledged = dict[str, dict[str, Any]]
"""By trace id, what was answered of it: its steps, its tool calls, whether it is complete."""


def environment_of(settings: dict[str, str], mark: str) -> dict[str, str]:
    named = {name: value for name, value in settings.items() if name != "store"}
    return {MARK: mark} | {f"AUTOTRACE_{name.upper()}": value for name, value in named.items()}


def tell(
    url: str, key: str, acknowledged: Acknowledged, enough: threading.Event, numbers: Any
) -> None:
    """Tell of one trace after the other until nobody answers."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {key}"

        def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
            answer = session.post(f"{url}{TRACES}/{path}", json=body, timeout=500)
            assert answer.status_code == 200, answer.text
            answered: dict[str, Any] = answer.json()
            return answered

        try:
            while True:
                task = f"task {next(numbers)}"
                trace_id = post("start", {"task": task, "session_id": "s"})["trace_id"]
                known: dict[str, Any] = {"task": task, "steps": [], "calls": [], "complete": False}
                acknowledged[trace_id] = known
                for _ in range(2):
                    step = post(f"{trace_id}/step", {"thought": "t", "action": "a"})
                    known["steps"].append(step["step_id"])
                    call = {"tool_name": "x", "arguments": {}, "result": 1, "duration_ms": 1}
                    told = post(f"{trace_id}/tool_call", call | {"status": "success"})
                    known["calls"].append(told["tool_call_id"])
                post(f"{trace_id}/complete", {"outcome": "done", "success": True})
                known["complete"] = True
                if sum(each["complete"] for each in list(acknowledged.values())) > TRACES_AT_LEAST:
                    enough.set()
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return  # before the answer, or amid it


def kill(server: ServerProcess, mark: str) -> None:
    """Kill the server, its workers, and what stores for them, as a container that is gone."""
    parent = psutil.Process(server.process.pid)
    for process in [parent, *parent.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)
    kill_storekeepers(mark)
    server.process.wait(500)


@pytest.mark.skipif(not LINUX, reason="finds the process that stores through /proc")
def test_what_was_answered_before_a_kill_is_there_after_a_restart(
    store_settings: dict[str, str], tmp_path: Path
) -> None:
    store, mark = store_settings["store"], str(tmp_path)
    variables = environment_of(store_settings, mark)
    acknowledged: Acknowledged = {}
    with serving(store, tmp_path / "log", "--workers", "2", **variables) as server:
        key = server.first_key()
        enough, numbers = threading.Event(), itertools.count()
        clients = [
            threading.Thread(target=tell, args=(server.url, key, acknowledged, enough, numbers))
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        assert enough.wait(500)
        kill(server, mark)
        for client in clients:
            client.join()

    assert len(acknowledged) > TRACES_AT_LEAST
    with (
        serving(store, tmp_path / "log 2", "--workers", "2", **variables) as server,
        requests.Session() as session,
    ):
        session.headers["Authorization"] = f"Bearer {key}"
        for trace_id, known in acknowledged.items():
            answer = session.get(f"{server.url}{TRACES}/{trace_id}", timeout=500)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            steps = [step["step_id"] for step in found["steps"]]
            calls = [call["tool_call_id"] for s in found["steps"] for call in s["tool_calls"]]
            # What was asked and not answered may be there, too.
            assert steps[: len(known["steps"])] == known["steps"]
            assert calls[: len(known["calls"])] == known["calls"]
            assert found["task"] == known["task"]
            if found["status"] == "active":
                assert not known["complete"]
                done = {"outcome": "later", "success": False}
                url = f"{server.url}{TRACES}/{trace_id}/complete"
                assert session.post(url, json=done, timeout=500).status_code == 200
    kill_storekeepers(mark)
