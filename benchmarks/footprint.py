"""What a process that records needs: memory, threads, and time to start.

Each state (states.py) is one of a fresh interpreter, which says when it has reached it and waits
while it is looked at from outside. Store, embedder and settings are an application's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from autotrace.worker.process import read_status
from benchmarks.measure import Metrics, Report, Size, compare, interleave, middle

REPOSITORY: Final = Path(__file__).parent.parent
_LEAST_BYTES: Final = 1.0
"""In place of a growth that is nothing, or less: a ratio needs a number."""


@dataclass(frozen=True)
class State:
    """A process in a state, that waits to be looked at."""

    process: subprocess.Popen[str]
    folder: Path

    def await_ready(self) -> float:
        """Wait until the state is reached; return how much CPU time it says it took, in seconds."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().split()
        if said[:1] != ["ready"]:
            raise RuntimeError(f"the process ended with code {self.process.wait()}")
        return float(said[1])

    def go_on(self) -> None:
        """Let it go on to the next state, or to its end."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def rss_bytes(self) -> int:
        """Return what it holds."""
        return psutil.Process(self.process.pid).memory_info().rss

    def threads(self) -> int:
        """Return how many threads it has."""
        return psutil.Process(self.process.pid).num_threads()

    def storekeeper_rss_bytes(self) -> int:
        """Return what the process that stores for it holds."""
        return psutil.Process(read_status(self.folder / "spool").pid).memory_info().rss


@contextmanager
def state(name: str, spans: int = 0) -> Generator[State]:
    """Start a process, and let it end afterwards."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOTRACE_", "OTEL_"))}
    with (
        TemporaryDirectory(prefix="autotrace-bench-") as temporary,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.states", name, f"{temporary}/store", str(spans)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            yield State(process, Path(temporary) / "store")
        finally:
            process.communicate("\n")


def idle(name: str) -> Metrics:
    """Look at a process that does nothing any more."""
    with state(name) as seen:
        cpu_s = seen.await_ready()
        metrics = {
            "rss": seen.rss_bytes() / 1e6,
            "threads": float(seen.threads()),
            "cpu": cpu_s * 1e3,
        }
        if name == "used":
            metrics["storekeeper rss"] = seen.storekeeper_rss_bytes() / 1e6
        return metrics


def growth(name: str, spans: int) -> Metrics:
    """See by how much memory grows with each span that is made and not yet stored."""
    with state(name, spans) as seen:
        seen.await_ready()
        before = seen.rss_bytes()
        seen.go_on()
        seen.await_ready()
        return {"bytes": max(_LEAST_BYTES, (seen.rss_bytes() - before) / spans)}


def run(size: Size) -> Report:
    """Measure."""
    spans = size.footprint_spans
    results = interleave(
        {name: lambda name=name: idle(name) for name in ("bare", "floor", "configured", "used")},
        size.footprint_rounds,
    )
    results |= interleave(
        {name: lambda name=name: growth(name, spans) for name in ("held_back", "queued")},
        1,
        warm_up=False,
    )
    floor = "OpenTelemetry's SDK set up, wrapt and pydantic imported"
    return Report(
        [
            compare(
                "footprint.span",
                f"memory per span recorded while storing is held back, over {spans:,} spans, to a "
                "hand-written span's while export is",
                "bytes a span",
                results,
                ("held_back", "queued"),
                "bytes",
            ),
            compare(
                "footprint.configured",
                f"memory of a process that is configured and idle, to one with {floor}",
                "MB",
                results,
                ("configured", "floor"),
                "rss",
            ),
            compare(
                "footprint.used",
                "memory of a process that has recorded and stored, to one that is bare Python",
                "MB",
                results,
                ("used", "bare"),
                "rss",
            ),
            compare(
                "footprint.start",
                f"`import autotrace` and configure(), to {floor}",
                "ms CPU",
                results,
                ("configured", "floor"),
                "cpu",
            ),
        ],
        [
            middle(f"footprint.{name}", what, unit, results, side, metric)
            for name, what, unit, side, metric in (
                ("rss_bare", "memory of bare Python", "MB", "bare", "rss"),
                (
                    "rss_storekeeper",
                    "memory of the process that stores",
                    "MB",
                    "used",
                    "storekeeper rss",
                ),
                ("threads_bare", "threads of bare Python", "threads", "bare", "threads"),
                ("threads_configured", "threads, configured", "threads", "configured", "threads"),
                (
                    "threads_used",
                    "threads, once something was recorded",
                    "threads",
                    "used",
                    "threads",
                ),
            )
        ],
    )
