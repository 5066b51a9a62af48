"""Context in work that a task starts elsewhere: threads, executors, green threads, and the like."""

from __future__ import annotations

from autotrace.export.carriers import start_carrying, stop_carrying
from autotrace.export.counters import Counters


class InheritedContext:
    """Lets work that is started elsewhere inherit the current task, until `stop` is called.

    Args:
        counters: Where failures are counted.
    """

    def __init__(self, counters: Counters) -> None:
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
            leave_threads_alone(self._counters)


def instrument_threads(counters: Counters) -> bool:
    """Let threads and executors inherit context; return whether it was not so before."""
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    try:
        instrumentor = ThreadingInstrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            return False
        instrumentor.instrument()
    except Exception as error:  # noqa: BLE001 - recording goes on, with threads apart
        counters.add("capture_errors")
        counters.note("threads", f"threads do not inherit the current task: {error}", error)
        return False
    return True


def leave_threads_alone(counters: Counters) -> None:
    """Undo that."""
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    try:
        ThreadingInstrumentor().uninstrument()
    except Exception as error:  # noqa: BLE001 - the program is stopping us, and must not fail by it
        counters.add("capture_errors")
        counters.note("threads", f"threads still inherit context: {error}", error)
