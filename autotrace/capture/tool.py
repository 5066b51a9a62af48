"""`tool` and `tool_call`: calls of tools as spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from autotrace import semconv
from autotrace.capture.arguments import ArgumentNames
from autotrace.capture.drive import target_of, traced
from autotrace.capture.recorder import Operation, Recorder, current, is_suppressed
from autotrace.errors import InvalidArgumentError

P = ParamSpec("P")
R = TypeVar("R")

_MAX_NAME_CHARS = 256
_MAX_ITEMS = 1000
"""How many items of a generator are kept as its result."""


class ToolOperation(Operation):
    """One call of a tool."""

    __slots__ = ("capture_result", "items", "items_left_out", "redacted", "secret_keys")

    def __init__(
        self,
        recorder: Recorder,
        span_name: str,
        attributes: dict[str, Any],
        *,
        capture_result: bool,
        secret_keys: frozenset[str],
        redacted: list[str],
    ) -> None:
        super().__init__(recorder, span_name, attributes)
        self.capture_result = capture_result
        self.secret_keys = secret_keys
        self.redacted = redacted
        self.items: list[str] | None = None
        self.items_left_out = 0

    def succeed(self, result: Any) -> None:
        """End with the result; of a generator that is what it yielded."""
        self.detach()
        end_ns = self.now_ns()
        if self.capture_result and self.span is not None:
            self.set_result(result)
        self.end(end_ns)

    def set_result(self, result: Any) -> None:
        """Record the result."""
        try:
            text = (
                self.recorder.encoder.json(
                    result, secret_keys=self.secret_keys, found=self.redacted
                )
                if self.items is None
                else self._items_json()
            )
            assert self.span is not None  # noqa: S101 - the callers have looked
            self.span.set_attribute(semconv.GEN_AI_TOOL_CALL_RESULT, text)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def item(self, value: Any) -> None:
        """Keep what a generator yields, as it is at this moment."""
        if not self.capture_result or self.span is None:
            return
        try:
            if self.items is None:
                self.items = []
            if len(self.items) < _MAX_ITEMS:
                self.items.append(
                    self.recorder.encoder.json(
                        value, secret_keys=self.secret_keys, found=self.redacted
                    )
                )
            else:
                self.items_left_out += 1
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def _items_json(self) -> str:
        items = self.items or []
        limit = self.recorder.encoder.max_value_bytes
        kept: list[str] = []
        size = 2
        for item in items:
            size += len(item.encode()) + 1
            if size > limit:
                break
            kept.append(item)
        left_out = len(items) - len(kept) + self.items_left_out
        if left_out:
            self.recorder.count("truncated")
            total = len(items) + self.items_left_out
            kept.append(f'{{"{semconv.TRUNCATED}":{{"kind":"items","length":{total}}}}}')
        return "[" + ",".join(kept) + "]"

    def close_early(self) -> None:
        """End a generator that was closed or abandoned before its end: no failure of the tool."""
        end_ns = self.now_ns()
        self.set({semconv.TOOL_EXHAUSTED: False})
        if self.capture_result and self.items is not None and self.span is not None:
            self.set_result(None)
        self.end(end_ns)

    def describe(self, error: BaseException) -> None:
        """Say error or timeout, and what went wrong."""
        self.set({semconv.TOOL_STATUS: "timeout" if is_timeout(error) else "error"})
        if self.capture_result and self.items is not None and self.span is not None:
            self.set_result(None)
        super().describe(error)

    def secrets(self) -> list[str]:
        """Return the argument values that were redacted."""
        return self.redacted


def is_timeout(error: BaseException) -> bool:
    """Tell whether an exception says that time ran out, whichever library raised it."""
    if isinstance(error, TimeoutError):
        return True
    return any(
        "Timeout" in cls.__name__ or cls.__name__ == "DeadlineExceeded"
        for cls in type(error).__mro__
    )


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    redact: Iterable[str] = (),
    capture_arguments: bool | None = None,
    capture_result: bool | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    redact: Iterable[str] = (),
    capture_arguments: bool | None = None,
    capture_result: bool | None = None,
) -> Any:
    """Record each call of a function as a tool call.

    Works on sync and async functions, generators and async generators, methods, class methods and
    static methods (above or below their decorators), partials and callable objects. What the
    function does, returns, raises and tells of itself stays as it is.

    Args:
        function: The function, when used bare.
        name: Name of the tool. Default: the function's name.
        redact: Names of arguments, and keys inside arguments and result, whose values are not to
            be recorded; in addition to the keys that are redacted anyway.
        capture_arguments: Whether to record the arguments. Default: the setting of that name.
        capture_result: Whether to record the result. Default: the setting of that name.

    Returns:
        The function, recording; or a decorator, when used with arguments.

    Raises:
        InvalidArgumentError: `name` is empty, or `redact` is a single string.
    """
    if isinstance(redact, str):
        raise InvalidArgumentError("redact", redact, "a list of names, such as ['card_number']")
    if name is not None and not name.strip():
        raise InvalidArgumentError("name", name, "a name that is not empty")
    secret_keys = frozenset(redact)

    def decorate(function: Any) -> Any:
        if not callable(function) and not isinstance(function, classmethod | staticmethod):
            raise InvalidArgumentError("tool", function, "used on a function: @tool or @tool(...)")
        tool_name = (name or _name_of(function))[:_MAX_NAME_CHARS]
        span_name = f"{semconv.EXECUTE_TOOL} {tool_name}"
        arguments = ArgumentNames(function)

        def make(
            recorder: Recorder, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Operation:
            attributes: dict[str, Any] = {
                semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
                semconv.GEN_AI_TOOL_NAME: tool_name,
            }
            redacted: list[str] = []
            if recorder.capture_arguments if capture_arguments is None else capture_arguments:
                attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = recorder.encoder.json(
                    arguments.bind(instance, args, kwargs), secret_keys=secret_keys, found=redacted
                )
            return ToolOperation(
                recorder,
                span_name,
                attributes,
                capture_result=(
                    recorder.capture_result if capture_result is None else capture_result
                ),
                secret_keys=secret_keys,
                redacted=redacted,
            )

        return traced(function, make)

    return decorate if function is None else decorate(function)


def _name_of(function: Any) -> str:
    target = target_of(function)
    return getattr(function, "__name__", None) or getattr(
        target, "__name__", type(function).__name__
    )


class tool_call:  # noqa: N801 - used like a function, as the other blocks are
    """Record a tool call where there is no function to decorate.

    ```python
    with tool_call("web_search", {"query": query}) as call:
        call.set_result(client.search(query))
    ```

    Use with `with` or `async with`. An exception that leaves the block makes the call an error, or
    a timeout, and goes on.

    What is given here often comes from a model, so nothing of it is refused: a name that is
    missing is recorded as `unknown`.

    Args:
        name: Name of the tool.
        arguments: The arguments by name.
        memory_id: Id of a memory that the call used or made.
        redact: Further keys whose values are not to be recorded.
    """

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        memory_id: str | None = None,
        redact: Iterable[str] = (),
    ) -> None:
        self._name = str(name or "unknown")[:_MAX_NAME_CHARS]
        self._arguments = arguments
        self._memory_id = memory_id
        self._secret_keys = frozenset([redact] if isinstance(redact, str) else redact)
        self._operation: ToolOperation | None = None
        self._result: tuple[Any] | None = None
        self._failed = False

    @property
    def tool_call_id(self) -> str:
        """Id of the call in its trace; empty while nothing records."""
        if self._operation is None:
            return ""
        return semconv.TOOL_CALL_ID_PREFIX + self._operation.ids()[1]

    def set_result(self, result: Any) -> None:
        """Say what the call returned."""
        self._result = (result,)

    def set_error(self, message: str, *, error_type: str = "error", timeout: bool = False) -> None:
        """Say that the call failed without an exception.

        Args:
            message: What went wrong.
            error_type: A short name for this kind of failure.
            timeout: Whether time ran out.
        """
        operation = self._operation
        if operation is None or self._failed:
            return
        self._failed = True
        try:
            operation.set({semconv.TOOL_STATUS: "timeout" if timeout else "error"})
            text = operation.recorder.encoder.text(message)
            operation.set_error(error_type, text)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            operation.recorder.failed(error)

    def __enter__(self) -> Self:
        recorder = current.recorder
        if recorder is not None and not is_suppressed():
            try:
                self._operation = self._make(recorder)
                self._operation.enter()
            except Exception as error:  # noqa: BLE001 - the guard of this package
                recorder.failed(error)
        return self

    def _make(self, recorder: Recorder) -> ToolOperation:
        attributes: dict[str, Any] = {
            semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
            semconv.GEN_AI_TOOL_NAME: self._name,
        }
        if self._memory_id is not None:
            attributes[semconv.TOOL_MEMORY_ID] = self._memory_id
        redacted: list[str] = []
        if recorder.capture_arguments and self._arguments is not None:
            attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = recorder.encoder.json(
                self._arguments, secret_keys=self._secret_keys, found=redacted
            )
        return ToolOperation(
            recorder,
            f"{semconv.EXECUTE_TOOL} {self._name}",
            attributes,
            capture_result=recorder.capture_result,
            secret_keys=self._secret_keys,
            redacted=redacted,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        operation = self._operation
        if operation is None:
            return
        if error is not None:
            operation.fail(error)
        elif self._result is None:
            operation.detach()
            operation.end()
        else:
            operation.succeed(self._result[0])

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)
