"""What `task` and `step` share: one object that is a with-block, an async one, and a decorator."""

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
from autotrace.capture.operation import Operation
from autotrace.capture.recorder import Recorder, current, is_suppressed
from autotrace.capture.wrappers import F, as_in_class, check_is_function, described

H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class DecoratedCall:
    """A call of a decorated function."""

    arguments: Mapping[str, Any]
    description: str
    """The function in words."""


class Block(Generic[H]):
    """A block that records; entering gives a handle, which always works, recording or not.

    The same object may be entered again: inside itself, and by several threads or asyncio tasks at
    once.
    """

    _word: ClassVar[str]
    """What users call it."""

    def __init__(self) -> None:
        self._open: list[tuple[int, Operation | None]] = []
        """Of each entry: where it was made, and what records it."""
        self._open_lock = threading.Lock()

    def _make(self, recorder: Recorder, call: DecoratedCall | None) -> Operation:
        """Make the operation; of a call when it decorates a function."""
        raise NotImplementedError

    def _handle(self, operation: Operation | None) -> H:
        """Make the handle of an operation; None when nothing records."""
        raise NotImplementedError

    def _not_configured(self) -> None:
        """Say, if it has not been said, that nothing is recorded."""

    def __call__(self, function: F) -> F:
        """Decorate a function: what each call of it does is inside a block of its own.

        Raises:
            InvalidArgumentError: It is no function.
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
        operation: Operation | None = None
        recorder = current.recorder
        if recorder is None:
            self._not_configured()
        else:
            try:
                if not is_suppressed():
                    operation = self._make(recorder, None)
                    operation.enter()
            except Exception as error:  # noqa: BLE001 - the guard of this package
                recorder.failed(error)
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
        """Return the operation of the entry that is left now, and forget it.

        A `with` leaves where it has entered, in the same frame, whatever the current context is.
        Who enters and leaves by hand, or through an ExitStack, is told by the current context.
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
    """Name the frame that has called this one; it keeps its name until it returns."""
    return 0 if frame is None else id(frame.f_back)


def filled(text: str, arguments: Mapping[str, Any], recorder: Recorder) -> str:
    """Fill `{name}` fields of a decorator's text with the call's arguments.

    Text that is no template of these arguments stays as it is. Secret arguments are not filled in.
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
