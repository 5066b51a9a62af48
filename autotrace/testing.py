"""For tests of code that records: what it recorded, without a store, a disk or a thread.

```python
from autotrace.testing import recording

def test_the_agent_searches_before_it_answers():
    with recording() as recorded:
        answer("Where can we eat?")
    assert [call.tool_name for call in recorded.trace.tool_calls] == ["web_search"]
```

`pytest_plugins = ["autotrace.pytest_plugin"]` gives the same as a fixture, `autotrace_recording`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autotrace import semconv
from autotrace.base.health_counters import HealthCounters
from autotrace.capture.native_spans import LocalTracerProvider
from autotrace.capture.recorder import current, make_recorder
from autotrace.capture.thread_context import InheritedContext
from autotrace.settings import load_settings
from autotrace.spool.shares import partition_of
from autotrace.traces.assembly import assemble

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from autotrace.models import Trace
    from autotrace.spool.span_records import SpanRecord


class Recording:
    """What has been recorded so far; any thread may record."""

    def __init__(self, counters: HealthCounters) -> None:
        self.records: list[SpanRecord] = []
        """The spans as they go to the spool, in the order in which they started or ended."""
        self._counters = counters

    @property
    def counters(self) -> dict[str, int]:
        """What was cut, redacted or failed, by name, as `autotrace.health()` counts it."""
        return self._counters.snapshot()

    @property
    def last_error(self) -> str | None:
        """The latest failure to record something, in words, or None."""
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
            AssertionError: There is none, or there are several; says which.
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
    """Record into memory inside the block, whatever is configured outside of it.

    Args:
        tracer_provider: Where spans come from instead; the recording then holds counters alone.
        redact: See `autotrace.configure`.
        settings: Any setting of `autotrace.configure` that is about capture.

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
    recorder.granting = None  # there is no store whose secret could sign
    inherited = InheritedContext(counters) if loaded.propagate_threads else None
    before, current.recorder = current.recorder, recorder
    try:
        yield recorded
    finally:
        current.recorder = before
        if inherited is not None:
            inherited.stop()
