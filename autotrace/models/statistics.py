"""Statistics of tools."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from autotrace.models.base import Model


class ToolStats(Model):
    """Statistics of one tool over every stored call of it."""

    tool_name: str
    call_count: int
    success_rate: float
    """Share of calls with status `success` among those neither cancelled nor paused, 0 to 1; 1 for
    a tool without such calls."""
    avg_duration_ms: float
    min_duration_ms: int
    max_duration_ms: int
    p50_duration_ms: int
    p95_duration_ms: int
    p99_duration_ms: int
    error_count: int
    timeout_count: int
    cancelled_count: int = 0
    paused_count: int = 0
    """Calls that wait for a person or for a retry."""
    error_types: dict[str, int]
    """How often each exception class (or error type given) ended a call."""
    last_used_at: datetime


class ToolStatsPage(NamedTuple):
    """Statistics of the most used tools, and one summary of all other calls."""

    tools: list[ToolStats]
    others: ToolStats | None
    """Calls of the tools after these, and of tools that are not counted by name."""
    left_out: int
    """Number of tools after these that are counted by name."""
