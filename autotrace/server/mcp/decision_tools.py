"""The tools of decisions: open, approve, close; record and find."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field

from autotrace.decision_requests import DecisionRequest
from autotrace.models import (
    ApprovalRequest,
    ApprovalStatus,
    AutomationMode,
    Decision,
    DecisionCategory,
    DecisionStatus,
    DecisionTrace,
    Delivery,
    PolicyOutcome,
    Receipt,
)
from autotrace.server.auth.principal import Principal
from autotrace.server.mcp.response_limits import DEFAULT_MAX_BYTES, bounded
from autotrace.server.mcp.tool import (
    Arguments,
    Filters,
    InvalidParameterError,
    MaxBytes,
    MissingParameterError,
    Tool,
    ToolAnswer,
    tool,
)
from autotrace.server.tenants import Tenant

# --- arguments


_TraceId = Annotated[
    str | None,
    Field(
        description="The trace of the task in which this is decided, as trace_start returned it."
    ),
]
_DecisionId = Annotated[str, Field(description="The decision, as decision_create returned it.")]


class _OneDecision(Arguments):
    decision_id: _DecisionId


class _History(_OneDecision):
    after: str | None = Field(
        default=None,
        description="The last event_id of the answer before, to get the events that follow.",
    )
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES


class _Create(Arguments):
    intent: str = Field(
        description="What is to be decided, as a dot-separated label: customer.order.create."
    )
    automation_mode: AutomationMode = Field(
        description="propose: a person may be asked. approve: a person is asked. override: a "
        "person may let it pass against a policy. autonomous: nobody is asked."
    )
    actor: str | None = Field(
        default=None,
        description="A label. Who asks is the agent of the API key.",
    )
    instance: str | None = Field(default=None, description="Which run of the actor this is.")
    version: str | None = Field(default=None, description="Which version of the actor this is.")
    metadata: dict[str, Any] | None = Field(
        default=None, description="Anything to be kept with the decision."
    )
    trace_id: _TraceId = None


class _AddContext(_OneDecision):
    context: dict[str, Any] = Field(
        validation_alias=AliasChoices("context", "payload"),
        description="What is known and matters: an object with at least one member. It is kept "
        "as evidence; its event_id can be given to decision_evaluate as inputs_ref.",
    )
    summary: str | None = Field(default=None, description="The same in a sentence.")


class _Evaluate(_OneDecision):
    policy_id: str = Field(description="A policy that is registered with the server.")
    inputs: dict[str, Any] | None = Field(
        default=None,
        description="What the policy looks at. Required unless inputs_ref is given. "
        "`principal` and `entities` are refused: the agent of the API key is who asks.",
    )
    inputs_ref: str | None = Field(
        default=None,
        description="In place of inputs: the event_id of an earlier event of this decision, "
        "whose context or inputs are looked at.",
    )


class _RequestApproval(_OneDecision):
    title: str | None = Field(default=None, description="What is asked for, in a few words.")
    message: str | None = Field(
        default=None, description="What the approver must know to answer it."
    )
    approval_route_id: str | None = Field(
        default=None, description="Who is notified. Default: the server's default route."
    )
    require_rationale: bool = Field(
        default=False, description="Whether the answer must give a reason."
    )
    expires_in_seconds: float | None = Field(
        default=None,
        description="After how long without an answer it ends as aborted. Default: never.",
    )


class _Close(_OneDecision):
    action: Literal["commit", "abort", "rollback"] = Field(
        description="commit: it was done. abort: it was not done. rollback: the same as abort."
    )
    summary: dict[str, Any] | None = Field(default=None, description="What came of it.")
    reason: str | None = Field(default=None, description="Why it ends so.")


class _Alternative(Arguments):
    option: str = Field(description="What was considered.")
    rejected_because: str = Field(default="", description="Why it was not chosen.")


class _Record(Arguments):
    title: str = Field(description="The decision in a few words.")
    category: DecisionCategory = Field(description="What it is about.")
    context: str = Field(description="What made a decision necessary.")
    decision: str = Field(description="What was decided.")
    rationale: str = Field(description="Why.")
    alternatives_considered: list[_Alternative] = Field(
        default_factory=list[_Alternative], description="What else was considered."
    )
    tags: list[str] = Field(default_factory=list[str], description="Labels to search by.")
    constraints: list[str] = Field(
        default_factory=list[str], description="What limited the choice."
    )
    consequences: list[str] = Field(default_factory=list[str], description="What follows from it.")
    supersedes: str | None = Field(
        default=None, description="The decision_id of the decision that this one replaces."
    )
    trace_id: _TraceId = None


class _Search(Filters):
    query: str | None = Field(
        default=None,
        description="What is looked for, in words; decisions that mean something similar come "
        "first. Without it the newest come first.",
    )
    category: DecisionCategory | None = Field(default=None, description="Only this category.")
    tags: list[str] = Field(
        default_factory=list[str], description="Only decisions that have every one of these tags."
    )
    status: DecisionStatus | None = Field(default=None, description="Only this status.")
    limit: int = Field(default=20, ge=1, le=100, description="How many at most.")
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES


# --- answers


class _Opened(ToolAnswer):
    """A decision that was opened or recorded."""

    decision_id: str
    status: DecisionStatus
    created_at: datetime


class _Answered(ToolAnswer):
    """A request for approval, and the answer to it."""

    id: str
    status: ApprovalStatus
    title: str | None = None
    message: str | None = None
    requested_at: datetime
    expires_at: datetime | None = None
    resolved_at: datetime | None = None
    approver: str | None = None
    rationale: str | None = None
    arguments_sha256: str | None = None
    hidden: list[str] = Field(default_factory=list[str])


class _Standing(ToolAnswer):
    decision_id: str
    intent: str
    status: DecisionStatus
    automation_mode: AutomationMode
    created_at: datetime
    approval_required: bool = Field(description="True exactly while the status is needs_approval.")
    closed_at: datetime | None = None
    approval: _Answered | None = None
    trace_id: str | None = None


class _Added(ToolAnswer):
    event_id: str
    timestamp: datetime


class _Evaluated(ToolAnswer):
    event_id: str
    policy_id: str
    outcome: PolicyOutcome
    rationale: dict[str, Any]
    version: str = Field(description="SHA-256 of the policy's source.")


class _Requested(ToolAnswer):
    approval_id: str
    status: ApprovalStatus
    delivery: Delivery


class _Closed(ToolAnswer):
    decision_id: str
    status: DecisionStatus
    closed_at: datetime


class _Found(Decision):
    similarity: float | None = Field(
        default=None, description="Cosine similarity to the query, 0 to 1."
    )


class _FoundDecisions(ToolAnswer):
    decisions: list[_Found]
    count: int


# --- tools


@tool(
    "Open a decision",
    "Open a decision before doing something that should be accountable or may need "
    "a person's approval. Returns the decision_id for decision_add_context (what you know), "
    "decision_evaluate (ask a policy), decision_request_approval (ask a person) and "
    "decision_close.",
)
def _decision_create(tenant: Tenant, given: _Create, by: Principal) -> _Opened:
    fields = given.model_dump(exclude={"actor", "trace_id"})
    request = DecisionRequest(**fields, label=given.actor)
    opened = tenant.decisions(by, given.trace_id).create(request)
    return _Opened.model_validate(opened, from_attributes=True)


@tool(
    "Look at a decision",
    "Return the current status of a decision. After decision_request_approval, "
    "call this every few seconds until the status is no longer needs_approval: approved means "
    "go on, aborted means do not (approval.status and approval.rationale say why).",
    changes=False,
)
def _decision_get(tenant: Tenant, given: _OneDecision, by: Principal) -> _Standing:
    decision = tenant.decisions(by).get(given.decision_id)
    return _Standing.model_validate(decision, from_attributes=True)


@tool(
    "Add context to a decision",
    "Add facts to an open decision: what was looked at, what was found. Nothing "
    "that was added is ever changed. Returns the event_id.",
)
def _decision_add_context(tenant: Tenant, given: _AddContext, by: Principal) -> _Added:
    event = tenant.decisions(by).add_context(**given.model_dump())
    return _Added.model_validate(event, from_attributes=True)


@tool(
    "Ask a policy",
    "Ask a policy whether this may be done. allow: go on. requires_exception: ask "
    "for approval before you commit. deny: it cannot be committed (only mode override, "
    "approved with a rationale, gets past a denial).",
)
def _decision_evaluate(tenant: Tenant, given: _Evaluate, by: Principal) -> _Evaluated:
    if given.inputs is None and given.inputs_ref is None:
        raise MissingParameterError("inputs")
    event = tenant.decisions(by).evaluate(**given.model_dump())
    return _Evaluated.model_validate(event, from_attributes=True)


@tool(
    "Ask a person for approval",
    "Ask a person to approve this decision, which must be open. Its status is "
    "needs_approval until they answer: poll decision_get. You cannot approve it yourself.",
    repeatable=True,
)
def _decision_request_approval(
    tenant: Tenant, given: _RequestApproval, by: Principal
) -> _Requested:
    request = ApprovalRequest(
        title=given.title,
        message=given.message,
        expires_in_seconds=given.expires_in_seconds,
        require_rationale=given.require_rationale,
        route=given.approval_route_id,
    )
    approval = tenant.decisions(by).request_approval(given.decision_id, request)
    delivery = approval.delivery or Delivery(status="pending")
    return _Requested(approval_id=approval.id, status=approval.status, delivery=delivery)


@tool(
    "End a decision",
    "End a decision for good: commit once it was done, abort if it was not. "
    "Commit is refused while approval is waited for or a policy stands against it. Repeating "
    "the same call returns the same answer.",
    destroys=True,
    repeatable=True,
)
def _decision_close(tenant: Tenant, given: _Close, by: Principal) -> _Closed:
    decision = tenant.decisions(by).close(**given.model_dump(), by=by.agent)
    return _Closed.model_validate(decision, from_attributes=True)


def _fit_history(answer: dict[str, Any], given: _History) -> dict[str, Any]:
    events: list[dict[str, Any]] = answer["events"]
    if given.after is not None:
        places = {event["event_id"]: place for place, event in enumerate(events)}
        if given.after not in places:
            allowed = "it must be an event_id of this decision"
            raise InvalidParameterError("after", given.after, allowed)
        events = events[places[given.after] + 1 :]

    def rest(shown: int) -> str:
        last = events[shown - 1]["event_id"] if shown else given.after
        return f"call decision_trace with after={last!r}"

    return bounded(answer | {"events": events}, "events", given.max_bytes, rest)


@tool(
    "Read a decision's history",
    "Return the whole decision with its events, oldest first: context, policy "
    "outcomes, requests and answers, each chained to the one before it by its hash.",
    fit=_fit_history,
    changes=False,
)
def _decision_trace(tenant: Tenant, given: _History, by: Principal) -> DecisionTrace:
    return tenant.decisions(by).trace(given.decision_id)


@tool(
    "Get a decision's receipt",
    "Return the signed receipt of how a closed decision ended (Ed25519 over the "
    "canonical JSON of receipt_data), which can be checked without this server.",
    changes=False,
)
def _decision_receipt(tenant: Tenant, given: _OneDecision, by: Principal) -> Receipt:
    return tenant.decisions(by).receipt(given.decision_id)


@tool(
    "Record a decision that was made",
    "Record a decision that has been made already, such as a choice of design, "
    "with its context, reason and alternatives, so that others find it with decision_search. "
    "One call creates, fills and commits it. Search first; name what it replaces in "
    "supersedes.",
)
def _decision_record(tenant: Tenant, given: _Record, by: Principal) -> _Opened:
    decisions = tenant.decisions(by, given.trace_id)
    recorded = decisions.record(**given.model_dump(exclude={"trace_id"}))
    return _Opened.model_validate(recorded, from_attributes=True)


def _fit_search(answer: dict[str, Any], given: _Search) -> dict[str, Any]:
    rest = "ask with a larger max_bytes, or for something narrower"
    return bounded(answer, "decisions", given.max_bytes, lambda _: rest)


@tool(
    "Find earlier decisions",
    "Find earlier decisions by meaning, before deciding something that may have "
    "been decided already. Heed superseded_by: the decision named there is the current one.",
    fit=_fit_search,
    changes=False,
)
def _decision_search(tenant: Tenant, given: _Search, by: Principal) -> _FoundDecisions:
    if given.query is not None:
        tenant.await_decisions(by)
    found = tenant.decisions(by).search(**given.model_dump(exclude={"max_bytes"}))
    decisions = [_Found(**dict(item.decision), similarity=item.similarity) for item in found]
    return _FoundDecisions(decisions=decisions, count=len(decisions))


DECISION_TOOLS: Final[tuple[Tool[Any], ...]] = (
    _decision_create,
    _decision_get,
    _decision_add_context,
    _decision_evaluate,
    _decision_request_approval,
    _decision_close,
    _decision_trace,
    _decision_receipt,
    _decision_record,
    _decision_search,
)
