"""`autotrace serve` as a process: how it starts, what it says, how it ends."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests

import autotrace
from autotrace.server.auth.api_keys import KeyRing
from autotrace.settings import load_settings
from tests.embedders import HashEmbedder

from .serving import REPOSITORY, TRACES, ServerProcess, environment, serving

CURL = shutil.which("curl")


def command_line(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autotrace.cli", *arguments],
        env=environment(**changes),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )


def asking(server: ServerProcess) -> requests.Session:
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {server.first_key()}"
    return session


def started(session: requests.Session, server: ServerProcess) -> str:
    answer = session.post(
        f"{server.url}{TRACES}/start", json={"task": "t", "session_id": "s"}, timeout=500
    )
    assert answer.status_code == 200, answer.text
    trace_id: str = answer.json()["trace_id"]
    return trace_id


# --- how it starts


@pytest.mark.skipif(CURL is None, reason="there is no curl on this machine")
def test_a_first_start_prints_an_agents_key_an_approvers_and_what_to_paste(
    running: ServerProcess,
) -> None:
    agent, approver = running.first_keys()
    while not running.said[-1].startswith("printf "):
        assert running.read_line(), running.said

    done = subprocess.run(
        ["sh", "-c", f"{running.said[-1]} --silent --show-error --fail"],
        env=environment(AUTOTRACE_KEY=agent),
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr
    assert '"trace_id"' in done.stdout
    assert [line for line in running.said if "atk_" in line] == [agent, approver]


def test_the_first_keys_are_an_agent_s_and_an_approver_s_with_different_names(
    running: ServerProcess,
) -> None:
    agent, approver = ({"Authorization": f"Bearer {key}"} for key in running.first_keys())

    def call(name: str, **arguments: Any) -> dict[str, Any]:
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": name, "arguments": arguments},
        }
        answer = requests.post(f"{running.url}/mcp", json=body, headers=agent, timeout=500).json()
        content: dict[str, Any] = answer["result"]["structuredContent"]
        return content

    made = call("decision_create", intent="pay", automation_mode="approve")["decision_id"]
    call("decision_request_approval", decision_id=made, title="may I?")
    approve = f"{running.url}/api/v1/decisions/{made}/approve"

    own = requests.post(approve, json={}, headers=agent, timeout=500)
    operations = requests.get(f"{running.url}/metrics", headers=approver, timeout=500)
    persons = requests.post(approve, json={}, headers=approver, timeout=500)

    assert (own.status_code, operations.status_code) == (403, 403)
    assert (persons.status_code, persons.json()["status"]) == (200, "approved")


def test_beyond_loopback_a_server_without_keys_does_not_start(tmp_path: Path) -> None:
    store = tmp_path / "store"

    refused = command_line("serve", "--host", "0.0.0.0", "--port", "0", "--store", str(store))

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "autotrace keys create --agent NAME --store" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not store.exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = command_line("serve", "--port", port, "--store", str(tmp_path / "store"))

    assert refused.returncode == 1
    assert refused.stderr.count(f"127.0.0.1:{port}") == 1
    assert "while attempting" not in refused.stderr
    assert "--port" in refused.stderr
    assert not (tmp_path / "store").exists()


def test_without_its_packages_the_command_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['uvicorn'] = None\n"
        "from autotrace.cli import main\n"
        "sys.argv = ['autotrace', 'serve']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert done.returncode == 1
    assert "pip install 'autotrace-agents[server]'" in done.stderr


# --- how it ends


def test_a_stop_finishes_requests_and_stores_what_they_told(tmp_path: Path) -> None:
    store = tmp_path / "store"
    ring = KeyRing.of(load_settings(store=str(store)))
    key = ring.create("ann", "default", "agent").key
    ring.close()
    with serving(store, tmp_path / "log") as server, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {key}"
        trace_ids = [started(session, server) for _ in range(3)]
        body = b'{"outcome": "done", "success": true}'
        head = (
            f"POST {TRACES}/{trace_ids[0]}/complete HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        port = urlsplit(server.url).port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), timeout=500) as client:
            client.sendall(head.encode() + body[:10])
            # One more request: when it is answered, the one above has begun.
            requests.get(f"{server.url}/health", timeout=500).raise_for_status()
            server.process.send_signal(signal.SIGTERM)
            wait_until_closed(port)
            client.sendall(body[10:])
            said = client.makefile("rb").read()
        assert said.startswith(b"HTTP/1.1 200 "), said
        assert server.process.wait(500) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""  # there was a key, so none was made

    autotrace.configure(store, embedder=HashEmbedder())
    try:
        found = {trace.trace_id: trace.status for trace in autotrace.list_traces()}
    finally:
        autotrace.shutdown()
    assert found == dict.fromkeys(trace_ids, "active") | {trace_ids[0]: "completed"}


def wait_until_closed(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=500).close()
        except ConnectionRefusedError:
            return
        threading.Event().wait(0.01)


# --- several workers


def test_several_workers_are_one_server(store_settings: dict[str, str], tmp_path: Path) -> None:
    store = store_settings.pop("store")
    workers = 3 if "://" in store else 2
    variables = {f"AUTOTRACE_{name.upper()}": value for name, value in store_settings.items()}
    options = ("--workers", str(workers))
    with serving(store, tmp_path / "log", *options, **variables) as server:
        trace_id = started(asking(server), server)
        one = f"{server.url}{TRACES}/{trace_id}"
        seen: set[Any] = set()
        for number in range(200):
            # A connection each, so that the workers take turns.
            with asking(server) as session:
                step = {"thought": f"{number}", "action": "a"}
                assert session.post(f"{one}/step", json=step, timeout=500).status_code == 200
                found = session.get(one, timeout=500).json()
            assert len(found["steps"]) == number + 1
            seen = {line.get("pid") for line in server.log() if line["message"] == "request"}
            if len(seen) == workers:
                break
        assert len(seen) == workers
        done = {"outcome": "done", "success": True}
        answers = [asking(server).post(f"{one}/complete", json=done, timeout=500) for _ in range(6)]
        assert [answer.json() for answer in answers] == [answers[0].json()] * 6
        children = psutil.Process(server.process.pid).children()
        ring = KeyRing.of(load_settings(store=store, **store_settings))
        operator = {"Authorization": f"Bearer {ring.create('operator', 'default', 'admin').key}"}
        ring.close()
        while True:  # a worker over a Chroma server knows a new key within a second
            answer = requests.get(f"{server.url}/metrics", headers=operator, timeout=500)
            if answer.status_code != 401:
                break
        metrics = answer.text
        assert f'route="{TRACES}/{{trace_id}}/step",status="200"}} {number + 1}.0' in metrics

        assert server.stop() == 0
        _, alive = psutil.wait_procs(children, timeout=500)
        assert alive == []


PARENT = """
import multiprocessing, os, signal, time
from autotrace.server.run import end_with_parent

def work(pipe):
    end_with_parent()
    pipe.send(os.getpid())
    signal.pause()

if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=work, args=(theirs,)).start()
    print(ours.recv(), flush=True)
    signal.pause()
"""


def test_a_worker_whose_parent_is_killed_ends(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)], env=environment(), stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()

        _, alive = psutil.wait_procs([worker], timeout=500)

    assert alive == []


# --- what it says


def test_the_log_is_json_and_tells_no_secret(running: ServerProcess) -> None:
    session = asking(running)
    key = running.first_key()
    session.get(f"{running.url}{TRACES}/{key}", timeout=500)
    session.get(f"{running.url}/?key={key}", timeout=500)
    session.post(f"{running.url}{TRACES}/start", data=b"{", timeout=500)
    answer = session.get(f"{running.url}{TRACES}", timeout=500)

    # Another one on the same connection: when it is answered, the one before is logged.
    session.get(f"{running.url}/health/live", timeout=500)

    lines = [line for line in running.log() if line["message"] == "request"]
    (line,) = [line for line in lines if line["request_id"] == answer.headers["X-Request-Id"]]
    assert (line["method"], line["path"], line["status"]) == ("GET", TRACES, 200)
    assert line["key_id"] == key.split("_")[1]
    assert line["duration_ms"] > 0
    assert key.rpartition("_")[2] not in running.log_path.read_text("utf-8")
