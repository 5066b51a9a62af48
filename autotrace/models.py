"""What autotrace answers with: pydantic models shared by the library, the CLI and the servers.

Field names and meanings follow the decision-trace contract; what it does not name is an addition.
Times are timezone-aware UTC and serialise as ISO 8601; durations are milliseconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TraceStatus = Literal["active", "completed", "interrupted"]
"""`interrupted`: the recording process died before the task ended."""

ToolStatus = Literal["success", "error", "timeout"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ToolCall(_Model):
    """One call of a tool."""

    tool_call_id: str
    tool_name: str
    arguments: Any = None
    """The arguments by parameter name; None when capture was off."""
    result: Any = None
    error: str | None = None
    error_type: str | None = None
    duration_ms: int
    status: ToolStatus
    memory_id: str | None = None
    parent_tool_call_id: str | None = None
    """The tool call inside which this one was made."""
    started_at: datetime
    ended_at: datetime


class Step(_Model):
    """One turn of reasoning."""

    step_id: str
    thought: str = ""
    action: str | None = None
    observations: list[str] = Field(default_factory=list[str])
    tool_calls: list[ToolCall] = Field(default_factory=list[ToolCall])
    error: str | None = None
    implicit: bool = False
    """True when tool calls were made outside any step and this one was made up to hold them."""
    parent_step_id: str | None = None
    created_at: datetime
    completed_at: datetime | None = None


class Trace(_Model):
    """The record of one task: steps, tool calls, outcome, success."""

    trace_id: str
    task: str
    status: TraceStatus
    success: bool | None = None
    outcome: str | None = None
    steps: list[Step] = Field(default_factory=list[Step])
    created_at: datetime
    completed_at: datetime | None = None
    session_id: str | None = None
    agent: str | None = None
    parent_trace_id: str | None = None
    """The trace of the task inside which this task was opened."""
    triggered_by_memory_id: str | None = None

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Every tool call of every step, in the order in which they started."""
        calls = [call for step in self.steps for call in step.tool_calls]
        return sorted(calls, key=lambda call: call.started_at)


class TraceSummary(_Model):
    """A trace without its steps, as `list_traces` gives it."""

    trace_id: str
    task: str
    status: TraceStatus
    success: bool | None = None
    outcome: str | None = None
    tool_sequence: list[str] = Field(default_factory=list[str])
    step_count: int = 0
    tool_call_count: int = 0
    created_at: datetime
    completed_at: datetime | None = None
    session_id: str | None = None
    agent: str | None = None
    parent_trace_id: str | None = None
    triggered_by_memory_id: str | None = None


class RecallResult(_Model):
    """A past trace whose task is similar to the query."""

    trace_id: str
    task: str
    outcome: str | None
    similarity: float = Field(ge=0.0, le=1.0)
    """Cosine similarity of the query and the task, 0 to 1."""
    tool_sequence: list[str]
    success: bool
    created_at: datetime
    session_id: str | None = None
    agent: str | None = None


class ToolStats(_Model):
    """Statistics of one tool over every stored call of it."""

    tool_name: str
    call_count: int
    success_rate: float
    """Calls with status `success` divided by all calls, 0 to 1."""
    avg_duration_ms: float
    min_duration_ms: int
    max_duration_ms: int
    p50_duration_ms: int
    p95_duration_ms: int
    p99_duration_ms: int
    error_count: int
    timeout_count: int
    error_types: dict[str, int]
    """How often each exception class (or error type given) ended a call."""
    last_used_at: datetime


class Health(_Model):
    """How recording does in this process."""

    configured: bool
    store: str | None = None
    spool: str | None = None
    backlog_bytes: int = 0
    """What waits in the spools of all processes of this machine."""
    counters: dict[str, int] = Field(default_factory=dict[str, int])
    """What was dropped, cut, redacted or failed, by name: see `docs/storage.md`."""
    last_error: str | None = None
    set_aside_records: int = 0
    """What the store refused, of all processes of this machine."""
    problems: list[str] = Field(default_factory=list[str])
    """What a person should see to, each with its fix."""
