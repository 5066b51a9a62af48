"""What a span is about: read from its attributes alone. Pure.

Spans of other instrumentations have been put in our own words before (dialects/).
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, cast

from autotrace import semconv
from autotrace.export import fields
from autotrace.export.records import STATUS_ERROR, SpanRecord
from autotrace.export.shares import partition_of, trace_id_in
from autotrace.models import CallStatus
from autotrace.store.stats import Call
from autotrace.store.tool_names import bounded_name

_TRACE_ID: Final = re.compile(f"{semconv.TRACE_ID_PREFIX}([0-9a-f]{{32}})-([0-9a-f]{{16}})")

MAX_DURATION_MS: Final = 366 * 24 * 60 * 60 * 1000
"""The longest that a tool call may have taken: a year."""

Role = Literal["task", "step", "tool", "decision", "erased", "other"]
"""`task` says what was asked: a span of that kind without a text opens no trace, and is `other`.
`decision` is an event of a decision: a decision has several spans. `erased` is a task whose
trace was deleted, which its own span does not say."""


def role_of(record: SpanRecord) -> Role:
    """Tell what a span is about."""
    if not record.get("attributes"):
        return "other"
    kind = fields.value(record, semconv.KIND)
    if kind == semconv.KIND_TASK and fields.text(record, semconv.TASK) is not None:
        return "task"
    if kind == semconv.KIND_STEP:
        return "step"
    if kind == semconv.KIND_DECISION and decision_id_of(record):
        return "decision"
    operation = fields.value(record, semconv.GEN_AI_OPERATION_NAME)
    if operation == semconv.EXECUTE_TOOL and "end_ns" in record:
        return "tool"
    return "other"


def trace_id_of(record: SpanRecord) -> str:
    """Return the id under which the store keeps the trace that this task span opens.

    It is the public id too, but in the share of a key's agent: see store/claims.py.
    """
    return trace_id_in(partition_of(record), record["id"])


def public_id_of(record: SpanRecord) -> str:
    """Return the id by which the program that recorded a task knows its trace."""
    return f"{semconv.TRACE_ID_PREFIX}{record['trace']}-{record.get('sent_id', record['id'])}"


def span_of(trace_id: str) -> tuple[str, str] | None:
    """Return the ids of the OpenTelemetry trace and of the task span that a trace id carries."""
    ids = _TRACE_ID.fullmatch(trace_id)
    return None if ids is None else (ids[1], ids[2])


def task_of(record: SpanRecord) -> str:
    """Return what a task span says was to be done."""
    return fields.text(record, semconv.TASK) or ""


def step_id_of(record: SpanRecord) -> str:
    """Return the public id of the step that this span is."""
    return f"{semconv.STEP_ID_PREFIX}{record['trace']}-{record['id']}"


def tool_status_of(record: SpanRecord) -> CallStatus:
    """Return how a tool call ended."""
    status = fields.value(record, semconv.TOOL_STATUS)
    if status in ("timeout", "cancelled", "paused"):
        return cast("CallStatus", status)
    if (
        status == "error"
        or record.get("status") == STATUS_ERROR
        or semconv.ERROR_TYPE in fields.attributes(record)
    ):
        return "error"
    return "success"


def duration_ms_of(record: SpanRecord) -> int:
    """Return the duration of an ended span in whole milliseconds: from 0 to a year."""
    lasted_ns = record.get("end_ns", 0) - record.get("start_ns", 0)
    return min(max(0, round(lasted_ns / 1e6)), MAX_DURATION_MS)


def told_ns_of(record: SpanRecord) -> int:
    """Return when it was known that this had begun: at its start, or when it was told of later."""
    told_ns = fields.number(record, semconv.TOLD_NS)
    return record.get("start_ns", 0) if told_ns is None else told_ns


def tool_name_of(record: SpanRecord) -> str:
    """Return the name of the tool that a tool span called, cut if it is too long."""
    return bounded_name(_whole_tool_name(record))


def _whole_tool_name(record: SpanRecord) -> str:
    if name := fields.text(record, semconv.GEN_AI_TOOL_NAME):
        return name
    span_name = fields.as_text(record.get("name")) or ""
    return span_name.removeprefix(semconv.EXECUTE_TOOL).strip() or semconv.UNNAMED_TOOL


def call_of(record: SpanRecord) -> Call:
    """Return what the statistics need of a tool span."""
    name = _whole_tool_name(record)
    error = fields.text(record, semconv.ERROR_TYPE)
    short_name, short_error = bounded_name(name), None if error is None else bounded_name(error)
    return Call(
        tool_name=short_name,
        status=tool_status_of(record),
        duration_ms=duration_ms_of(record),
        ended_ns=record.get("end_ns", 0),
        error_type=short_error,
        is_cut=(short_name, short_error) != (name, error),
        sender=_sender_of(record),
    )


def _sender_of(record: SpanRecord) -> str:
    """Return the agent of the key that sent a record; empty for the store's own program."""
    sender: Any = record.get("sender")
    agent = cast("dict[str, Any]", sender).get("agent") if isinstance(sender, dict) else None
    return bounded_name(agent) if isinstance(agent, str) else ""


def decision_id_of(record: SpanRecord) -> str:
    """Return the id of the decision of which this span is an event."""
    return fields.text(record, semconv.DECISION_ID) or ""


def is_rejection(record: SpanRecord) -> bool:
    """Tell whether an event of a decision is that a person has rejected it."""
    return fields.value(record, semconv.DECISION_EVENT) == semconv.APPROVAL_REJECTED
