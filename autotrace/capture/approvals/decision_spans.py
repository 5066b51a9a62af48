"""Decisions in the trace: their location, and one short span for each event.

A span names the event and its decision, without texts of people or agents: these must be erasable,
and exported spans are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from autotrace import semconv
from autotrace.capture.operation import effective_context
from autotrace.capture.recorder import failed, is_suppressed
from autotrace.capture.task_operation import current_frame
from autotrace.ids import format_trace_id, span_id_hex, trace_id_hex

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from autotrace.capture.recorder import Recorder
    from autotrace.decisions.event_store import AppendedEvent
    from autotrace.models import TraceLocation


class DecisionRecording:
    """Redacts values for decisions, and records spans of their events.

    Args:
        recorder: Makes spans and redacts; None: values are redacted by the default rules, and no
            spans are made.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        if recorder is None:
            from autotrace.encoding.encoder import Encoder
            from autotrace.encoding.redaction import Redactor

            self._encoder = Encoder(Redactor())
        else:
            self._encoder = recorder.encoder
        self._recorder = recorder

    def value(self, value: Any, path: str) -> Any:
        """Return a value as redacted, bounded JSON."""
        return orjson.loads(self._encoder.json(value, path=path))

    def text(self, value: Any, path: str) -> str:
        """Return a redacted, bounded text."""
        return self._encoder.text(value, path=path)

    def place(self) -> TraceLocation:
        """Return the caller's place in a trace."""
        return current_trace_location()

    def event(self, happened: AppendedEvent) -> None:
        """Record the span of an event. Never raises an `Exception`."""
        recorder = self._recorder
        if recorder is None:
            return
        try:
            if not is_suppressed():
                _make_span(recorder, happened)
        except Exception as error:  # noqa: BLE001 - the guard of this package
            recorder.failed(error)


def current_trace_location() -> TraceLocation:
    """Return the caller's place in a trace; NOWHERE if it is unknown."""
    from autotrace.models import NOWHERE, TraceLocation

    try:
        frame = current_frame()
        ids = None if frame is None else frame.operation.ids()
        trace_id = None if ids is None else format_trace_id(*ids)
        here = get_current_span(effective_context()).get_span_context()
        if not here.is_valid:
            return TraceLocation(trace_id)
        return TraceLocation(trace_id, (trace_id_hex(here.trace_id), span_id_hex(here.span_id)))
    except Exception as error:  # noqa: BLE001 - the guard of this package
        failed(error)
        return NOWHERE


def _make_span(recorder: Recorder, happened: AppendedEvent) -> None:
    event = happened.event
    attributes: dict[str, Any] = {
        semconv.KIND: semconv.KIND_DECISION,
        semconv.DECISION_ID: happened.decision_id,
        semconv.DECISION_INTENT: happened.intent,
        semconv.DECISION_STATUS: happened.status,
        semconv.DECISION_EVENT: event["type"],
        semconv.DECISION_EVENT_ID: event["event_id"],
    }
    if (outcome := event["facts"].get("outcome")) is not None:
        attributes[semconv.DECISION_OUTCOME] = outcome
    context, links, owner = _parent_and_links(happened.otel)
    if owner is not None:
        attributes[semconv.DECISION_OWNER] = owner
    name = f"{semconv.KIND_DECISION} {event['type']}"
    recorder.tracer.start_span(name, context, attributes=attributes, links=links).end()


def _parent_and_links(
    opened_at: tuple[str, ...] | None,
) -> tuple[Context, list[Link], str | None]:
    """Return the parent's context, the links and the owner of an event that happens now.

    The parent is the current span; outside of any span, the place where the decision was opened, in
    the share of the trace whose owner is returned too.
    """
    outside = effective_context()
    if opened_at is None:
        return outside, [], None
    trace_id, span_id = (int(number, 16) for number in opened_at[:2])
    flags = TraceFlags(TraceFlags.SAMPLED)
    opened = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
    here = get_current_span(outside).get_span_context()
    if not here.is_valid:
        owner = opened_at[2] if len(opened_at) > 2 else None
        return set_span_in_context(NonRecordingSpan(opened), outside), [], owner
    return outside, [Link(opened)] if here.trace_id != trace_id else [], None
