"""Read tool calls from their span records. Pure."""

from __future__ import annotations

from typing import Any, cast

from autotrace import semconv
from autotrace.models import CallStatus
from autotrace.spool import record_fields
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord
from autotrace.spool.span_roles import MAX_DURATION_MS
from autotrace.store.tool_names import bounded_name
from autotrace.store.tool_stats import ToolCallStat


def tool_status_of(record: SpanRecord) -> CallStatus:
    """Return how a tool call ended."""
    status = record_fields.value(record, semconv.TOOL_STATUS)
    if status in ("timeout", "cancelled", "paused"):
        return cast("CallStatus", status)
    if (
        status == "error"
        or record.get("status") == STATUS_ERROR
        or semconv.ERROR_TYPE in record_fields.attributes(record)
    ):
        return "error"
    return "success"


def duration_ms_of(record: SpanRecord) -> int:
    """Return the duration of an ended span in whole milliseconds: from 0 to a year."""
    lasted_ns = record.get("end_ns", 0) - record.get("start_ns", 0)
    return min(max(0, round(lasted_ns / 1e6)), MAX_DURATION_MS)


def tool_name_of(record: SpanRecord) -> str:
    """Return the name of the tool that a tool span called, cut if it is too long."""
    return bounded_name(_whole_tool_name(record))


def _whole_tool_name(record: SpanRecord) -> str:
    if name := record_fields.text(record, semconv.GEN_AI_TOOL_NAME):
        return name
    span_name = record_fields.as_text(record.get("name")) or ""
    return span_name.removeprefix(semconv.EXECUTE_TOOL).strip() or semconv.UNNAMED_TOOL


def call_of(record: SpanRecord) -> ToolCallStat:
    """Return the fields of a tool span that the statistics count."""
    name = _whole_tool_name(record)
    error = record_fields.text(record, semconv.ERROR_TYPE)
    short_name, short_error = bounded_name(name), None if error is None else bounded_name(error)
    return ToolCallStat(
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
