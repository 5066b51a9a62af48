"""`autotrace mcp` as a process: what goes over its standard streams, and when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.serving import REPOSITORY, environment

COMMAND = [sys.executable, "-m", "autotrace.cli", "mcp"]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": "init",
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-03-26",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def call_of(request_id: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


class Host:
    """Who has started the server."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[bytes] = []

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """Return the next line, which must be a message."""
        assert self.process.stdout is not None
        self.lines.append(self.process.stdout.readline())
        return json.loads(self.lines[-1])

    def ask(self, data: bytes) -> dict[str, Any]:
        self.write(data + b"\n")
        return self.read()

    def call(self, request_id: Any, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = self.ask(json.dumps(call_of(request_id, tool, **arguments)).encode())
        assert answer["id"] == request_id
        assert "result" in answer, answer
        return answer["result"]["structuredContent"]

    def shake_hands(self, start: bytes = b"", end: bytes = b"\n") -> None:
        self.write(start + json.dumps(INITIALIZE).encode() + end + json.dumps(READY).encode() + end)
        assert self.read()["result"]["protocolVersion"] == "2025-03-26"

    def end(self) -> tuple[int, list[bytes], str]:
        """Close its input; return the exit code, what else it wrote, and its standard error."""
        out, err = self.process.communicate(timeout=500)
        return self.process.returncode, out.splitlines(), err.decode()


@contextlib.contextmanager
def started(store: Path, **changes: str) -> Iterator[Host]:
    with subprocess.Popen(
        [*COMMAND, "--store", str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**changes),
        cwd=REPOSITORY,
    ) as process:
        try:
            yield Host(process)
        finally:
            process.kill()


def test_whatever_a_client_writes_is_answered_under_its_id_at_once(tmp_path: Path) -> None:
    with started(tmp_path / "store") as host:
        host.shake_hands(start=b"\xef\xbb\xbf", end=b"\r\n")
        trace_id = host.call(1, "trace_start", task="t", session_id="s")["trace_id"]
        call = json.dumps(
            call_of(2, "trace_step", trace_id=trace_id, thought="TEXT", action="a", more=0)
        ).encode()

        for text, replaced in (
            (rb"half \ud83c", "half \ufffd"),
            (b"half \xed\xa0\xbc", "half \ufffd"),
            (rb"pair \ud83c\udf89", "pair \U0001f389"),
        ):
            answer = host.ask(call.replace(b"TEXT", text))
            assert "result" in answer
            trace = host.call(3, "trace_get", trace_id=trace_id)
            assert trace["steps"][-1]["thought"] == replaced
        assert "result" in host.ask(call.replace(b'"more": 0', b'"more": [NaN, -Infinity]'))
        host.write(
            b"\n\r\n  \nthis is not JSON\n" + b'{"jsonrpc": "2.0", "result": {}, "id": 77}\n'
        )
        for line, request_id, code in (
            (call[:40], 2, -32700),
            (b"{'jsonrpc': '2.0', 'id': 4}, \"id\": 4}", 4, -32700),
            (call.replace(b'"more": 0', b'"more": \x01'), 2, -32700),
            (b'{"jsonrpc": "2.0", "id": 5, "method": 6}', 5, -32600),
            (b'{"jsonrpc": "2.0", "id": 6, "method": "x", "params": 7}', 6, -32602),
            (b'[{"jsonrpc": "2.0", "id": 8, "method": "ping"}]', 8, -32600),
            (b'{"jsonrpc": "2.0", "id": 9, "method": "ping", "params": null}', 9, None),
            (b'{"jsonrpc": "2.0", "id": 10, "method": "no"}', 10, -32601),
        ):
            answer = host.ask(line)
            assert answer["id"] == request_id, line
            assert answer.get("error", {}).get("code") == code, line
        # What is still being answered when the input ends is answered.
        last = [call_of(n, "trace_recall", query="t") for n in range(20, 25)]
        host.write(b"".join(json.dumps(each).encode() + b"\n" for each in last))
        code, lines, err = host.end()

    assert code == 0
    assert {json.loads(line)["id"] for line in lines} == set(range(20, 25))
    assert "Traceback" not in err
    assert all(b"NaN" not in line and b"Infinity" not in line for line in host.lines)


def test_nothing_but_the_protocol_goes_to_standard_output(tmp_path: Path) -> None:
    changes = {
        "AUTOTRACE_POLICIES": '["tests.server.mcp.noisy"]',
        "AUTOTRACE_EMBEDDER": "tests.server.mcp.noisy:Noisy",
    }
    with started(tmp_path / "store", **changes) as host:
        host.shake_hands()
        opened = host.call(1, "decision_create", intent="a.b", automation_mode="propose")
        asked = {"decision_id": opened["decision_id"], "policy_id": "noisy", "inputs": {"x": 1}}
        assert host.call(2, "decision_evaluate", **asked)["outcome"] == "allow"
        assert host.call(3, "trace_recall", query="a task")["results"] == []
        code, lines, err = host.end()

    assert (code, lines) == (0, [])
    for who in ("import", "policy {'x': 1}", "embedder"):
        for way in ("print", "stdout", "__stdout__", "descriptor", "C", "child"):
            assert f"{way} of {who}\n" in err, (way, who)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that root cannot write")
def test_in_a_folder_that_cannot_be_written_it_ends_with_one_line() -> None:
    ended = subprocess.run(
        COMMAND,
        input=json.dumps(INITIALIZE).encode() + b"\n",
        capture_output=True,
        env=environment(),
        cwd="/proc",
        timeout=500,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, b"")
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith("error: /proc/.autotrace/spool cannot be written (")
    assert line.endswith("name another folder with --store or AUTOTRACE_STORE")


@pytest.mark.skipif(sys.platform == "win32", reason="a process has its parent for ever there")
def test_it_ends_with_its_host_though_another_process_holds_the_pipe(tmp_path: Path) -> None:
    incoming, held = os.pipe()
    outgoing, theirs = os.pipe()
    command = " ".join([*COMMAND, "--store", str(tmp_path / "store")])
    # The shell is the host; it does not replace itself by the command, as it waits.
    host = subprocess.Popen(
        ["sh", "-c", f"exec 3<&0; {command} <&3 & wait"],
        stdin=incoming,
        stdout=theirs,
        env=environment(),
    )
    os.close(incoming), os.close(theirs)
    os.write(held, json.dumps(INITIALIZE).encode() + b"\n")
    with os.fdopen(outgoing, "rb") as answers:
        assert json.loads(answers.readline())["id"] == "init"

        host.kill()
        host.wait(500)

        assert answers.read() == b"", "the server has let go of its output"
    os.close(held)


def test_it_ends_when_nobody_reads_its_answers(tmp_path: Path) -> None:
    with started(tmp_path / "store") as host:
        host.shake_hands()
        assert host.process.stdout is not None
        host.process.stdout.close()

        host.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')

        assert host.process.wait(500) == 0
