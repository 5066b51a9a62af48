"""Pydantic models of decisions, made from states. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from autotrace.base.visible_text import visible
from autotrace.decisions import state_machine, votes
from autotrace.decisions.hash_chain import StoredEvent
from autotrace.decisions.state_machine import Event, Request, State
from autotrace.models import (
    Approval,
    ApprovedTool,
    Decision,
    DecisionEvent,
    Delivery,
    Evaluation,
    Execution,
    Vote,
)
from autotrace.store.times import utc

_PROSE: Final = ("title", "message", "rationale", "reason")
"""Fields that agents and approvers write."""
_FACTS: Final = (
    *("trace_id", "actor_label", "instance", "version", "key", "category", "tags", "supersedes"),
)
"""Facts that a decision has as fields of the same name."""
_NOT_NOTIFIED: Final = "no approval route is set up: nobody was notified"


def to_decision(state: State, superseded_by: str | None = None) -> Decision:
    """Return the model of a decision."""
    created = state.created
    facts, content = created.facts, created.content or {}
    closed = state.closed
    ending: Mapping[str, Any] = (closed.content or {}) if closed is not None else {}
    return Decision(
        decision_id=state.decision_id,
        intent=facts["intent"],
        status=state.status,
        automation_mode=state.mode,
        created_at=utc(created.at_ns),
        approval_required=state.status == "needs_approval",
        closed_at=None if closed is None else utc(closed.at_ns),
        approval=None if state.request is None else to_approval(state, state.request),
        head=state.head,
        actor=state.actor,
        agent=state.agent,
        evaluations=[_evaluation(event) for event in state.evaluations],
        execution=_execution(state),
        reason=visible_or_none(ending.get("reason")) if state.status == "aborted" else None,
        summary=ending.get("summary"),
        superseded_by=superseded_by,
        **{name: facts[name] for name in _FACTS if name in facts},
        **content,
    )


def to_approval(state: State, request: Request) -> Approval:
    """Return the model of a decision's request for approval and its answer."""
    tool = state.tool
    asked, facts, content = request.event, request.event.facts, request.event.content or {}
    answer = request.resolved_by
    given = [
        Vote(
            approver=vote.approver,
            rationale=visible_or_none((vote.event.content or {}).get("rationale")),
            at=utc(vote.event.at_ns),
            public_key=votes.key_of(state, vote, state.arguments_sha256),
        )
        for vote in request.votes
    ]
    expires_at_ns = request.expires_at_ns
    return Approval(
        id=facts["approval_id"],
        status=request.status,
        title=visible_or_none(content.get("title")),
        message=visible_or_none(content.get("message")),
        requester=facts["requester"],
        requested_at=utc(asked.at_ns),
        expires_at=None if expires_at_ns is None else utc(expires_at_ns),
        resolved_at=None if answer is None else utc(answer.at_ns),
        approver=None if answer is None else answer.facts.get("approver"),
        rationale=None
        if answer is None
        else visible_or_none((answer.content or {}).get("rationale")),
        require_rationale=facts["require_rationale"],
        approvals_needed=request.needed,
        votes=given,
        approver_keys=list(request.approver_keys),
        route=facts["route"],
        delivery=_delivery(request),
        arguments_sha256=state.arguments_sha256,
        hidden=content.get("hidden", []),
        tool=None if tool is None else ApprovedTool.model_validate(dict(tool)),
    )


def visible_or_none(text: str | None) -> str | None:
    """Return a text of an agent or an approver with invisible characters written out."""
    return None if text is None else visible(text)


def _delivery(request: Request) -> Delivery:
    report = request.delivery
    if report is not None:
        return Delivery(status=report.facts["status"], note=(report.content or {}).get("note", ""))
    notifies = request.event.facts["notifies"]
    return Delivery(status="pending", note="" if notifies else _NOT_NOTIFIED)


def _evaluation(event: Event) -> Evaluation:
    return Evaluation(
        event_id=event.event_id,
        **{name: event.facts[name] for name in ("policy_id", "version", "outcome")},
        rationale=(event.content or {}).get("rationale", {}),
        at=utc(event.at_ns),
    )


def _execution(state: State) -> Execution | None:
    claim, closed = state.claim, state.closed
    if claim is None:
        return None
    ended = {"committed": "succeeded", "aborted": "failed"}
    return Execution(
        status=ended.get(state.status, "claimed"),  # pyright: ignore[reportArgumentType] - of three values
        tool_name=claim.facts["tool_name"],
        arguments_sha256=claim.facts["arguments_sha256"],
        claimed_at=utc(claim.at_ns),
        claimed_by=claim.by,
        finished_at=None if closed is None else utc(closed.at_ns),
    )


def to_event(stored: StoredEvent) -> DecisionEvent:
    """Return the model of one event, with the fields of its type."""
    carried = {**stored["facts"], **(stored["content"] or {})}
    carried.pop("otel", None)
    for name in _PROSE:
        if isinstance(text := carried.get(name), str):
            carried[name] = visible(text)
    return DecisionEvent.model_validate(
        carried
        | {
            "event_id": stored["event_id"],
            "type": stored["type"],
            "timestamp": utc(stored["at_ns"]),
            "sequence": stored["sequence"],
            "by": stored["by"],
            "hash": stored["hash"],
            "erased": stored["content"] is None and stored["content_sha256"] is not None,
        }
    )


def search_text(events: list[StoredEvent]) -> str:
    """Return the text by which a search finds a decision: subject, reasons and answer."""
    words: list[Any] = []
    # The content of these events is erased, or about to be.
    erased = {number for event in events for number in event["facts"].get("sequences", ())}
    for event in events:
        content = (event["content"] if event["sequence"] not in erased else None) or {}
        if event["type"] == state_machine.CREATED:
            words.append(event["facts"]["intent"].replace(".", " ").replace("_", " "))
            words += [content.get(name) for name in ("title", "decision", "context", "rationale")]
        elif event["type"] == state_machine.APPROVAL_REQUESTED:
            words += [content.get("title"), content.get("message")]
        elif event["type"] == state_machine.CONTEXT_ADDED:
            words.append(content.get("summary"))
        elif event["type"] == state_machine.APPROVAL_REJECTED:
            words.append(content.get("rationale"))
    return "\n".join(word for word in words if word)
