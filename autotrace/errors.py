"""The errors autotrace raises to its callers.

Recording never raises into user code; these come from asking: configuring, reading, recalling.

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
    """Base of every error raised by autotrace. They go from process to process as they are."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would make it anew from its message, which is not what these are made from.
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(
    kind: type[AutotraceError], args: tuple[object, ...], fields: dict[str, Any]
) -> AutotraceError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class NotConfiguredError(AutotraceError):
    """A read was asked for before `autotrace.configure()`."""

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
        store: The store as the program that asks may name it; None: it is not to be told.
    """

    def __init__(self, trace_id: str, store: str | None = None) -> None:
        self.trace_id = trace_id
        where = (
            f" in {store}; a trace just recorded is there after autotrace.flush()" if store else ""
        )
        super().__init__(f"no trace {trace_id!r}{where}")


class TraceStateError(AutotraceError):
    """A trace's state does not allow what was asked; nothing was changed."""

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
    """A decision's state does not allow what was asked; nothing was changed."""

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
    """A policy raised, or returned what is no outcome. It counts as no answer, never as a yes."""

    def __init__(self, policy_id: str, problem: str) -> None:
        self.policy_id = policy_id
        super().__init__(f"the policy {policy_id!r} gave no outcome: {problem}")


class ApprovalRefused(AutotraceError):
    """What was to be approved must not run: the message says why.

    Args:
        decision_id: The decision; None when none could be opened.
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
    """Nobody has answered yet. Ask again later, with the same arguments or the same key."""

    def __init__(self, decision_id: str) -> None:
        self.decision_id = decision_id
        super().__init__(
            f"{decision_id} waits for approval: "
            f"`autotrace decisions approve {decision_id} --by NAME`, then call again"
        )


class NotAuthenticatedError(AutotraceError):
    """No key was presented, or one that is unknown or revoked; which of them is not said."""

    def __init__(self) -> None:
        super().__init__(
            "no valid key: send the header `Authorization: Bearer <key>`; "
            "`autotrace keys create --agent NAME`, with the store of this server, makes one"
        )


class NotPermittedError(AutotraceError):
    """A valid key may not do this."""


class LimitExceededError(AutotraceError):
    """More was asked for than a limit allows; it may be asked for again later.

    Args:
        what: The limit, in words.
        retry_after_s: When it may be of use to ask again, in seconds.
    """

    def __init__(self, what: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what)


class KeyNotFoundError(AutotraceError, LookupError):
    """No key with this id was made."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"no key {key_id!r}; `autotrace keys list` names them")


class MissingExtraError(AutotraceError, ImportError):
    """A feature needs packages that an extra brings."""

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
    """The weights of the default embedder are in none of the places where they were looked for."""

    def __init__(self, space: str, tried: Iterable[tuple[str, str]], fix: str) -> None:
        self.tried = tuple(tried)
        places = "; ".join(f"{place}: {reason}" for place, reason in self.tried)
        super().__init__(f"no usable weights for the embedder {space} ({places}); to fix it: {fix}")


class DamagedDecisionError(StoreError):
    """A decision's history was changed, so that it says nothing any more."""

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
