"""Thousands of spans a second for a while, into an embedded store, set up as a user would.

An agent runs task after task at a steady rate: each tool call has its moment, and one that comes
too late is followed by the next at once. What is recorded is stored meanwhile by the process that
autotrace starts for it. For a third of the time before, the same agent makes hand-written spans
instead (`handwritten.py`): the ratios are to those.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil

import autotrace
from autotrace.worker.process import read_status
from benchmarks.capture import flush_ours
from benchmarks.handwritten import QUERY, HandWritten, web_search
from benchmarks.measure import Fact, Figure, Report, Size, Stopwatch
from benchmarks.workload import VARIED_EMBEDDER

SPANS_A_SECOND: Final = 5000
CALLS_OF_A_TRACE: Final = 19
SPANS_OF_A_TRACE: Final = CALLS_OF_A_TRACE + 1
_PERIOD_NS: Final = 1_000_000_000 // SPANS_A_SECOND
_SLEEP_FROM_NS: Final = 100_000
"""A sleep takes this long at least; less is waited for by looking at the clock."""

InTask = Callable[[str], Any]


@dataclass(frozen=True)
class Memory:
    """What the processes hold at a moment, in bytes."""

    program: int
    storekeeper: int


@dataclass(frozen=True)
class Paced:
    """What one agent at a steady rate gave."""

    latencies_ns: array[int]
    """Of each tool call, sorted."""
    took_s: float
    cpu_s: float
    """Of the process, and of the one that stores, until everything is stored."""
    caught_up_s: float
    """How long after the end everything was stored."""
    early: Memory
    """At a third of the time."""
    late: Memory
    """At the end, before the rest is stored."""

    def percentile_us(self, share: float) -> float:
        """Return what that share of the calls did not exceed."""
        return self.latencies_ns[int(share * (len(self.latencies_ns) - 1))] / 1e3


def memory() -> Memory:
    """Return what this process, and the one that stores for it, hold."""
    return Memory(psutil.Process().memory_info().rss, storekeeper_rss_bytes())


def storekeeper_rss_bytes() -> int:
    """Return what the process that stores for this one holds; 0 while there is none."""
    spool = autotrace.health().spool
    pid = 0 if spool is None else read_status(Path(spool)).pid
    try:
        return psutil.Process(pid).memory_info().rss if pid else 0
    except psutil.NoSuchProcess:
        return 0


def paced(
    tool: Callable[..., Any], in_task: InTask, flush: Callable[[], None], tasks: int
) -> Paced:
    """Run so many tasks, span by span at their moments."""
    latencies = array("q", bytes(8 * tasks * CALLS_OF_A_TRACE))
    watch, early, number = Stopwatch(), memory(), 0
    began_ns = time.perf_counter_ns()
    for task in range(tasks):
        if task == tasks // 3:
            early = memory()
        due_ns = began_ns + task * SPANS_OF_A_TRACE * _PERIOD_NS
        with in_task(f"Find out what the {task}th day of tracing costs"):
            for _ in range(CALLS_OF_A_TRACE):
                due_ns += _PERIOD_NS
                _wait_until(due_ns)
                called_ns = time.perf_counter_ns()
                tool(QUERY, limit=5)
                latencies[number] = time.perf_counter_ns() - called_ns
                number += 1
    ended_ns = time.perf_counter_ns()
    late = memory()
    flush()
    caught_up_ns = time.perf_counter_ns()
    return Paced(
        latencies_ns=array("q", sorted(latencies)),
        took_s=(ended_ns - began_ns) / 1e9,
        cpu_s=watch.process_cpu_s(),
        caught_up_s=(caught_up_ns - ended_ns) / 1e9,
        early=early,
        late=late,
    )


def _wait_until(due_ns: int) -> None:
    while (left_ns := due_ns - time.perf_counter_ns()) > 0:
        if left_ns > _SLEEP_FROM_NS:
            time.sleep((left_ns - _SLEEP_FROM_NS) / 1e9)


def run(size: Size) -> Report:
    """Measure."""
    tasks = max(3, int(size.paced_s * SPANS_A_SECOND) // SPANS_OF_A_TRACE)
    hand = HandWritten()
    floor = paced(hand.given_at_start, lambda _text: hand.task(), hand.flush, max(3, tasks // 3))
    hand.close()
    tool = autotrace.tool(web_search)
    with TemporaryDirectory(prefix="autotrace-bench-") as folder:
        autotrace.configure(Path(folder) / "store", embedder=VARIED_EMBEDDER)
        try:
            with autotrace.task("Warm up"):
                tool(QUERY, limit=5)
            flush_ours()  # the process that stores has started
            ours = paced(tool, autotrace.task, flush_ours, tasks)
            _check_all_stored(tasks * CALLS_OF_A_TRACE + 1)
        finally:
            autotrace.shutdown()
    return _report(size, ours, floor)


def _check_all_stored(calls: int) -> None:
    counters = autotrace.health().counters
    stored = sum(tool.call_count for tool in autotrace.tool_stats())
    if counters or stored != calls:
        raise RuntimeError(f"{stored} of {calls} calls are stored; counted: {counters}")


def _report(size: Size, ours: Paced, floor: Paced) -> Report:
    what = f"{SPANS_A_SECOND:,} spans a second for {size.paced_s:g} s"
    figures = [
        _ratio(
            f"sustained.{name}",
            f"{what}: caller's time of a call, {long}, to a hand-written span's at the same rate",
            "µs",
            ours.percentile_us(share),
            floor.percentile_us(share),
        )
        for name, long, share in (
            ("p50", "median", 0.5),
            ("p99", "99th percentile", 0.99),
            ("p999", "99.9th percentile", 0.999),
        )
    ]
    spans, floor_spans = (
        len(side.latencies_ns) / CALLS_OF_A_TRACE * SPANS_OF_A_TRACE for side in (ours, floor)
    )
    figures.append(
        _ratio(
            "sustained.total_cpu",
            f"{what}: CPU of all threads and of the process that stores, until all is stored",
            "µs CPU a span",
            ours.cpu_s / spans * 1e6,
            floor.cpu_s / floor_spans * 1e6,
        )
    )
    figures += [
        _ratio(
            f"sustained.memory_{name}",
            f"{what}: memory of the {long} at the end, to that at a third of the time",
            "MB",
            late / 1e6,
            early / 1e6,
        )
        for name, long, late, early in (
            ("program", "program", ours.late.program, ours.early.program),
            ("storekeeper", "process that stores", ours.late.storekeeper, ours.early.storekeeper),
        )
    ]
    return Report(
        figures,
        [
            Fact("sustained.rate", "spans recorded a second", "spans/s", spans / ours.took_s),
            Fact(
                "sustained.caught_up",
                "everything was stored so long after the end",
                "s",
                ours.caught_up_s,
            ),
        ],
    )


def _ratio(name: str, what: str, unit: str, ours: float, baseline: float) -> Figure:
    ratio = ours / baseline
    return Figure(name, what, unit, ours, baseline, ratio, ratio, ratio, rounds=1)
