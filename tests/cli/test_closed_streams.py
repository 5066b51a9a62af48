"""A command whose standard streams are closed ends as the shell expects; a server serves."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.servers import free_port

from .conftest import Recorded

AUTOTRACE = shlex.quote(str(Path(sys.executable).with_name("autotrace")))


def run(command: str, store: Path) -> tuple[int, str, str]:
    line = f"{AUTOTRACE} {command}".replace("STORE", shlex.quote(str(store)))
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=500)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", ["traces --store STORE", "--version"])
def test_output_that_nobody_takes_is_an_error_of_one_line(recorded: Recorded, command: str) -> None:
    assert run(f"{command} >&-", recorded.store) == (1, "", "error: standard output is closed\n")


def test_a_command_without_any_stream_does_its_work(recorded: Recorded) -> None:
    assert run("traces --store STORE <&- >&- 2>&-", recorded.store) == (1, "", "")


def test_a_command_without_stdin_and_stderr_answers(recorded: Recorded) -> None:
    code, out, err = run("tools --json --store STORE <&- 2>&-", recorded.store)

    assert (code, err) == (0, "")
    assert '"web_search"' in out


def test_a_server_without_streams_serves(tmp_path: Path) -> None:
    port = free_port()
    line = f"exec {AUTOTRACE} serve --store {tmp_path}/store --port {port} <&- >&- 2>&-"
    serving = subprocess.Popen(["sh", "-c", line])
    try:
        answer = None
        while answer is None:
            assert serving.poll() is None
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=500)
            except httpx.TransportError:
                continue  # it does not listen yet
        assert answer.status_code == 200
    finally:
        serving.terminate()
        assert serving.wait(500) == 0
