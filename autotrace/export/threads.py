"""Context in threads: what OpenTelemetry's instrumentation of threads does for us."""

from __future__ import annotations

from autotrace.export.counters import Counters


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
