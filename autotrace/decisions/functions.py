"""The functions of `autotrace.decisions`: methods of the decisions in use, sync and async.

Each of them but `sign_vote` raises NotConfiguredError before `autotrace.configure()`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from autotrace.active import decisions_or_raise
from autotrace.base.blocking_calls import asynchronous
from autotrace.decisions.api import Decisions
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.models import DecisionTrace, SignedVote

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
T = TypeVar("T")


def _forms(
    method: Callable[Concatenate[Decisions, P], T],
) -> tuple[Callable[P, T], Callable[P, Coroutine[Any, Any, T]]]:
    """Return a method of the decisions in use as a function, and its async form."""
    name = method.__name__

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return method(decisions_or_raise(f"decisions.{name}()"), *args, **kwargs)

    signature = inspect.signature(method)
    parameters = [*signature.parameters.values()][1:]
    del vars(call)["__wrapped__"]
    vars(call)["__signature__"] = signature.replace(parameters=parameters)
    call.__module__, call.__qualname__ = "autotrace.decisions", name
    return call, asynchronous(call)


get, aget = _forms(Decisions.get)
list, alist = _forms(Decisions.list)  # noqa: A001 - the name of the operation everywhere
pending, apending = _forms(Decisions.pending)
search, asearch = _forms(Decisions.search)
trace, atrace = _forms(Decisions.trace)
record, arecord = _forms(Decisions.record)
approve, aapprove = _forms(Decisions.approve)
reject, areject = _forms(Decisions.reject)
close, aclose = _forms(Decisions.close)
erase, aerase = _forms(Decisions.erase)
receipt, areceipt = _forms(Decisions.receipt)
verify, averify = _forms(Decisions.verify)
check, acheck = _forms(Decisions.check)
check_all, acheck_all = _forms(Decisions.check_all)
checkpoint, acheckpoint = _forms(Decisions.checkpoint)
verify_checkpoint, averify_checkpoint = _forms(Decisions.verify_checkpoint)


def sign_vote(
    decision: DecisionTrace, approver: str, *, granted: bool = True, key: str | None = None
) -> SignedVote:
    """Sign an answer to a decision that another tool shows, such as one read over REST.

    ```python
    shown = DecisionTrace.model_validate_json(client.get(f"{url}/api/v1/decisions/{id}").content)
    vote = autotrace.decisions.sign_vote(shown, "ada")
    client.post(f"{url}/api/v1/decisions/{id}/approve", json=vote.model_dump())
    ```

    Needs no store. The signature covers a hash of the arguments shown, so that it approves no other
    call.

    Args:
        decision: The decision as it was shown, with its history.
        approver: Name of the approver: over a server, the agent of the key that sends the answer.
        granted: Whether the approver agrees.
        key: File of the private key. Default: that of the settings.

    Raises:
        InvalidArgumentError: The approver has no name, or no key exists.
        DecisionStateError: Nobody has requested approval.
        ApprovalRefused: The approval is bound to other arguments than those shown.
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


asign_vote = asynchronous(sign_vote)
