"""Measuring two ways of doing one thing side by side, on a machine that others use too.

The sides take turns, round by round, and each round gives one ratio; a figure is the median of
those. What slows the machine down for longer than a round slows both sides, and what hits a single
round is one value among many. CPU time is measured beside wall time: it does not see who else ran.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

import autotrace
from autotrace.worker.process import read_status
from benchmarks.stopwatch import CallerStopwatch, Metrics


@dataclass(frozen=True)
class Figure:
    """Ours against a baseline."""

    name: str
    what: str
    unit: str
    """Of `ours` and `baseline`."""
    ours: float
    baseline: float
    ratio: float
    ratio_min: float
    ratio_max: float
    rounds: int


@dataclass(frozen=True)
class Fact:
    """A value that stands alone."""

    name: str
    what: str
    unit: str
    value: float


@dataclass
class Report:
    """What one benchmark found."""

    figures: list[Figure] = field(default_factory=list[Figure])
    facts: list[Fact] = field(default_factory=list[Fact])

    def extend(self, other: Report) -> None:
        """Take in what another benchmark found."""
        self.figures += other.figures
        self.facts += other.facts

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-compatible data."""
        return asdict(self)


@dataclass(frozen=True)
class Size:
    """How much a run measures: `full` for the figures in the docs, `quick` for the check."""

    name: Literal["full", "quick", "tiny"]
    rounds: int
    calls: int
    """Tool calls of one round of capture."""
    sustained_calls: int
    """Tool calls of one round of capture while the store is written."""
    export_traces: int
    export_rounds: int
    recall_traces: int
    recall_queries: int
    """Queries of one round."""
    import_rounds: int
    context_rounds: int
    context_calls: int
    """Tool calls of each of the agents that run at once."""
    growth_stages: tuple[int, ...]
    """Numbers of stored traces at which costs are measured."""
    growth_batches: int
    """Batches that are stored at each stage."""
    growth_reads: int
    """How often each read is measured at each stage."""
    growth_reopenings: int
    paced_s: float
    """How long spans are recorded at a steady rate."""
    footprint_rounds: int
    footprint_spans: int
    decision_rounds: int
    decisions: int
    """Decisions of one round."""
    decision_waits: int
    """How often an agent waits for an answer."""
    server_traces: int
    server_units: int
    """Traces recorded, and recalls, of one load."""
    server_clients: tuple[int, ...]
    server_workers: tuple[int, ...]
    soak_s: float
    """How long a load lasts after which memory is compared."""


SIZES = {
    size.name: size
    for size in (
        Size(
            name="full",
            rounds=25,
            calls=2000,
            sustained_calls=20_000,
            export_traces=2000,
            export_rounds=7,
            recall_traces=50_000,
            recall_queries=10,
            import_rounds=15,
            context_rounds=7,
            context_calls=200,
            growth_stages=(1000, 10_000, 100_000, 300_000),
            growth_batches=24,
            growth_reads=40,
            growth_reopenings=5,
            paced_s=60.0,
            footprint_rounds=5,
            footprint_spans=100_000,
            decision_rounds=15,
            decisions=20,
            decision_waits=20,
            server_traces=5000,
            server_units=600,
            server_clients=(1, 8, 64),
            server_workers=(1, 2),
            soak_s=600.0,
        ),
        Size(
            name="quick",
            rounds=7,
            calls=1000,
            sustained_calls=2000,
            export_traces=500,
            export_rounds=3,
            recall_traces=3000,
            recall_queries=10,
            import_rounds=5,
            context_rounds=3,
            context_calls=50,
            growth_stages=(1000, 10_000),
            growth_batches=4,
            growth_reads=10,
            growth_reopenings=2,
            paced_s=10.0,
            footprint_rounds=2,
            footprint_spans=20_000,
            decision_rounds=5,
            decisions=10,
            decision_waits=5,
            server_traces=300,
            server_units=60,
            server_clients=(1, 8),
            server_workers=(1,),
            soak_s=5.0,
        ),
        Size(  # only shows that the code runs
            name="tiny",
            rounds=1,
            calls=20,
            sustained_calls=40,
            export_traces=12,
            export_rounds=1,
            recall_traces=40,
            recall_queries=2,
            import_rounds=1,
            context_rounds=1,
            context_calls=4,
            growth_stages=(30, 90),
            growth_batches=1,
            growth_reads=2,
            growth_reopenings=1,
            paced_s=0.5,
            footprint_rounds=1,
            footprint_spans=200,
            decision_rounds=1,
            decisions=2,
            decision_waits=1,
            server_traces=30,
            server_units=4,
            server_clients=(1, 2),
            server_workers=(1,),
            soak_s=0.5,
        ),
    )
}


class Stopwatch(CallerStopwatch):
    """Times the caller, and all that works for it: other threads and the process that stores."""

    def __init__(self) -> None:
        super().__init__()
        self._process_s = time.process_time()
        self._storekeeper_s = storekeeper_cpu_s()

    def process_cpu_s(self) -> float:
        """Return what all threads, and the process that stores, have used since it was made."""
        storekeeper_s = storekeeper_cpu_s() - self._storekeeper_s
        return time.process_time() - self._process_s + max(0.0, storekeeper_s)


def storekeeper_cpu_s() -> float:
    """Return the CPU time that the process that stores for this one has used, in seconds."""
    spool = autotrace.health().spool
    pid = 0 if spool is None else read_status(Path(spool)).pid
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def interleave(
    sides: Mapping[str, Callable[[], Metrics]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[Metrics]]:
    """Run every side once in each round, in turns.

    Args:
        sides: What to run, by name; each call is one round.
        rounds: How many rounds are kept.
        warm_up: Whether to run one round before those that count.
    """
    results: dict[str, list[Metrics]] = {name: [] for name in sides}
    for number in range(-1 if warm_up else 0, rounds):
        for name, side in sides.items():
            gc.collect()
            metrics = side()
            if number >= 0:
                results[name].append(metrics)
    return results


def compare(
    name: str,
    what: str,
    unit: str,
    results: Mapping[str, Sequence[Metrics]],
    sides: tuple[str, str],
    metric: str,
) -> Figure:
    """Make the figure of one metric: the median over rounds of `sides[0] / sides[1]`."""
    ours = [round_[metric] for round_ in results[sides[0]]]
    baseline = [round_[metric] for round_ in results[sides[1]]]
    ratios = [one / other for one, other in zip(ours, baseline, strict=True)]
    return Figure(
        name=name,
        what=what,
        unit=unit,
        ours=statistics.median(ours),
        baseline=statistics.median(baseline),
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        rounds=len(ratios),
    )


def middle(
    name: str,
    what: str,
    unit: str,
    results: Mapping[str, Sequence[Metrics]],
    side: str,
    metric: str,
) -> Fact:
    """Make the fact of one metric of one side: its median over rounds."""
    return Fact(name, what, unit, statistics.median(round_[metric] for round_ in results[side]))
