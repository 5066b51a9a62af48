"""Assembly: from the spans of one OpenTelemetry trace to the traces of its tasks. Pure.

The answer depends on the set of records alone: not on their order, nor on how often one is given,
nor on which process made it.

Rules:

* Each task span makes a trace; what lies below it, down to the next task, belongs to it.
* A tool call belongs to the nearest step above it; without one, to the latest own step of its task
  that had started when the call did, or when it was told of; without any, to an implicit first
  step. Calls that were told of come in the order of the telling: who tells says how long a call
  took, and not when it began.
* A span whose parent is unknown (its process did not export it) belongs to the task that was
  running when it started, the innermost of those; if none was, to the first root task.
* A span that neither is nor lies below a task is in no trace (statistics still count it).
* Spans of other instrumentations are first put in our own words (dialects/).
* A task whose trace was deleted makes none, and keeps what lies below it out of the others. A trace
  below it still names it as its parent.
* The decisions of a trace are those of which any event happened in its task's share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from autotrace import semconv
from autotrace.ids import format_step_id, format_tool_call_id
from autotrace.models import Step, ToolCall, Trace, TraceStatus
from autotrace.spool import record_fields
from autotrace.spool.shares import sender_of, share_of
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord
from autotrace.spool.span_roles import (
    decision_id_of,
    is_rejection,
    public_id_of,
    step_id_of,
    task_of,
    told_ns_of,
)
from autotrace.store.times import utc
from autotrace.store.trace_summaries import Origin, Summary
from autotrace.traces.tool_calls import duration_ms_of, tool_name_of, tool_status_of
from autotrace.traces.tree import TASKS, Tree

MAX_TOOL_SEQUENCE: Final = 200
"""How many tool names a summary holds; the trace itself has them all."""
MAX_REJECTED: Final = 50
"""How many rejected decisions a summary names; the trace itself has them all."""


def assemble(records: Iterable[SpanRecord]) -> list[Trace]:
    """Build the traces of every task among the records of one OpenTelemetry trace.

    Args:
        records: Records of one OpenTelemetry trace in any order, repeats allowed.

    Returns:
        The traces, oldest task first.
    """
    return [build_trace(tree, task) for tree in [Tree(records)] for task in tree.tasks]


def build_trace(tree: Tree, task: SpanRecord) -> Trace:
    """Build the trace of one task of a tree."""
    status, success, outcome, ended_ns = _completion(tree, task)
    parent = tree.nearest_ancestor(task, TASKS)
    return Trace(
        trace_id=public_id_of(task),
        task=task_of(task),
        status=status,
        success=success,
        outcome=outcome,
        steps=_steps(tree, task),
        created_at=utc(task["start_ns"]),
        completed_at=None if ended_ns is None else utc(ended_ns),
        session_id=record_fields.text(task, semconv.GEN_AI_CONVERSATION_ID),
        agent=record_fields.text(task, semconv.GEN_AI_AGENT_NAME),
        parent_trace_id=None if parent is None else public_id_of(parent),
        triggered_by_memory_id=record_fields.text(task, semconv.TRIGGERED_BY_MEMORY_ID),
        recorded_by=sender_of(task),
    )


def decisions_of(tree: Tree, task: SpanRecord) -> list[str]:
    """Return the ids of the decisions of one task's trace, in the order of their first events."""
    events = tree.events.get(task["id"], ())
    return list(dict.fromkeys(decision_id_of(record) for record in events))


def _rejected(tree: Tree, task: SpanRecord) -> list[str]:
    events = tree.events.get(task["id"], ())
    ids = dict.fromkeys(decision_id_of(record) for record in events if is_rejection(record))
    return list(ids)[:MAX_REJECTED]


def _completion(
    tree: Tree, task: SpanRecord
) -> tuple[TraceStatus, bool | None, str | None, int | None]:
    outcome = record_fields.text(task, semconv.OUTCOME)
    if "end_ns" in task:
        success = record_fields.flag(task, semconv.SUCCESS)
        if success is None:
            success = task.get("status") != STATUS_ERROR
        if outcome is None:
            outcome = record_fields.as_text(task.get("message"))
        return "completed", success, outcome, task["end_ns"]
    interruption = tree.interrupted.get(task["id"])
    if interruption is not None:
        return "interrupted", None, outcome, interruption.get("end_ns")
    return "active", None, outcome, None


@dataclass
class _OpenStep:
    step_id: str
    start_ns: int
    record: SpanRecord | None
    parent_step_id: str | None = None
    calls: list[ToolCall] = field(default_factory=list[ToolCall])


def _steps(tree: Tree, task: SpanRecord) -> list[Step]:
    members = tree.members[task["id"]]
    steps: dict[str, _OpenStep] = {}
    for record in members:
        if tree.roles[record["id"]] == "step":
            outer = tree.nearest_ancestor(record, ("step", "task"))
            steps[record["id"]] = _OpenStep(
                step_id_of(record),
                record["start_ns"],
                record,
                step_id_of(outer) if outer and tree.roles[outer["id"]] == "step" else None,
            )
    in_order = list(steps.values())
    # A guest's step draws no call to it that is not below it.
    own = [step for step in in_order if step.record and sender_of(step.record) == sender_of(task)]
    # The latest start of any step up to each one: it never falls, so that it can be searched.
    starts_ns = list(accumulate((step.start_ns for step in own), max))
    implicit: _OpenStep | None = None
    for record in members:
        if tree.roles[record["id"]] != "tool":
            continue
        owner = tree.nearest_ancestor(record, ("step", "task"))
        step = steps.get(owner["id"]) if owner else None
        if step is None:
            begun = bisect_right(starts_ns, told_ns_of(record))
            step = own[begun - 1] if begun else None
        if step is None:
            if implicit is None:
                implicit_id = format_step_id(task["trace"], task["id"])
                implicit = _OpenStep(implicit_id, record["start_ns"], None)
            step = implicit
        step.calls.append(_tool_call(tree, record))
    if implicit is not None:
        in_order.insert(0, implicit)
    return [_step(step) for step in in_order]


def _step(step: _OpenStep) -> Step:
    record = step.record
    if record is None:
        return Step(
            step_id=step.step_id,
            implicit=True,
            tool_calls=step.calls,
            created_at=utc(step.start_ns),
            completed_at=max(call.ended_at for call in step.calls),
        )
    return Step(
        step_id=step.step_id,
        thought=record_fields.text(record, semconv.THOUGHT) or "",
        action=record_fields.text(record, semconv.ACTION),
        observations=record_fields.texts(record, semconv.OBSERVATIONS),
        tool_calls=step.calls,
        error=_error_text(record),
        parent_step_id=step.parent_step_id,
        created_at=utc(step.start_ns),
        completed_at=utc(record["end_ns"]) if "end_ns" in record else None,
    )


def _tool_call(tree: Tree, record: SpanRecord) -> ToolCall:
    outer = tree.nearest_ancestor(record, ("tool", "step", "task"))
    status = tool_status_of(record)
    return ToolCall(
        tool_call_id=_call_id(record),
        tool_name=tool_name_of(record),
        arguments=record_fields.json_value(record, semconv.GEN_AI_TOOL_CALL_ARGUMENTS),
        result=record_fields.json_value(record, semconv.GEN_AI_TOOL_CALL_RESULT),
        yielded=record_fields.json_value(record, semconv.TOOL_YIELDED),
        error=None if status == "success" else _error_text(record),
        error_type=record_fields.text(record, semconv.ERROR_TYPE),
        duration_ms=duration_ms_of(record),
        status=status,
        ended_by=record_fields.text(record, semconv.ENDED_BY),
        memory_id=record_fields.text(record, semconv.TOOL_MEMORY_ID),
        parent_tool_call_id=(
            _call_id(outer) if outer is not None and tree.roles[outer["id"]] == "tool" else None
        ),
        started_at=utc(record["start_ns"]),
        ended_at=utc(max(record.get("end_ns", 0), record["start_ns"])),
    )


def _call_id(record: SpanRecord) -> str:
    call_id = record_fields.text(record, semconv.GEN_AI_TOOL_CALL_ID)
    return call_id or format_tool_call_id(record["id"])


def _error_text(record: SpanRecord) -> str | None:
    if record.get("status") != STATUS_ERROR:
        return None
    if message := record_fields.as_text(record.get("message")):
        return message
    for event in record.get("events", []):
        if event["name"] == semconv.EXCEPTION_EVENT:
            return record_fields.text(event, semconv.EXCEPTION_MESSAGE)
    return None


def summarize(tree: Tree, task: SpanRecord) -> Summary:
    """Build the summary of one task's trace, as the store keeps it, from the records alone."""
    status, success, outcome, ended_ns = _completion(tree, task)
    parent = tree.nearest_ancestor(task, TASKS)
    roles = tree.roles
    members = tree.members[task["id"]]
    tools = [tool_name_of(record) for record in members if roles[record["id"]] == "tool"]
    names = list(dict.fromkeys(tools)) if len(tools) > MAX_TOOL_SEQUENCE else None
    return {
        "task": task_of(task),
        "status": status,
        "success": success,
        "outcome": outcome,
        "tool_sequence": tools[:MAX_TOOL_SEQUENCE],
        "tool_names": names and names[:MAX_TOOL_SEQUENCE],
        "step_count": len(members) - len(tools),
        "tool_call_count": len(tools),
        "created_ns": task["start_ns"],
        "completed_ns": ended_ns,
        "session_id": record_fields.text(task, semconv.GEN_AI_CONVERSATION_ID),
        "agent": record_fields.text(task, semconv.GEN_AI_AGENT_NAME),
        "parent_trace_id": None if parent is None else public_id_of(parent),
        "triggered_by_memory_id": record_fields.text(task, semconv.TRIGGERED_BY_MEMORY_ID),
        "rejected_decisions": _rejected(tree, task),
        "recorded_by": sender_of(task),
        "origin": _origin(task),
    }


def _origin(task: SpanRecord) -> Origin | None:
    owner = share_of(task).owner
    if owner is None and "sent_id" not in task:
        return None
    return {"owner": owner, "span": task["id"], "public_id": public_id_of(task)}
