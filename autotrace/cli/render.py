"""Traces and statistics as text in 80 columns. Each id is whole, on its own line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from autotrace.base.plural import counted
from autotrace.cli import formatting as t
from autotrace.cli.render_decisions import show_decisions
from autotrace.cli.terminal import Node, Screen
from autotrace.models import (
    RecallResult,
    Step,
    ToolCall,
    ToolStats,
    ToolStatsPage,
    Trace,
    TraceSummary,
)

if TYPE_CHECKING:
    from autotrace.demo import Demo
    from autotrace.doctor import DoctorCheck

_STYLES: Final = {
    "succeeded": "green",
    "failed": "red",
    "active": "cyan",
    "interrupted": "yellow",
    "success": "green",
    "error": "red",
    "timeout": "yellow",
    "cancelled": "yellow",
    "paused": "cyan",
    "ok": "green",
    "warning": "yellow",
}
_INDENT: Final = 4
_RESULT_CHARACTERS: Final = 200


def _standing(trace: Trace | TraceSummary) -> str:
    """Return the status of a trace as one word."""
    if trace.status != "completed":
        return trace.status
    return "succeeded" if trace.success else "failed"


def _origin(trace: Trace | TraceSummary | RecallResult) -> list[str | None]:
    return [t.fact("agent", trace.agent), t.fact("session", trace.session_id)]


def show_traces(screen: Screen, traces: Sequence[TraceSummary]) -> None:
    """Print a page of traces."""
    if not traces:
        screen.line("no traces")
    for trace in traces:
        standing = _standing(trace)
        head = (f"{standing:11}  ", _STYLES[standing])
        screen.cut(Text.assemble(head, (t.one_line(trace.task), "bold")))
        screen.whole(trace.trace_id, indent=_INDENT)
        facts = [
            t.local_time(trace.created_at),
            t.between(trace.created_at, trace.completed_at),
            counted(trace.step_count, "step"),
            counted(trace.tool_call_count, "call"),
            _rejected(trace),
            *_origin(trace),
        ]
        screen.facts(facts, indent=_INDENT)


def _rejected(trace: TraceSummary | RecallResult) -> str | None:
    number = len(trace.rejected_decisions)
    return counted(number, "rejected decision") if number else None


def show_trace(screen: Screen, trace: Trace) -> None:
    """Print one trace, its steps and tool calls as a tree."""
    standing = _standing(trace)
    screen.line(t.block(trace.task), style="bold")
    outcome = f": {t.block(trace.outcome)}" if trace.outcome else ""
    screen.line(Text.assemble((standing, _STYLES[standing]), outcome))
    screen.whole(trace.trace_id)
    facts = [
        t.local_time(trace.created_at),
        t.between(trace.created_at, trace.completed_at),
        *_origin(trace),
    ]
    screen.facts(facts)
    if trace.parent_trace_id:
        screen.whole(f"inside {trace.parent_trace_id}", style="dim")
    if trace.triggered_by_memory_id:
        memory = t.one_line(trace.triggered_by_memory_id)
        screen.whole(f"triggered by memory {memory}", style="dim")
    if trace.steps:
        screen.line()
        screen.tree(_steps(trace))
    if trace.decisions:
        screen.line()
        show_decisions(screen, trace.decisions)
    if trace.decisions_error:
        screen.line(f"decisions cannot be read: {t.one_line(trace.decisions_error)}", style="red")


def _steps(trace: Trace) -> list[Node]:
    roots: list[Node] = []
    nodes: dict[str, Node] = {}
    number = 0
    for step in trace.steps:
        number += not step.implicit
        node = Node(_step_head(step, number, ended=trace.status != "active"))
        # A parent must come first: ids of other software may form a circle.
        parent = nodes.get(step.parent_step_id or "")
        (roots if parent is None else parent.children).append(node)
        nodes.setdefault(step.step_id, node)
        if step.action:
            node.children.append(_labelled("action", step.action))
        node.children += _calls(step.tool_calls)
        for observation in step.observations:
            node.children.append(_labelled("observed", observation))
        if step.error:
            node.children.append(Node(Text(f"failed: {t.block(step.error)}", "red")))
    return roots


def _labelled(label: str, text: str) -> Node:
    return Node(Text.assemble((f"{label}: ", "dim"), t.block(text)))


def _step_head(step: Step, number: int, *, ended: bool) -> Text:
    if step.implicit:
        return Text("outside any step", "dim")
    took = t.between(step.created_at, step.completed_at)
    took = took or ("not ended" if ended else "active")
    return Text.assemble(f"{number}. {t.block(step.thought)}", (f"  {took}", "dim"))


def _calls(calls: Sequence[ToolCall]) -> list[Node]:
    roots: list[Node] = []
    nodes: dict[str, Node] = {}
    for call in calls:
        name, arguments = t.call(call.tool_name, call.arguments)
        took = f"  {t.duration(call.duration_ms)}"
        node = Node(Text.assemble((name, "bold"), arguments, (took, "dim")))
        if call.status != "success":
            node.text.append(f"  {call.status}", _STYLES[call.status])
            error = ": ".join(part for part in (call.error_type, call.error, call.ended_by) if part)
            if error:
                node.children.append(Node(Text(t.one_line(error), _STYLES[call.status])))
        if call.result is not None:
            node.children.append(Node(Text(f"-> {t.json_line(call.result, _RESULT_CHARACTERS)}")))
        parent = nodes.get(call.parent_tool_call_id or "")
        (roots if parent is None else parent.children).append(node)
        nodes.setdefault(call.tool_call_id, node)
    return roots


def show_recall(screen: Screen, results: Sequence[RecallResult]) -> None:
    """Print recalled traces, most similar first."""
    if not results:
        screen.line("nothing similar is recorded")
    for found in results:
        similarity = (f"{found.similarity:.2f}  ", "cyan")
        screen.cut(Text.assemble(similarity, (t.one_line(found.task), "bold")))
        standing = "succeeded" if found.success else "failed"
        outcome = (standing, _STYLES[standing]), t.after_colon(found.outcome)
        screen.line(Text.assemble(*outcome), indent=6)
        if found.tool_sequence:
            screen.line(t.tools(found.tool_sequence), indent=6)
        screen.whole(found.trace_id, indent=6)
        facts = [t.local_time(found.created_at), _rejected(found), *_origin(found)]
        screen.facts(facts, indent=6)


def show_tool_page(screen: Screen, page: ToolStatsPage) -> None:
    """Print a page of tool statistics, and the number of calls after it."""
    show_tools(screen, page.tools)
    if page.others is None:
        return
    screen.line()
    calls, tools = counted(page.others.call_count, "call"), counted(page.left_out, "further tool")
    line = f"{calls} of {tools}"
    if page.tools and page.left_out:
        line += f": continue with --after {t.one_line(page.tools[-1].tool_name)}"
    screen.line(line, style="dim")


def show_tools(screen: Screen, tools: Sequence[ToolStats]) -> None:
    """Print tool statistics, and the errors of each tool below."""
    if not tools:
        screen.line("no tool calls")
        return
    heads = ["tool", "calls", "success", "p50", "p95", "max", "last used"]
    rows: list[list[str | Text]] = []
    for tool in tools:
        rate = tool.success_rate
        style = "green" if rate >= 0.95 else "yellow" if rate >= 0.8 else "red"
        rows.append(
            [
                t.one_line(tool.tool_name),
                f"{tool.call_count:,}",
                Text(_percent(rate), style),
                t.duration(tool.p50_duration_ms),
                t.duration(tool.p95_duration_ms),
                t.duration(tool.max_duration_ms),
                t.local_time(tool.last_used_at),
            ]
        )
    screen.table(heads, rows)
    failing = [tool for tool in tools if tool.error_types]
    if failing:
        screen.line()
        screen.line("errors", style="dim")
    for tool in failing:
        most = sorted(tool.error_types.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{t.one_line(name)} x{number:,}" for name, number in most[:5])
        screen.line(f"{t.one_line(tool.tool_name)}: {kinds}")


def _percent(rate: float) -> str:
    """Return a rate as whole per cent; 100 and 0 only if they are exact."""
    if 0 < rate < 1:
        return f"{min(99, max(1, round(rate * 100)))} %"
    return f"{rate * 100:.0f} %"


def show_check(screen: Screen, check: DoctorCheck) -> None:
    """Print one check of the doctor."""
    style = "red" if check.status == "error" else _STYLES[check.status]
    status = (f"{check.status:9}", style)
    detail = t.one_line(check.detail, 1_000)
    screen.line(Text.assemble(status, (f"{check.name}: ", "bold"), detail), hang=9)
    if check.fix:
        fix = t.one_line(check.fix, 1_000)
        screen.line(Text.assemble(("to fix it: ", "dim"), fix), indent=9)


def show_demo(screen: Screen, demo: Demo) -> None:
    """Print the work of the demonstration's agent and the recalled traces."""
    _title(screen, "An agent did five tasks, and autotrace recorded them")
    show_traces(screen, demo.traces)
    _title(screen, "One of them in full")
    show_trace(screen, demo.trace)
    _title(screen, f"Recalled for: {demo.request}")
    show_recall(screen, demo.recalled)
    _title(screen, "How its tools did")
    show_tools(screen, demo.tool_stats)
    screen.line()


def _title(screen: Screen, text: str) -> None:
    screen.line()
    screen.line(text, style="bold underline")
    screen.line()
