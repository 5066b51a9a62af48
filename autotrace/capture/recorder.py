"""What capture records with, once the application has opted in.

`current.recorder` is None until `autotrace.configure()`; every decorator and block looks there at
each call, so decoration and configuration may come in either order, and an unconfigured library
pays for one look.

The rule of this package: nothing of ours raises into user code. Each operation on a span is
guarded where it is made; what fails is counted, logged once, and left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.trace import Status, StatusCode

from autotrace import semconv

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from autotrace.capture.encode import Encoder

SUPPRESSED: Final = otel_context._SUPPRESS_INSTRUMENTATION_KEY
"""Context key under which OpenTelemetry asks instrumentation to keep quiet."""
FRAME_KEY: Final = otel_context.create_key("autotrace-frame")
"""Context key of what inner tasks inherit; see `task.py`."""


class Recorder:
    """Makes spans for capture.

    Args:
        tracer: Where spans come from.
        encoder: Makes values into text.
        count: Counts by name.
        note: Keeps and logs a failure: kind, message, exception.
        capture_arguments: Whether tools record arguments unless told otherwise.
        capture_result: Whether tools record results unless told otherwise.
        agent: Agent of tasks that name none.
        before_task: Called before each task starts.
    """

    __slots__ = (
        "agent",
        "before_task",
        "capture_arguments",
        "capture_result",
        "count",
        "encoder",
        "note",
        "tracer",
    )

    def __init__(
        self,
        tracer: Tracer,
        encoder: Encoder,
        *,
        count: Callable[[str], None],
        note: Callable[[str, str, BaseException], None],
        capture_arguments: bool = True,
        capture_result: bool = True,
        agent: str | None = None,
        before_task: Callable[[], None] | None = None,
    ) -> None:
        self.tracer = tracer
        self.encoder = encoder
        self.count = count
        self.note = note
        self.capture_arguments = capture_arguments
        self.capture_result = capture_result
        self.agent = agent
        self.before_task = before_task

    def failed(self, error: Exception) -> None:
        """Count and log an error of ours that was kept from user code."""
        try:
            self.count("capture_errors")
            self.note("capture", f"a part of a span was not recorded: {error!r}", error)
        except Exception:  # noqa: BLE001, S110 - the last guard: there is nobody left to tell
            pass


class Current:
    """Holds the recorder in use."""

    __slots__ = ("recorder",)

    def __init__(self) -> None:
        self.recorder: Recorder | None = None


current: Final = Current()


class Operation:
    """One span of capture, from before it starts until it has ended.

    No method raises an Exception. Order of use: `start`, then `attach` and `detach` around each
    stretch in which user code runs, then one of the endings.
    """

    __slots__ = ("attributes", "ended", "name", "recorder", "span", "started_ns", "token")

    def __init__(self, recorder: Recorder, name: str, attributes: dict[str, Any]) -> None:
        self.recorder = recorder
        self.name = name
        self.attributes = attributes
        self.span: Span | None = None
        self.token: Token[Context] | None = None
        self.started_ns = 0
        self.ended = False

    def start(self) -> None:
        """Start the span, as a child of the current one."""
        try:
            self.span = span = self.recorder.tracer.start_span(
                self.name, attributes=self.attributes
            )
            self.started_ns = time.perf_counter_ns()
            if not span.is_recording():
                self.recorder.count("not_sampled")
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def context(self) -> Context:
        """Return the context in which user code runs."""
        assert self.span is not None  # noqa: S101 - attach has looked
        return otel_trace.set_span_in_context(self.span)

    def attach(self) -> None:
        """Make the span the current one."""
        if self.span is None:
            return
        try:
            self.token = otel_context.attach(self.context())
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def detach(self) -> None:
        """Make the span before it the current one again."""
        token = self.token
        if token is not None:
            self.token = None
            otel_context.detach(token)

    def enter(self) -> None:
        """Start the span and make it the current one."""
        self.start()
        self.attach()

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes."""
        if self.span is None:
            return
        try:
            self.span.set_attributes(attributes)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def item(self, value: Any) -> None:
        """Take note of what a generator yields."""

    def succeed(self, result: Any) -> None:
        """End after a normal return."""
        self.detach()
        self.end()

    def close_early(self) -> None:
        """End a generator that was closed or abandoned before its end."""
        self.end()

    def fail(self, error: BaseException) -> None:
        """End after an exception, with the error described."""
        self.detach()
        if self.ended:
            return
        end_ns = self.now_ns()
        self.describe(error)
        self.end(end_ns)

    def describe(self, error: BaseException) -> None:
        """Set what the span says about an exception."""
        try:
            self.set_error(*self.recorder.encoder.error(error, self.secrets()))
        except Exception as failure:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(failure)

    def set_error(self, kind: str, message: str, stacktrace: str | None = None) -> None:
        """Mark the span as failed."""
        span = self.span
        if span is None:
            return
        span.set_attribute(semconv.ERROR_TYPE, kind)
        event = {semconv.EXCEPTION_TYPE: kind, semconv.EXCEPTION_MESSAGE: message}
        if stacktrace:
            event[semconv.EXCEPTION_STACKTRACE] = stacktrace
        span.add_event(semconv.EXCEPTION_EVENT, event)
        span.set_status(Status(StatusCode.ERROR, message or kind))

    def secrets(self) -> list[str]:
        """Return redacted values, to be removed from error text."""
        return []

    def now_ns(self) -> int | None:
        """Return the time, counted from the start so that a clock set back cannot disturb it."""
        start_ns: int | None = getattr(self.span, "start_time", None)
        if start_ns is None:
            return None
        return start_ns + time.perf_counter_ns() - self.started_ns

    def end(self, end_ns: int | None = None) -> None:
        """End the span; it is recorded when this returns."""
        if self.span is None or self.ended:
            return
        self.ended = True
        try:
            self.span.end(self.now_ns() if end_ns is None else end_ns)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def __del__(self) -> None:
        # A coroutine or generator that was dropped where Python could not run its ending.
        if not self.ended and self.span is not None:
            self.end()

    def ids(self) -> tuple[str, str]:
        """Return the OpenTelemetry trace and span id as hex; empty strings without a span."""
        if self.span is None:
            return "", ""
        context = self.span.get_span_context()
        return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def is_suppressed() -> bool:
    """Tell whether instrumentation is asked to keep quiet here."""
    return bool(otel_context.get_value(SUPPRESSED))
