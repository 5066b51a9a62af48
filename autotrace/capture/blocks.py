"""Provide the base of `task` and `step`: with-block and decorator in one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import currentframe
from types import FrameType, TracebackType
from typing import Any, ClassVar, Generic, TypeVar, cast

from autotrace import semconv
from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.capture.arguments import ArgumentNames
from autotrace.capture.call_drivers import traced
from autotrace.capture.operation import Operation, enter_operation
from autotrace.capture.recorder import Recorder, current
from autotrace.capture.wrappers import F, as_in_class, check_is_function, described

H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class DecoratedCall:
    """Call of a decorated function."""

    arguments: Mapping[str, Any]
    description: str
    """First line of the function's docstring, or its name."""


class Block(Generic[H]):
    """Block whose handle works also while nothing records.

    The same object may be entered again: inside itself, and by several threads or tasks at once.
    """

    _word: ClassVar[str]
    """Name of the block for users."""

    def __init__(self) -> None:
        self._open: list[tuple[int, Operation | None]] = []
        """Frame id and operation of each entry that has not exited."""
        self._open_lock = threading.Lock()

    def _make(self, recorder: Recorder, call: DecoratedCall | None) -> Operation:
        """Return a new operation; `call` is None for a with-block."""
        raise NotImplementedError

    def _handle(self, operation: Operation | None) -> H:
        """Return the handle of an operation, which is None if nothing records."""
        raise NotImplementedError

    def _not_configured(self) -> None:
        """Handle a call while nothing records; overridden to warn."""

    def __call__(self, function: F) -> F:
        """Decorate a function so that each call is a block of its own.

        Raises:
            InvalidArgumentError: It is not a function.
        """
        check_is_function(function, self._word)
        function = as_in_class(function)
        names = ArgumentNames(function)
        description = described(function)

        def make(
            recorder: Recorder, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Operation:
            return self._make(
                recorder, DecoratedCall(names.bind(instance, args, kwargs), description)
            )

        return cast("F", traced(function, make, self, self._not_configured))

    def __enter__(self) -> H:
        return self._enter(currentframe())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(currentframe(), error)

    async def __aenter__(self) -> H:
        return self._enter(currentframe())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(currentframe(), error)

    def _enter(self, frame: FrameType | None) -> H:
        if current.recorder is None:
            self._not_configured()
        operation = enter_operation(lambda recorder: self._make(recorder, None))
        with self._open_lock:
            self._open.append((_place(frame), operation))
        return self._handle(operation)

    def _leave(self, frame: FrameType | None, error: BaseException | None) -> None:
        operation = self._close(_place(frame))
        if operation is None:
            return
        if error is None:
            operation.succeed()
        else:
            operation.fail(error)

    def _close(self, place: int) -> Operation | None:
        """Remove the entry that exits now and return its operation.

        A `with` exits in the frame that entered it. Entries of an ExitStack, and those of direct
        calls of `__enter__`, differ by the current context.
        """
        with self._open_lock:
            if len(self._open) > 1:
                best = max(
                    range(len(self._open)),
                    key=lambda index: (*self._likelihood(place, *self._open[index]), index),
                )
                return self._open.pop(best)[1]
            return self._open.pop()[1] if self._open else None

    @staticmethod
    def _likelihood(place: int, entered: int, operation: Operation | None) -> tuple[bool, bool]:
        records_here = operation is None or operation.span is None or operation.is_current()
        return entered == place, records_here


def _place(frame: FrameType | None) -> int:
    """Return the id of the caller of a frame, unique until it returns."""
    return 0 if frame is None else id(frame.f_back)


def filled(text: str, arguments: Mapping[str, Any], recorder: Recorder) -> str:
    """Fill `{name}` fields of a decorator's text with the call's arguments.

    A secret argument is filled in as `semconv.REDACTED`. Text that is not a template of these
    arguments stays as it is.
    """
    if "{" not in text:
        return text
    is_secret = recorder.encoder.redactor.is_secret
    fields = {
        name: semconv.REDACTED if is_secret(name) else value for name, value in arguments.items()
    }
    try:
        return text.format_map(fields)
    except Exception as error:  # noqa: BLE001 - an argument's own __format__ may raise anything
        reraise_if_from_signal_handler(error)
        return text
