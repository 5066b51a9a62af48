"""Traces, steps and tool calls."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field, computed_field, field_serializer

from autotrace.models.base import Model
from autotrace.models.decisions import Decision

TraceStatus = Literal["active", "completed", "interrupted"]
"""`interrupted`: the process died before the task ended."""

ToolStatus = Literal["success", "error", "timeout"]
"""Statuses of the decision-trace contract, which requests and responses use."""

CallStatus = Literal["success", "error", "timeout", "cancelled", "paused"]
"""`cancelled`: the awaiting code cancelled the call, which has not failed. `paused`: the call waits
for a person or for a retry."""

SENT_AS: Final[Mapping[CallStatus, ToolStatus]] = {
    "success": "success",
    "error": "error",
    "timeout": "timeout",
    "cancelled": "error",
    "paused": "success",
}
"""Status in JSON, where the contract has three: a cancelled call has no result, and a paused call
did not fail."""


class ToolCall(Model):
    """Call of a tool."""

    tool_call_id: str
    tool_name: str
    arguments: Any = None
    """Arguments by parameter name; None with capture off."""
    result: Any = None
    """Return value; for a generator without one, the list of the yielded values."""
    yielded: Any = None
    """Values that a generator yielded before it returned a result."""
    error: str | None = None
    error_type: str | None = None
    duration_ms: int
    status: CallStatus
    """How the call ended; in JSON one of `success`, `error` and `timeout`."""
    ended_by: str | None = None
    """Exception that cancelled or paused the call."""
    memory_id: str | None = None
    parent_tool_call_id: str | None = None
    """Tool call that made this call."""
    started_at: datetime
    ended_at: datetime

    @computed_field
    @property
    def ended_as(self) -> CallStatus:
        """Return the full status, which JSON has under this name only."""
        return self.status

    @field_serializer("status", when_used="json")
    def _contract_status(self, status: CallStatus) -> ToolStatus:
        return SENT_AS[status]


class Step(Model):
    """Turn of reasoning."""

    step_id: str
    thought: str = ""
    action: str | None = None
    observations: list[str] = Field(default_factory=list[str])
    tool_calls: list[ToolCall] = Field(default_factory=list[ToolCall])
    error: str | None = None
    implicit: bool = False
    """Whether autotrace added this step to hold tool calls made outside any step."""
    parent_step_id: str | None = None
    created_at: datetime
    completed_at: datetime | None = None


class Trace(Model):
    """Record of one task: steps, tool calls, outcome, success."""

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
    """Trace of the task that opened this task."""
    triggered_by_memory_id: str | None = None
    recorded_by: str | None = None
    """Agent of the API key that recorded the trace; None: recorded on the machine of the store.
    `agent` is the name that the program gave itself."""
    decisions: list[Decision] = Field(default_factory=list[Decision])
    """Decisions of the task in their current state, oldest first."""
    decisions_error: str | None = None
    """Error of reading the decisions, if it failed."""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Return the tool calls of all steps by start time."""
        calls = [call for step in self.steps for call in step.tool_calls]
        return sorted(calls, key=lambda call: call.started_at)


class TraceSummary(Model):
    """Trace without its steps, as `list_traces` returns it."""

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
    recorded_by: str | None = None
    """Agent of the API key that recorded the trace; None: recorded on the machine of the store."""
    rejected_decisions: list[str] = Field(default_factory=list[str])
    """Ids of the first 50 decisions of the task that a person rejected."""


class RecallResult(Model):
    """Past trace with a task similar to the query."""

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
    """Name that the recording program gave itself."""
    recorded_by: str | None = None
    """Agent of the API key that recorded the trace; None: recorded on the machine of the store."""
    rejected_decisions: list[str] = Field(default_factory=list[str])
    """Ids of decisions of the task that a person rejected; `decisions.get` returns the reason."""


class StartedTrace(Model):
    """Result of starting a trace over REST or MCP."""

    trace_id: str
    task: str
    status: Literal["active"] = "active"
    created_at: datetime


class RecordedStep(Model):
    """Result of recording a step over REST or MCP."""

    step_id: str
    trace_id: str
    created_at: datetime


class RecordedToolCall(Model):
    """Result of recording a tool call over REST or MCP."""

    tool_call_id: str
    trace_id: str
    step_id: str | None = None
    """Step given in the request; None: the call belongs to the latest step."""
    created_at: datetime


class CompletedTrace(Model):
    """Result of completing a trace over REST or MCP."""

    trace_id: str
    status: Literal["completed"] = "completed"
    success: bool
    outcome: str
    completed_at: datetime
