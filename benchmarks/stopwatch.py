"""Timing the caller. Needs the standard library alone, as recorders are measured by themselves."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

Metrics = Mapping[str, float]
"""What one round of one side gave: value by metric name, each per unit of work."""


class CallerStopwatch:
    """Times stretches of work: wall, and CPU of the calling thread."""

    def __init__(self) -> None:
        self.wall_s = self.thread_cpu_s = 0.0

    @contextmanager
    def timing(self) -> Generator[None]:
        """Time the body of the block as the caller's."""
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        yield
        self.thread_cpu_s += time.thread_time() - cpu_s
        self.wall_s += time.perf_counter() - wall_s
