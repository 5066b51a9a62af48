"""Assemble the traces of tasks from the spans of one OpenTelemetry trace. Pure.

The result depends on the set of records alone: not on their order, repetition or process. Spans of
other instrumentations are translated first (dialects/). docs/explanation/storage.md has the rules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
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
"""Number of tool names in a summary; the trace has all."""
MAX_REJECTED: Final = 50
"""Number of rejected decisions in a summary; the trace has all."""


def assemble(records: Iterable[SpanRecord]) -> list[Trace]:
    """Build the trace of every task among the records of a share, oldest task first."""
    tree = Tree(records)
    return [build_trace(tree, task) for task in tree.tasks]


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
    """Return the ids of the decisions of a task's trace, in the order of their first events."""
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


def _steps(tree: Tree, task: SpanRecord) -> list[Step]:
    members = tree.members[task["id"]]
    steps = [record for record in members if tree.roles[record["id"]] == "step"]
    calls: dict[str, list[SpanRecord]] = {step["id"]: [] for step in steps}
    # A guest's step gets only calls that are below it.
    own = [step for step in steps if sender_of(step) == sender_of(task)]
    # The latest start of any step so far: it never falls, so it can be bisected.
    starts_ns = list(accumulate((step["start_ns"] for step in own), max))
    implicit: list[SpanRecord] = []
    for record in members:
        if tree.roles[record["id"]] != "tool":
            continue
        owner = tree.nearest_ancestor(record, ("step", "task"))
        if owner is not None and owner["id"] in calls:
            calls[owner["id"]].append(record)
        elif begun := bisect_right(starts_ns, told_ns_of(record)):
            calls[own[begun - 1]["id"]].append(record)
        else:
            implicit.append(record)
    found = [_step(tree, step, calls[step["id"]]) for step in steps]
    if implicit:
        tool_calls = [_tool_call(tree, record) for record in implicit]
        step = Step(
            step_id=format_step_id(task["trace"], task["id"]),
            implicit=True,
            tool_calls=tool_calls,
            created_at=utc(implicit[0]["start_ns"]),
            completed_at=max(call.ended_at for call in tool_calls),
        )
        found.insert(0, step)
    return found


def _step(tree: Tree, record: SpanRecord, calls: Iterable[SpanRecord]) -> Step:
    outer = tree.nearest_ancestor(record, ("step", "task"))
    return Step(
        step_id=step_id_of(record),
        thought=record_fields.text(record, semconv.THOUGHT) or "",
        action=record_fields.text(record, semconv.ACTION),
        observations=record_fields.texts(record, semconv.OBSERVATIONS),
        tool_calls=[_tool_call(tree, call) for call in calls],
        error=_error_text(record),
        parent_step_id=(step_id_of(outer) if outer and tree.roles[outer["id"]] == "step" else None),
        created_at=utc(record["start_ns"]),
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
    """Build the summary of a task's trace."""
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
