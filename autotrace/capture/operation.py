"""Start, attach and end the spans of capture.

* The span is current only while its own code runs. A generator keeps the context of its body while
  it is suspended; its consumer never sees it.
* The previous context is restored only where this operation is still the innermost one. A block may
  exit in another context (an async generator that the event loop closes, a collected coroutine).
* Blocks may exit out of order (two generators that take turns). Such a block cannot restore the
  previous context, so it keeps its token; lookups skip operations that have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Status,
    StatusCode,
    set_span_in_context,
)

from autotrace import semconv
from autotrace.base.clock import elapsed_ns, wall_ns
from autotrace.capture.call_outcomes import ending_of, is_clean_exit, outcome_text
from autotrace.capture.queue_consumers import is_consumer
from autotrace.capture.recorder import current, failed, is_suppressed

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from autotrace.capture.recorder import Recorder

OPERATION_KEY: Final = otel_context.create_key("autotrace-operation")
"""Context key of the innermost operation."""
FRAME_KEY: Final = otel_context.create_key("autotrace-frame")
"""Context key of the `TaskScope` of the innermost task."""
DECISION_KEY: Final = otel_context.create_key("autotrace-decision")
"""Context key of the `DecisionScope` of the innermost open decision."""


_NOTHING: Final = Context()
_set_item = dict[str, object].__setitem__


def effective_context() -> Context:
    """Return the current context, without operations that have ended.

    A worker that was started in a task leaves it when the task has ended; see queue_consumers.py.
    """
    context = _skip_ended_operations(otel_context.get_current())
    frame: Any = context.get(FRAME_KEY)
    if frame is not None and frame.operation.ended:
        # An open call keeps its context, such as a stream that outlives its task.
        innermost: Any = context.get(OPERATION_KEY)
        if (innermost is None or innermost.ended) and is_consumer():
            return without_task(context)
    return context


def without_task(context: Context) -> Context:
    """Return a context without its task, decision and span."""
    kept: Any = dict(context)
    for key in (OPERATION_KEY, FRAME_KEY, DECISION_KEY):
        kept.pop(key, None)
    return set_span_in_context(INVALID_SPAN, Context(kept))


def _skip_ended_operations(context: Context) -> Context:
    operation: Any = context.get(OPERATION_KEY)
    while operation is not None and operation.ended and operation.token is not None:
        context = _before(operation.token)
        operation = context.get(OPERATION_KEY)
    return context


def _before(token: Token[Context]) -> Context:
    """Return the context that was current before the one of a token."""
    old = token.old_value
    return _NOTHING if old is Token.MISSING else old


def clock_in(outside: Context) -> int:
    """Return the offset from `elapsed_ns` to wall time for a new operation.

    Both clocks are read together, before samplers and processors run, so that no span ends before
    its children. Operations inside another one use its offset, so that they stay inside it when the
    system clock is set.
    """
    outer: Any = outside.get(OPERATION_KEY)
    clock_ns = None if outer is None or outer.ended else getattr(outer, "clock_ns", None)
    return wall_ns() - elapsed_ns() if clock_ns is None else clock_ns


OperationT = TypeVar("OperationT", bound="Operation")


def enter_operation(make: Callable[[Recorder], OperationT]) -> OperationT | None:
    """Make an operation and enter it; return None if nothing records."""
    recorder = current.recorder
    operation: OperationT | None = None
    try:
        if recorder is not None and not is_suppressed():
            operation = make(recorder)
            operation.enter()
    except Exception as error:  # noqa: BLE001 - the guard of this package
        failed(error)
    return operation


class Operation:
    """Span of capture and its place in the context.

    No method raises an Exception, except `describe…`, which the others call under their guard.
    Order of use: `start`, then `attach` and `detach` around each run of user code, then one of
    `succeed`, `fail` and `close_early`.
    """

    __slots__ = (
        "attributes", "called_in", "clock_ns", "ended", "ends_with", "is_stream", "name",
        "recorder", "span", "token", "unstarted",
    )  # fmt: skip

    clock_ns: int
    """Offset from `elapsed_ns` to wall time; set with the span."""
    ends_with: tuple[type[BaseException], ...]
    """Exceptions that end a decorated call normally, as of `__next__`."""
    is_stream: bool
    """True for a generator that runs; otherwise not set."""
    unstarted: Any
    """Coroutine of this operation before it starts; otherwise None or not set."""

    def __init__(self, recorder: Recorder, name: str, attributes: dict[str, Any]) -> None:
        self.recorder = recorder
        self.name = name
        self.attributes = attributes
        self.span: Span | None = None
        self.ended = False
        self.called_in: Context | None = None
        """Context of the call, if the body runs later; None if it runs at once."""
        self.token: Token[Context] | None = None
        """Token of the previous context until that is restored, if it can be."""

    def note_call(self) -> None:
        """Keep the context of the call of a function whose body runs later."""
        try:
            self.called_in = effective_context()
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def _outside(self) -> Context:
        """Return the current context or, outside all operations, the call's.

        A web framework may run a stream after the block that made it has ended.
        """
        here = effective_context()
        called_in = self.called_in
        return here if called_in is None or OPERATION_KEY in here else called_in

    def start(self) -> None:
        """Start the span, as a child of the current one."""
        if self.span is not None:
            return
        try:
            self._start(self._outside())
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def _start(self, outside: Context) -> Span:
        self.clock_ns = clock_in(outside)
        started_ns = self.clock_ns + elapsed_ns()
        envelope = outside.get(DECISION_KEY)
        if envelope is not None:
            self.enclosed(envelope)
        self.span = span = self.recorder.tracer.start_span(
            self.name, outside, attributes=self.attributes, start_time=started_ns
        )
        if not span.is_recording():
            self.recorder.count("not_sampled")
        return span

    def enclosed(self, envelope: Any) -> None:
        """Keep the open decision in which this operation starts."""

    def enter(self) -> None:
        """Start the span and make it the current one."""
        try:
            outside = self._outside()
            self.token = otel_context.attach(self.context(self._start(outside), outside))
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def resume(self) -> None:
        """Make the span of a coroutine current when the coroutine starts."""
        self.unstarted = None
        if self.span is None:
            self.enter()
        else:  # it was started in the plain function that returned the coroutine
            self.attach()

    def context(self, span: Span, outside: Context) -> Context:
        """Return the context in which user code runs."""
        inside = set_span_in_context(span, outside)
        # A context must not change once it is shared. Nobody else has this copy yet, so it may be
        # changed in place.
        _set_item(inside, OPERATION_KEY, self)
        return inside

    def attach(self, body: Context | None = None) -> Context | None:
        """Make the span current; return its context, or None if unchanged.

        `body` is the result of `suspend`, for a generator that continues.
        """
        span = self.span
        if span is None:
            return None
        try:
            inside = self.context(span, self._outside()) if body is None else body
            self.token = otel_context.attach(inside)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)
            return None
        return inside

    def suspend(self, inside: Context | None, body: Context | None) -> Context | None:
        """Restore the previous context until the generator continues.

        `inside` is the result of `attach`, `body` its argument. The result is its next argument:
        the context of the body, if the body has changed it.
        """
        token = self.token
        if token is None:
            return body
        try:
            current = otel_context.get_current()
            otel_context.attach(_skip_ended_operations(_before(token)))
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)
            return body
        self.token = None
        return body if current is inside else current

    def detach(self) -> None:
        """Restore the previous context permanently."""
        token = self.token
        if token is None:
            return
        try:
            if otel_context.get_current().get(OPERATION_KEY) is not self:
                return
            outside = _skip_ended_operations(_before(token))
            try:
                token.var.reset(token)  # OpenTelemetry's function logs an error here
            except ValueError:  # a copy of the context, which has no token
                otel_context.attach(outside)
                return
            self.token = None
            if outside is not token.old_value:
                otel_context.attach(outside)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def is_current(self) -> bool:
        """Return whether the caller runs directly inside this operation."""
        return otel_context.get_current().get(OPERATION_KEY) is self

    def streams(self) -> None:
        """Mark this as a generator, before its first item."""
        self.is_stream = True

    def item(self, value: Any) -> None:
        """Record an item of a generator."""

    def succeed(self, result: Any = None) -> None:
        """End after a normal return."""
        # `_finish` written inline, since every tool call runs it.
        self.detach()
        if self.ended or self.span is None:
            return
        end_ns = self.now_ns()
        try:
            self.describe_result(result)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)
        self.end(end_ns)

    def fail(self, error: BaseException) -> None:
        """End after an exception; a successful exit is not a failure."""
        if is_clean_exit(error) or isinstance(error, getattr(self, "ends_with", ())):
            self.succeed()
        else:
            self._finish(self.describe_error, error)

    def close_early(self) -> None:
        """End a generator that was closed or abandoned before its end."""
        self._finish(self.describe_early_close, None)

    def _finish(self, describe: Callable[[Any], None], what: Any) -> None:
        self.detach()
        if self.ended or self.span is None:
            return
        end_ns = self.now_ns()
        try:
            describe(what)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)
        self.end(end_ns)

    def describe_result(self, result: Any) -> None:
        """Set the attributes of a normal return."""

    def describe_early_close(self, _: None) -> None:
        """Set the attributes of a generator that was closed early."""

    def describe_error(self, error: BaseException) -> None:
        """Set the attributes of an exception; a pause is not an error."""
        if ending_of(error) == "paused":
            self.describe_end(error)
            return
        self.set_error(*self.recorder.encoder.error(error, self.secrets()))

    def describe_end(self, error: BaseException) -> None:
        """Record the exception that ended the operation without a failure."""
        text = self.recorder.encoder.text(outcome_text(error), path="error.message")
        self.set({semconv.ENDED_BY: text})

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes."""
        if self.span is None:
            return
        try:
            self.span.set_attributes(attributes)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def set_error(self, kind: str, message: str, stacktrace: str | None = None) -> None:
        """Mark the span as failed."""
        span = self.span
        if span is None:
            return
        event = {semconv.EXCEPTION_TYPE: kind, semconv.EXCEPTION_MESSAGE: message}
        if stacktrace:
            event[semconv.EXCEPTION_STACKTRACE] = stacktrace
        try:
            # One by one: if the span refuses a later value, it keeps the earlier ones.
            span.set_status(Status(StatusCode.ERROR, message or kind))
            span.set_attribute(semconv.ERROR_TYPE, kind)
            span.add_event(semconv.EXCEPTION_EVENT, event)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def secrets(self) -> list[str]:
        """Return the redacted values to remove from error text."""
        return []

    def now_ns(self) -> int | None:
        """Return the time of a started span, independent of system clock changes."""
        try:
            return self.clock_ns + elapsed_ns()
        except Exception as error:  # noqa: BLE001 - tests of users replace clocks
            self.recorder.failed(error)
            return None

    def end(self, end_ns: int | None = None) -> None:
        """End the span; it is recorded when this returns."""
        if self.span is None or self.ended:
            return
        self.ended = True
        self.called_in = None  # a chain of contexts would keep operations alive
        try:
            self.span.end(self.now_ns() if end_ns is None else end_ns)
            self.forget()
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)

    def forget(self) -> None:
        """Release recorded values: contexts and handles may keep the operation."""
        self.attributes = {}

    def __del__(self) -> None:
        # A coroutine or generator was dropped before its end, or its end has not run yet: Python
        # finalises the objects of a cycle in any order.
        try:
            if self.ended:
                return
        except AttributeError:
            return  # a signal handler raised inside __init__
        if getattr(self, "unstarted", None) is not None:
            # Python warns of a coroutine that was never awaited and of the one inside it. The inner
            # one is closed, so that the user sees one warning, as without autotrace.
            self.unstarted.close()
        if hasattr(self, "is_stream"):
            self.close_early()
        else:
            self.fail(GeneratorExit("dropped before it had ended"))

    def ids(self) -> tuple[str, str] | None:
        """Return trace id and span id as hex, or None if no span is recorded."""
        if self.span is None or isinstance(self.span, NonRecordingSpan):
            return None
        try:
            context = self.span.get_span_context()
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
        except Exception as error:  # noqa: BLE001 - the guard of this package
            self.recorder.failed(error)
            return None
