"""Build and parse the ids of traces, steps, tool calls, decisions, events and approvals.

Ids are opaque to users. Those of traces and steps carry OpenTelemetry's ids, so that any process
can add a child span to a span that another process has started.
"""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

from autotrace import semconv

TRACE_ID_LENGTH: Final = len(semconv.TRACE_ID_PREFIX) + 32 + 1 + 16
DECISION_ID_LENGTH: Final = len(semconv.DECISION_ID_PREFIX) + 32
_SPAN: Final = r"([0-9a-f]{32})-([0-9a-f]{16})"
_TRACE_ID: Final = re.compile(semconv.TRACE_ID_PREFIX + _SPAN)
_STEP_ID: Final = re.compile(semconv.STEP_ID_PREFIX + _SPAN)


class SpanIds(NamedTuple):
    """OpenTelemetry's ids of a span, in hex."""

    trace: str
    span: str


def trace_id_hex(trace_id: int) -> str:
    """Return the 32 hex digits of an OpenTelemetry trace id."""
    return f"{trace_id:032x}"


def span_id_hex(span_id: int) -> str:
    """Return the 16 hex digits of a span id."""
    return f"{span_id:016x}"


def format_trace_id(trace: str, span: str) -> str:
    """Return the id of the trace of a task span."""
    return f"{semconv.TRACE_ID_PREFIX}{trace}-{span}"


def format_step_id(trace: str, span: str) -> str:
    """Return the id of the step of a span."""
    return f"{semconv.STEP_ID_PREFIX}{trace}-{span}"


def format_tool_call_id(span: str) -> str:
    """Return the id of the tool call of a span."""
    return semconv.TOOL_CALL_ID_PREFIX + span


def parse_trace_id(text: str) -> SpanIds | None:
    """Return the ids of the task span in a trace id; None if it is malformed."""
    found = _TRACE_ID.fullmatch(text)
    return None if found is None else SpanIds(found[1], found[2])


def parse_step_id(text: str) -> SpanIds | None:
    """Return the ids of the span in a step id; None if it is malformed."""
    found = _STEP_ID.fullmatch(text)
    return None if found is None else SpanIds(found[1], found[2])


def format_decision_id(digits: str | None = None) -> str:
    """Return the id of a decision with these 32 hex digits; random ones by default."""
    return semconv.DECISION_ID_PREFIX + (secrets.token_hex(16) if digits is None else digits)


def is_decision_id(text: str) -> bool:
    """Return whether a text begins as the id of a decision does."""
    return text.startswith(semconv.DECISION_ID_PREFIX)


def new_event_id() -> str:
    """Return the id of a new event of a decision."""
    return semconv.EVENT_ID_PREFIX + secrets.token_hex(8)


def new_approval_id() -> str:
    """Return the id of a new request for approval."""
    return semconv.APPROVAL_ID_PREFIX + secrets.token_hex(8)
