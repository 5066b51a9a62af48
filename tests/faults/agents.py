"""Agents for processes of their own. They say in a file what has returned, as soon as it has."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import autotrace
from autotrace import step, task, tool

THREADS = 4
COROUTINES = 4
STORING = "AUTOTRACE_STORING"


@tool
def work(key: str) -> str:
    return key


@tool
async def work_async(key: str) -> str:
    return key


def configure(store: str, **settings: Any) -> None:
    """Configure with an embedder that another process can make, too; the test says which stores."""
    usual = {
        "embedder": "tests.embedders:SmallEmbedder",
        "flush_interval_ms": 0,
        "storing": os.environ.get(STORING, "thread"),
    }
    autotrace.configure(store, **usual | settings)


class Report:
    """A file with a line for everything that has returned: one write, so that no kill halves it."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, *words: str) -> None:
        os.write(self._descriptor, (" ".join(words) + "\n").encode())


@dataclass
class Said:
    """What the lines of a report tell."""

    started: set[str] = field(default_factory=set[str])
    ended: set[str] = field(default_factory=set[str])
    steps: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    calls: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    other: list[list[str]] = field(default_factory=list[list[str]])


def said_in(*paths: Path) -> Said:
    said = Said()
    for path in paths:
        for line in path.read_text().splitlines() if path.exists() else ():
            match line.split():
                case ["started", trace]:
                    said.started.add(trace)
                case ["ended", trace]:
                    said.ended.add(trace)
                case ["stepped", trace, step_id]:
                    said.steps[trace].add(step_id)
                case ["called", trace, key]:
                    said.calls[trace].add(key)
                case words:
                    said.other.append(words)
    return said


@contextlib.contextmanager
def _one_task(name: str, number: int, report: Report) -> Iterator[str]:
    with task(f"{name} task {number}", agent=name) as t:
        report("started", t.trace_id)
        with step(f"{name} thought {number}") as s:
            yield t.trace_id
        report("stepped", t.trace_id, s.step_id)
    report("ended", t.trace_id)


def work_through(name: str, number: int, calls: int, report: Report, pause_s: float = 0.0) -> None:
    with _one_task(name, number, report) as trace:
        for call in range(calls):
            report("called", trace, work(f"{name}/{number}/{call}"))
            if pause_s:
                time.sleep(pause_s)


async def _work_through(name: str, number: int, report: Report, pause_s: float) -> None:
    with _one_task(name, number, report) as trace:
        for call in range(10):
            report("called", trace, await work_async(f"{name}/{number}/{call}"))
            await asyncio.sleep(pause_s)


def record_until_killed(store: str, name: str, report_path: str, pause_s: float) -> None:
    """Work in four threads and four coroutines, without end."""
    configure(store)
    report = Report(report_path)

    def in_thread(mine: str) -> None:
        for number in itertools.count():
            work_through(mine, number, 10, report, pause_s)

    async def in_coroutine(mine: str) -> None:
        for number in itertools.count():
            await _work_through(mine, number, report, pause_s)

    async def all_coroutines() -> None:
        await asyncio.gather(*(in_coroutine(f"{name}-c{n}") for n in range(COROUTINES)))

    for n in range(THREADS):
        threading.Thread(target=in_thread, args=(f"{name}-t{n}",), daemon=True).start()
    asyncio.run(all_coroutines())


def record_traces(store: str, name: str, report_path: str, traces: int) -> None:
    """Record so many traces, see them stored, and say what was counted against them."""
    configure(store)
    report = Report(report_path)
    for number in range(traces):
        work_through(name, number, 3, report)
    report("flushed", str(autotrace.flush(timeout=500)))
    health = autotrace.health()
    report("counted", repr(health.counters), repr(health.last_error))


def read_until_told(store: str, name: str, report_path: str, told: str) -> None:
    """List, read and recall what others are storing, until a file is there."""
    configure(store)
    report = Report(report_path)
    seen: set[str] = set()
    rounds = 0
    ended = False
    while not ended:
        ended = Path(told).exists()
        page = autotrace.list_traces(limit=200)
        times = [summary.created_at for summary in page]
        assert times == sorted(times, reverse=True)
        assert len({summary.trace_id for summary in page}) == len(page)
        for summary in page[:3] + page[-3:]:
            assert len(autotrace.get_trace(summary.trace_id).tool_calls) <= 3
            seen.add(summary.trace_id)
        for summary in page[-1:]:
            autotrace.recall(summary.task, limit=5)
        autotrace.tool_stats()
        rounds += 1
    # Other processes see what was stored within a second or two, and it stays.
    assert autotrace.flush(timeout=500)
    for trace_id in seen:
        assert autotrace.get_trace(trace_id).trace_id == trace_id
    report("read", str(rounds), str(len(seen)))
    report("counted", repr(autotrace.health().counters), repr(autotrace.health().last_error))
