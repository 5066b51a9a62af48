"""What it costs to store a span: one that opens a trace is worth many that do not. Pure.

A trace is several records of the store: its log, its summary, its places in lists, its text and
vector. Other spans add to the log of theirs, and many of them are one record.
"""

from __future__ import annotations

from autotrace.dialects.span_kinds import span_kind
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import role_of


def opens_trace(record: SpanRecord) -> bool:
    """Tell whether a span opens a trace, as far as it shows by itself."""
    if "scope" in record:
        kind = span_kind(record)
        # A tool call without a span above it is counted, and is not a trace; nor is a skeleton.
        may_be_task = not record.get("parent") and kind != "tool" and "skeleton" not in record
        return may_be_task or kind in ("agent", "workflow")
    return role_of(record) == "task"
