"""What recording a tool call costs the caller, beside a hand-written OpenTelemetry span.

The hand-written span is the one of `handwritten.py`. Ours is set up as a user would set it up:
`autotrace.configure(folder)`, embedded store, every default.

Both sides run in this process, in turns. What is left to do in the background is done (flushed)
before the other side begins, outside of the caller's time and inside of the total CPU time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import autotrace
from benchmarks.handwritten import QUERY, HandWritten, web_search, web_search_async
from benchmarks.measure import Metrics, Report, Size, Stopwatch, compare, interleave, middle
from benchmarks.workload import EMBEDDER

THREADS = 4
CALLS_OF_A_TRACE = 20
"""Tool calls of one task where many tasks are run."""

Tool = Callable[..., dict[str, Any]]
InTask = Callable[[], Any]


def flush_ours() -> None:
    """Bring what was recorded into the store."""
    if not autotrace.flush(timeout=300):
        raise TimeoutError("autotrace.flush() did not store everything in 300 s")


def task_of_ours() -> Any:
    """Open a task."""
    return autotrace.task("Find out what tracing costs")


@contextmanager
def configured() -> Generator[None]:
    """Record into a store of its own, as an application would."""
    with TemporaryDirectory(prefix="autotrace-bench-") as folder:
        autotrace.configure(Path(folder) / "store", embedder=EMBEDDER)
        try:
            yield
        finally:
            autotrace.shutdown()


def in_one_task(tool: Tool, in_task: InTask, flush: Callable[[], None], calls: int) -> Metrics:
    """Call a tool in a tight loop inside one task."""
    watch = Stopwatch()
    with in_task(), watch.timing():
        for _ in range(calls):
            tool(QUERY, limit=5)
    return _metrics(watch, flush, calls)


def in_many_tasks(tool: Tool, in_task: InTask, flush: Callable[[], None], calls: int) -> Metrics:
    """Run task after task, long enough that what ended is stored meanwhile."""
    watch = Stopwatch()
    for _ in range(calls // CALLS_OF_A_TRACE):
        with in_task(), watch.timing():
            for _ in range(CALLS_OF_A_TRACE):
                tool(QUERY, limit=5)
    return _metrics(watch, flush, calls)


def in_threads(tool: Tool, in_task: InTask, flush: Callable[[], None], calls: int) -> Metrics:
    """Share the calls out to threads that run at once."""
    watch = Stopwatch()
    cpu: list[float] = []

    def work() -> None:
        own = Stopwatch()
        with own.timing():
            for _ in range(calls // THREADS):
                tool(QUERY, limit=5)
        cpu.append(own.thread_cpu_s)

    with in_task():
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        with watch.timing():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    watch.thread_cpu_s = sum(cpu)
    return _metrics(watch, flush, calls)


def in_coroutine(
    tool: Callable[..., Awaitable[Any]], in_task: InTask, flush: Callable[[], None], calls: int
) -> Metrics:
    """Await an async tool again and again."""
    watch = Stopwatch()

    async def work() -> None:
        with in_task(), watch.timing():
            for _ in range(calls):
                await tool(QUERY, limit=5)

    asyncio.run(work())
    return _metrics(watch, flush, calls)


def unrecorded(tool: Tool, calls: int) -> Metrics:
    """Call a tool while nothing records."""
    watch = Stopwatch()
    with watch.timing():
        for _ in range(calls):
            tool(QUERY, limit=5)
    return {"wall": watch.wall_s / calls * 1e6, "cpu": watch.thread_cpu_s / calls * 1e6}


def _metrics(watch: Stopwatch, flush: Callable[[], None], calls: int) -> Metrics:
    flush()
    return {
        "wall": watch.wall_s / calls * 1e6,
        "cpu": watch.thread_cpu_s / calls * 1e6,
        "total": watch.process_cpu_s() / calls * 1e6,
    }


def run(size: Size) -> Report:
    """Measure."""
    report = Report()
    report.extend(_before_configure(size))
    hand = HandWritten()
    tool, tool_async = autotrace.tool(web_search), autotrace.tool(web_search_async)
    with configured():
        report.extend(_one_task(size, tool, hand))
        report.extend(_many_tasks(size, tool, hand))
        report.extend(_threads(size, tool, hand))
        report.extend(_coroutine(size, tool_async, hand))
        counters = autotrace.health().counters
        if counters:
            raise RuntimeError(f"something was dropped or failed: {counters}")
    hand.close()
    return report


def _before_configure(size: Size) -> Report:
    tool = autotrace.tool(web_search)
    calls = 10 * size.calls
    results = interleave(
        {
            "decorated": lambda: unrecorded(tool, calls),
            "bare": lambda: unrecorded(web_search, calls),
        },
        size.rounds,
    )
    added = [
        ours["cpu"] - bare["cpu"]
        for ours, bare in zip(results["decorated"], results["bare"], strict=True)
    ]
    figure = compare(
        "capture.unconfigured",
        "decorated call before configure(), to the bare function",
        "µs a call",
        results,
        ("decorated", "bare"),
        "cpu",
    )
    fact = middle(
        "capture.unconfigured_added",
        "what the decorator adds to a call before configure()",
        "µs CPU a call",
        {"added": [{"cpu": value} for value in added]},
        "added",
        "cpu",
    )
    return Report([figure], [fact])


def _one_task(size: Size, tool: Tool, hand: HandWritten) -> Report:
    calls = size.calls
    results = interleave(
        {
            "ours": lambda: in_one_task(tool, task_of_ours, flush_ours, calls),
            "span": lambda: in_one_task(hand.given_at_start, hand.task, hand.flush, calls),
            "span, one by one": lambda: in_one_task(
                hand.set_one_by_one, hand.task, hand.flush, calls
            ),
        },
        size.rounds,
    )
    to_span = ("ours", "span")
    return Report(
        [
            compare(
                "capture.caller",
                "@tool call, caller's time, to a hand-written span with attributes given at start",
                "µs a call",
                results,
                to_span,
                "wall",
            ),
            compare(
                "capture.caller_cpu",
                "the same, caller's CPU time",
                "µs CPU a call",
                results,
                to_span,
                "cpu",
            ),
            compare(
                "capture.caller_one_by_one",
                "the same, to a hand-written span with attributes set one by one",
                "µs a call",
                results,
                ("ours", "span, one by one"),
                "wall",
            ),
            compare(
                "capture.total_cpu",
                "the same, CPU of all threads until everything is stored or exported",
                "µs CPU a call",
                results,
                to_span,
                "total",
            ),
        ]
    )


def _many_tasks(size: Size, tool: Tool, hand: HandWritten) -> Report:
    calls = size.sustained_calls
    results = interleave(
        {
            "ours": lambda: in_many_tasks(tool, task_of_ours, flush_ours, calls),
            "span": lambda: in_many_tasks(hand.given_at_start, hand.task, hand.flush, calls),
        },
        max(2, size.rounds // 5),
    )
    what = f"calls at full speed in tasks of {CALLS_OF_A_TRACE}, stored meanwhile"
    return Report(
        [
            compare(
                "capture.sustained",
                f"{what}: caller's time",
                "µs a call",
                results,
                ("ours", "span"),
                "wall",
            ),
            compare(
                "capture.sustained_cpu",
                f"{what}: caller's CPU time",
                "µs CPU a call",
                results,
                ("ours", "span"),
                "cpu",
            ),
            compare(
                "capture.sustained_total_cpu",
                f"{what}: CPU of all threads until stored",
                "µs CPU a call",
                results,
                ("ours", "span"),
                "total",
            ),
        ]
    )


def _threads(size: Size, tool: Tool, hand: HandWritten) -> Report:
    calls = size.calls
    results = interleave(
        {
            "ours": lambda: in_threads(tool, task_of_ours, flush_ours, calls),
            "span": lambda: in_threads(hand.given_at_start, hand.task, hand.flush, calls),
        },
        size.rounds,
    )
    return Report(
        [
            compare(
                "capture.threads",
                f"calls from {THREADS} threads at once: time until all are done",
                "µs a call",
                results,
                ("ours", "span"),
                "wall",
            ),
            compare(
                "capture.threads_cpu",
                f"calls from {THREADS} threads at once: their CPU time",
                "µs CPU a call",
                results,
                ("ours", "span"),
                "cpu",
            ),
        ]
    )


def _coroutine(size: Size, tool: Callable[..., Awaitable[Any]], hand: HandWritten) -> Report:
    calls = size.calls
    results = interleave(
        {
            "ours": lambda: in_coroutine(tool, task_of_ours, flush_ours, calls),
            "span": lambda: in_coroutine(hand.given_at_start_async, hand.task, hand.flush, calls),
        },
        size.rounds,
    )
    return Report(
        [
            compare(
                "capture.async",
                "async tool, awaited in one task: caller's time",
                "µs a call",
                results,
                ("ours", "span"),
                "wall",
            )
        ]
    )
