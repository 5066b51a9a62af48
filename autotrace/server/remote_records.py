"""Build span records, and their ids, for traces that clients report.

They are the records that a program makes, redacted and bounded by the same rules, and assembled in
the same way.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from autotrace import semconv
from autotrace.capture.native_spans import id_generator
from autotrace.capture.recorder import Recorder
from autotrace.capture.span_attributes import (
    Observations,
    step_attributes,
    task_attributes,
    task_span_name,
    tool_attributes,
)
from autotrace.ids import SpanIds, span_id_hex, trace_id_hex
from autotrace.models import ToolStatus
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord

NS_PER_MS: Final = 1_000_000
_CHECK_DIGITS: Final = 4


def new_task() -> SpanIds:
    """Return ids for a task."""
    return task_in(trace_id_hex(id_generator.generate_trace_id()))


def task_in(trace: str) -> SpanIds:
    """Return the ids that `new_task` gives the task of a trace."""
    return SpanIds(trace, hashlib.sha256(f"task of {trace}".encode()).hexdigest()[:16])


def came_with(record: SpanRecord, key_id: str, agent: str) -> SpanRecord:
    """Return a record as sent with an agent's key, in its own share."""
    return {**record, "sender": {"key": key_id, "agent": agent}, "owner": agent}


def _sent_as(begun: SpanRecord, record: SpanRecord) -> SpanRecord:
    """Return a record as sent with the key that began its task."""
    if "sender" in begun and "owner" in begun:
        return {**record, "sender": begun["sender"], "owner": begun["owner"]}
    return record


def new_step(task: SpanIds) -> SpanIds:
    """Return ids for a step.

    The last digits of its span id are a checksum, by which any process recognises a step of a
    server without a look into the store.
    """
    drawn = secrets.token_hex(8 - _CHECK_DIGITS // 2)
    return SpanIds(task.trace, drawn + _checksum(task.trace, drawn))


def is_reported_step(step: SpanIds) -> bool:
    """Return whether `new_step` made the ids of a step."""
    drawn = step.span[:-_CHECK_DIGITS]
    return step.span == drawn + _checksum(step.trace, drawn)


def _checksum(trace: str, drawn: str) -> str:
    return hashlib.sha256(f"{trace}-{drawn}".encode()).hexdigest()[:_CHECK_DIGITS]


def open_task_record(
    recorder: Recorder,
    ids: SpanIds,
    at_ns: int,
    *,
    task: str,
    session_id: str,
    agent: str,
    triggered_by_memory_id: str | None,
) -> SpanRecord:
    """Make the record of a task that has begun, and that no process owns."""
    text = recorder.encoder.text
    memory_id = triggered_by_memory_id
    attributes = task_attributes(
        recorder,
        task,
        session_id=text(session_id, path=semconv.GEN_AI_CONVERSATION_ID),
        agent=agent,
        triggered_by_memory_id=(
            None if memory_id is None else text(memory_id, path=semconv.TRIGGERED_BY_MEMORY_ID)
        ),
    )
    return {
        "trace": ids.trace,
        "id": ids.span,
        "parent": None,
        "name": task_span_name(agent),
        "start_ns": at_ns,
        "attributes": attributes,
        "open": True,
        "shared": True,
    }


def completed_task_record(opening: Any, closing: Any) -> SpanRecord:
    """Make the record of a completed task; always the same for an entry.

    Args:
        opening: Its opening; `begun` is the record of it.
        closing: Its completion: `ended_ns`, and the encoded `outcome` and `success`.
    """
    begun: SpanRecord = opening["begun"]
    outcome, success = closing["outcome"], closing["success"]
    record: SpanRecord = {
        "trace": begun["trace"],
        "id": begun["id"],
        "parent": None,
        "name": begun.get("name", ""),
        "start_ns": begun["start_ns"],
        "end_ns": closing["ended_ns"],
        "attributes": begun.get("attributes", {})
        | {semconv.OUTCOME: outcome, semconv.SUCCESS: success},
    }
    if not success:
        record["status"] = STATUS_ERROR
        record["message"] = outcome
    return _sent_as(begun, record)


def abandoned_task_record(opening: Any, last_ns: int) -> SpanRecord:
    """Make the record of a task as interrupted at the time of its last record."""
    begun: SpanRecord = opening["begun"]
    interrupted: SpanRecord = {
        "trace": begun["trace"],
        "id": begun["id"],
        "start_ns": last_ns,
        "end_ns": last_ns,
        "interrupted": True,
    }
    return _sent_as(begun, interrupted)


def step_record(
    recorder: Recorder,
    task: SpanIds,
    at_ns: int,
    *,
    thought: str,
    action: str,
    observations: Iterable[str],
) -> SpanRecord:
    """Make the record of a step."""
    attributes = step_attributes(recorder, thought, action)
    observed = Observations(recorder)
    for text in observations:
        observed.add(text)
    if observed.texts:
        attributes[semconv.OBSERVATIONS] = observed.texts
    return {
        "trace": task.trace,
        "id": new_step(task).span,
        "parent": task.span,
        "name": semconv.STEP_SPAN_NAME,
        "start_ns": at_ns,
        "end_ns": at_ns,
        "attributes": attributes,
    }


def tool_call_record(
    recorder: Recorder,
    parent: SpanIds,
    at_ns: int,
    *,
    tool_name: str,
    arguments: Mapping[str, Any],
    result: Any,
    duration_ms: int,
    status: ToolStatus,
    memory_id: str | None,
) -> SpanRecord:
    """Make the record of a tool call that has ended now."""
    text = recorder.encoder.text
    found: list[str] = []
    attributes = tool_attributes(
        recorder,
        tool_name,
        arguments if recorder.capture_arguments else None,
        memory_id=None if memory_id is None else text(memory_id, path=semconv.TOOL_MEMORY_ID),
        found=found,
    )
    attributes[semconv.TOLD_NS] = at_ns
    if recorder.capture_result:
        attributes[semconv.GEN_AI_TOOL_CALL_RESULT] = recorder.encoder.json(
            result, found=found, path="result"
        )
    record: SpanRecord = {
        "trace": parent.trace,
        "id": span_id_hex(id_generator.generate_span_id()),
        "parent": parent.span,
        "name": f"{semconv.EXECUTE_TOOL} {attributes[semconv.GEN_AI_TOOL_NAME]}",
        "start_ns": at_ns - duration_ms * NS_PER_MS,
        "end_ns": at_ns,
        "attributes": attributes,
    }
    if status != "success":
        attributes[semconv.TOOL_STATUS] = attributes[semconv.ERROR_TYPE] = status
        record["status"] = STATUS_ERROR
        if recorder.capture_result and isinstance(result, str):
            record["message"] = text(result, path="error.message")
    return record
