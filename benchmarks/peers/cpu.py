"""The CPU time of the processes that a process has started."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

MARK = "BENCHMARKS_PEERS_WORKER"
"""Environment variable that a worker's child processes inherit, by which they are found."""


def cpu_of_children_s() -> float:
    """Return the CPU time of all processes that this one has started, and that they have.

    Those that live are found by the mark in their environment, so one that has detached itself
    counts too. Only Linux tells; elsewhere only those count that have ended and were waited for.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total_s = ended.ru_utime + ended.ru_stime
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        try:
            if pid != os.getpid() and mark in (process / "environ").read_bytes():
                # The clock of another process's CPU time, made as clock_getcpuclockid(3) does.
                total_s += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return total_s
