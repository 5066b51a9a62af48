"""Read the role of a span from its attributes. Pure.

Spans of other instrumentations have been translated before (dialects/).
"""

from __future__ import annotations

from typing import Final, Literal

from autotrace import semconv
from autotrace.ids import format_step_id, format_trace_id
from autotrace.spool import record_fields
from autotrace.spool.shares import partition_of, trace_id_in
from autotrace.spool.span_records import SpanRecord

MAX_DURATION_MS: Final = 366 * 24 * 60 * 60 * 1000
"""The longest that a tool call may have taken: a year."""

SpanRole = Literal["task", "step", "tool", "decision", "erased", "other"]
"""`task` has a text: a span of that kind without one opens no trace, and is `other`. `decision` is
an event of a decision, which has several spans. `erased` is a task whose trace was deleted, which
its own span does not show."""


def role_of(record: SpanRecord) -> SpanRole:
    """Return what a span is about."""
    if not record.get("attributes"):
        return "other"
    kind = record_fields.value(record, semconv.KIND)
    if kind == semconv.KIND_TASK and record_fields.text(record, semconv.TASK) is not None:
        return "task"
    if kind == semconv.KIND_STEP:
        return "step"
    if kind == semconv.KIND_DECISION and decision_id_of(record):
        return "decision"
    operation = record_fields.value(record, semconv.GEN_AI_OPERATION_NAME)
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
    return format_trace_id(record["trace"], record.get("sent_id", record["id"]))


def task_of(record: SpanRecord) -> str:
    """Return the task text of a task span."""
    return record_fields.text(record, semconv.TASK) or ""


def step_id_of(record: SpanRecord) -> str:
    """Return the public id of the step that this span is."""
    return format_step_id(record["trace"], record["id"])


def told_ns_of(record: SpanRecord) -> int:
    """Return when the start of a span was known: at its start, or when it was reported later."""
    told_ns = record_fields.number(record, semconv.TOLD_NS)
    return record.get("start_ns", 0) if told_ns is None else told_ns


def decision_id_of(record: SpanRecord) -> str:
    """Return the id of the decision of which this span is an event."""
    return record_fields.text(record, semconv.DECISION_ID) or ""


def is_rejection(record: SpanRecord) -> bool:
    """Return whether an event of a decision is that a person has rejected it."""
    return record_fields.value(record, semconv.DECISION_EVENT) == semconv.APPROVAL_REJECTED
