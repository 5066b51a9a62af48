"""The state machine of a decision: pure functions over its events.

    open ── request_approval ──> needs_approval ── approve ──> approved
     │                             │  reject / expire             │
     └──── commit | abort          └──> aborted                   └── commit | abort
                                                                   terminal: committed, aborted

`fold_events` makes the state from the events; each command looks at a state and returns the events
that follow from it, none if there is nothing left to do, or raises and thereby changes nothing. Who
wins when several race is settled by whose event is appended first (store/decision_log.py); the
others look again at the state that the winner left.

What a policy has held against a decision stays held against it: `requires_exception` until an
approval that comes later, `deny` for good, unless the mode is `override` and an approval that comes
later gives a rationale. Other terms are another decision.

A request for approval ends at its time. It is looked at by whoever reads or changes the decision
(`expire`), and then becomes an event like any other, so that all agree whether the answer or the
end came first. The same holds for an approval of a tool call that nobody has used by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from autotrace import semconv
from autotrace.base.lookalikes import same_person
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

_AFTER_THE_QUESTION: Final = frozenset(
    {
        *(APPROVAL_DELIVERY, APPROVAL_GRANTED, APPROVAL_REJECTED, APPROVAL_EXPIRED),
        *(CLAIMED, TOOL_CALLED, CLOSED, REFUSAL_TOLD),
    }
)
"""Event types that do not change what is to be approved; every other type moves the head."""

MAX_EVENTS: Final = 1000
"""How many events a decision may have, but for those that end it."""
TERMINAL: Final = ("committed", "aborted")


@dataclass(frozen=True)
class Draft:
    """An event that is to be appended."""

    type: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the rules look at, kept for ever."""
    content: Mapping[str, Any] | None = None
    """What people and agents wrote, which can be erased."""


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
    """Whether it had content."""
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
        """How many approvers must agree."""
        return int(self.event.facts["approvals_needed"])

    @property
    def approver_keys(self) -> Sequence[str]:
        """Return the public keys with which votes are to be signed; none: any vote counts."""
        return self.event.facts.get("approver_keys") or ()

    @property
    def expires_at_ns(self) -> int | None:
        """When it ends unanswered."""
        seconds = self.event.facts["expires_in_seconds"]
        return None if seconds is None else self.event.at_ns + int(seconds * 1e9)


@dataclass
class State:
    """A decision as its events have made it."""

    decision_id: str
    events: Sequence[Event]
    status: DecisionStatus = "open"
    head: str = ""
    """Hash of the last event that changes what is to be approved: what an answer refers to."""
    request: Request | None = None
    claim: Event | None = None
    closed: Event | None = None
    """The event that ended it."""
    told: bool = False
    """Whether the refusal has been told to who asked."""
    evaluations: list[Event] = field(default_factory=list[Event])
    answers: list[CountedVote] = field(default_factory=list[CountedVote])
    """Every answer to a request, also those that count no longer."""

    @property
    def created(self) -> Event:
        """The first event."""
        return self.events[0]

    @property
    def mode(self) -> AutomationMode:
        """How much may be done unasked."""
        return self.created.facts["automation_mode"]

    @property
    def actor(self) -> str:
        """Who asks: the agent, over a server; in the library, the name that the program gives."""
        return self.created.facts["actor"]

    @property
    def agent(self) -> str:
        """Whose it is: the agent of the key that opened it. The actor, if no key did."""
        return self.created.facts.get("agent", self.actor)

    @property
    def tool(self) -> Mapping[str, Any] | None:
        """The call that is to be approved: `name` and `arguments_sha256`; None for no call."""
        return self.created.facts.get("tool")

    @property
    def arguments_sha256(self) -> str | None:
        """What the approval of the call is bound to; None for no call."""
        return None if self.tool is None else self.tool["arguments_sha256"]

    @property
    def is_closed(self) -> bool:
        """Whether its state is final."""
        return self.status in TERMINAL


def fold_events(decision_id: str, events: Sequence[Event]) -> State:
    """Make the state that events lead to.

    Args:
        decision_id: The decision.
        events: Its events from the first on; at least one.
    """
    state = State(decision_id, events)
    for event in events:
        if event.type not in _AFTER_THE_QUESTION:
            _move_head(state, event)
        _apply(state, event)
    return state


def _move_head(state: State, event: Event) -> None:
    """Set the head; a yes to an earlier head no longer counts towards a quorum."""
    state.head = event.hash
    request = state.request
    if request is not None and request.status == "pending":
        # A vote without a head was written before votes named one.
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
    """Return the end of a request, or of an unused approval of a tool call, whose time is over."""
    request = state.request
    if request is None or request.expires_at_ns is None or now_ns < request.expires_at_ns:
        return []
    unused = state.status == "approved" and state.tool is not None and state.claim is None
    return [Draft(APPROVAL_EXPIRED)] if state.status == "needs_approval" or unused else []


def add(state: State, draft: Draft) -> list[Draft]:
    """Add something to a decision that is not closed: context, an evaluation, a tool call.

    Raises:
        DecisionStateError: It is closed, or has too many events.
    """
    what = draft.type.replace("_", " ")
    if state.is_closed:
        raise DecisionStateError(state.decision_id, state.status, what, "it is closed for good")
    if len(state.events) >= MAX_EVENTS:
        raise DecisionStateError(
            state.decision_id, state.status, what, f"it has {MAX_EVENTS} events, which is the limit"
        )
    return [draft]


def add_once(state: State, draft: Draft) -> list[Draft]:
    """Add context or an evaluation; nothing is left to do if the same was recorded and then asked.

    So an agent that starts again, and finds its decision asked about or approved meanwhile, may
    say the same again without moving the head, which would void the answer.

    Raises:
        DecisionStateError: It is closed, or has too many events.
    """
    drafts = add(state, draft)
    is_asked = state.status in ("approved", "needs_approval")
    return [] if is_asked and recorded(state, draft) else drafts


def recorded(state: State, draft: Draft) -> Event | None:
    """Return the latest event that says what a draft says."""
    said = (draft.type, dict(draft.facts), dict(draft.content or {}))
    for event in reversed(state.events):
        if (event.type, dict(event.facts), dict(event.content or {})) == said:
            return event
    return None


def request_approval(state: State, draft: Draft) -> list[Draft]:
    """Ask for approval; nothing is left to do while an earlier request waits for its answer.

    Raises:
        DecisionStateError: It is not open.
    """
    if state.status == "needs_approval":
        return []
    if state.status != "open":
        reason = "approval is asked for once, while it is open"
        raise DecisionStateError(state.decision_id, state.status, "request_approval", reason)
    return [draft]


def resolve(
    state: State,
    *,
    granted: bool,
    approver: str,
    rationale: str | None,
    head: str | None = None,
) -> list[Draft]:
    """Answer a request for approval; nothing is left to do if this approver has said yes before.

    Approvers whose names look alike (`same_person`) are one approver.

    Args:
        state: The decision.
        granted: Whether the answer is yes.
        approver: Who answers.
        rationale: Why.
        head: The head that the approver was shown. Default: of a yes, the head of the request, so
            that what was added after it needs an approver who names the head that includes it.

    Raises:
        DecisionStateError: No request waits, or the head has moved.
        ApprovalRefused: The approver is who asks.
        InvalidArgumentError: The request wants a rationale, and there is none.
    """
    what = "approve" if granted else "reject"
    request = state.request
    if request is None or request.status != "pending" or state.status != "needs_approval":
        raise DecisionStateError(state.decision_id, state.status, what, _why_unresolvable(state))
    _check_head(state, request, head, granted=granted)
    # Not the actor: over a server, that was a label which the caller chose.
    asking = (state.agent, request.event.facts["requester"])
    if any(same_person(approver, name) for name in asking):
        why = (
            f"{approver!r} is the requester, or a name that looks like it, and cannot answer; "
            "another approver must"
        )
        raise ApprovalRefused(state.decision_id, "own", why)
    if request.event.facts["require_rationale"] and not (rationale or "").strip():
        raise InvalidArgumentError("rationale", rationale, "given: this request wants a reason")
    if granted and any(same_person(approver, vote.approver) for vote in request.votes):
        return []  # a repeated yes is not another person's
    facts = {
        "approver": approver,
        "has_rationale": bool((rationale or "").strip()),
        "head": state.head,
    }
    kind = APPROVAL_GRANTED if granted else APPROVAL_REJECTED
    return [Draft(kind, facts, {"rationale": rationale})]


def _check_head(state: State, request: Request, head: str | None, *, granted: bool) -> None:
    """Raise DecisionStateError if an answer refers to another head than the present one."""
    shown = head
    if shown is None:
        shown = request.event.hash if granted else state.head  # a no needs no second look
    if shown != state.head:
        what = "approve" if granted else "reject"
        given = "" if head is not None else ", which is that of the request because none was given"
        reason = (
            f"the answer refers to the head {shown!r}{given}, and the head is now {state.head!r}: "
            "look at the decision again and answer with the head that it shows"
        )
        raise DecisionStateError(state.decision_id, state.status, what, reason)


def _why_unresolvable(state: State) -> str:
    request = state.request
    if request is None:
        return "nobody has asked for approval"
    if request.status == "pending" or request.resolved_by is None:
        return "it is closed"  # aborted while it waited
    if request.status == "expired":
        return "the request has expired"
    return f"{request.resolved_by.facts['approver']!r} has {request.status} it"


def close(
    state: State,
    action: str,
    *,
    summary: Mapping[str, Any] | None = None,
    reason: str | None = None,
    enforce_modes: bool = False,
    before: Sequence[Draft] = (),
) -> list[Draft]:
    """End a decision; nothing is left to do if the same call has ended it already.

    Args:
        state: The decision.
        action: `commit` or `abort`.
        summary: What came of it.
        reason: Why.
        enforce_modes: Whether `propose` and `approve` need an approval before a commit.
        before: Events that were kept until now.

    Raises:
        DecisionStateError: The state does not allow it, or another call has ended it.
    """
    content = {
        name: value
        for name, value in (("summary", summary), ("reason", reason))
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
    return [*before, Draft(CLOSED, {"action": action}, content or None)]


def _is_same_end(closed: Event, action: str, content: Mapping[str, Any]) -> bool:
    if closed.type != CLOSED or closed.facts["action"] != action:
        return False
    return closed.erased or dict(closed.content or {}) == dict(content)


def obstacle(state: State, *, enforce_modes: bool = False) -> str | None:
    """Return what keeps a decision from being committed; None if nothing does."""
    if state.status == "needs_approval":
        return "it waits for approval"
    approval = state.request.resolved_by if state.request and state.status == "approved" else None
    for evaluation in state.evaluations:
        outcome: PolicyOutcome = evaluation.facts["outcome"]
        later = approval is not None and approval.sequence > evaluation.sequence
        policy = evaluation.facts["policy_id"]
        if outcome == "requires_exception" and not later:
            return f"the policy {policy!r} requires an exception: an approval that comes after it"
        if outcome == "deny" and not (later and state.mode == "override" and _reasoned(state)):
            return (
                f"the policy {policy!r} denies it: only mode 'override', approved with a rationale "
                "after it, gets past"
            )
    if enforce_modes and state.mode in ("propose", "approve") and state.status != "approved":
        return f"mode {state.mode!r} needs an approval (setting enforce_modes)"
    return None


def _reasoned(state: State) -> bool:
    votes = state.request.votes if state.request else []
    return bool(votes) and all(vote.event.facts["has_rationale"] for vote in votes)
