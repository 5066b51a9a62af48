"""Decisions as text for the person who answers them.

The subject of an approval is shown whole, as an approver cannot answer for a part that was cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from rich.text import Text

from autotrace.base.plural import counted
from autotrace.cli import formatting as t
from autotrace.cli.terminal import Screen
from autotrace.models import (
    Approval,
    Decision,
    DecisionEvent,
    DecisionTrace,
    FoundDecision,
    Receipt,
    Verification,
)

_STYLES: Final = {
    "open": "cyan",
    "needs_approval": "yellow",
    "claimed": "yellow",
    "approved": "green",
    "committed": "green",
    "aborted": "red",
    "rejected": "red",
    "expired": "red",
}
_INDENT: Final = 4
_COMMON: Final = {"event_id", "type", "timestamp", "sequence", "by", "hash", "erased"}
"""Fields that every event has."""
_SHORT_HASH: Final = 12
_DETAIL_CHARACTERS: Final = 200


def _standing(decision: Decision) -> str:
    """Return the status of a decision, or a more specific word."""
    if decision.status == "aborted" and decision.approval is not None:
        if decision.approval.status in ("rejected", "expired"):
            return decision.approval.status
    elif decision.execution is not None and decision.execution.status == "claimed":
        return "claimed"
    return decision.status


def _title(decision: Decision) -> str:
    approval = decision.approval
    asked = None if approval is None else approval.title
    return t.one_line(decision.title or asked or decision.intent)


def show_decisions(screen: Screen, decisions: Sequence[Decision]) -> None:
    """Print a page of decisions."""
    if not decisions:
        screen.line("no decisions")
    for decision in decisions:
        _show_short(screen, decision)


def show_changed(screen: Screen, decision: Decision) -> None:
    """Print a decision that was answered, ended or erased."""
    _show_short(screen, decision)
    approval = decision.approval
    if decision.status == "needs_approval" and approval is not None:
        left = approval.approvals_needed - len(approval.votes)
        screen.line(f"{counted(left, 'more approval')} needed", indent=_INDENT)


def _show_short(screen: Screen, decision: Decision) -> None:
    standing = _standing(decision)
    head = (f"{standing:14}  ", _STYLES[standing])
    screen.cut(Text.assemble(head, (_title(decision), "bold")))
    screen.whole(decision.decision_id, indent=_INDENT)
    screen.facts(_facts(decision), indent=_INDENT)
    approval = decision.approval
    if approval is not None and approval.status in ("approved", "rejected"):
        answer = f"{approval.status} by {t.one_line(approval.approver or '')}"
        screen.line(answer + t.after_colon(approval.rationale), indent=_INDENT)


def _facts(decision: Decision) -> list[str | None]:
    approval = decision.approval
    expires_at = None
    if approval is not None and approval.status == "pending" and approval.expires_at is not None:
        expires_at = f"expires {t.local_time(approval.expires_at)}"
    return [
        t.local_time(decision.created_at),
        t.one_line(decision.intent),
        f"mode {decision.automation_mode}",
        f"actor {t.one_line(decision.actor)}",
        f"agent {t.one_line(decision.agent)}" if decision.agent != decision.actor else None,
        t.fact("category", decision.category),
        t.fact("tags", ", ".join(decision.tags)),
        expires_at,
    ]


def show_found(screen: Screen, found: Sequence[FoundDecision]) -> None:
    """Print found decisions, most similar first."""
    if not found:
        screen.line("nothing similar is decided")
    for item in found:
        similarity = f"{item.similarity:.2f}  " if item.similarity is not None else ""
        screen.cut(Text.assemble((similarity, "cyan"), (_title(item.decision), "bold")))
        standing = _standing(item.decision)
        why = t.after_colon(_why(item.decision))
        screen.line(Text.assemble((standing, _STYLES[standing]), why), indent=6)
        screen.whole(item.decision_id, indent=6)
        screen.facts(_facts(item.decision), indent=6)


def _why(decision: Decision) -> str | None:
    """Return the most specific reason of a decision."""
    answered = None if decision.approval is None else decision.approval.rationale
    return answered or decision.reason or decision.rationale or decision.decision


def show_decision(screen: Screen, decision: DecisionTrace) -> None:
    """Print one decision with its history."""
    screen.line(_title(decision), style="bold")
    standing = _standing(decision)
    reason = f": {t.block(decision.reason)}" if decision.reason else ""
    screen.line(Text.assemble((standing, _STYLES[standing]), reason))
    screen.whole(decision.decision_id)
    closed_at = decision.closed_at
    ended = None if closed_at is None else f"ended {t.local_time(closed_at)}"
    names = ("instance", decision.instance), ("version", decision.version), ("key", decision.key)
    screen.facts([*_facts(decision), *(t.fact(*name) for name in names), ended])
    for label, other in (
        ("in", decision.trace_id),
        ("supersedes", decision.supersedes),
        ("superseded by", decision.superseded_by),
    ):
        if other:
            screen.whole(f"{label} {t.one_line(other)}", style="dim")
    screen.whole(f"head {decision.head}", style="dim")
    _show_record(screen, decision)
    if decision.approval is not None:
        _show_approval(screen, decision.approval, _arguments(decision.events))
    _show_evaluations(screen, decision)
    execution = decision.execution
    if execution is not None:
        screen.line()
        at = t.local_time(execution.claimed_at)
        tool, by = t.one_line(execution.tool_name), t.one_line(execution.claimed_by)
        screen.line(f"run of {tool}: {execution.status}, begun {at} by {by}")
    for label, value in (("metadata", decision.metadata), ("summary", decision.summary)):
        if value:
            screen.line()
            _show_json(screen, label, value)
    screen.line()
    screen.line("history", style="dim")
    for event in decision.events:
        _show_event(screen, event)


def _show_record(screen: Screen, decision: Decision) -> None:
    for label, text in (
        ("context", decision.context),
        ("decision", decision.decision),
        ("rationale", decision.rationale),
    ):
        if text:
            screen.line()
            _labelled(screen, label, text)
    for alternative in decision.alternatives_considered:
        because = f": {alternative.rejected_because}" if alternative.rejected_because else ""
        _labelled(screen, "not chosen", alternative.option + because)
    for label, texts in (
        ("constraint", decision.constraints),
        ("consequence", decision.consequences),
    ):
        for text in texts:
            _labelled(screen, label, text)


def _arguments(events: Sequence[DecisionEvent]) -> Any:
    """Return the arguments of the tool call, as shown; None without a call, or if erased."""
    carried: Mapping[str, Any]
    for event in reversed(events):
        carried = event.model_extra or {}
        if carried.get("arguments") is not None:
            return carried["arguments"]
    return None


def _show_approval(screen: Screen, approval: Approval, arguments: Any) -> None:
    screen.line()
    if approval.message:
        screen.line(t.block(approval.message))
    if arguments is not None:
        _show_json(screen, "arguments", arguments)
    if approval.hidden:
        names = ", ".join(t.one_line(path) for path in approval.hidden)
        screen.line(Text.assemble(("hidden, and part of what runs: ", "yellow"), names))
    if approval.tool is not None and approval.tool.module is not None:
        source = approval.tool.source_sha256 or "none that Python can see"
        screen.line(f"runs {t.one_line(f'{approval.tool.module}.{approval.tool.qualname}')}")
        screen.whole(f"source sha256 {source}", style="dim")
    if approval.arguments_sha256 is not None:
        screen.whole(f"sha256 {approval.arguments_sha256}")
    needed = approval.approvals_needed
    expires_at = approval.expires_at
    asked = [
        f"approval {approval.status}",
        f"asked by {t.one_line(approval.requester)} {t.local_time(approval.requested_at)}",
        None if expires_at is None else f"expires {t.local_time(expires_at)}",
        f"{needed} approvers needed" if needed > 1 else None,
        "signed" if approval.approver_keys else None,
        "with a reason" if approval.require_rationale else None,
    ]
    screen.facts(asked)
    for vote in approval.votes:
        _show_answer(screen, "approved", vote.approver, vote.rationale)
        if vote.public_key is not None:
            screen.whole(f"signed with {vote.public_key}", indent=_INDENT, style="dim")
    if approval.status == "rejected":
        _show_answer(screen, "rejected", approval.approver or "", approval.rationale)
    delivery = approval.delivery
    if delivery is not None and (delivery.note or delivery.status != "pending"):
        screen.line(f"notice {delivery.status}{t.after_colon(delivery.note)}", style="dim")


def _show_answer(screen: Screen, answer: str, by: str, why: str | None) -> None:
    reason = f": {t.block(why)}" if why else ""
    screen.line(Text.assemble((answer, _STYLES[answer]), f" by {t.one_line(by)}{reason}"))


def _show_evaluations(screen: Screen, decision: Decision) -> None:
    if decision.evaluations:
        screen.line()
    for evaluation in decision.evaluations:
        head = f"policy {t.one_line(evaluation.policy_id)}: {evaluation.outcome}"
        version = f"  version {t.one_line(evaluation.version[:_SHORT_HASH])}"
        screen.line(Text.assemble(head, (version, "dim")))
        if evaluation.rationale:
            screen.line(t.json_line(evaluation.rationale, 1_000), indent=_INDENT)


def _show_event(screen: Screen, event: DecisionEvent) -> None:
    carried = {k: v for k, v in (event.model_extra or {}).items() if k not in _COMMON}
    told = {name: value for name, value in carried.items() if value not in (None, [], {}, "")}
    detail = "content erased  " if event.erased else ""
    if told:
        detail += t.json_line(_to_plain_text(told), _DETAIL_CHARACTERS)
    head = f"{event.sequence:3}  {t.local_time(event.timestamp)}  {t.one_line(event.type)}"
    by = f"  by {t.one_line(event.by)}"
    screen.cut(Text.assemble(head, (by, "dim"), (f"  {detail}" if detail else "", "dim")))


def _to_plain_text(value: Mapping[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(value, default=str))


def _labelled(screen: Screen, label: str, text: str) -> None:
    screen.line(Text.assemble((f"{label}: ", "dim"), t.block(text)), hang=2)


def _show_json(screen: Screen, label: str, value: Any) -> None:
    """Print a value whole, as JSON that a person can read."""
    screen.line(f"{label}:", style="dim")
    screen.line(t.block(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()), indent=2)


def show_verifications(screen: Screen, verifications: Sequence[Verification]) -> None:
    """Print verifications: each failed one, and the totals of the others."""
    if not verifications:
        screen.line("no decisions")
        return
    bad = [verification for verification in verifications if not verification.ok]
    for found in bad:
        screen.line(Text.assemble(("bad", "red"), f"  {t.one_line(found.problem or '')}"))
        screen.whole(found.decision_id, indent=_INDENT)
        if found.first_bad_event is not None:
            screen.whole(f"first bad event {t.one_line(found.first_bad_event)}", indent=_INDENT)
    good = [verification for verification in verifications if verification.ok]
    if not good:
        return
    events = sum(verification.events for verification in good)
    erased = sum(verification.erased_events for verification in good)
    signed = sum(verification.receipt == "valid" for verification in good)
    votes = sum(verification.signed_votes for verification in good)
    facts = [
        counted(events, "event"),
        counted(signed, "valid receipt"),
        counted(votes, "signed vote") if votes else None,
        f"{counted(erased, 'event')} with erased content" if erased else None,
    ]
    head = Text.assemble(("ok", "green"), f"   {counted(len(good), 'decision')}")
    screen.line(head)
    screen.facts(facts, indent=_INDENT)


def show_receipt(screen: Screen, receipt: Receipt) -> None:
    """Print a receipt."""
    screen.line(receipt.status, style=_STYLES[receipt.status])
    screen.whole(receipt.decision_id)
    screen.facts([f"signed {t.local_time(receipt.signed_at)}", f"key {t.one_line(receipt.key_id)}"])
    _show_json(screen, "data", receipt.receipt_data)
    screen.whole(f"signature {t.one_line(receipt.signature)}")
    screen.whole(f"public key {t.one_line(receipt.public_key)}")
