"""Real processes for tests: started cheaply, seen from outside, killed surely."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MARK = "FAULTS_RUN"
"""Environment variable by which a process's descendants are known, however they detach."""

LINUX = sys.platform == "linux"


def nursery() -> ForkServerContext:
    """Return a context whose processes are forked from one that has everything imported.

    They are processes like any other; only their first second, which imports chromadb, is spared.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["chromadb", "tests.faults.agents", "autotrace.runtime"])
    return context


def start(target: Any, *arguments: Any) -> ForkServerProcess:
    """Start a process in the environment of this one, not of the moment the nursery was made."""
    process = nursery().Process(
        target=_begin, args=(dict(os.environ), target, arguments), daemon=True
    )
    process.start()
    return process


def _begin(environment: dict[str, str], target: Any, arguments: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


def run(
    code: str,
    *arguments: object,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float = 500,
) -> subprocess.CompletedProcess[str]:
    """Run a program in a new interpreter, behind the words of another command if given."""
    return subprocess.run(
        [*prefix, sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
        check=False,
    )


def holder_of(lock: Path) -> int | None:
    """Return the id of the process that holds a lock file, as the kernel tells it."""
    try:
        inode = str(lock.stat().st_ino)
        table = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    for line in table.splitlines():
        words = line.split()
        # "1: FLOCK ADVISORY WRITE 4711 fe:00:131 0 EOF"; a waiter has "->" after its number.
        if words[1] != "->" and words[5].rpartition(":")[2] == inode:
            return int(words[4])
    return None


def marked(mark: str) -> list[int]:
    """Return the ids of the processes that were executed with this mark."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        # It may have ended, or be somebody else's.
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark_in(entry / "environ", mark):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def mark_in(environ: Path, mark: str) -> bool:
    return f"{MARK}={mark}".encode() in environ.read_bytes().split(b"\0")


def kill_storekeepers(mark: str) -> int:
    """Kill the storekeepers that carry this mark; return how many."""
    killed = 0
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            if b"autotrace.worker.main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def peak_memory_bytes(mark: str) -> int:
    """Return the largest resident size so far of any process that carries this mark."""
    peak = 0
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
    return peak
