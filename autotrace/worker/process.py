"""Start and watch the process that stores records: the storekeeper.

Chroma holds the interpreter lock while it writes, and its import takes a second: storing in the
program itself would stop all its threads. stdin carries the order as JSON, then `stop`; its end
means that the starter is gone. stdout carries `ready`, then `done` or `failed` with the reason; its
end without either means a kill. The spool directory has `storekeeper.json` (counters, failures) and
`flush` (touched by waiting processes). A double fork and a new session hide it from wait() and ^C.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from autotrace.base.health_counters import HealthCounters

STATUS_FILE: Final = "storekeeper.json"
FLUSH_FILE: Final = "flush"
READY: Final = b"ready"
FAILED: Final = b"failed"
DONE: Final = b"done"
STOP: Final = b"stop\n"
_BOOT_TIMEOUT_S: Final = 60.0
"""Timeout for the start of Python alone; the imports follow later."""
_MAX_FAILURES: Final = 3
_RESTART_AFTER_S: Final = 1.0
_MAX_RESTART_AFTER_S: Final = 60.0
_BOOT: Final = """
import os, sys
if os.fork():
    os._exit(0)
# What an embedder prints is nobody's, and must not be taken for what is said here.
out, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
os.dup2(nowhere, 2)
import json
order = json.loads(sys.stdin.buffer.readline())
sys.path[:] = order["path"]
try:
    from autotrace.worker.main import main
    main(order, out)
except BaseException as error:
    os.write(out, b"failed " + repr(error).encode())
    raise
"""
_ENDED_POLL_S: Final = 0.01

FileId = tuple[int, int] | None


@dataclass
class Status:
    """Hold the status that a storekeeper publishes to every process."""

    id: str = ""
    pid: int = 0
    counters: dict[str, int] = field(default_factory=dict[str, int])
    notes: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """By kind: number of failures, and the last message."""
    refused: bool = False
    """Whether the store refuses all writes because of its version or embedding space."""


def read_status(spool: Path) -> Status:
    """Return the status of the storekeeper of a spool directory.

    The status is empty if the file is missing or damaged.
    """
    try:
        value: dict[str, Any] = orjson.loads((spool / STATUS_FILE).read_bytes())
        notes = {kind: (note[0], note[1]) for kind, note in value["notes"].items()}
        counters: dict[str, int] = dict(value["counters"])
        return Status(value["id"], value["pid"], counters, notes, value["refused"])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return Status()


def write_status(spool: Path, status: Status) -> None:
    """Replace the status of a spool directory atomically."""
    temporary = spool / f"{STATUS_FILE}.{status.id}"
    temporary.write_bytes(orjson.dumps(status))
    temporary.replace(spool / STATUS_FILE)


def _file_id(descriptor: int) -> FileId:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_is_storekeeper = False


def mark_as_worker() -> None:
    """Mark this process as a storekeeper, so that its imports do not record."""
    global _is_storekeeper
    _is_storekeeper = True


def is_worker() -> bool:
    """Return whether this process is a storekeeper."""
    return _is_storekeeper


class WorkerProcess:
    """Start a storekeeper if there is none, and read its messages.

    Any thread may call any method; a lock guards the pipes. `stop` blocks up to its timeout, and
    `start_unless_running` until Python has started. After a fork the child closes its copies of the
    pipes (`abandon_after_fork`), because the storekeeper detects the end of the parent by them. At
    exit the pipes close, so the storekeeper stores the rest and ends.

    Args:
        spool: The spool directory.
        order: Settings and the import path of the embedder, for the storekeeper.
        counters: Receive the counters and failures of the storekeeper.
    """

    def __init__(self, spool: Path, order: dict[str, Any], counters: HealthCounters) -> None:
        self._spool = spool
        self._order = order
        self._counters = counters
        self._lock = threading.Lock()
        self._pipes: tuple[int, int] | None = None
        self._pipe_ids: tuple[FileId, FileId] = (None, None)
        self._said = b""
        self._id = ""
        there = read_status(spool)
        self._seen = {there.id: there}
        """Last status read of each storekeeper, by its id."""
        self._failures = 0
        self._restart_at_s = 0.0
        self._restart_after_s = _RESTART_AFTER_S
        self.failure: str | None = None
        """Reason why a storekeeper cannot store; None while one can."""

    @property
    def is_ready(self) -> bool:
        """Whether the started storekeeper is alive and has stored a batch."""
        if not self._lock.acquire(blocking=False):
            return False  # one is being started
        try:
            return self._is_alive() and self._has_said_ready()
        finally:
            self._lock.release()

    def _has_said_ready(self) -> bool:
        return READY in self._said.splitlines()

    def start_unless_running(self) -> None:
        """Start a storekeeper unless the one started before is alive.

        Starts are at least a second apart; the interval doubles up to a minute until one is ready.
        """
        with self._lock:
            if self._is_alive() or self.failure is not None:
                return
            now_s = time.monotonic()
            if now_s < self._restart_at_s:
                return
            self._restart_at_s = now_s + self._restart_after_s
            self._restart_after_s = min(self._restart_after_s * 2, _MAX_RESTART_AFTER_S)
            try:
                self._start()
            except Exception as error:  # noqa: BLE001 - no process, no executable, no memory: this one stores
                self.failure = repr(error)

    def _start(self) -> None:
        self._id = secrets.token_hex(8)
        order = self._order | {"id": self._id, "path": [str(Path(p).resolve()) for p in sys.path]}
        its_stdin, stdin = os.pipe()
        stdout, its_stdout = os.pipe()
        try:
            # The command is constant; the order goes through the pipe, hidden from other users.
            process = subprocess.Popen(  # noqa: S603 - see above
                [sys.executable, "-I", "-W", "ignore", "-c", _BOOT],
                stdin=its_stdin,
                stdout=its_stdout,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            os.close(stdin)
            os.close(stdout)
            raise
        finally:
            os.close(its_stdin)
            os.close(its_stdout)
        self._pipes, self._said = (stdin, stdout), b""
        self._pipe_ids = _file_id(stdin), _file_id(stdout)
        os.set_blocking(stdout, False)
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code follows
            os.write(stdin, orjson.dumps(order) + b"\n")
        try:
            code = process.wait(_BOOT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code:
            self._let_go()
            # The executable is not Python (it embeds Python), or must not fork.
            msg = f"{sys.executable} ended with {code}"
            raise ChildProcessError(msg)

    def _is_alive(self) -> bool:
        if self._pipes is None or not self._has_its_pipes():
            self._pipes = None
            return False
        try:
            while heard := os.read(self._pipes[1], 4096):
                self._said += heard
                if self._has_said_ready():
                    self._restart_after_s = _RESTART_AFTER_S
        except BlockingIOError:
            return True
        self._let_go()
        self._look_how_it_ended()
        return False

    def _look_how_it_ended(self) -> None:
        said = self._said.splitlines()
        for line in said:
            if line.startswith(FAILED):
                self.failure = line.removeprefix(FAILED).decode(errors="replace").strip()
        if self.failure is not None or DONE in said:
            self._failures = 0
            return
        self._failures = 1 if READY in said else self._failures + 1
        self._counters.add("storekeeper_failures")
        message = "the process that stores has ended by itself (killed, or out of memory?)"
        self._counters.record_failure("storekeeper", f"{message}; another one is started")
        if self._failures >= _MAX_FAILURES:
            self.failure = f"{message}, {self._failures} times before it had stored anything"

    def _has_its_pipes(self) -> bool:
        """Return whether the descriptors still belong to the pipes.

        A program that closes all unknown files may have reused their numbers.
        """
        stdin, stdout = self._pipes or (-1, -1)
        return (_file_id(stdin), _file_id(stdout)) == self._pipe_ids

    def _let_go(self) -> None:
        has_pipes = self._has_its_pipes()
        pipes, self._pipes = self._pipes, None
        if has_pipes:
            for descriptor in pipes or ():
                os.close(descriptor)

    def ask_to_flush(self) -> None:
        """Request that recorded spans are stored without waiting for more."""
        with contextlib.suppress(OSError):  # without it, storing takes the flush interval longer
            (self._spool / FLUSH_FILE).touch(mode=0o600)

    def sync_counters(self) -> bool:
        """Copy counters and failures of storekeepers.

        Returns:
            Whether the store refused the storekeeper that this process has started.
        """
        status = read_status(self._spool)
        is_own = status.id == self._id
        with self._lock:
            # The process that started another storekeeper has copied its earlier counters.
            seen = self._seen.get(status.id, Status() if is_own else status)
            self._seen[status.id] = status
        for name, number in status.counters.items():
            if (more := number - seen.counters.get(name, 0)) > 0:
                self._counters.add(name, more)
        for kind, (number, message) in status.notes.items():
            if number > seen.notes.get(kind, (0, ""))[0]:
                self._counters.record_failure(kind, message)
        # Another storekeeper may have another embedder or version; the status of a dead one is old.
        return status.refused and is_own

    def stop(self, timeout_s: float) -> None:
        """End the storekeeper after its current batch.

        Args:
            timeout_s: How long to wait for its end at most, in seconds.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            if not self._is_alive() or self._pipes is None:
                return
            with contextlib.suppress(OSError):
                os.write(self._pipes[0], STOP)
            while self._is_alive() and time.monotonic() < deadline:
                time.sleep(_ENDED_POLL_S)
            self._let_go()

    def abandon_after_fork(self) -> None:
        """Close the pipes in a forked child.

        The storekeeper belongs to the parent, and detects its end by the end of the pipe.
        """
        self._lock = threading.Lock()
        self._let_go()
        self._said = b""
        self._restart_at_s, self._restart_after_s = 0.0, _RESTART_AFTER_S
