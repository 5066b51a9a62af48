"""From a trace read out of autotrace's own store to the spans that a collector must hold. Pure.

Keys are spelled out here and not imported: they are what other products read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .collector import CollectedSpan

OUR_KEYS = ("gen_ai.", "autotrace.", "error.")
JSON_KEYS = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result")
CLOCK_TOLERANCE = timedelta(microseconds=2)
"""autotrace cuts nanoseconds to microseconds; Phoenix takes them through a float and rounds."""
NESTING_TOLERANCE = timedelta(milliseconds=1)
"""Each span counts its duration by itself; reading two clocks is not one step."""


@dataclass(frozen=True, kw_only=True)
class SpanView:
    """What must be equal on both sides, apart from the times."""

    name: str
    parent_id: str | None
    collector_kind: str | None = None
    """None where the conventions name no kind."""
    failed: bool = False
    message: str = ""
    exceptions: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Type and message of each exception event."""
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class ExpectedSpan:
    """A span that the collector must hold."""

    view: SpanView
    times: tuple[datetime, datetime] | None = None
    """None where autotrace does not know them: spans of the application itself."""


def otel_ids(public_id: str) -> tuple[str, str]:
    """Return the OpenTelemetry trace id and span id that a trace or step id carries."""
    _, trace_id, span_id = public_id.split("-")
    return trace_id, span_id


def expected_spans(run: dict[str, Any], parent_id: str | None = None) -> dict[str, ExpectedSpan]:
    """Return the spans of one task of the agent, by span id.

    Args:
        run: What the agent reports: the JSON of `autotrace.get_trace`, and the class of the
            exception that left the task and the step inside it (the trace keeps its text alone).
        parent_id: The application's own span around the task, if there is one.
    """
    trace, raised = run["trace"], run["raised"]
    _, task_id = otel_ids(trace["trace_id"])
    spans = {task_id: _task_span(trace, raised, parent_id)}
    for step in trace["steps"]:
        _, step_id = otel_ids(step["step_id"])
        parent = step["parent_step_id"]
        spans[step_id] = _step_span(
            step, raised, task_id if parent is None else otel_ids(parent)[1]
        )
        for call in step["tool_calls"]:
            outer = call["parent_tool_call_id"]
            spans[_call_span_id(call["tool_call_id"])] = _tool_span(
                call, step_id if outer is None else _call_span_id(outer)
            )
    return spans


def own_span(name: str) -> ExpectedSpan:
    """Return a root span that the application made without autotrace."""
    return ExpectedSpan(view=SpanView(name=name, parent_id=None))


def assert_same_spans(
    collected: dict[str, CollectedSpan], expected: dict[str, ExpectedSpan]
) -> None:
    """Fail unless the collector holds exactly these spans, field by field."""
    assert collected.keys() == expected.keys()
    for span_id, span in expected.items():
        seen = collected[span_id]
        assert view_of(seen) == span.view
        if span.times is not None:
            assert abs(seen.started_at - span.times[0]) <= CLOCK_TOLERANCE, span.view.name
            assert abs(seen.ended_at - span.times[1]) <= CLOCK_TOLERANCE, span.view.name


def assert_children_within_parents(collected: dict[str, CollectedSpan]) -> None:
    """Fail if a span begins before its parent or ends after it: the program runs in one thread."""
    for span in collected.values():
        parent = collected.get(span.parent_id or "")
        if parent is not None:
            assert span.started_at >= parent.started_at - NESTING_TOLERANCE, span.name
            assert span.ended_at <= parent.ended_at + NESTING_TOLERANCE, span.name


def view_of(span: CollectedSpan) -> SpanView:
    """Return what is compared of a collected span."""
    attributes = {key: v for key, v in span.attributes.items() if key.startswith(OUR_KEYS)}
    for key in attributes.keys() & set(JSON_KEYS):
        attributes[key] = json.loads(attributes[key])
    known_kind = span.collector_kind if span.collector_kind in ("AGENT", "TOOL") else None
    return SpanView(
        name=span.name,
        parent_id=span.parent_id,
        collector_kind=known_kind,
        failed=span.status == "ERROR",
        message=span.status_message,
        exceptions=[
            (e["attributes"]["exception.type"], e["attributes"]["exception.message"])
            for e in span.events
            if e["name"] == "exception"
        ],
        attributes=attributes,
    )


def _task_span(trace: dict[str, Any], raised: str | None, parent_id: str | None) -> ExpectedSpan:
    # The outcome of a task that an exception left names the class; the span has it beside the text.
    message = "" if raised is None else trace["outcome"].removeprefix(f"{raised}: ")
    return ExpectedSpan(
        view=SpanView(
            name=f"invoke_agent {trace['agent']}",
            parent_id=parent_id,
            collector_kind="AGENT",
            failed=raised is not None,
            message=message,
            exceptions=_exceptions(raised, message),
            attributes=_present(
                {
                    "gen_ai.operation.name": "invoke_agent",
                    "gen_ai.agent.name": trace["agent"],
                    "gen_ai.conversation.id": trace["session_id"],
                    "autotrace.kind": "task",
                    "autotrace.task": trace["task"],
                    "autotrace.outcome": trace["outcome"],
                    "autotrace.success": trace["success"],
                    "error.type": raised,
                }
            ),
        ),
        times=_times(trace["created_at"], trace["completed_at"]),
    )


def _step_span(step: dict[str, Any], raised: str | None, parent_id: str) -> ExpectedSpan:
    return ExpectedSpan(
        view=SpanView(
            name="step",
            parent_id=parent_id,
            failed=step["error"] is not None,
            message=step["error"] or "",
            exceptions=_exceptions(raised, step["error"]),
            attributes=_present(
                {
                    "autotrace.kind": "step",
                    "autotrace.step.thought": step["thought"],
                    "autotrace.step.action": step["action"],
                    "autotrace.step.observations": step["observations"] or None,
                    "error.type": raised,
                }
            ),
        ),
        times=_times(step["created_at"], step["completed_at"]),
    )


def _tool_span(call: dict[str, Any], parent_id: str) -> ExpectedSpan:
    failed = call["status"] != "success"
    return ExpectedSpan(
        view=SpanView(
            name=f"execute_tool {call['tool_name']}",
            parent_id=parent_id,
            collector_kind="TOOL",
            failed=failed,
            message=call["error"] or "",
            exceptions=_exceptions(call["error_type"], call["error"]),
            attributes=_present(
                {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": call["tool_name"],
                    "gen_ai.tool.call.arguments": call["arguments"],
                    "gen_ai.tool.call.result": call["result"],
                    "error.type": call["error_type"],
                    "autotrace.tool.status": call["status"] if failed else None,
                }
            ),
        ),
        times=_times(call["started_at"], call["ended_at"]),
    )


def _exceptions(error_type: str | None, message: str) -> list[tuple[str, str]]:
    return [] if error_type is None else [(error_type, message)]


def _call_span_id(tool_call_id: str) -> str:
    return tool_call_id.removeprefix("call-")


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if value is not None}


def _times(start: str, end: str) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(start), datetime.fromisoformat(end)


def merge(parts: Iterable[dict[str, ExpectedSpan]]) -> dict[str, ExpectedSpan]:
    """Return the spans of several parts of one OpenTelemetry trace together."""
    return {span_id: span for part in parts for span_id, span in part.items()}
