"""Context in work that a task starts elsewhere: threads, executors, green threads, and the like."""

from __future__ import annotations

import threading

from opentelemetry import context as otel_context
from opentelemetry.context import Context as OtelContext

from autotrace.base.health_counters import HealthCounters
from autotrace.capture.context_carriers import start_carrying, stop_carrying


class InheritedContext:
    """Lets work that is started elsewhere inherit the current task, until `stop` is called."""

    def __init__(self, counters: HealthCounters) -> None:
        self._counters = counters
        self._instrumented = instrument_threads(counters)
        self._carries = True
        start_carrying(counters)

    def stop(self) -> None:
        """Undo what this has begun; a second call does nothing."""
        if self._carries:
            self._carries = False
            stop_carrying()
        if self._instrumented:
            self._instrumented = False
            uninstrument_threads(self._counters)


class _ContextOfCaller:
    """Return the caller's context for threads whose `start` the instrumentor did not see.

    Releases before 0.61 read the attribute of every thread that runs, also of one whose `run` is
    called directly. Uninstrumenting keeps it: such a `run` may be bound already.
    """

    def __get__(self, thread: object, owner: type) -> OtelContext:
        return otel_context.get_current()


def instrument_threads(counters: HealthCounters) -> bool:
    """Let threads and executors inherit context; return whether it was not so before."""
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    try:
        instrumentor = ThreadingInstrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            return False
        threading.Thread._otel_context = _ContextOfCaller()  # pyright: ignore[reportAttributeAccessIssue] - read by the instrumentor
        instrumentor.instrument()
    except Exception as error:  # noqa: BLE001 - recording goes on, with threads apart
        counters.add("capture_errors")
        counters.record_failure(
            "threads", f"threads do not inherit the current task: {error}", error
        )
        return False
    return True


def uninstrument_threads(counters: HealthCounters) -> None:
    """Undo that."""
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    try:
        ThreadingInstrumentor().uninstrument()
    except Exception as error:  # noqa: BLE001 - the program is stopping us, and must not fail by it
        counters.add("capture_errors")
        counters.record_failure("threads", f"threads still inherit context: {error}", error)
