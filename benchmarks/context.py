"""What recording costs an agent at work: asyncio, 50 agents at once, tools that take 10 ms.

A tool takes between 8 and 12 ms, so that the agents do not all wake at the same moment; each agent
waits for the same times on both sides. One side runs the agents as they are, the other with tasks
and tools recorded into an embedded store, which is written meanwhile. What counts is how long the
whole takes, and how late the event loop is: a library that stops the loop stops every agent in it.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import autotrace
from benchmarks.capture import configured, flush_ours
from benchmarks.measure import Metrics, Report, Size, Stopwatch, compare, interleave, middle

AGENTS = 50
TOOL_S = 0.01
CALLS_OF_A_TRACE = 10
_PROBE_S = 0.001


async def web_search(query: str, limit: int = 10) -> dict[str, Any]:
    """Wait as a tool does that asks a server."""
    await asyncio.sleep(TOOL_S * (0.8 + zlib.crc32(query.encode()) / 2**32 * 0.4))
    return {"results": [{"title": f"Answer to {query}", "score": 0.93}], "count": 1}


async def agent(
    name: str,
    calls: int,
    tool: Callable[..., Awaitable[Any]],
    in_task: Callable[[str], AbstractAsyncContextManager[Any]],
) -> None:
    """Call a tool again and again, task by task."""
    for start in range(0, calls, CALLS_OF_A_TRACE):
        async with in_task(f"{name} looks something up, for the {start}th time"):
            for number in range(start, min(start + CALLS_OF_A_TRACE, calls)):
                await tool(f"{name} {number}", limit=5)


async def late(lags_s: list[float]) -> None:
    """Note how late the event loop wakes up, until cancelled."""
    while True:
        before_s = time.perf_counter()
        await asyncio.sleep(_PROBE_S)
        lags_s.append(time.perf_counter() - before_s - _PROBE_S)


def run_agents(
    calls: int,
    tool: Callable[..., Awaitable[Any]],
    in_task: Callable[[str], AbstractAsyncContextManager[Any]],
    flush: Callable[[], None],
) -> Metrics:
    """Run all agents at once; what is left to store afterwards counts as CPU, not as wall time."""
    lags_s: list[float] = []

    async def work() -> None:
        probe = asyncio.create_task(late(lags_s))
        await asyncio.gather(*(agent(f"agent {n}", calls, tool, in_task) for n in range(AGENTS)))
        probe.cancel()

    watch, wall_s, cpu_s = Stopwatch(), time.perf_counter(), time.process_time()
    asyncio.run(work())
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    lags_s.sort()
    flush()
    return {
        "wall": wall_s / calls * 1e3,
        "cpu": cpu_s / (calls * AGENTS) * 1e6,
        "total cpu": watch.process_cpu_s() / (calls * AGENTS) * 1e6,
        "lag p99": lags_s[int(0.99 * len(lags_s))] * 1e3,
        "lag max": lags_s[-1] * 1e3,
    }


def run(size: Size) -> Report:
    """Measure."""
    tool = autotrace.tool(web_search)
    calls = size.context_calls

    with configured():
        results = interleave(
            {
                "ours": lambda: run_agents(calls, tool, autotrace.task, flush_ours),
                "plain": lambda: run_agents(
                    calls, web_search, lambda _text: nullcontext(), lambda: None
                ),
            },
            size.context_rounds,
        )
    return Report(
        [
            compare(
                "context.wall",
                f"{AGENTS} agents at once, tools of {TOOL_S * 1e3:.0f} ms, recorded, to the same "
                "agents not recorded: time until all are done",
                "ms a call",
                results,
                ("ours", "plain"),
                "wall",
            ),
            compare(
                "context.cpu",
                "the same, CPU of the process",
                "µs CPU a call",
                results,
                ("ours", "plain"),
                "cpu",
            ),
            compare(
                "context.total_cpu",
                "the same, CPU of the process and of the one that stores, until all is stored",
                "µs CPU a call",
                results,
                ("ours", "plain"),
                "total cpu",
            ),
        ],
        [
            middle(f"context.{short}", f"the event loop's lag, {long}", "ms", results, side, metric)
            for side in ("ours", "plain")
            for metric, short, long in (
                ("lag p99", f"lag_p99_{side}", f"99th percentile, {side}"),
                ("lag max", f"lag_max_{side}", f"longest, {side}"),
            )
        ],
    )
