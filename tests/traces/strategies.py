"""Random span records of one OpenTelemetry trace, as any number of processes may make them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from autotrace import semconv
from autotrace.spool.span_records import SpanRecord

OTEL_TRACE = "ab" * 16


def task_record(
    span: int, parent: int | None, start: int, end: int | None, **more: Any
) -> SpanRecord:
    return _record(
        span,
        parent,
        start,
        end,
        {semconv.KIND: "task", semconv.TASK: f"task {span}", **more},
    )


def step_record(span: int, parent: int | None, start: int, end: int | None) -> SpanRecord:
    return _record(
        span, parent, start, end, {semconv.KIND: "step", semconv.THOUGHT: f"thought {span}"}
    )


def tool_record(
    span: int, parent: int | None, start: int, end: int, name: str = "web_search", **more: Any
) -> SpanRecord:
    attributes = {semconv.GEN_AI_OPERATION_NAME: "execute_tool", semconv.GEN_AI_TOOL_NAME: name}
    return _record(span, parent, start, end, attributes | more)


def decision_record(
    span: int,
    parent: int | None,
    start: int,
    end: int,
    decision: str = "decision-1",
    event: str = "created",
) -> SpanRecord:
    attributes = {
        semconv.KIND: semconv.KIND_DECISION,
        semconv.DECISION_ID: decision,
        semconv.DECISION_EVENT: event,
    }
    return _record(span, parent, start, end, attributes)


def skeleton_of(record: SpanRecord) -> SpanRecord:
    """Return a record as if its span were not about agents."""
    return SpanRecord(
        trace=record["trace"],
        id=record["id"],
        parent=record.get("parent"),
        start_ns=record["start_ns"],
        end_ns=record.get("end_ns", record["start_ns"]),
        skeleton=True,
    )


def _record(
    span: int, parent: int | None, start: int, end: int | None, attributes: dict[str, Any]
) -> SpanRecord:
    record = SpanRecord(
        trace=OTEL_TRACE,
        id=f"{span:016x}",
        parent=None if parent is None else f"{parent:016x}",
        name=f"span {span}",
        start_ns=start * 1_000_000,
        attributes=attributes,
    )
    if end is None:
        record["open"] = True
    else:
        record["end_ns"] = end * 1_000_000
    return record


@st.composite
def span_trees(draw: st.DrawFn) -> list[SpanRecord]:
    """Trees with nested tasks, missing parents, open spans, events of decisions, skeletons and
    cycles of damage."""
    records: list[SpanRecord] = []
    for span in range(1, draw(st.integers(1, 14)) + 1):
        parent = draw(st.none() | st.integers(1, span + 2).filter(lambda p, s=span: p != s))
        start = draw(st.integers(0, 40))
        end = start + draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["task", "step", "tool", "tool", "decision", "skeleton"]))
        if kind == "task":
            records.append(task_record(span, parent, start, None))
            if draw(st.booleans()):
                success = {semconv.SUCCESS: draw(st.booleans())}
                records.append(task_record(span, parent, start, end, **success))
            elif draw(st.booleans()):
                records.append(
                    SpanRecord(
                        trace=OTEL_TRACE,
                        id=f"{span:016x}",
                        start_ns=end * 1_000_000,
                        end_ns=end * 1_000_000,
                        interrupted=True,
                    )
                )
        elif kind == "step":
            records.append(step_record(span, parent, start, draw(st.sampled_from([None, end]))))
        elif kind == "tool":
            told = {semconv.TOLD_NS: end * 1_000_000} if draw(st.booleans()) else {}
            records.append(tool_record(span, parent, start, end, f"tool{span % 3}", **told))
        elif kind == "decision":
            event = draw(st.sampled_from(["created", "approval_rejected"]))
            records.append(decision_record(span, parent, start, end, f"decision-{span % 3}", event))
        else:
            records.append(skeleton_of(tool_record(span, parent, start, end)))
    return records
