"""The state machine of a decision: pure functions over its events.

    open ── request_approval ──> needs_approval ── approve ──> approved
     └── commit | abort ──┐        └── reject | expire ──┐      └── commit | abort ──┐
                    committed, aborted               aborted             committed, aborted

`fold_events` derives the state. A command returns the events that follow from a state, none if it
has no effect, or raises. docs/guides/approve.md describes the rules; event_store.py settles races.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from autotrace import semconv
from autotrace.base.lookalikes import same_person
from autotrace.decision_requests import ApprovalAnswer, DecisionEnd
from autotrace.errors import (
    ApprovalRefused,
    DecisionStateError,
    InvalidArgumentError,
)
from autotrace.models import ApprovalStatus, AutomationMode, DecisionStatus, PolicyOutcome

CREATED: Final = "created"
CONTEXT_ADDED: Final = "context_added"
POLICY_EVALUATED: Final = "policy_evaluated"
APPROVAL_REQUESTED: Final = "approval_requested"
APPROVAL_DELIVERY: Final = "approval_delivery"
APPROVAL_GRANTED: Final = "approval_granted"
APPROVAL_REJECTED: Final = semconv.APPROVAL_REJECTED
APPROVAL_EXPIRED: Final = "approval_expired"
CLAIMED: Final = "claimed"
TOOL_CALLED: Final = "tool_called"
CLOSED: Final = "closed"
REFUSAL_TOLD: Final = "refusal_told"
CONTENT_ERASED: Final = "content_erased"

_KEEPS_HEAD: Final = frozenset(
    {
        *(APPROVAL_DELIVERY, APPROVAL_GRANTED, APPROVAL_REJECTED, APPROVAL_EXPIRED),
        *(CLAIMED, TOOL_CALLED, CLOSED, REFUSAL_TOLD),
    }
)
"""Event types that leave the subject of an approval as it is; every other type moves the head."""

MAX_EVENTS: Final = 1000
"""Limit of events, except for those that end a decision."""
TERMINAL: Final = ("committed", "aborted")


@dataclass(frozen=True)
class Draft:
    """An event to append."""

    type: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields for the rules, kept indefinitely."""
    content: Mapping[str, Any] | None = None
    """Texts of people and agents, which can be erased."""


@dataclass(frozen=True)
class Event:
    """An event that was appended."""

    sequence: int
    event_id: str
    type: str
    at_ns: int
    by: str
    facts: Mapping[str, Any]
    content: Mapping[str, Any] | None
    erased: bool = False
    """Whether its content was erased."""
    hash: str = ""
    """Hash of the event and, through `previous`, of all events before it."""


@dataclass
class CountedVote:
    """One approver's answer."""

    approver: str
    event: Event
    head: str
    """The head that the decision had when the vote was appended."""


@dataclass
class Request:
    """A request for approval."""

    event: Event
    status: ApprovalStatus = "pending"
    votes: list[CountedVote] = field(default_factory=list[CountedVote])
    resolved_by: Event | None = None
    delivery: Event | None = None

    @property
    def needed(self) -> int:
        """Number of approvers who must agree."""
        return int(self.event.facts["approvals_needed"])

    @property
    def approver_keys(self) -> Sequence[str]:
        """Public keys that must sign votes; none: any vote counts."""
        return self.event.facts.get("approver_keys") or ()

    @property
    def expires_at_ns(self) -> int | None:
        """Time at which the request expires unanswered."""
        seconds = self.event.facts["expires_in_seconds"]
        return None if seconds is None else self.event.at_ns + int(seconds * 1e9)


@dataclass
class State:
    """The state of a decision after its events."""

    decision_id: str
    events: Sequence[Event]
    status: DecisionStatus = "open"
    head: str = ""
    """Hash of the last event that changes the subject of an approval; answers refer to it."""
    request: Request | None = None
    claim: Event | None = None
    closed: Event | None = None
    """The event that ended the decision."""
    told: bool = False
    """Whether a call has reported the refusal."""
    evaluations: list[Event] = field(default_factory=list[Event])
    answers: list[CountedVote] = field(default_factory=list[CountedVote])
    """Every answer to a request, including those that no longer count."""

    @property
    def created(self) -> Event:
        """The first event."""
        return self.events[0]

    @property
    def mode(self) -> AutomationMode:
        """The automation mode."""
        return self.created.facts["automation_mode"]

    @property
    def actor(self) -> str:
        """Requester: the agent, over a server; in the library, the name that the program gives."""
        return self.created.facts["actor"]

    @property
    def agent(self) -> str:
        """Owner: the agent of the key that opened the decision. The actor, if no key did."""
        return self.created.facts.get("agent", self.actor)

    @property
    def tool(self) -> Mapping[str, Any] | None:
        """The tool call: `name` and `arguments_sha256`; None without a call."""
        return self.created.facts.get("tool")

    @property
    def arguments_sha256(self) -> str | None:
        """Hash to which the approval of the call is bound; None without a call."""
        return None if self.tool is None else self.tool["arguments_sha256"]

    @property
    def is_closed(self) -> bool:
        """Whether the state is final."""
        return self.status in TERMINAL


def fold_events(decision_id: str, events: Sequence[Event]) -> State:
    """Return the state after events, of which there is at least one."""
    state = State(decision_id, events)
    for event in events:
        if event.type not in _KEEPS_HEAD:
            _move_head(state, event)
        _apply(state, event)
    return state


def _move_head(state: State, event: Event) -> None:
    """Set the head; an approval of an earlier head no longer counts towards a quorum."""
    state.head = event.hash
    request = state.request
    if request is not None and request.status == "pending":
        # Earlier versions wrote votes without a head.
        request.votes = [vote for vote in request.votes if "head" not in vote.event.facts]


def _apply(state: State, event: Event) -> None:
    request = state.request
    if event.type in (APPROVAL_GRANTED, APPROVAL_REJECTED) and request is not None:
        state.answers.append(CountedVote(event.facts["approver"], event, state.head))
    if event.type == POLICY_EVALUATED:
        state.evaluations.append(event)
    elif event.type == APPROVAL_REQUESTED:
        state.request, state.status = Request(event), "needs_approval"
    elif event.type == APPROVAL_GRANTED and request is not None:
        request.votes.append(state.answers[-1])
        if len(request.votes) >= request.needed:
            request.status, request.resolved_by, state.status = "approved", event, "approved"
    elif event.type in (APPROVAL_REJECTED, APPROVAL_EXPIRED) and request is not None:
        request.status = "rejected" if event.type == APPROVAL_REJECTED else "expired"
        request.resolved_by = state.closed = event
        state.status = "aborted"
    elif event.type == APPROVAL_DELIVERY and request is not None:
        request.delivery = event
    elif event.type == CLAIMED:
        state.claim = event
    elif event.type == REFUSAL_TOLD:
        state.told = True
    elif event.type == CLOSED:
        state.closed = event
        state.status = "committed" if event.facts["action"] == "commit" else "aborted"


# --- commands


def expire(state: State, now_ns: int) -> list[Draft]:
    """Return the expiry of a request, or of an unused approval of a tool call, if it is due."""
    request = state.request
    if request is None or request.expires_at_ns is None or now_ns < request.expires_at_ns:
        return []
    unused = state.status == "approved" and state.tool is not None and state.claim is None
    return [Draft(APPROVAL_EXPIRED)] if state.status == "needs_approval" or unused else []


def add(state: State, draft: Draft) -> list[Draft]:
    """Add context, an evaluation or a tool call.

    Raises:
        DecisionStateError: The decision is closed, or has too many events.
    """
    what = draft.type.replace("_", " ")
    if state.is_closed:
        raise DecisionStateError(state.decision_id, state.status, what, "it is closed")
    if len(state.events) >= MAX_EVENTS:
        raise DecisionStateError(
            state.decision_id, state.status, what, f"it has {MAX_EVENTS} events, which is the limit"
        )
    return [draft]


def add_once(state: State, draft: Draft) -> list[Draft]:
    """Add context or an evaluation; return no event if approval was requested after the same one.

    An agent that starts again may thus repeat itself without moving the head, which would void the
    answer.

    Raises:
        DecisionStateError: The decision is closed, or has too many events.
    """
    drafts = add(state, draft)
    is_asked = state.status in ("approved", "needs_approval")
    return [] if is_asked and recorded(state, draft) else drafts


def recorded(state: State, draft: Draft) -> Event | None:
    """Return the latest event equal to a draft."""
    expected = (draft.type, dict(draft.facts), dict(draft.content or {}))
    for event in reversed(state.events):
        if (event.type, dict(event.facts), dict(event.content or {})) == expected:
            return event
    return None


def request_approval(state: State, draft: Draft) -> list[Draft]:
    """Request approval; return no event while an earlier request waits.

    Raises:
        DecisionStateError: The decision is not open.
    """
    if state.status == "needs_approval":
        return []
    if state.status != "open":
        reason = "approval can be requested once, while it is open"
        raise DecisionStateError(state.decision_id, state.status, "request_approval", reason)
    return [draft]


def resolve(state: State, answer: ApprovalAnswer) -> list[Draft]:
    """Answer a request for approval; return no event if this approver has approved before.

    Approvers whose names look alike (`same_person`) are one approver.

    Raises:
        DecisionStateError: No request waits, or the head has moved.
        ApprovalRefused: The approver is the requester.
        InvalidArgumentError: The request requires a rationale, and the answer has none.
    """
    approver, rationale = answer.approver, answer.rationale
    request = state.request
    if request is None or request.status != "pending" or state.status != "needs_approval":
        reason = _why_unresolvable(state)
        raise DecisionStateError(state.decision_id, state.status, answer.operation, reason)
    _check_head(state, request, answer)
    # Not the actor: over a server, that was a label which the caller chose.
    requesters = (state.agent, request.event.facts["requester"])
    if any(same_person(approver, name) for name in requesters):
        why = (
            f"{approver!r} is the requester, or a name that looks like it, and cannot answer; "
            "another approver must"
        )
        raise ApprovalRefused(state.decision_id, "own", why)
    if request.event.facts["require_rationale"] and not (rationale or "").strip():
        raise InvalidArgumentError("rationale", rationale, "given: this request requires a reason")
    if answer.granted and any(same_person(approver, vote.approver) for vote in request.votes):
        return []  # a repeated yes is not another person's
    facts = {
        "approver": approver,
        "has_rationale": bool((rationale or "").strip()),
        "head": state.head,
    }
    kind = APPROVAL_GRANTED if answer.granted else APPROVAL_REJECTED
    return [Draft(kind, facts, {"rationale": rationale})]


def _check_head(state: State, request: Request, answer: ApprovalAnswer) -> None:
    """Raise DecisionStateError unless the answer refers to the current head."""
    shown = answer.head
    if shown is None:  # a rejection needs no second look
        shown = request.event.hash if answer.granted else state.head
    if shown != state.head:
        given = (
            ""
            if answer.head is not None
            else ", which is that of the request because none was given"
        )
        reason = (
            f"the answer refers to the head {shown!r}{given}, and the head is now {state.head!r}: "
            "look at the decision again and answer with the head that it shows"
        )
        raise DecisionStateError(state.decision_id, state.status, answer.operation, reason)


def _why_unresolvable(state: State) -> str:
    request = state.request
    if request is None:
        return "nobody has requested approval"
    if request.status == "pending" or request.resolved_by is None:
        return "it is closed"  # aborted while it waited
    if request.status == "expired":
        return "the request has expired"
    return f"{request.resolved_by.facts['approver']!r} has {request.status} it"


def close(state: State, end: DecisionEnd, *, enforce_modes: bool = False) -> list[Draft]:
    """End a decision; return no event if the same call has ended it already.

    Args:
        state: The decision.
        end: The end; its action is `commit` or `abort`.
        enforce_modes: Whether `propose` and `approve` need an approval before a commit.

    Raises:
        DecisionStateError: The state does not allow it, or another call has ended it.
    """
    action = end.action
    content = {
        name: value
        for name, value in (("summary", end.summary), ("reason", end.reason))
        if value is not None
    }
    if state.closed is not None:
        if _is_same_end(state.closed, action, content):
            return []
        reason = "it has ended already, and not by this call"
        raise DecisionStateError(state.decision_id, state.status, action, reason)
    if action == "commit":
        held = obstacle(state, enforce_modes=enforce_modes)
        if held is not None:
            raise DecisionStateError(state.decision_id, state.status, action, held)
    calls = [Draft(TOOL_CALLED, dict(call)) for call in end.tool_calls]
    return [*calls, Draft(CLOSED, {"action": action}, content or None)]


def _is_same_end(closed: Event, action: str, content: Mapping[str, Any]) -> bool:
    if closed.type != CLOSED or closed.facts["action"] != action:
        return False
    return closed.erased or dict(closed.content or {}) == dict(content)


def obstacle(state: State, *, enforce_modes: bool = False) -> str | None:
    """Return the reason for which a decision cannot be committed; None without one."""
    if state.status == "needs_approval":
        return "it waits for approval"
    approval = state.request.resolved_by if state.request and state.status == "approved" else None
    for evaluation in state.evaluations:
        outcome: PolicyOutcome = evaluation.facts["outcome"]
        later = approval is not None and approval.sequence > evaluation.sequence
        policy = evaluation.facts["policy_id"]
        if outcome == "requires_exception" and not later:
            return f"the policy {policy!r} requires an exception: an approval after it"
        if outcome == "deny" and not (later and state.mode == "override" and _reasoned(state)):
            return (
                f"the policy {policy!r} denies it: only mode 'override', approved with a rationale "
                "after it, overrides it"
            )
    if enforce_modes and state.mode in ("propose", "approve") and state.status != "approved":
        return f"mode {state.mode!r} needs an approval (setting enforce_modes)"
    return None


def _reasoned(state: State) -> bool:
    votes = state.request.votes if state.request else []
    return bool(votes) and all(vote.event.facts["has_rationale"] for vote in votes)
