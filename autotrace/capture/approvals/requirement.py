"""Requirements of a tool for approval, from its decorator."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from autotrace.capture.wrappers import target_of
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.models import ApprovalRequest

RequiresApproval: TypeAlias = bool | str | Callable[[dict[str, Any]], bool]
"""Whether each call requests approval; or a policy's id; or a function of the arguments."""


@dataclass(frozen=True)
class Requirement:
    """When a tool requests approval, of whom, and how long it waits.

    Args:
        always: Whether every call requests approval.
        tests: Functions of the arguments that return whether a call requests approval.
        policies: Ids of policies that allow a call, deny it, or require approval.
        wait: Whether to wait for the answer, or for how many seconds; None: wait.
        request: The request for approval; None: a default one.
    """

    always: bool = False
    tests: tuple[Callable[[dict[str, Any]], bool], ...] = ()
    policies: tuple[str, ...] = ()
    wait: bool | float | None = None
    request: ApprovalRequest | None = None

    @property
    def asks(self) -> bool:
        """Whether any call may have to request approval."""
        return self.always or bool(self.tests) or bool(self.policies)

    def over(self, inner: Requirement) -> Requirement:
        """Return the requirement of a function with both decorators: the stricter of each part."""
        return Requirement(
            self.always or inner.always,
            _once((*inner.tests, *self.tests)),
            _once((*inner.policies, *self.policies)),
            inner.wait if self.wait is None else self.wait,
            _stricter(inner.request, self.request),
        )

    def must_ask(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether a call requests approval independent of policies.

        Raises:
            InvalidArgumentError: A function did not return a bool, or an argument cannot be copied.
            Exception: Raised by such a function.
        """
        # All are called, so that an exception does not depend on the result of another one.
        answers = [_answer(test, arguments) for test in self.tests]
        return self.always or any(answers)


def requirement_of(
    requires_approval: Any, wait: Any, approval: ApprovalRequest | None
) -> Requirement:
    """Return the requirement of a decorator's arguments; raise InvalidArgumentError."""
    is_number = isinstance(wait, int | float)  # True and False are numbers, too
    if wait is not None and not (is_number and 0 <= wait < float("inf")):
        raise InvalidArgumentError("wait", wait, "True, False, or a number of seconds")
    if approval is not None:
        from autotrace.models import ApprovalRequest

        if not isinstance(cast("object", approval), ApprovalRequest):
            raise InvalidArgumentError("approval", approval, "an ApprovalRequest")
        if approval.arguments is not None:
            allowed = (
                "left out: approvers are shown the real arguments; hide some with redact=[...]"
            )
            raise InvalidArgumentError("approval.arguments", "<given>", allowed)
    if isinstance(requires_approval, bool):
        return Requirement(always=requires_approval, wait=wait, request=approval)
    if isinstance(requires_approval, str) and requires_approval.strip():
        return Requirement(policies=(requires_approval,), wait=wait, request=approval)
    is_test = callable(requires_approval) and not isinstance(requires_approval, type)
    if not is_test or inspect.iscoroutinefunction(target_of(requires_approval)):
        allowed = "True, False, a policy's id, or a function of the dict of arguments (not async)"
        raise InvalidArgumentError("requires_approval", requires_approval, allowed)
    test = cast("Callable[[dict[str, Any]], bool]", requires_approval)
    return Requirement(tests=(test,), wait=wait, request=approval)


def _answer(test: Callable[[dict[str, Any]], bool], arguments: Mapping[str, Any]) -> bool:
    answer: Any = test({name: _copy(name, value) for name, value in arguments.items()})
    if not isinstance(answer, bool):
        raise InvalidArgumentError(
            "requires_approval", answer, "a function that returns True or False"
        )
    return answer


def _copy(name: str, value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception as error:
        allowed = f"a value that can be copied for the requires_approval function: {error!r}"
        raise InvalidArgumentError(name, f"<{type(value).__qualname__}>", allowed) from error


def _once(values: Iterable[Any]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return tuple(kept)


def _stricter(
    inner: ApprovalRequest | None, outer: ApprovalRequest | None
) -> ApprovalRequest | None:
    if inner is None or outer is None:
        return outer or inner
    from autotrace.models import ApprovalRequest

    limits = [
        request.expires_in_seconds
        for request in (inner, outer)
        if request.expires_in_seconds is not None
    ]
    keys = outer.approver_keys or inner.approver_keys
    if outer.approver_keys is not None and inner.approver_keys is not None:
        keys = [key for key in outer.approver_keys if key in inner.approver_keys]
        if not keys:
            allowed = "keys that both decorators of the function name: there is no such key"
            raise InvalidArgumentError("approver_keys", outer.approver_keys, allowed)
    return ApprovalRequest(
        title=outer.title or inner.title,
        message=outer.message or inner.message,
        expires_in_seconds=min(limits, default=None),
        require_rationale=outer.require_rationale or inner.require_rationale,
        approvals_needed=max(outer.approvals_needed, inner.approvals_needed),
        route=outer.route or inner.route,
        approver_keys=keys,
    )


NOTHING: Final = Requirement()
"""Requirement of a tool without approval."""
