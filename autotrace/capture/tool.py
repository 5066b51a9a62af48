"""Record each call of a function as a tool call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, overload

from autotrace.capture.approvals.requirement import (
    NOTHING,
    Requirement,
    RequiresApproval,
    requirement_of,
)
from autotrace.capture.arguments import ArgumentNames
from autotrace.capture.call_drivers import traced, tracing
from autotrace.capture.injected_parameters import InjectedParameters
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder
from autotrace.capture.tool_operation import ToolOperation
from autotrace.capture.wrappers import (
    F,
    Traced,
    as_in_class,
    check_is_function,
    decorator_of,
    name_of,
    original_of,
    wrap,
)
from autotrace.errors import InvalidArgumentError

if TYPE_CHECKING:
    from autotrace.models import ApprovalRequest


@dataclass(frozen=True)
class ToolDecorator:
    """Decorator that `tool(...)` returns."""

    name: str | None
    secret_keys: frozenset[str]
    capture_arguments: bool | None
    capture_result: bool | None
    requirement: Requirement = NOTHING

    def __call__(self, function: F) -> F:
        """Record each call of a function as a tool call.

        Raises:
            InvalidArgumentError: It is not a function, or cannot be gated.
        """
        check_is_function(function, "tool")
        function = as_in_class(function)
        inner = _decorator_of(function)
        if inner is not None:
            # Two decorators on one function record one call. Options of the outer one win; keys
            # that either redacts are redacted, and an approval that either requires is required.
            return self._over(inner)(original_of(cast("Traced", function)))
        make = self._maker(function)
        if not self.requirement.asks:
            return traced(function, make, self)
        # Imported here, since most tools require no approval.
        from autotrace.capture.approvals.gate import Gate
        from autotrace.capture.approvals.gateable import check_can_be_gated
        from autotrace.capture.approvals.stand_in import stand_in_for
        from autotrace.capture.approvals.wrapper import gated

        check_can_be_gated(function)
        gate = Gate(
            function,
            self.name or name_of(function),
            self.requirement,
            secret_keys=self.secret_keys,
            capture_arguments=self.capture_arguments,
            make=make,
        )
        call = gated(function, gate, tracing(function, make))
        return wrap(function, call, self, stand_in_for(function))

    def _over(self, inner: ToolDecorator) -> ToolDecorator:
        return ToolDecorator(
            self.name or inner.name,
            self.secret_keys | inner.secret_keys,
            inner.capture_arguments if self.capture_arguments is None else self.capture_arguments,
            inner.capture_result if self.capture_result is None else self.capture_result,
            self.requirement.over(inner.requirement),
        )

    def _maker(self, function: Any) -> Callable[..., Operation]:
        name = self.name or name_of(function)
        names = ArgumentNames(function)
        injected = InjectedParameters(function)
        secret_keys = self.secret_keys
        capture_arguments, capture_result = self.capture_arguments, self.capture_result

        def make(
            recorder: Recorder, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Operation:
            arguments: dict[str, Any] | None = None
            if recorder.capture_arguments if capture_arguments is None else capture_arguments:
                arguments = names.bind(instance, args, kwargs)
                injected.replace_in(arguments, recorder.encoder.injected)
            captures = recorder.capture_result if capture_result is None else capture_result
            return ToolOperation(
                recorder, name, arguments, capture_result=captures, secret_keys=secret_keys
            )

        return make


def _decorator_of(function: Any) -> ToolDecorator | None:
    if not isinstance(function, Traced):
        return None
    decorator = decorator_of(function)
    return decorator if isinstance(decorator, ToolDecorator) else None


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    redact: Iterable[str] = (),
    capture_arguments: bool | None = None,
    capture_result: bool | None = None,
    requires_approval: RequiresApproval = False,
    wait: bool | float | None = None,
    approval: ApprovalRequest | None = None,
) -> ToolDecorator: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    redact: Iterable[str] = (),
    capture_arguments: bool | None = None,
    capture_result: bool | None = None,
    requires_approval: RequiresApproval = False,
    wait: bool | float | None = None,
    approval: ApprovalRequest | None = None,
) -> Any:
    """Record each call of a function as a tool call.

    Works on sync and async functions, generators and async generators, methods, class methods and
    static methods (above or below their decorators), partials and callable objects. Results,
    exceptions and signature of the function stay the same.

    With `requires_approval`, the body does not run before a person has approved exactly these
    arguments, and runs once for each approval. Before the body runs, such a call may raise
    ApprovalRefused (rejected, expired, denied by a policy, changed, used up), ApprovalPending
    (no answer yet: call again with the same arguments), NotConfiguredError,
    InvalidArgumentError (an argument whose content cannot be shown, such as an open file),
    PolicyNotFoundError, PolicyError or StoreError. An async function waits without blocking its
    event loop; a generator asks when its body would begin. Put it directly on the function, below
    every other decorator: an object that runs in other ways than by a call cannot be gated.

    ```python
    @tool(requires_approval=lambda arguments: arguments["amount"] > 100, wait=False)
    def refund(order: str, amount: float) -> str: ...
    ```

    Args:
        function: The function, when used bare.
        name: Name of the tool. Default: the function's name.
        redact: Names of arguments, and keys inside arguments and result, whose values are
            redacted, in addition to those that always are.
        capture_arguments: Whether to record the arguments. Default: the setting of that name.
        capture_result: Whether to record the result. Default: the setting of that name.
        requires_approval: Whether each call needs an approval; or a function of the dict of
            arguments (it gets a copy); or the id of a policy, which allows a call,
            denies it, or requires an exception: an approval.
        wait: Whether to wait for the answer, or for how many seconds at most; False: raise
            ApprovalPending at once. Default: until it is answered or expires.
        approval: Request to the approvers. Default: to run this tool with these arguments, as far
            as they may be recorded.

    Returns:
        The function wrapped to record its calls; or a decorator, when used with arguments.

    Raises:
        InvalidArgumentError: `name` is empty, `redact` is a single string, the decorated object is
            not a function or cannot be gated, or the options of the approval are not allowed.
    """
    if isinstance(redact, str):
        raise InvalidArgumentError("redact", redact, "a list of names, such as ['card_number']")
    if name is not None and not name.strip():
        raise InvalidArgumentError("name", name, "a name that is not empty")
    requirement = requirement_of(requires_approval, wait, approval)
    decorator = ToolDecorator(
        name, frozenset(redact), capture_arguments, capture_result, requirement
    )
    return decorator if function is None else decorator(function)
