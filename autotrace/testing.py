"""Recording into memory, for tests of code that records.

```python
from autotrace.testing import recording

def test_the_agent_searches_before_it_answers():
    with recording() as recorded:
        answer("Where can we eat?")
    assert [call.tool_name for call in recorded.trace.tool_calls] == ["web_search"]
```

`pytest_plugins = ["autotrace.pytest_plugin"]` adds the same as a fixture, `autotrace_recording`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autotrace import semconv
from autotrace.base.health_counters import HealthCounters
from autotrace.capture.context_carriers import InheritedContext
from autotrace.capture.native_spans import LocalTracerProvider
from autotrace.capture.recorder import current, make_recorder
from autotrace.settings import load_settings
from autotrace.spool.shares import partition_of
from autotrace.traces.assembly import assemble

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from autotrace.models import Trace
    from autotrace.spool.span_records import SpanRecord


class Recording:
    """Records and traces of a `recording()` block; any thread may record."""

    def __init__(self, counters: HealthCounters) -> None:
        self.records: list[SpanRecord] = []
        """Span records in the form of the spool, in the order of starts and ends."""
        self._counters = counters

    @property
    def counters(self) -> dict[str, int]:
        """Number of cuts, redactions and failures by name, as in `autotrace.health()`."""
        return self._counters.snapshot()

    @property
    def last_error(self) -> str | None:
        """Message of the latest failure to record, or None."""
        return self._counters.last_error

    @property
    def traces(self) -> list[Trace]:
        """The traces of all tasks, oldest first."""
        by_trace: dict[str, list[SpanRecord]] = {}
        for record in list(self.records):
            by_trace.setdefault(partition_of(record), []).append(record)
        traces = [trace for records in by_trace.values() for trace in assemble(records)]
        return sorted(traces, key=lambda trace: trace.created_at)

    @property
    def trace(self) -> Trace:
        """The only trace.

        Raises:
            AssertionError: The number of traces is not one; the message lists their tasks.
        """
        traces = self.traces
        if len(traces) != 1:
            msg = f"expected one trace, there are {len(traces)}: {[t.task for t in traces]}"
            raise AssertionError(msg)
        return traces[0]


@contextmanager
def recording(
    *,
    tracer_provider: TracerProvider | None = None,
    redact: Callable[[str, Any], Any] | None = None,
    **settings: Any,
) -> Generator[Recording]:
    """Record into memory inside the block, independent of `autotrace.configure`.

    Args:
        tracer_provider: Another provider of spans; the recording then holds only counters.
        redact: See `autotrace.configure`.
        settings: Any setting of `autotrace.configure` that concerns capture.

    Raises:
        InvalidArgumentError: A setting has a value that is not allowed.
    """
    counters = HealthCounters()
    recorded = Recording(counters)
    provider = tracer_provider or LocalTracerProvider(recorded.records.append)
    loaded = load_settings(**settings)
    recorder = make_recorder(
        loaded,
        provider.get_tracer(semconv.SCOPE),
        count=counters.add,
        note=counters.record_failure,
        redact=redact,
    )
    recorder.granting = None  # without a store, no secret can sign grants
    inherited = InheritedContext(counters) if loaded.propagate_threads else None
    before, current.recorder = current.recorder, recorder
    try:
        yield recorded
    finally:
        current.recorder = before
        if inherited is not None:
            inherited.stop()
