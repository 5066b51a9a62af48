"""What `task` and `step` share: one object that is a with-block, an async one, and a decorator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

from opentelemetry.trace import get_current_span

from autotrace import semconv
from autotrace.capture.arguments import ArgumentNames
from autotrace.capture.drive import traced
from autotrace.capture.recorder import Operation, Recorder, current, is_suppressed

H = TypeVar("H")


class Block(Generic[H]):
    """A block that records; entering gives a handle, which always works, recording or not.

    The same object may be entered again: inside itself, and by several threads or asyncio tasks at
    once.
    """

    def __init__(self) -> None:
        self._open: list[Operation | None] = []
        self._open_lock = threading.Lock()

    def _make(self, recorder: Recorder, arguments: Mapping[str, Any] | None) -> Operation:
        """Make the operation; arguments are those of the decorated function's call."""
        raise NotImplementedError

    def _handle(self, operation: Operation | None) -> H:
        """Make the handle of an operation; None when nothing records."""
        raise NotImplementedError

    def _not_configured(self) -> None:
        """Say, if it has not been said, that nothing is recorded."""

    def __enter__(self) -> H:
        operation: Operation | None = None
        recorder = current.recorder
        if recorder is None:
            self._not_configured()
        elif not is_suppressed():
            try:
                operation = self._make(recorder, None)
                operation.enter()
            except Exception as error:  # noqa: BLE001 - the guard of this package
                recorder.failed(error)
        with self._open_lock:
            self._open.append(operation)
        return self._handle(operation)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        operation = self._leave()
        if operation is None:
            return
        if error is None:
            operation.succeed(None)
        else:
            operation.fail(error)

    def _leave(self) -> Operation | None:
        span = get_current_span()
        with self._open_lock:
            for index in reversed(range(len(self._open))):
                operation = self._open[index]
                if operation is not None and operation.span is span:
                    return self._open.pop(index)
            return self._open.pop()

    async def __aenter__(self) -> H:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _decorate(self, function: Callable[..., Any]) -> Any:
        names = ArgumentNames(function)

        def make(
            recorder: Recorder, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Operation:
            return self._make(recorder, names.bind(instance, args, kwargs))

        return traced(function, make, self._not_configured)


def filled(text: str, arguments: Mapping[str, Any] | None, recorder: Recorder) -> str:
    """Fill `{name}` fields of a decorator's text with the call's arguments.

    Text that is no template of these arguments stays as it is. Secret arguments are not filled in.
    """
    if not arguments or "{" not in text:
        return text
    redactor = recorder.encoder.redactor
    try:
        return text.format_map(
            {
                name: semconv.REDACTED if redactor.is_secret(name) else value
                for name, value in arguments.items()
            }
        )
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        return text


def described(function: Any) -> str:
    """Describe a function in words: the first line of its docstring, or its name."""
    doc = (getattr(function, "__doc__", None) or "").strip()
    name = str(getattr(function, "__name__", type(function).__name__))
    return doc.partition("\n")[0] or name.replace("_", " ").strip()
