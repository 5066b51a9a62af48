"""Errors and warnings of autotrace.

Recording never raises into user code. Configuring, reading, recalling and deciding raise these.

* AutotraceError
    * NotConfiguredError
    * InvalidArgumentError (also a ValueError)
    * TraceNotFoundError (also a LookupError)
    * StepNotFoundError (also a LookupError)
    * ToolNotFoundError (also a LookupError)
    * TraceStateError
    * DecisionNotFoundError (also a LookupError)
    * DecisionStateError
    * PolicyNotFoundError (also a LookupError)
    * PolicyError
    * ApprovalRefused
    * ApprovalPending
    * NotAuthenticatedError
    * NotPermittedError
    * LimitExceededError
    * KeyNotFoundError (also a LookupError)
    * MissingExtraError (also an ImportError)
    * StoreError
        * StoreUnavailableError
        * StoreVersionError
        * EmbeddingSpaceError
        * EmbedderUnavailableError
        * SigningKeyError
* AutotraceWarning
    * NotConfiguredWarning
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class AutotraceError(Exception):
    """Base of all errors of autotrace. They can be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default Python calls the class with the message, but these take other arguments.
        return _unpickle, (type(self), self.args, self.__dict__)


def _unpickle(
    kind: type[AutotraceError], args: tuple[object, ...], fields: dict[str, Any]
) -> AutotraceError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class NotConfiguredError(AutotraceError):
    """A read was requested before `autotrace.configure()`."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs a store: call autotrace.configure() first "
            "(it takes the store from its argument or from AUTOTRACE_STORE)"
        )


class InvalidArgumentError(AutotraceError, ValueError):
    """An argument or a setting has a value that is not allowed."""

    def __init__(self, field: str, value: object, allowed: str | Iterable[object]) -> None:
        self.field = field
        self.value = value
        text = allowed if isinstance(allowed, str) else "one of " + ", ".join(map(repr, allowed))
        super().__init__(f"{field}={value!r} is not allowed: it must be {text}")


class TraceNotFoundError(AutotraceError, LookupError):
    """No trace with this id is in the store.

    Args:
        trace_id: The id.
        store: Name of the store for the message; None: the caller must not see it.
    """

    def __init__(self, trace_id: str, store: str | None = None) -> None:
        self.trace_id = trace_id
        where = (
            f" in {store}; a trace just recorded is there after autotrace.flush()" if store else ""
        )
        super().__init__(f"no trace {trace_id!r}{where}")


class TraceStateError(AutotraceError):
    """The state of a trace does not allow the operation; nothing was changed."""

    def __init__(self, trace_id: str, what: str, reason: str) -> None:
        self.trace_id = trace_id
        super().__init__(f"{what} is not possible on {trace_id}: {reason}")


class StepNotFoundError(AutotraceError, LookupError):
    """A trace has no step with this id."""

    def __init__(self, step_id: str, trace_id: str) -> None:
        self.step_id = step_id
        super().__init__(f"no step {step_id!r} in {trace_id}")


class ToolNotFoundError(AutotraceError, LookupError):
    """The statistics hold no tool with this name."""

    def __init__(self, tool_name: str) -> None:
        self.tool_name = tool_name
        super().__init__(
            f"no tool {tool_name!r} in the statistics: pass a tool_name that they list"
        )


class DecisionNotFoundError(AutotraceError, LookupError):
    """No decision with this id is in the store."""

    def __init__(self, decision_id: str, store: str) -> None:
        self.decision_id = decision_id
        super().__init__(f"no decision {decision_id!r} in {store}")


class DecisionStateError(AutotraceError):
    """The state of a decision does not allow the operation; nothing was changed."""

    def __init__(self, decision_id: str, status: str, what: str, reason: str) -> None:
        self.decision_id = decision_id
        self.status = status
        super().__init__(f"{what} is not possible on {decision_id}, which is {status}: {reason}")


class PolicyNotFoundError(AutotraceError, LookupError):
    """No policy with this id is registered in this process."""

    def __init__(self, policy_id: str, known: Iterable[str]) -> None:
        self.policy_id = policy_id
        names = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"no policy {policy_id!r} is registered (there are: {names}); "
            f"register it with @autotrace.policy({policy_id!r})"
        )


class PolicyError(AutotraceError):
    """A policy raised, or returned an invalid outcome. It never counts as `allow`."""

    def __init__(self, policy_id: str, problem: str) -> None:
        self.policy_id = policy_id
        super().__init__(f"the policy {policy_id!r} gave no outcome: {problem}")


class ApprovalRefused(AutotraceError):
    """The approval was refused, so the action must not run; the message gives the reason.

    Args:
        decision_id: The decision; None if it could not be opened.
        reason: `rejected`, `expired`, `denied`, `used`, `claimed`, `changed`, `own`, `unsigned` or
            `aborted`.
        why: The reason in words.
    """

    def __init__(self, decision_id: str | None, reason: str, why: str) -> None:
        self.decision_id = decision_id
        self.reason = reason
        self.why = why
        super().__init__(f"refused ({decision_id}): {why}" if decision_id else f"refused: {why}")


class ApprovalPending(AutotraceError):
    """The approval is pending. Call again later with the same arguments or the same key."""

    def __init__(self, decision_id: str) -> None:
        self.decision_id = decision_id
        super().__init__(
            f"{decision_id} waits for approval: "
            f"`autotrace decisions approve {decision_id} --by NAME`, then call again"
        )


class NotAuthenticatedError(AutotraceError):
    """The key is missing, unknown or revoked; the message does not reveal which."""

    def __init__(self) -> None:
        super().__init__(
            "no valid key: send the header `Authorization: Bearer <key>`; "
            "`autotrace keys create --agent NAME`, with the store of this server, makes one"
        )


class NotPermittedError(AutotraceError):
    """A valid key may not do this."""


class LimitExceededError(AutotraceError):
    """A request exceeds a limit; the client may retry it later.

    Args:
        what: Description of the limit.
        retry_after_s: Seconds until a retry may succeed.
    """

    def __init__(self, what: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what)


class KeyNotFoundError(AutotraceError, LookupError):
    """No key has this id."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"no key {key_id!r}; `autotrace keys list` names them")


class MissingExtraError(AutotraceError, ImportError):
    """A feature needs the packages of an extra."""

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs: pip install 'autotrace-agents[{extra}]'")


class StoreError(AutotraceError):
    """The store cannot be used as it is."""


class StoreUnavailableError(StoreError):
    """The store did not answer."""


class StoreVersionError(StoreError):
    """The store was written by a newer autotrace than this one, or by an older one."""


class EmbeddingSpaceError(StoreError):
    """The store holds vectors of another embedding space than the one configured."""


class EmbedderUnavailableError(StoreError):
    """The weights of the default embedder were not found in any of their places."""

    def __init__(self, space: str, tried: Iterable[tuple[str, str]], fix: str) -> None:
        self.tried = tuple(tried)
        places = "; ".join(f"{place}: {reason}" for place, reason in self.tried)
        super().__init__(f"no usable weights for the embedder {space} ({places}); to fix it: {fix}")


class DamagedDecisionError(StoreError):
    """The history of a decision was changed and cannot be read."""

    def __init__(self, decision_id: str) -> None:
        self.decision_id = decision_id
        super().__init__(
            f"the history of {decision_id} was changed and cannot be read: "
            f"`autotrace decisions verify {decision_id}` names the first bad event"
        )


class SigningKeyError(StoreError):
    """A key that signs receipts or votes cannot be used as it is."""


class AutotraceWarning(UserWarning):
    """Base of every warning issued by autotrace."""


class NotConfiguredWarning(AutotraceWarning):
    """A task was opened before `autotrace.configure()`; nothing is recorded."""
