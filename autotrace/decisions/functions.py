"""The functions of `autotrace.decisions`: methods of the decisions in use, sync and async.

Each of them but `sign_vote` raises NotConfiguredError before `autotrace.configure()`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from autotrace.base.blocking_calls import asynchronous
from autotrace.decisions.active import deciding_or_raise
from autotrace.decisions.api import Decisions
from autotrace.decisions.verification import DecisionProof
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.models import Decision, DecisionTrace, SignedVote

__all__ = [
    "aapprove",
    "acheck",
    "acheck_all",
    "acheckpoint",
    "aclose",
    "aerase",
    "aget",
    "alist",
    "apending",
    "approve",
    "areceipt",
    "arecord",
    "areject",
    "asearch",
    "asign_vote",
    "atrace",
    "averify",
    "averify_checkpoint",
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
    "search",
    "sign_vote",
    "trace",
    "verify",
    "verify_checkpoint",
]

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def _forms(
    part: Callable[[Decisions], S], method: Callable[Concatenate[S, P], T]
) -> tuple[Callable[P, T], Callable[P, Coroutine[Any, Any, T]]]:
    """Return a method of the decisions in use as a function, and its async form."""
    name = method.__name__

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return method(part(deciding_or_raise(f"decisions.{name}()")), *args, **kwargs)

    signature = inspect.signature(method)
    parameters = [*signature.parameters.values()][1:]
    del vars(call)["__wrapped__"]
    vars(call)["__signature__"] = signature.replace(parameters=parameters)
    call.__module__, call.__qualname__ = "autotrace.decisions", name
    return call, asynchronous(call)


def _all(decisions: Decisions) -> Decisions:
    return decisions


def _proof(decisions: Decisions) -> DecisionProof:
    return decisions.proof


get, aget = _forms(_all, Decisions.get)
list, alist = _forms(_all, Decisions.list)  # noqa: A001 - the name of the operation everywhere
pending, apending = _forms(_all, Decisions.pending)
search, asearch = _forms(_all, Decisions.search)
trace, atrace = _forms(_all, Decisions.trace)
receipt, areceipt = _forms(_all, Decisions.receipt)
record, arecord = _forms(_all, Decisions.record)
close, aclose = _forms(_all, Decisions.close)
erase, aerase = _forms(_all, Decisions.erase)
verify, averify = _forms(_proof, DecisionProof.verify)
check, acheck = _forms(_proof, DecisionProof.check)
check_all, acheck_all = _forms(_proof, DecisionProof.check_all)
checkpoint, acheckpoint = _forms(_proof, DecisionProof.checkpoint)
verify_checkpoint, averify_checkpoint = _forms(_proof, DecisionProof.verify_checkpoint)


def approve(
    decision_id: str,
    approver: str,
    rationale: str | None = None,
    *,
    head: str | None = None,
) -> Decision:
    """Approve what a decision requests; signed, if this user has an approver's key.

    Args:
        decision_id: The decision.
        approver: Who approves. A name that looks like the requester's is refused; a repeated
            approval, also under a name that looks alike, changes nothing.
        rationale: Why.
        head: The `head` of the decision as the approver was shown it. Default: that of the
            request, so that an approval of what was added later has to name it.

    Returns:
        The decision; it still waits if more approvers are needed.

    Raises:
        DecisionNotFoundError: No decision has this id.
        DecisionStateError: No request waits: it was answered, has expired, or was never made;
            or the head has moved.
        ApprovalRefused: The approver is the requester, or has a name that looks like it.
        InvalidArgumentError: The request requires a rationale or a signature, or no approver is
            named.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store does not take it, or the approver's key cannot be read.
    """
    return deciding_or_raise("decisions.approve()").answer(
        decision_id, granted=True, approver=approver, rationale=rationale, head=head
    )


def reject(
    decision_id: str,
    approver: str,
    rationale: str | None = None,
    *,
    head: str | None = None,
) -> Decision:
    """Reject what a decision requests, which ends it; signed like an approval.

    Args:
        decision_id: The decision.
        approver: Who rejects. A name that looks like the requester's is refused.
        rationale: Why; the requester gets it, and it stays on the trace.
        head: The `head` of the decision as the approver was shown it. Default: the present one.

    Raises:
        DecisionNotFoundError: No decision has this id.
        DecisionStateError: No request waits: it was answered, has expired, or was never made;
            or the head has moved.
        ApprovalRefused: The approver is the requester, or has a name that looks like it.
        InvalidArgumentError: The request requires a rationale, or no approver is named.
        NotConfiguredError: `autotrace.configure()` was not called.
        StoreError: The store does not take it, or the approver's key cannot be read.
    """
    return deciding_or_raise("decisions.reject()").answer(
        decision_id, granted=False, approver=approver, rationale=rationale, head=head
    )


def sign_vote(
    decision: DecisionTrace, approver: str, *, granted: bool = True, key: str | None = None
) -> SignedVote:
    """Sign an answer to a decision that another tool shows, such as one read over REST.

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


aapprove = asynchronous(approve)
areject = asynchronous(reject)
asign_vote = asynchronous(sign_vote)
