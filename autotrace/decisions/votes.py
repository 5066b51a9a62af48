"""Signed votes: the statement that an approver signs, and the votes that a gate counts.

A gate with `approver_keys` does not trust the store: keys, quorum and expiry come from its own
code, and it hashes the arguments itself. Its caller has verified the chain (`whole=True`), so
that a head stands for all events before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autotrace.base.canonical_json import sha256_of
from autotrace.base.lookalikes import same_person
from autotrace.decision_requests import ApprovalAnswer
from autotrace.decisions import validation
from autotrace.decisions.receipts import ReceiptSigner, verify_signature
from autotrace.decisions.state_machine import (
    APPROVAL_GRANTED,
    APPROVAL_REQUESTED,
    CountedVote,
    Draft,
    State,
)
from autotrace.errors import ApprovalRefused, DecisionStateError, InvalidArgumentError
from autotrace.models import ApprovalRequest, DecisionTrace, SignedVote
from autotrace.semconv import VOTE_KIND


def statement(
    decision_id: str, *, head: str, arguments_sha256: str | None, granted: bool, approver: str
) -> dict[str, Any]:
    """Return the JSON that an approver signs."""
    return {
        "kind": VOTE_KIND,
        "decision_id": decision_id,
        "head": head,
        "arguments_sha256": arguments_sha256,
        "answer": "approve" if granted else "reject",
        "approver": approver,
    }


# --- signing


def sign(
    decision: DecisionTrace, signer: ReceiptSigner, *, granted: bool, approver: str
) -> SignedVote:
    """Sign an answer to a decision as the approver was shown it.

    Raises:
        InvalidArgumentError: The approver has no name.
        DecisionStateError: Nobody has requested approval.
        ApprovalRefused: The approval is bound to other arguments than those shown.
    """
    approval = decision.approval
    if approval is None:
        what, why = "approve" if granted else "reject", "nobody has requested approval"
        raise DecisionStateError(decision.decision_id, decision.status, what, why)
    if granted and approval.arguments_sha256 != _shown_sha256(decision):
        why = (
            "the arguments that are shown are not those that the approval covers, or they were "
            "erased; nothing was signed"
        )
        raise ApprovalRefused(decision.decision_id, "changed", why)
    data = statement(
        decision.decision_id,
        head=decision.head,
        arguments_sha256=approval.arguments_sha256,
        granted=granted,
        approver=validation.name("approver", approver),
    )
    return SignedVote(head=decision.head, signature=signer.sign(data), public_key=signer.public_key)


def _shown_sha256(decision: DecisionTrace) -> str | None:
    """Return the hash of the tool call that is shown; None without a call."""
    tool = None if decision.approval is None else decision.approval.tool
    if tool is None:
        return None
    shown = [e.model_extra or {} for e in decision.events if e.type == APPROVAL_REQUESTED]
    arguments = shown[-1].get("arguments") if shown else None
    return sha256_of({"tool": tool.model_dump(), "arguments": arguments})


# --- casting


def with_signature(state: State, drafts: list[Draft], answer: ApprovalAnswer) -> list[Draft]:
    """Return the event of an answer with its signature, if it has one.

    Args:
        state: The decision.
        drafts: Event of the answer, as the state machine returns it.
        answer: The answer.

    Raises:
        InvalidArgumentError: The signature does not verify; the key has approved the request
            already; or the request requires a signature with one of certain keys.
    """
    asked = state.request
    if not drafts or asked is None:
        return drafts
    (draft,) = drafts
    public_key, signature, granted = answer.public_key, answer.signature, answer.granted
    wanted = asked.approver_keys if granted else ()  # each approver may reject
    if public_key is None or signature is None:
        if wanted or public_key is not signature:
            allowed = (
                "given, and public_key with it: "
                "`autotrace approver init` makes a key, with which the command line and the "
                "library sign"
            )
            raise InvalidArgumentError("signature", signature, allowed)
        return drafts
    if wanted and public_key not in wanted:
        allowed = f"one of the keys that the request names: {', '.join(wanted)}"
        raise InvalidArgumentError("public_key", public_key, allowed)
    data = statement(
        state.decision_id,
        head=state.head,
        arguments_sha256=state.arguments_sha256,
        granted=granted,
        approver=answer.approver,
    )
    if not verify_signature(public_key, data, signature):
        allowed = f"made with the key {public_key} over the canonical JSON (RFC 8785) of {data}"
        raise InvalidArgumentError("signature", signature, allowed)
    if granted and any(vote.event.facts.get("public_key") == public_key for vote in asked.votes):
        allowed = "a key that has not approved this request: each vote needs a key of its own"
        raise InvalidArgumentError("public_key", public_key, allowed)
    facts = {**draft.facts, "public_key": public_key, "signature": signature}
    return [Draft(draft.type, facts, draft.content)]


# --- counting


def key_of(state: State, vote: CountedVote, arguments_sha256: str | None) -> str | None:
    """Return the public key whose signature of a vote verifies; None if there is none."""
    facts = vote.event.facts
    public_key, signature = facts.get("public_key"), facts.get("signature")
    if not isinstance(public_key, str) or not isinstance(signature, str):
        return None
    data = statement(
        state.decision_id,
        head=vote.head,
        arguments_sha256=arguments_sha256,
        granted=vote.event.type == APPROVAL_GRANTED,
        approver=vote.approver,
    )
    return public_key if verify_signature(public_key, data, signature) else None


def counted(state: State, keys: Sequence[str], arguments_sha256: str | None) -> list[CountedVote]:
    """Return the votes that count at a gate: each of another key and of another person.

    Args:
        state: The decision.
        keys: Public keys that the gate accepts.
        arguments_sha256: Hash of the tool call; None without a call.
    """
    asked = state.request
    if asked is None:
        return []
    found: list[CountedVote] = []
    unused = set(keys)
    barred = [state.agent, asked.event.facts["requester"]]
    for vote in asked.votes:
        key = key_of(state, vote, arguments_sha256)
        if key in unused and not any(same_person(vote.approver, name) for name in barred):
            unused.remove(key)
            barred.append(vote.approver)
            found.append(vote)
    return found


def check(state: State, terms: ApprovalRequest, arguments_sha256: str | None, now_ns: int) -> None:
    """Raise ApprovalRefused unless enough signed votes approve this call at this head.

    Args:
        state: The decision.
        terms: The request of the gate, which names `approver_keys`.
        arguments_sha256: Hash of the tool call; None without a call.
        now_ns: Current time.
    """
    asked, needed = state.request, terms.approvals_needed
    if asked is None or state.status != "approved":
        why = "the store holds no approval, and this gate accepts only signed votes"
        raise ApprovalRefused(state.decision_id, "unsigned", why)
    # The store chose the time of the request, so one dated in the future expires as well.
    age_ns, seconds = abs(now_ns - asked.event.at_ns), terms.expires_in_seconds
    if arguments_sha256 is not None and seconds is not None and age_ns >= seconds * 1e9:
        raise ApprovalRefused(state.decision_id, "expired", "the approval has expired")
    number = len(counted(state, terms.approver_keys or (), arguments_sha256))
    if number < needed:
        why = (
            f"{number} of {needed} votes needed are signed with a key of the gate's approver_keys, "
            "for this decision, its head and its arguments; call again to request approval again"
        )
        raise ApprovalRefused(state.decision_id, "unsigned", why)


def problem(state: State) -> str | None:
    """Return the first problem of the signatures of a decision's answers; None without one."""
    wanted = () if state.request is None else state.request.approver_keys
    for vote in state.answers:
        event, key = vote.event, key_of(state, vote, state.arguments_sha256)
        if key is None and ("signature" in event.facts or "public_key" in event.facts):
            return f"the answer {event.event_id} carries a signature that does not verify"
        if wanted and event.type == APPROVAL_GRANTED and key not in wanted:
            return f"the vote {event.event_id} is not signed with a key that the request names"
    return None
