"""What autotrace answers with: pydantic models shared by the library, the CLI and the servers.

Field names and meanings follow the decision-trace contract; what it does not name is an addition.
Times are timezone-aware UTC and serialise as ISO 8601; durations are milliseconds.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    computed_field,
    field_serializer,
    model_serializer,
)

from autotrace.errors import InvalidArgumentError

TraceStatus = Literal["active", "completed", "interrupted"]
"""`interrupted`: the recording process died before the task ended."""

ToolStatus = Literal["success", "error", "timeout"]
"""The contract's: what is told of a call, and what is sent of one."""

CallStatus = Literal["success", "error", "timeout", "cancelled", "paused"]
"""`cancelled`: what awaited the call gave it up, and it has not failed. `paused`: it waits for a
person, or will be tried again."""

SENT_AS: Final[Mapping[CallStatus, ToolStatus]] = {
    "success": "success",
    "error": "error",
    "timeout": "timeout",
    "cancelled": "error",
    "paused": "success",
}
"""How each status is sent in JSON, where the contract has three: a cancelled call gave no result,
and a paused one did what it should."""

DecisionStatus = Literal["open", "needs_approval", "approved", "committed", "aborted"]

AutomationMode = Literal["propose", "approve", "override", "autonomous"]

PolicyOutcome = Literal["allow", "deny", "requires_exception"]

ApprovalStatus = Literal["pending", "approved", "rejected", "expired"]

DeliveryStatus = Literal["pending", "delivered", "failed"]

DecisionCategory = Literal[
    "architecture",
    "dependency",
    "schema",
    "api_design",
    "infra",
    "tradeoff",
    "convention",
    "other",
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ToolCall(_Model):
    """One call of a tool."""

    tool_call_id: str
    tool_name: str
    arguments: Any = None
    """The arguments by parameter name; None when capture was off."""
    result: Any = None
    """What it returned; of a generator that returned nothing, the list of what it yielded."""
    yielded: Any = None
    """The list of what a generator yielded that returned a result of its own."""
    error: str | None = None
    error_type: str | None = None
    duration_ms: int
    status: CallStatus
    """How it ended; in JSON one of the contract's `success`, `error` and `timeout`."""
    ended_by: str | None = None
    """The exception by which it was cancelled or paused: no failure of the tool."""
    memory_id: str | None = None
    parent_tool_call_id: str | None = None
    """The tool call inside which this one was made."""
    started_at: datetime
    ended_at: datetime

    @computed_field
    @property
    def ended_as(self) -> CallStatus:
        """How it ended, in JSON too: the contract has no `cancelled` and no `paused`."""
        return self.status

    @field_serializer("status", when_used="json")
    def _contract_status(self, status: CallStatus) -> ToolStatus:
        return SENT_AS[status]


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


class TraceLocation(NamedTuple):
    """Where in a trace a decision is opened."""

    trace_id: str | None = None
    otel: tuple[str, ...] | None = None
    """OpenTelemetry's trace and span id, in hex; then the agent in whose share of the trace it is,
    if that is not this machine's."""


NOWHERE: Final = TraceLocation()
"""Outside of any trace."""

_PUBLIC_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class ApprovalRequest:
    """What is asked of an approver.

    Args:
        title: In a few words.
        message: In more.
        expires_in_seconds: How long an answer is waited for; None: for ever.
        require_rationale: Whether the answer must give a reason.
        approvals_needed: How many different approvers must agree.
        route: Name of who is to be notified; None: the default.
        approver_keys: Public keys whose signed votes alone count; None: those of the setting
            `approver_keys`, and any vote counts if there are none.
        arguments: What is to be run, as the approver is shown it.
        hidden: Paths of what is hidden in the arguments.
        arguments_sha256: What the approval is bound to.

    Raises:
        InvalidArgumentError: A value is not allowed.
    """

    title: str | None = None
    message: str | None = None
    expires_in_seconds: float | None = None
    require_rationale: bool = False
    approvals_needed: int = 1
    route: str | None = None
    approver_keys: Sequence[str] | None = None
    arguments: Any = None
    hidden: tuple[str, ...] = ()
    arguments_sha256: str | None = None

    def __post_init__(self) -> None:
        seconds: Any = self.expires_in_seconds
        if seconds is not None and (not _is_number(seconds) or not 0 < seconds < 1e9):
            raise InvalidArgumentError("expires_in_seconds", seconds, "a number above 0")
        needed: Any = self.approvals_needed
        if not isinstance(needed, int) or not _is_number(needed) or not 1 <= needed <= 100:
            raise InvalidArgumentError("approvals_needed", needed, "a whole number from 1 to 100")
        if self.approver_keys is not None:
            object.__setattr__(self, "approver_keys", _public_keys(self.approver_keys))


def _public_keys(keys: Any) -> tuple[str, ...]:
    """Return keys in their one spelling, each once.

    Raises:
        InvalidArgumentError: One is not a public key, or there is none.
    """
    allowed = "a list of one or more public keys, as `autotrace approver init` prints them"
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise InvalidArgumentError("approver_keys", keys, allowed)
    spelled: dict[str, None] = {}
    for key in cast("Iterable[Any]", keys):
        try:
            raw = base64.b64decode(key, validate=True)
        except (TypeError, ValueError):  # binascii.Error is a ValueError
            raw = b""
        if len(raw) != _PUBLIC_KEY_BYTES:
            raise InvalidArgumentError("approver_keys", key, allowed)
        spelled[base64.b64encode(raw).decode("ascii")] = None
    if not spelled:
        raise InvalidArgumentError("approver_keys", [], allowed)
    return tuple(sorted(spelled))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Delivery(_Model):
    """How the notice of a request for approval went out."""

    status: DeliveryStatus
    note: str = ""


class Vote(_Model):
    """One approver's answer."""

    approver: str
    rationale: str | None = None
    at: datetime
    public_key: str | None = None
    """The key whose signature of this vote verifies; None: it is not signed, or does not verify."""


class SignedVote(_Model):
    """A signature of an answer to a request for approval, as REST takes it."""

    head: str
    """The head of the decision that was answered."""
    signature: str
    """Ed25519 over the vote's canonical JSON (RFC 8785), base64: see docs/guides/approve.md."""
    public_key: str
    """Base64 of the 32 bytes."""


class ApprovedTool(_Model):
    """The function that an approval lets run."""

    name: str
    module: str | None = None
    qualname: str | None = None
    source_sha256: str | None = None
    """None if Python has no code of it, as for a function written in C."""


class Approval(_Model):
    """A request for approval, and the answer to it."""

    id: str
    status: ApprovalStatus
    title: str | None = None
    message: str | None = None
    requester: str
    requested_at: datetime
    expires_at: datetime | None = None
    resolved_at: datetime | None = None
    approver: str | None = None
    """Who resolved it: the last of those needed."""
    rationale: str | None = None
    require_rationale: bool = False
    approvals_needed: int = 1
    votes: list[Vote] = Field(default_factory=list[Vote])
    approver_keys: list[str] = Field(default_factory=list[str])
    """Public keys with which a vote must be signed; empty: any vote counts."""
    route: str | None = None
    delivery: Delivery | None = None
    """None when nobody was to be notified."""
    arguments_sha256: str | None = None
    """What the approval of a tool call is bound to: see docs/guides/approve.md."""
    hidden: list[str] = Field(default_factory=list[str])
    """Paths of the arguments that run and are hidden from the approver."""
    tool: ApprovedTool | None = None
    """The function that runs."""


class Evaluation(_Model):
    """What a policy said about some inputs."""

    event_id: str
    policy_id: str
    version: str
    """SHA-256 of the policy's source."""
    outcome: PolicyOutcome
    rationale: dict[str, Any] = Field(default_factory=dict[str, Any])
    at: datetime


class Execution(_Model):
    """The one run that an approval allows."""

    status: Literal["claimed", "succeeded", "failed"]
    """`claimed` and nothing after it: it runs, or its process died; it is never run again."""
    tool_name: str
    arguments_sha256: str
    claimed_at: datetime
    claimed_by: str
    finished_at: datetime | None = None


class RejectedAlternative(_Model):
    """What was considered and not chosen."""

    option: str
    rejected_because: str = ""


class Decision(_Model):
    """A decision envelope as it stands."""

    decision_id: str
    intent: str
    status: DecisionStatus
    automation_mode: AutomationMode
    created_at: datetime
    approval_required: bool
    """True exactly while the status is `needs_approval`."""
    closed_at: datetime | None = None
    approval: Approval | None = None
    trace_id: str | None = None
    """The trace in which it was opened."""
    head: str = ""
    """Hash of the last event that changes what is to be approved; answers refer to it."""
    actor: str
    """Who asks: the agent; in the embedded library, the name that the program gives itself."""
    actor_label: str | None = None
    """What the caller of a server called itself. A label: it has no effect on who may answer."""
    agent: str
    """Whose it is: the agent of the key that opened it, over a server; else the actor."""
    instance: str | None = None
    version: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    key: str | None = None
    """The idempotency key under which it was opened."""
    evaluations: list[Evaluation] = Field(default_factory=list[Evaluation])
    execution: Execution | None = None
    reason: str | None = None
    """Why it was aborted."""
    summary: dict[str, Any] | None = None
    title: str | None = None
    category: DecisionCategory | None = None
    context: str | None = None
    decision: str | None = None
    rationale: str | None = None
    alternatives_considered: list[RejectedAlternative] = Field(
        default_factory=list[RejectedAlternative]
    )
    tags: list[str] = Field(default_factory=list[str])
    constraints: list[str] = Field(default_factory=list[str])
    consequences: list[str] = Field(default_factory=list[str])
    supersedes: str | None = None
    superseded_by: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `closed_at` out while it is not closed, as the contract has it."""
        fields: dict[str, Any] = serialize(self)
        if self.closed_at is None:
            fields.pop("closed_at", None)
        return fields


class DecisionEvent(BaseModel):
    """One event of a decision's history; further fields are what its type carries."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event_id: str
    type: str
    timestamp: datetime
    sequence: int
    by: str
    hash: str
    """SHA-256 of this event and the hash of the one before it."""
    erased: bool = False
    """Whether its content was erased since."""


class DecisionTrace(Decision):
    """A decision with its history, oldest event first."""

    events: list[DecisionEvent]


class Receipt(_Model):
    """A signed statement of how a decision ended."""

    decision_id: str
    status: DecisionStatus
    signature: str
    """Ed25519 over the canonical JSON (RFC 8785) of receipt_data; base64."""
    signed_at: datetime
    receipt_data: dict[str, Any]
    key_id: str
    public_key: str
    """Base64 of the 32 bytes."""


class Checkpoint(_Model):
    """A signed list of a store's decisions: the number of events and the head of each."""

    checkpoint_data: dict[str, Any]
    """`kind`, `store`, `created_at`, `decisions` by id (`decision_id`, `events`, `head`), and
    `left_out`: the ids of those whose history was damaged already."""
    signature: str
    """Ed25519 over the canonical JSON (RFC 8785) of checkpoint_data; base64."""
    key_id: str
    public_key: str
    """Base64 of the 32 bytes."""


class Verification(_Model):
    """What a check of a decision's history found."""

    decision_id: str
    ok: bool
    events: int
    erased_events: int = 0
    signed_votes: int = 0
    """Votes whose signature verifies."""
    first_bad_event: str | None = None
    problem: str | None = None
    receipt: Literal["valid", "unknown_key", "invalid", "none"] = "none"
    """`unknown_key`: it fits, and its key is neither this store's nor in `receipt_keys`: not ok."""


class FoundDecision(_Model):
    """A decision that a search found."""

    decision_id: str
    similarity: float | None = None
    """Cosine similarity of the query and the decision, 0 to 1; None when nothing was asked for."""
    decision: Decision


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
    recorded_by: str | None = None
    """The agent of the key that recorded it; None: a program on the store's machine did. `agent`
    is what the program called itself."""
    decisions: list[Decision] = Field(default_factory=list[Decision])
    """Decisions made while the task ran, oldest first, as they stand now."""
    decisions_error: str | None = None
    """Why the decisions could not be read just now, if they could not."""

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
    recorded_by: str | None = None
    """The agent of the key that recorded it; None: a program on the store's machine did."""
    rejected_decisions: list[str] = Field(default_factory=list[str])
    """Ids of decisions that a person rejected while the task ran: the first 50."""


class StartedTrace(_Model):
    """A trace that has just been started by a call from elsewhere."""

    trace_id: str
    task: str
    status: Literal["active"] = "active"
    created_at: datetime


class RecordedStep(_Model):
    """A step that was just told of."""

    step_id: str
    trace_id: str
    created_at: datetime


class RecordedToolCall(_Model):
    """A tool call that was just told of."""

    tool_call_id: str
    trace_id: str
    step_id: str | None = None
    """The step that was named; None: it belongs to the latest."""
    created_at: datetime


class CompletedTrace(_Model):
    """A trace that has just been completed by a call from elsewhere."""

    trace_id: str
    status: Literal["completed"] = "completed"
    success: bool
    outcome: str
    completed_at: datetime


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
    """What the program that recorded it called itself."""
    recorded_by: str | None = None
    """The agent of the key that recorded it; None: a program on the store's machine did."""
    rejected_decisions: list[str] = Field(default_factory=list[str])
    """Ids of decisions that a person rejected while the task ran: `decisions.get` says why."""


class ToolStats(_Model):
    """Statistics of one tool over every stored call of it."""

    tool_name: str
    call_count: int
    success_rate: float
    """Calls with status `success` divided by all that were neither cancelled nor paused, 0 to 1;
    1 if there are none."""
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
    """Calls that wait for a person, or for another try."""
    error_types: dict[str, int]
    """How often each exception class (or error type given) ended a call."""
    last_used_at: datetime


class ToolStatsPage(NamedTuple):
    """Statistics of tools, the most used first, and of the calls of all that come after them."""

    tools: list[ToolStats]
    others: ToolStats | None
    """Every call of tools after these, and of tools that are not counted by name."""
    left_out: int
    """How many tools that are counted by name come after these."""


class Health(_Model):
    """How recording does in this process."""

    configured: bool
    store: str | None = None
    spool: str | None = None
    backlog_bytes: int = 0
    """What waits in the spools of all processes of this machine."""
    counters: dict[str, int] = Field(default_factory=dict[str, int])
    """What was dropped, cut, redacted or failed, by name: see `docs/explanation/storage.md`."""
    last_error: str | None = None
    set_aside_records: int = 0
    """What the store refused, of all processes of this machine."""
    problems: list[str] = Field(default_factory=list[str])
    """What a person should see to, each with its fix."""
    notes: list[str] = Field(default_factory=list[str])
    """Facts that are no faults: which tracer provider gets the spans, and which one does not."""
