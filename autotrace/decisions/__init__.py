"""Decisions: look them up, answer them, record them, prove them.

```python
for waiting in autotrace.decisions.pending():
    print(waiting.decision_id, waiting.approval.title)
autotrace.decisions.approve("decision-…", approver="ada", rationale="within budget")
```

An agent opens them with `autotrace.decision(...)` and `@tool(requires_approval=...)`. In a
coroutine, `await autotrace.decisions.apending()`: each function has an async form, with an `a`.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotrace.decisions.active import deciding_or_raise
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.decisions.asynchronous import *  # noqa: F403 - its __all__ says what
    from autotrace.decisions.notify.routes import add_route, remove_route
    from autotrace.decisions.notify.webhooks import SlackWebhook, Webhook, verify_webhook
    from autotrace.models import (
        Checkpoint,
        Decision,
        DecisionCategory,
        DecisionStatus,
        DecisionTrace,
        FoundDecision,
        Receipt,
        SignedVote,
        Verification,
    )

__all__ = [
    "SlackWebhook",
    "Webhook",
    "add_route",
    "approve",
    "check",
    "check_all",
    "checkpoint",
    "close",
    "erase",
    "get",
    "list",
    "pending",
    "receipt",
    "record",
    "reject",
    "remove_route",
    "search",
    "sign_vote",
    "trace",
    "verify",
    "verify_checkpoint",
    "verify_webhook",
]

_LAZY = {
    "SlackWebhook": "notify.webhooks",
    "Webhook": "notify.webhooks",
    "add_route": "notify.routes",
    "remove_route": "notify.routes",
    "verify_webhook": "notify.webhooks",
    **dict.fromkeys(("aapprove", "acheck", "acheck_all", "acheckpoint", "aclose"), "asynchronous"),
    **dict.fromkeys(("aerase", "aget", "alist", "apending", "areceipt", "arecord"), "asynchronous"),
    **dict.fromkeys(("areject", "asearch", "asign_vote", "atrace", "averify"), "asynchronous"),
    "averify_checkpoint": "asynchronous",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module 'autotrace.decisions' has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    value = getattr(importlib.import_module(f"autotrace.decisions.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def get(decision_id: str) -> Decision:
    """Return a decision as it stands.

    Raises:
        DecisionNotFoundError: There is none with this id.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    return deciding_or_raise("decisions.get()").library.get(decision_id)


def list(  # noqa: A001 - the name of the operation everywhere
    *,
    status: DecisionStatus | None = None,
    category: DecisionCategory | None = None,
    actor: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> builtins.list[Decision]:
    """Return a page of decisions, newest first.

    Args:
        status: Only those of this status.
        category: Only those recorded in this category.
        actor: Only those this one has asked for.
        limit: Size of a page, 1 to 1000.
        after: Id of the last decision of the page before.

    Raises:
        InvalidArgumentError: An argument has a value that is not allowed.
        DecisionNotFoundError: `after` is no decision of the store.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    library = deciding_or_raise("decisions.list()").library
    return library.list(status=status, category=category, actor=actor, limit=limit, after=after)


def pending() -> builtins.list[Decision]:
    """Return every decision that waits for an answer, the oldest first.

    Raises:
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    return deciding_or_raise("decisions.pending()").library.pending()


def approve(
    decision_id: str, approver: str, rationale: str | None = None, *, head: str | None = None
) -> Decision:
    """Approve what a decision asks for; signed, if this user has an approver's key.

    Args:
        decision_id: The decision.
        approver: Who approves. A name that looks like the requester's is refused; a repeated
            approval, also under a name that looks alike, changes nothing.
        rationale: Why.
        head: The `head` of the decision as the approver was shown it. Default: that of the request,
            so that an approval of what was added later has to name it.

    Returns:
        The decision; it still waits if more approvers are needed.

    Raises:
        DecisionNotFoundError: There is none with this id.
        DecisionStateError: No request waits: it was answered, has expired, or was never made; or
            the head has moved.
        ApprovalRefused: The approver is the requester, or has a name that looks like it.
        InvalidArgumentError: The request wants a rationale or a signature, or no approver is named.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store does not take it, or the approver's key cannot be read.
    """
    deciding = deciding_or_raise("decisions.approve()")
    return deciding.answer(
        decision_id, granted=True, approver=approver, rationale=rationale, head=head
    )


def reject(
    decision_id: str, approver: str, rationale: str | None = None, *, head: str | None = None
) -> Decision:
    """Reject what a decision asks for, which ends it; signed, if this user has an approver's key.

    Args:
        decision_id: The decision.
        approver: Who rejects. A name that looks like the requester's is refused.
        rationale: Why; whoever asks is told, and it stays on the trace.
        head: The `head` of the decision as the approver was shown it. Default: the present one.

    Raises:
        DecisionNotFoundError: There is none with this id.
        DecisionStateError: No request waits: it was answered, has expired, or was never made; or
            the head has moved.
        ApprovalRefused: The approver is the requester, or has a name that looks like it.
        InvalidArgumentError: The request wants a rationale, or no approver is named.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store does not take it, or the approver's key cannot be read.
    """
    deciding = deciding_or_raise("decisions.reject()")
    return deciding.answer(
        decision_id, granted=False, approver=approver, rationale=rationale, head=head
    )


def sign_vote(
    decision: DecisionTrace, approver: str, *, granted: bool = True, key: str | None = None
) -> SignedVote:
    """Sign an answer to a decision that another tool has shown, such as one read over REST.

    ```python
    shown = DecisionTrace.model_validate_json(client.get(f"{url}/api/v1/decisions/{id}").content)
    vote = autotrace.decisions.sign_vote(shown, "ada")
    client.post(f"{url}/api/v1/decisions/{id}/approve", json=vote.model_dump())
    ```

    Needs no store. The arguments that were shown are hashed, so that another call is not signed.

    Args:
        decision: The decision as it was shown, with its history.
        approver: Who answers: over a server, the agent of the key that sends the answer.
        granted: Whether the answer is yes.
        key: File of the private key. Default: that of the settings.

    Raises:
        InvalidArgumentError: No approver is named, or there is no key.
        DecisionStateError: Nobody has asked for approval.
        ApprovalRefused: The arguments that were shown are not those that an approval lets run.
        StoreError: The key cannot be read.
    """
    from autotrace.decisions import votes
    from autotrace.decisions.receipts import approver_of
    from autotrace.settings import load_settings

    settings = load_settings(approver_key=key)
    signer = approver_of(settings)
    if signer is None:
        allowed = (
            f"the file of your key: `autotrace approver init` makes {settings.approver_key_path}"
        )
        raise InvalidArgumentError("key", key, allowed)
    return votes.sign(decision, signer, granted=granted, approver=approver)


def close(
    decision_id: str,
    action: str,
    *,
    by: str,
    summary: Mapping[str, object] | None = None,
    reason: str | None = None,
) -> Decision:
    """End a decision, such as one whose agent has died.

    Args:
        decision_id: The decision.
        action: `commit` or `abort`.
        by: Who ends it.
        summary: What came of it.
        reason: Why.

    Raises:
        DecisionNotFoundError: There is none with this id.
        DecisionStateError: Its state does not allow it, or another call has ended it.
        InvalidArgumentError: The action is another.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store does not take it.
    """
    service = deciding_or_raise("decisions.close()").service
    return service.close(decision_id, action, by=by, summary=summary, reason=reason)


def record(
    *,
    title: str,
    category: DecisionCategory,
    context: str,
    decision: str,
    rationale: str,
    alternatives_considered: Iterable[Mapping[str, str]] = (),
    tags: Iterable[str] = (),
    constraints: Iterable[str] = (),
    consequences: Iterable[str] = (),
    supersedes: str | None = None,
    actor: str | None = None,
) -> Decision:
    """Record a decision that was made: opened, filled and committed in one call.

    Args:
        title: In a few words.
        category: What it is about: `architecture`, `dependency`, `schema`, `api_design`, `infra`,
            `tradeoff`, `convention` or `other`.
        context: What made it necessary.
        decision: What was decided.
        rationale: Why.
        alternatives_considered: Each an `option` and why it was `rejected_because`.
        tags: Labels to search by.
        constraints: What limited the choice.
        consequences: What follows.
        supersedes: Id of the decision in whose place it comes.
        actor: Who decided. Default: the agent of the settings.

    Raises:
        InvalidArgumentError: An argument has a value that is not allowed.
        DecisionNotFoundError: What it supersedes does not exist.
        DecisionStateError: That is superseded already.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store does not take it.
    """
    deciding = deciding_or_raise("decisions.record()")
    return deciding.service.record(
        title=title,
        category=category,
        context=context,
        decision=decision,
        rationale=rationale,
        alternatives_considered=alternatives_considered,
        tags=tags,
        constraints=constraints,
        consequences=consequences,
        supersedes=supersedes,
        actor=actor or deciding.actor,
        place=deciding.service.book.recording.place(),
    )


def search(
    query: str | None = None,
    *,
    category: DecisionCategory | None = None,
    tags: Sequence[str] = (),
    status: DecisionStatus | None = None,
    limit: int = 20,
) -> builtins.list[FoundDecision]:
    """Return decisions that mean something similar, most similar first.

    A decision just made is found after `autotrace.flush()`.

    Args:
        query: What is looked for, in words; None: the newest first.
        category: Only those recorded in this category.
        tags: Only those that have every one of these.
        status: Only those of this status.
        limit: How many to return at most, 1 to 100.

    Raises:
        InvalidArgumentError: An argument has a value that is not allowed.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    library = deciding_or_raise("decisions.search()").library
    return library.search(query, category=category, tags=tags, status=status, limit=limit)


def trace(decision_id: str) -> DecisionTrace:
    """Return a decision with its history, oldest event first.

    Raises:
        DecisionNotFoundError: There is none with this id.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    return deciding_or_raise("decisions.trace()").library.trace(decision_id)


def receipt(decision_id: str) -> Receipt:
    """Return the signed statement of how a decision has ended.

    Raises:
        DecisionNotFoundError: There is none with this id.
        DecisionStateError: It has not ended.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read, or the signing key.
    """
    return deciding_or_raise("decisions.receipt()").proof.receipt(decision_id)


def verify(decision_id: str) -> bool:
    """Tell whether a decision's history, and its receipt, are as they were written.

    Raises:
        DecisionNotFoundError: There is none with this id.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    return check(decision_id).ok


def check(decision_id: str, receipt: Receipt | None = None) -> Verification:
    """Check a decision's history and receipt, and name the first event that was changed.

    Args:
        decision_id: The decision.
        receipt: One that was kept elsewhere, which shows if the end was exchanged; None: the one
            in the store.

    Raises:
        DecisionNotFoundError: There is none with this id.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    return deciding_or_raise("decisions.check()").proof.check(decision_id, receipt)


def checkpoint() -> Checkpoint:
    """Sign the number of events and the head of every decision, to be kept elsewhere.

    Raises:
        NotConfiguredError: `autotrace.configure()` was not called.
        SigningKeyError: The key cannot be read.
        StoreError: The store cannot be read.
    """
    return deciding_or_raise("decisions.checkpoint()").proof.checkpoint()


def verify_checkpoint(checkpoint: Checkpoint) -> bool:
    """Tell whether every decision verifies, and continues what a checkpoint names.

    Raises:
        InvalidArgumentError: The checkpoint is not signed by a trusted key.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    return all(found.ok for found in check_all(checkpoint))


def check_all(checkpoint: Checkpoint | None = None) -> builtins.list[Verification]:
    """Check the history and the receipt of every decision.

    Args:
        checkpoint: One that was kept elsewhere, which the histories must continue.

    Raises:
        InvalidArgumentError: The checkpoint is not signed by a trusted key.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store cannot be read.
    """
    return [*deciding_or_raise("decisions.check_all()").proof.check_all(checkpoint)]


def erase(decision_id: str, *, by: str, reason: str | None = None) -> Decision:
    """Erase what people and agents wrote in a decision; that it happened stays, and verifies.

    Args:
        decision_id: The decision, in whatever state.
        by: Who erases it.
        reason: Why; this is kept.

    Raises:
        DecisionNotFoundError: There is none with this id.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store does not take it.
    """
    deciding = deciding_or_raise("decisions.erase()")
    deciding.proof.erase(decision_id, by=by, reason=reason)
    return deciding.library.get(decision_id)
