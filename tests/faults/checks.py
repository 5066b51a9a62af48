"""What a store must hold after a fault, asked through the public API alone."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import autotrace
from autotrace import ToolCall, Trace
from tests.embedders import SmallEmbedder


def open_store(store: Path | str, **settings: Any) -> None:
    """Open a store as the next start of a program does, and wait until it has caught up."""
    autotrace.configure(
        str(store), **{"embedder": SmallEmbedder(), "flush_interval_ms": 0} | settings
    )
    assert autotrace.flush(timeout=500) is True, autotrace.health()


def stored_traces() -> dict[str, Trace]:
    """Read every trace; check that nothing is twice, and that the statistics equal a recount."""
    traces = read_traces()
    check_nothing_is_twice(traces)
    check_statistics(traces)
    return traces


def read_traces() -> dict[str, Trace]:
    """Read every trace there is, page by page, and check each against its summary."""
    traces: dict[str, Trace] = {}
    after = None
    while page := autotrace.list_traces(limit=1000, after=after):
        for summary in page:
            assert summary.trace_id not in traces, "listed twice"
            trace = traces[summary.trace_id] = autotrace.get_trace(summary.trace_id)
            assert (summary.status, summary.success) == (trace.status, trace.success)
            assert summary.tool_call_count == len(trace.tool_calls)
        after = page[-1].trace_id
    return traces


def check_nothing_is_twice(traces: dict[str, Trace]) -> None:
    calls = [call.tool_call_id for trace in traces.values() for call in trace.tool_calls]
    steps = [s.step_id for trace in traces.values() for s in trace.steps if not s.implicit]
    assert len(calls) == len(set(calls))
    assert len(steps) == len(set(steps))


def check_statistics(traces: dict[str, Trace]) -> None:
    """Compare the statistics with a count of our own over every stored call."""
    calls: defaultdict[str, list[ToolCall]] = defaultdict(list)
    for trace in traces.values():
        for call in trace.tool_calls:
            calls[call.tool_name].append(call)
    told = {stats.tool_name: stats for stats in autotrace.tool_stats()}
    assert told.keys() == calls.keys()
    for name, stats in told.items():
        durations = sorted(call.duration_ms for call in calls[name])
        total = len(durations)
        errors = [call for call in calls[name] if call.status == "error"]
        timeouts = [call for call in calls[name] if call.status == "timeout"]
        assert stats.call_count == total
        assert (stats.error_count, stats.timeout_count) == (len(errors), len(timeouts))
        judged = [call for call in calls[name] if call.status not in ("cancelled", "paused")]
        failed = len(errors) + len(timeouts)
        assert stats.success_rate == ((len(judged) - failed) / len(judged) if judged else 1.0)
        assert stats.avg_duration_ms == pytest.approx(sum(durations) / total, abs=0.001)
        assert (stats.min_duration_ms, stats.max_duration_ms) == (durations[0], durations[-1])
        for rank in (50, 95, 99):
            nearest = durations[math.ceil(rank / 100 * total) - 1]
            assert getattr(stats, f"p{rank}_duration_ms") == pytest.approx(nearest, rel=0.005)
        assert sum(stats.error_types.values()) == len(errors) + len(timeouts)
        latest = max(call.ended_at for call in calls[name])
        assert abs((stats.last_used_at - latest).total_seconds()) < 0.001
