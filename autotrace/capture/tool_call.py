"""Record tool calls that have no function to decorate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from autotrace.capture.operation import enter_operation
from autotrace.capture.recorder import Recorder
from autotrace.capture.tool_operation import ToolOperation
from autotrace.ids import format_tool_call_id


class tool_call:
    """Record a tool call that has no function to decorate.

    ```python
    with tool_call("web_search", {"query": query}) as call:
        call.set_result(client.search(query))
    ```

    Use with `with` or `async with`, one object for one call at a time. An exception that leaves
    the block sets the status of the call, such as error or timeout, and propagates.

    Names and arguments often come from a model, so no value is refused: a missing name is
    recorded as `unknown`.

    Args:
        name: Name of the tool.
        arguments: The arguments by name.
        memory_id: Id of a memory that the call used or made.
        redact: Further keys whose values are redacted.
    """

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        memory_id: str | None = None,
        redact: Iterable[str] = (),
    ) -> None:
        self._name = name
        self._arguments = arguments
        self._memory_id = memory_id
        self._secret_keys = frozenset([redact] if isinstance(redact, str) else redact)
        self._operation: ToolOperation | None = None
        self._failed = False

    @property
    def tool_call_id(self) -> str:
        """Id of the call in its trace; empty while nothing records."""
        ids = None if self._operation is None else self._operation.ids()
        return "" if ids is None else format_tool_call_id(ids[1])

    def set_result(self, result: Any) -> None:
        """Record the result of the call, as it is at this moment."""
        operation = self._operation
        if operation is None:
            return
        try:
            operation.describe_result(result)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            operation.recorder.failed(error)

    def set_error(self, message: str, *, error_type: str = "error", timeout: bool = False) -> None:
        """Mark the call as failed without an exception; the first call counts.

        Args:
            message: Description of the failure.
            error_type: Short name of the kind of failure.
            timeout: Whether the failure is a timeout.
        """
        operation = self._operation
        if operation is None or self._failed:
            return
        self._failed = True
        try:
            operation.set_status("timeout" if timeout else "error")
            text = operation.recorder.encoder.text(message, path="error.message")
            operation.set_error(str(error_type), text)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            operation.recorder.failed(error)

    def __enter__(self) -> Self:
        self._failed = False
        self._operation = enter_operation(self._make)
        return self

    def _make(self, recorder: Recorder) -> ToolOperation:
        return ToolOperation(
            recorder,
            str(self._name or "unknown"),
            self._arguments if recorder.capture_arguments else None,
            capture_result=recorder.capture_result,
            secret_keys=self._secret_keys,
            memory_id=None if self._memory_id is None else str(self._memory_id),
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
        else:
            operation.detach()
            operation.end()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)
