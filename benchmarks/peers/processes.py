"""Starting recorders and sinks, giving orders, and saying what went wrong."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.contract import Place, Script
from benchmarks.peers.cpu import MARK
from benchmarks.peers.loopback import REFUSED
from benchmarks.peers.sink import ANSWERS_VARIABLE
from benchmarks.peers.worker import SINK_FILE
from benchmarks.suite import REPOSITORY

_PATIENCE_S = 20
"""How long a process that was told to end may take to."""


class FailedError(Exception):
    """A recorder did not do what it was asked; says why."""


class SinkProcess:
    """A sink in a process of its own, and the place where a recorder finds it.

    Args:
        script: The recorder.
        folder: Where the place is made.
    """

    def __init__(self, script: Script, folder: Path) -> None:
        self._folder = folder
        self._answers = json.dumps(script.answers)
        home = folder / "home"
        (home / "tmp").mkdir(parents=True)
        self.start(0)
        self.place = Place(home, f"http://127.0.0.1:{self.port}")

    def start(self, port: int) -> None:
        """Start it at a port, or at any with 0."""
        with (self._folder / "sink.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.peers.sink"),
                    *(str(self._folder / SINK_FILE), str(port)),
                ],
                cwd=REPOSITORY,
                env=os.environ | {ANSWERS_VARIABLE: self._answers},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """Stop it: connections are refused until it is started again."""
        self._process.terminate()
        self._process.communicate()


@contextmanager
def sink_for(script: Script, folder: Path) -> Generator[SinkProcess]:
    """Run a sink for the length of the block."""
    sink = SinkProcess(script, folder)
    try:
        yield sink
    finally:
        sink.stop()


class Worker:
    """A process that runs a recorder.

    Args:
        interpreter: Of the recorder's environment.
        script: The recorder.
        action: What to do; see `worker.py`.
        place: Where.
    """

    def __init__(self, interpreter: Path, script: Script, action: str, place: Place) -> None:
        self._log = place.folder.parent / f"{action}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(interpreter), "-m", "benchmarks.peers.worker"),
                    *(script.name, action, str(place.folder), place.sink),
                ],
                cwd=place.folder,
                env=_environment(place),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def order(self, **order: Any) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise FailedError(self._reason("ended before its order")) from None

    def answer(self, limit_s: float) -> dict[str, Any]:
        """Return its next answer.

        Raises:
            FailedError: It ended, or took longer.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit_s)[0]:
            raise FailedError(f"did not end in {limit_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise FailedError(self._reason("ended without an answer"))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def exit_code(self, limit_s: float) -> int:
        """Return how it ended.

        Raises:
            FailedError: It did not.
        """
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise FailedError(f"did not end in {limit_s:.0f} s") from None

    def no_more_orders(self) -> None:
        """Let it end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def refused_hosts(self) -> list[str]:
        """Return the other machines that it wanted to reach."""
        said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return sorted({line.split()[-1] for line in said if line.startswith(REFUSED)})

    def end(self) -> None:
        """Let it end, and make it."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass  # it is gone, as it should be
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            pass
        try:
            # It leads a process group of its own; whatever it has started and left goes with it.
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all are gone
        self._process.wait()

    def _reason(self, what: str) -> str:
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return what
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{what} (exit code {code}): {said[-1] if said else 'said nothing'}"


@contextmanager
def worker(interpreter: Path, script: Script, action: str, place: Place) -> Generator[Worker]:
    """Run a worker for the length of the block."""
    started = Worker(interpreter, script, action, place)
    try:
        yield started
    finally:
        started.end()


def _environment(place: Place) -> dict[str, str]:
    """Return what a recorder may know of this machine: no account, no setting, no proxy."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(place.folder),
        "TMPDIR": str(place.folder / "tmp"),
        "PYTHONPATH": str(REPOSITORY),
        "DO_NOT_TRACK": "1",
        MARK: place.sink,
    }
