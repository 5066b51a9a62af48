"""Statistics counted from the calls themselves."""

from __future__ import annotations

from collections.abc import Iterable

from autotrace.models import ToolStats
from autotrace.store.tool_stats import ToolCallStat, ToolCounters


def recount(calls: Iterable[ToolCallStat]) -> list[ToolStats]:
    """Return the statistics of these calls, most used tool first."""
    counters: dict[str, ToolCounters] = {}
    for call in calls:
        counters.setdefault(call.tool_name, ToolCounters(call.tool_name)).count(call)
    models = [c.to_model() for c in counters.values() if c.calls > 0]
    return sorted(models, key=lambda stats: (-stats.call_count, stats.tool_name))
