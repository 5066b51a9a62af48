"""Record spans into a pipeline: a span processor and a span exporter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from autotrace import semconv
from autotrace.base.health_counters import HealthCounters
from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.spool.span_records import (
    SpanRecord,
    attributes_of,
    ended_record,
    open_record,
)
from autotrace.worker.pipeline import Pipeline

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

_MAX_BEGUN: Final = 100_000
"""Maximum number of open spans remembered; some applications never end their spans."""


class SpoolSpanProcessor(SpanProcessor):
    """Write each span to the spool when it ends.

    Tasks and steps are written when they start, too. The SDK calls `on_start` and `on_end` on the
    thread of the span; neither raises nor waits for the store. The record of an ended span is
    on disk when `on_end` returns. After a fork the child records into a spool of its own.
    `shutdown` of the provider leaves the pipeline open, so that spans that end later are
    recorded, too.

    Args:
        pipeline: Records spans that start from now on. The end of a span is recorded where its
            start was, even if that pipeline has been closed meanwhile.
        counters: Count spans that were not recorded.
        redact: Removes secrets from the records of spans that other libraries made.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        counters: HealthCounters,
        redact: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.redact = redact
        self.pipeline: Pipeline | None = pipeline
        """None: spans that start now are not recorded."""
        self._counters = counters
        self._begun: OrderedDict[int, Pipeline] = OrderedDict()
        """Pipeline of each open span, by span id."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Record the start of a task or step, as evidence after a crash."""
        pipeline = self.pipeline
        if pipeline is None:
            return
        try:
            begun = self._begun
            begun[span.get_span_context().span_id] = pipeline
            if len(begun) > _MAX_BEGUN:
                begun.popitem(last=False)
            if span.name.startswith(semconv.EXECUTE_TOOL):
                return  # most spans are tool calls, and reading attributes costs more
            # A decision event starts and ends at once.
            kind = attributes_of(span).get(semconv.KIND, semconv.KIND_DECISION)
            if kind != semconv.KIND_DECISION:
                pipeline.record(open_record(span))
        except Exception as error:  # noqa: BLE001 - runs inside user code, where nothing of ours may raise
            _count_dropped(self._counters, error)

    def on_end(self, span: ReadableSpan) -> None:
        """Record an ended span, which is on disk when this method returns."""
        try:
            context = span.get_span_context()
            begun = None if context is None else self._begun.pop(context.span_id, None)
            pipeline = begun or self.pipeline
            if pipeline is None:
                return
            record = ended_record(span)
            if self.redact is not None and "scope" in record:
                record = cast("SpanRecord", self.redact(cast("dict[str, Any]", record)))
            pipeline.record(record)
        except Exception as error:  # noqa: BLE001 - runs inside user code, where nothing of ours may raise
            _count_dropped(self._counters, error)

    def shutdown(self) -> None:
        """Do nothing: the pipeline outlives the provider."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Store everything recorded so far; return whether it is stored."""
        return self.pipeline is None or self.pipeline.flush(timeout_millis / 1000)


def guarded_append(pipeline: Pipeline, counters: HealthCounters) -> Callable[[SpanRecord], None]:
    """Return a function that records into a pipeline and never raises."""

    def append(record: SpanRecord) -> None:
        try:
            pipeline.record(record)
        except Exception as error:  # noqa: BLE001 - runs inside user code, where nothing of ours may raise
            _count_dropped(counters, error)

    return append


def _count_dropped(counters: HealthCounters, error: Exception) -> None:
    reraise_if_from_signal_handler(error)
    counters.add("dropped_spans")
    counters.record_failure("processor", f"a span was not recorded: {error!r}", error)


class PipelineExporter(SpanExporter):
    """Export spans to the spool; they are on disk when `export` returns."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record spans.

        Returns:
            SUCCESS: the spans are on disk. If the store is down, they reach it once it is up.
        """
        for span in spans:
            self._pipeline.record(ended_record(span))
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Store everything exported so far; return whether it is stored."""
        return self._pipeline.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Store the remaining records within five seconds, and stop."""
        self._pipeline.close(5.0)
