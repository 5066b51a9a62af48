"""Bound the times of spans that arrive by when they arrive. Pure.

Traces are listed newest first, and of equally similar ones the newest is recalled first. So a
sender that dates its spans into the future would stand before all others.
"""

from __future__ import annotations

from typing import Final

from autotrace.otlp.decode import Batch
from autotrace.spool.span_records import SpanRecord

MAX_AHEAD_NS: Final = 5 * 60 * 1_000_000_000
"""How far the clock of a sender may be ahead of ours: five minutes."""
_REASON: Final = "times later than five minutes from now, which were set to that"


def bound_times(batch: Batch, now_ns: int) -> None:
    """Set times that are too far in the future to the latest allowed, and count them.

    Args:
        batch: The spans that arrived.
        now_ns: When they arrived.
    """
    latest_ns = now_ns + MAX_AHEAD_NS
    ahead = sum(_is_ahead(record, latest_ns) for record in batch.records)
    if ahead:
        batch.cut[_REASON] += ahead
        batch.records = [_bounded(record, latest_ns) for record in batch.records]


def _is_ahead(record: SpanRecord, latest_ns: int) -> bool:
    return max(record.get("start_ns", 0), record.get("end_ns", 0)) > latest_ns


def _bounded(record: SpanRecord, latest_ns: int) -> SpanRecord:
    if not _is_ahead(record, latest_ns):
        return record
    bounded: SpanRecord = {**record, "start_ns": min(record["start_ns"], latest_ns)}
    if "end_ns" in record:
        bounded["end_ns"] = min(record["end_ns"], latest_ns)
    return bounded
