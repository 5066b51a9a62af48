"""Real processes for tests: started cheaply, seen from outside, killed surely."""

from __future__ import annotations

import multiprocessing
import os
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
    process = nursery().Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def run(
    code: str,
    *arguments: object,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float = 100,
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


def peak_memory_bytes(mark: str) -> int:
    """Return the largest resident size so far of any process that carries this mark."""
    peak = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() not in (entry / "environ").read_bytes():
                continue
            status = (entry / "status").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue  # it has ended, or is somebody else's
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) * 1024)
    return peak
