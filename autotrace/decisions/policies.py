"""Policies: pure functions of their inputs that decide what may run without approval.

A policy gets a copy of its inputs and nothing else, so that one version of it returns the same
outcome for the same inputs. A policy that fails raises `PolicyError`, which allows nothing.
"""

from __future__ import annotations

import importlib
import inspect
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CoroutineType, FunctionType
from typing import Any, Final, TypeAlias, TypeVar, cast, get_args

from autotrace.base.plain_json import plain_object
from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.base.source_hash import source_hash
from autotrace.errors import InvalidArgumentError, PolicyError, PolicyNotFoundError
from autotrace.models import PolicyOutcome

PolicyAnswer: TypeAlias = PolicyOutcome | tuple[PolicyOutcome, str | Mapping[str, Any]]
"""An outcome, or an outcome and its reason: a text or a JSON object."""

PolicyFunction: TypeAlias = Callable[[dict[str, Any]], PolicyAnswer]

_F = TypeVar("_F", bound=PolicyFunction)

_OUTCOMES: Final = get_args(PolicyOutcome)
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,127}")
_ID_RULE: Final = (
    "1 to 128 of the characters A-Z a-z 0-9 _ . : / @ -, the first a letter or digit, "
    'as in @policy("discount_cap_v1")'
)

_OF_THE_KEY: Final = ("principal", "entities")
"""Names of inputs that a client cannot set."""
_WHO_ASKS: Final = ("agent", "actor")
"""Names of inputs that a client can only set to the agent of its own key."""

_shorten = reprlib.Repr()
_shorten.maxother = _shorten.maxstring = 120


@dataclass(frozen=True)
class Evaluated:
    """The outcome of a policy."""

    policy_id: str
    version: str
    """SHA-256 of the policy's source."""
    outcome: PolicyOutcome
    rationale: dict[str, Any]
    """Reason: the policy's own object, or `{"reason": ...}`; empty without one."""


@dataclass(frozen=True)
class Policy:
    """A registered policy.

    Args:
        policy_id: Its id.
        version: Hash that changes if and only if an outcome may change.
        decide: Returns the outcome; may raise.
        origin: Source of the policy, for errors.
        place: A policy from the same place replaces this one; None: only the same version does.
    """

    policy_id: str
    version: str
    decide: Callable[[dict[str, Any]], Any]
    origin: str
    place: str | None
    decide_for: Callable[[dict[str, Any], Any], Any] | None = None
    """Returns the outcome for the agent of a client's key; None: as `decide`."""


_policies: dict[str, Policy] = {}


def policy(policy_id: str) -> Callable[[_F], _F]:
    """Register a function as a policy of this process.

    The function takes one argument, a dict of inputs, and returns `"allow"`, `"deny"` or
    `"requires_exception"`, or an outcome and a reason, a text or a JSON object:
    `("deny", "more than 20 %")`. It must decide from its inputs alone, and can still be called.

    A second registration from the same place (a reloaded module, a notebook's cell) replaces the
    first.

    Args:
        policy_id: Its id, such as `discount_cap_v1`.

    Raises:
        InvalidArgumentError: The id is not allowed, or another function, which the error names, has
            it; or the object is not a plain function of one argument.
    """
    check_policy_id(policy_id)

    def registered(function: _F) -> _F:
        _check_function(policy_id, function)
        plain = cast("FunctionType", function)
        code = plain.__code__
        name = f"{plain.__module__}.{plain.__qualname__}"
        add_policy(
            Policy(
                policy_id,
                source_hash(plain),
                function,
                f"{name} ({code.co_filename}:{code.co_firstlineno})",
                # Many functions share a name such as f.<locals>.g or <lambda>.
                place=None if "<" in plain.__qualname__ else name,
            )
        )
        return function

    return registered


def add_policy(new: Policy) -> None:
    """Register a policy of any kind.

    Raises:
        InvalidArgumentError: Another policy has the id.
    """
    old = _policies.setdefault(new.policy_id, new)
    if old is new:
        return
    if new.version != old.version and (new.place is None or new.place != old.place):
        allowed = (
            f"a unique id: {old.origin} has this one, so {new.origin} cannot "
            "(remove_policy frees an id)"
        )
        raise InvalidArgumentError("policy_id", new.policy_id, allowed)
    _policies[new.policy_id] = new


def import_policies(modules: Iterable[str]) -> None:
    """Import the modules that register policies, as the setting `policies` names them.

    Raises:
        InvalidArgumentError: A module cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            reraise_if_from_signal_handler(error)
            allowed = (
                "a module that this program can import (install it, or put its folder on "
                f"PYTHONPATH): {type(error).__name__}: {error}"
            )
            raise InvalidArgumentError("policies", module, allowed) from error


def remove_policy(policy_id: str) -> None:
    """Remove a policy, if one has this id."""
    _policies.pop(policy_id, None)


def policy_ids() -> list[str]:
    """Return the ids of the policies of this process, sorted."""
    return sorted(_policies)


def evaluate(policy_id: str, inputs: Mapping[str, Any], principal: str | None = None) -> Evaluated:
    """Evaluate a policy.

    Args:
        policy_id: Its id.
        inputs: A JSON object; the policy gets a copy.
        principal: Agent of a client's key. Inputs of a client cannot set the principal or entities.

    Raises:
        PolicyNotFoundError: No policy of this process has the id.
        InvalidArgumentError: The inputs are not a JSON object, or a client sets the principal.
        PolicyError: The policy raised, or its result is not an outcome.
    """
    found = _policies.get(policy_id)
    if found is None:
        raise PolicyNotFoundError(policy_id, policy_ids())
    try:
        copied = plain_object(inputs, "inputs")
    except ValueError as error:
        allowed = f"a JSON object: {error}"
        raise InvalidArgumentError("inputs", type(inputs).__qualname__, allowed) from None
    if principal is not None:
        _check_client(copied, principal, "inputs")
    try:
        decide = found.decide_for if principal is not None else None
        answer = found.decide(copied) if decide is None else decide(copied, principal)
    except PolicyError:
        raise
    except Exception as error:
        reraise_if_from_signal_handler(error)
        raise PolicyError(policy_id, f"it raised {_shorten.repr(error)}") from error
    outcome, rationale = _read(policy_id, answer)
    return Evaluated(policy_id, found.version, outcome, rationale)


def _check_client(inputs: Mapping[str, Any], principal: str, path: str) -> None:
    """Raise InvalidArgumentError if a client's inputs set the principal.

    The inputs are checked and, as a Cedar policy reads it, their `context`.
    """
    for name in _OF_THE_KEY:
        if name in inputs:
            allowed = (
                f"left out: over a server the principal is the agent of the key ({principal!r}), "
                "and entities come from the registration of the policy"
            )
            raise InvalidArgumentError(f"{path}.{name}", inputs[name], allowed)
    for name in _WHO_ASKS:
        if inputs.get(name, principal) != principal:
            allowed = f"the agent of the key ({principal!r}), or left out: rename other uses"
            raise InvalidArgumentError(f"{path}.{name}", inputs[name], allowed)
    context = inputs.get("context")
    if path == "inputs" and isinstance(context, Mapping):
        _check_client(cast("Mapping[str, Any]", context), principal, f"{path}.context")


def check_policy_id(policy_id: Any) -> None:
    """Raise InvalidArgumentError unless the value is a policy id."""
    if not isinstance(policy_id, str) or _ID.fullmatch(policy_id) is None:
        raise InvalidArgumentError("policy_id", policy_id, _ID_RULE)


def _check_function(policy_id: str, function: Any) -> None:
    what = "a plain function (not async, not a generator) of one argument, the dict of inputs"
    if not isinstance(function, FunctionType):
        raise InvalidArgumentError(f"the policy {policy_id}", function, what)
    never_answers = (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    )
    try:
        inspect.signature(function).bind({})
    except TypeError:
        never_answers = True
    if never_answers:
        raise InvalidArgumentError(f"the policy {policy_id}", function.__qualname__, what)


def _read(policy_id: str, answer: Any) -> tuple[PolicyOutcome, dict[str, Any]]:
    """Return the outcome and the reason of a policy's result.

    Raises:
        PolicyError: The result is not an outcome.
    """
    outcome, why = answer, cast("Any", {})
    if isinstance(
        answer, CoroutineType
    ):  # refused below; closed to avoid a warning that it was never awaited
        cast("CoroutineType[Any, Any, Any]", answer).close()
    elif isinstance(answer, tuple):
        parts = cast("tuple[Any, ...]", answer)
        if len(parts) == 2:
            outcome, why = parts
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        allowed = ", ".join(_OUTCOMES)
        returned = _shorten.repr(cast("object", answer))
        problem = f"it returned {returned}, which is not one of {allowed}, alone or with a reason"
        raise PolicyError(policy_id, problem)
    try:
        rationale = plain_object({"reason": why} if isinstance(why, str) else why, "the rationale")
    except ValueError as error:
        raise PolicyError(policy_id, str(error)) from None
    return cast("PolicyOutcome", str.__str__(outcome)), rationale
