"""The tools of a decision from its opening to its end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field

from autotrace.models import (
    ApprovalRequest,
    ApprovalStatus,
    AutomationMode,
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
    InvalidParameterError,
    MaxBytes,
    MissingParameterError,
    Tool,
    ToolAnswer,
    ToolContext,
)

# --- what they take


TraceOfIt = Annotated[
    str | None,
    Field(
        description="The trace of the task in which this is decided, as trace_start returned it."
    ),
]
DecisionId = Annotated[str, Field(description="The decision, as decision_create returned it.")]


class _OneDecision(Arguments):
    decision_id: DecisionId


class _History(Arguments):
    decision_id: DecisionId
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
    trace_id: TraceOfIt = None


class _AddContext(Arguments):
    decision_id: DecisionId
    context: dict[str, Any] = Field(
        validation_alias=AliasChoices("context", "payload"),
        description="What is known and matters: an object with at least one member. It is kept "
        "as evidence; its event_id can be given to decision_evaluate as inputs_ref.",
    )
    summary: str | None = Field(default=None, description="The same in a sentence.")


class _Evaluate(Arguments):
    decision_id: DecisionId
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


class _RequestApproval(Arguments):
    decision_id: DecisionId
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


class _Close(Arguments):
    decision_id: DecisionId
    action: Literal["commit", "abort", "rollback"] = Field(
        description="commit: it was done. abort: it was not done. rollback: the same as abort."
    )
    summary: dict[str, Any] | None = Field(default=None, description="What came of it.")
    reason: str | None = Field(default=None, description="Why it ends so.")


# --- what they answer with


class OpenedDecision(ToolAnswer):
    """A decision that there is now."""

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


# --- what they do


def _create(desk: ToolContext, given: _Create, by: Principal) -> OpenedDecision:
    fields = given.model_dump(exclude={"actor", "trace_id"})
    opened = desk.decisions.of(by, given.trace_id).create(**fields, label=given.actor)
    return OpenedDecision.model_validate(opened, from_attributes=True)


def _get(desk: ToolContext, given: _OneDecision, by: Principal) -> _Standing:
    decision = desk.decisions.of(by).get(given.decision_id)
    return _Standing.model_validate(decision, from_attributes=True)


def _add_context(desk: ToolContext, given: _AddContext, by: Principal) -> _Added:
    event = desk.decisions.of(by).add_context(**given.model_dump())
    return _Added.model_validate(event, from_attributes=True)


def _evaluate(desk: ToolContext, given: _Evaluate, by: Principal) -> _Evaluated:
    if given.inputs is None and given.inputs_ref is None:
        raise MissingParameterError("inputs")
    event = desk.decisions.of(by).evaluate(**given.model_dump())
    return _Evaluated.model_validate(event, from_attributes=True)


def _request_approval(desk: ToolContext, given: _RequestApproval, by: Principal) -> _Requested:
    request = ApprovalRequest(
        title=given.title,
        message=given.message,
        expires_in_seconds=given.expires_in_seconds,
        require_rationale=given.require_rationale,
        route=given.approval_route_id,
    )
    approval = desk.decisions.of(by).request_approval(given.decision_id, request)
    delivery = approval.delivery or Delivery(status="pending")
    return _Requested(approval_id=approval.id, status=approval.status, delivery=delivery)


def _close(desk: ToolContext, given: _Close, by: Principal) -> _Closed:
    decision = desk.decisions.of(by).close(**given.model_dump(), by=by.agent)
    return _Closed.model_validate(decision, from_attributes=True)


def _trace(desk: ToolContext, given: _History, by: Principal) -> DecisionTrace:
    return desk.decisions.of(by).trace(given.decision_id)


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


def _receipt(desk: ToolContext, given: _OneDecision, by: Principal) -> Receipt:
    return desk.decisions.of(by).receipt(given.decision_id)


DECISION_TOOLS: Final[tuple[Tool[Any], ...]] = (
    Tool(
        name="decision_create",
        title="Open a decision",
        description="Open a decision before doing something that should be accountable or may need "
        "a person's approval. Returns the decision_id for decision_add_context (what you know), "
        "decision_evaluate (ask a policy), decision_request_approval (ask a person) and "
        "decision_close.",
        arguments=_Create,
        answer=OpenedDecision,
        run=_create,
    ),
    Tool(
        name="decision_get",
        title="Look at a decision",
        description="Return the current status of a decision. After decision_request_approval, "
        "call this every few seconds until the status is no longer needs_approval: approved means "
        "go on, aborted means do not (approval.status and approval.rationale say why).",
        arguments=_OneDecision,
        answer=_Standing,
        run=_get,
        changes=False,
    ),
    Tool(
        name="decision_add_context",
        title="Add context to a decision",
        description="Add facts to an open decision: what was looked at, what was found. Nothing "
        "that was added is ever changed. Returns the event_id.",
        arguments=_AddContext,
        answer=_Added,
        run=_add_context,
    ),
    Tool(
        name="decision_evaluate",
        title="Ask a policy",
        description="Ask a policy whether this may be done. allow: go on. requires_exception: ask "
        "for approval before you commit. deny: it cannot be committed (only mode override, "
        "approved with a rationale, gets past a denial).",
        arguments=_Evaluate,
        answer=_Evaluated,
        run=_evaluate,
    ),
    Tool(
        name="decision_request_approval",
        title="Ask a person for approval",
        description="Ask a person to approve this decision, which must be open. Its status is "
        "needs_approval until they answer: poll decision_get. You cannot approve it yourself.",
        arguments=_RequestApproval,
        answer=_Requested,
        run=_request_approval,
        repeatable=True,
    ),
    Tool(
        name="decision_close",
        title="End a decision",
        description="End a decision for good: commit once it was done, abort if it was not. "
        "Commit is refused while approval is waited for or a policy stands against it. Repeating "
        "the same call returns the same answer.",
        arguments=_Close,
        answer=_Closed,
        run=_close,
        destroys=True,
        repeatable=True,
    ),
    Tool(
        name="decision_trace",
        title="Read a decision's history",
        description="Return the whole decision with its events, oldest first: context, policy "
        "outcomes, requests and answers, each chained to the one before it by its hash.",
        arguments=_History,
        answer=DecisionTrace,
        run=_trace,
        fit=_fit_history,
        changes=False,
    ),
    Tool(
        name="decision_receipt",
        title="Get a decision's receipt",
        description="Return the signed receipt of how a closed decision ended (Ed25519 over the "
        "canonical JSON of receipt_data), which can be checked without this server.",
        arguments=_OneDecision,
        answer=Receipt,
        run=_receipt,
        changes=False,
    ),
)
