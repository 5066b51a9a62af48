"""Decisions, their approvals and their history."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from autotrace.models.base import Model

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


class TraceLocation(NamedTuple):
    """Position in a trace at which a decision is opened."""

    trace_id: str | None = None
    otel: tuple[str, ...] | None = None
    """OpenTelemetry trace id and span id in hex, then the agent that owns this share of the trace
    if the share was not recorded on this machine."""


NOWHERE: Final = TraceLocation()
"""Location of a decision that belongs to no trace."""


class Delivery(Model):
    """Delivery of the notice about a request for approval."""

    status: DeliveryStatus
    note: str = ""


class Vote(Model):
    """Answer of one approver."""

    approver: str
    rationale: str | None = None
    at: datetime
    public_key: str | None = None
    """Key that verifies the signature of this vote; None: not signed, or not valid."""


class SignedVote(Model):
    """Signature of an answer to a request for approval, in the form of REST requests."""

    head: str
    """Head of the answered decision."""
    signature: str
    """Ed25519 over the vote's canonical JSON (RFC 8785), base64: see docs/guides/approve.md."""
    public_key: str
    """Base64 of the 32 bytes."""


class ApprovedTool(Model):
    """Function that an approval allows to run."""

    name: str
    module: str | None = None
    qualname: str | None = None
    source_sha256: str | None = None
    """None for a function without Python code, such as one written in C."""


class Approval(Model):
    """Request for approval, and its answer."""

    id: str
    status: ApprovalStatus
    title: str | None = None
    message: str | None = None
    requester: str
    requested_at: datetime
    expires_at: datetime | None = None
    resolved_at: datetime | None = None
    approver: str | None = None
    """Approver whose vote resolved the request."""
    rationale: str | None = None
    require_rationale: bool = False
    approvals_needed: int = 1
    votes: list[Vote] = Field(default_factory=list[Vote])
    approver_keys: list[str] = Field(default_factory=list[str])
    """Public keys; only votes signed with one of them count. Empty: every vote counts."""
    route: str | None = None
    delivery: Delivery | None = None
    """None without an approval route."""
    arguments_sha256: str | None = None
    """Hash of the arguments that the approval is valid for: see docs/guides/approve.md."""
    hidden: list[str] = Field(default_factory=list[str])
    """Paths of the arguments that the approver does not see."""
    tool: ApprovedTool | None = None
    """Function that runs after the approval."""


class Evaluation(Model):
    """Outcome of a policy for given inputs."""

    event_id: str
    policy_id: str
    version: str
    """SHA-256 of the policy's source."""
    outcome: PolicyOutcome
    rationale: dict[str, Any] = Field(default_factory=dict[str, Any])
    at: datetime


class Execution(Model):
    """The single run that an approval allows."""

    status: Literal["claimed", "succeeded", "failed"]
    """`claimed`: the call is running, or its process died. A claimed call is never run again."""
    tool_name: str
    arguments_sha256: str
    claimed_at: datetime
    claimed_by: str
    finished_at: datetime | None = None


class RejectedAlternative(Model):
    """Option that was considered and not chosen."""

    option: str
    rejected_because: str = ""


class Decision(Model):
    """Current state of a decision envelope."""

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
    """Trace in which the decision was opened."""
    head: str = ""
    """Hash of the last event that changes the subject of the approval; answers refer to it."""
    actor: str
    """Requester: the agent, or in the embedded library the name that the program gives itself."""
    actor_label: str | None = None
    """Name that a caller of the server gave for itself. It has no effect on permissions."""
    agent: str
    """Owner: on a server the agent of the key that opened the decision, otherwise the actor."""
    instance: str | None = None
    version: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    key: str | None = None
    """Idempotency key of the decision."""
    evaluations: list[Evaluation] = Field(default_factory=list[Evaluation])
    execution: Execution | None = None
    reason: str | None = None
    """Reason of an abort."""
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
        """Omit `closed_at` of an open decision, as the decision-trace contract requires."""
        fields: dict[str, Any] = serialize(self)
        if self.closed_at is None:
            fields.pop("closed_at", None)
        return fields


class DecisionEvent(BaseModel):
    """Event in the history of a decision; its type defines further fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event_id: str
    type: str
    timestamp: datetime
    sequence: int
    by: str
    hash: str
    """SHA-256 of this event and the hash of the previous event."""
    erased: bool = False
    """Whether the content of this event was erased."""


class DecisionTrace(Decision):
    """Decision with its history, oldest event first."""

    events: list[DecisionEvent]


class FoundDecision(Model):
    """Decision found by a search."""

    decision_id: str
    similarity: float | None = None
    """Cosine similarity of the query and the decision, 0 to 1; None for a search without query."""
    decision: Decision
