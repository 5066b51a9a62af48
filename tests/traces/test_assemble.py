"""Assembly: the same spans give the same traces, in whatever order and however often they come."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace import semconv
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import role_of
from autotrace.traces.assembly import MAX_REJECTED, assemble, decisions_of, summarize
from autotrace.traces.tree import Tree
from tests.traces.strategies import (
    OTEL_TRACE,
    decision_record,
    skeleton_of,
    span_trees,
    step_record,
    task_record,
    tool_record,
)


def trace_id(span: int) -> str:
    return f"trace-{OTEL_TRACE}-{span:016x}"


def step_id(span: int) -> str:
    return f"step-{OTEL_TRACE}-{span:016x}"


@given(records=span_trees(), data=st.data())
def test_any_order_and_any_repetition_give_the_same_traces(
    records: list[SpanRecord], data: st.DataObject
) -> None:
    repeated = records + data.draw(st.lists(st.sampled_from(records)))
    shuffled = data.draw(st.permutations(repeated))

    assert assemble(shuffled) == assemble(records)


@given(records=span_trees())
def test_every_tool_call_below_a_task_is_in_exactly_one_trace(records: list[SpanRecord]) -> None:
    tree = Tree(records)
    traces = assemble(records)

    calls = [call.tool_call_id for trace in traces for call in trace.tool_calls]
    expected = [
        f"call-{r['id']}"
        for r in tree.spans.values()
        if tree.roles[r["id"]] == "tool" and tree.owning_task(r) is not None
    ]
    assert sorted(calls) == sorted(expected)


@given(records=span_trees())
def test_a_summary_says_what_the_trace_says(records: list[SpanRecord]) -> None:
    tree = Tree(records)
    traces = assemble(records)

    summaries = [summarize(tree, task) for task in tree.tasks]
    assert [(s["task"], s["status"], s["success"], s["outcome"]) for s in summaries] == [
        (t.task, t.status, t.success, t.outcome) for t in traces
    ]
    assert [sorted(s["tool_sequence"]) for s in summaries] == [
        sorted(c.tool_name for c in t.tool_calls) for t in traces
    ]
    assert [s["step_count"] for s in summaries] == [
        sum(not step.implicit for step in t.steps) for t in traces
    ]
    assert [s["parent_trace_id"] for s in summaries] == [t.parent_trace_id for t in traces]


@given(records=span_trees(), data=st.data())
def test_the_decisions_of_a_trace_do_not_depend_on_the_order_of_spans(
    records: list[SpanRecord], data: st.DataObject
) -> None:
    def decisions(of: list[SpanRecord]) -> list[tuple[str, list[str], list[str]]]:
        tree = Tree(of)
        return [
            (task["id"], decisions_of(tree, task), summarize(tree, task)["rejected_decisions"])
            for task in tree.tasks
        ]

    shuffled = data.draw(st.permutations(records + data.draw(st.lists(st.sampled_from(records)))))

    assert decisions(shuffled) == decisions(records)


@given(records=span_trees())
def test_events_of_decisions_change_nothing_else_in_a_trace(records: list[SpanRecord]) -> None:
    without = [skeleton_of(r) if role_of(r) == "decision" else r for r in records]
    tree, tree_without = Tree(records), Tree(without)

    def summaries(of: Tree) -> list[dict[str, Any]]:
        return [{**summarize(of, task), "rejected_decisions": None} for task in of.tasks]

    assert assemble(records) == assemble(without)
    assert summaries(tree) == summaries(tree_without)


@given(records=span_trees())
def test_every_event_of_a_decision_below_a_task_is_in_exactly_one_trace(
    records: list[SpanRecord],
) -> None:
    tree = Tree(records)

    events = [r["id"] for of_task in tree.events.values() for r in of_task]
    assert sorted(events) == sorted(
        r["id"]
        for r in tree.spans.values()
        if tree.roles[r["id"]] == "decision" and tree.owning_task(r) is not None
    )


def test_a_decision_is_that_of_the_task_in_which_an_event_of_it_happened() -> None:
    tree = Tree(
        [
            task_record(1, None, 0, 100),
            decision_record(2, 1, 5, 5, "decision-outer"),
            task_record(3, 1, 10, 50),
            tool_record(4, 3, 20, 40),
            decision_record(5, 4, 30, 30, "decision-inner"),
            decision_record(6, 1, 60, 60, "decision-late"),
            decision_record(7, 1, 70, 70, "decision-outer", "closed"),
            decision_record(8, None, 80, 80, "decision-of-no-task"),
        ]
    )

    assert [decisions_of(tree, task) for task in tree.tasks] == [
        ["decision-outer", "decision-late"],
        ["decision-inner"],
    ]


def test_a_summary_names_the_decisions_that_were_rejected() -> None:
    events = [
        decision_record(2, 1, 5, 5, "decision-a", "approval_requested"),
        decision_record(3, 1, 6, 6, "decision-a", "approval_rejected"),
        decision_record(4, 1, 7, 7, "decision-b", "approval_granted"),
        decision_record(5, 1, 8, 8, "decision-c", "approval_expired"),
    ]
    many = [decision_record(n, 1, n, n, f"decision-{n}", "approval_rejected") for n in range(2, 99)]

    def rejected(records: list[SpanRecord]) -> list[str]:
        tree = Tree([task_record(1, None, 0, 1000), *records])
        return summarize(tree, tree.tasks[0])["rejected_decisions"]

    assert rejected([]) == []
    assert rejected(events) == ["decision-a"]
    assert rejected(many) == [f"decision-{n}" for n in range(2, 2 + MAX_REJECTED)]


def test_a_summary_of_many_calls_names_each_tool_once() -> None:
    def summary_of(names: list[str]) -> dict[str, Any]:
        calls = [tool_record(n, 1, n, n + 1, name) for n, name in enumerate(names, start=2)]
        tree = Tree([task_record(1, None, 0, 10_000), *calls])
        return dict(summarize(tree, tree.tasks[0]))

    short = summary_of(["search"] * 200)
    assert short["tool_names"] is None
    long = summary_of(["search"] * 200 + ["order", "search"])
    assert long["tool_sequence"] == ["search"] * 200
    assert long["tool_names"] == ["search", "order"]
    various = summary_of([str(n) for n in range(205)])
    assert various["tool_names"] == [str(n) for n in range(200)]


def test_a_whole_trace() -> None:
    records = [
        task_record(
            1,
            None,
            0,
            100,
            **{
                semconv.OUTCOME: "Top 3 found",
                semconv.SUCCESS: True,
                semconv.GEN_AI_AGENT_NAME: "concierge",
                semconv.GEN_AI_CONVERSATION_ID: "s1",
                semconv.TRIGGERED_BY_MEMORY_ID: "mem_1",
            },
        ),
        step_record(2, 1, 10, 50),
        tool_record(
            3,
            2,
            20,
            40,
            **{
                semconv.GEN_AI_TOOL_CALL_ARGUMENTS: '{"query":"italian"}',
                semconv.GEN_AI_TOOL_CALL_RESULT: "[1,2]",
            },
        ),
    ]

    (trace,) = assemble(records)

    assert trace.model_dump(mode="json") == {
        "trace_id": trace_id(1),
        "task": "task 1",
        "status": "completed",
        "success": True,
        "outcome": "Top 3 found",
        "steps": [
            {
                "step_id": step_id(2),
                "thought": "thought 2",
                "action": None,
                "observations": [],
                "tool_calls": [
                    {
                        "tool_call_id": "call-0000000000000003",
                        "tool_name": "web_search",
                        "arguments": {"query": "italian"},
                        "result": [1, 2],
                        "yielded": None,
                        "error": None,
                        "error_type": None,
                        "duration_ms": 20,
                        "status": "success",
                        "ended_as": "success",
                        "ended_by": None,
                        "memory_id": None,
                        "parent_tool_call_id": None,
                        "started_at": "1970-01-01T00:00:00.020000Z",
                        "ended_at": "1970-01-01T00:00:00.040000Z",
                    }
                ],
                "error": None,
                "implicit": False,
                "parent_step_id": None,
                "created_at": "1970-01-01T00:00:00.010000Z",
                "completed_at": "1970-01-01T00:00:00.050000Z",
            }
        ],
        "created_at": "1970-01-01T00:00:00Z",
        "completed_at": "1970-01-01T00:00:00.100000Z",
        "session_id": "s1",
        "agent": "concierge",
        "parent_trace_id": None,
        "triggered_by_memory_id": "mem_1",
        "recorded_by": None,
        "decisions": [],
        "decisions_error": None,
    }


def steps_with_calls(records: list[SpanRecord]) -> dict[str, list[str]]:
    (trace,) = assemble(records)
    return {s.step_id: [c.tool_call_id[-1] for c in s.tool_calls] for s in trace.steps}


def test_a_call_outside_any_step_belongs_to_the_latest_step() -> None:
    records = [
        task_record(1, None, 0, 100),
        step_record(2, 1, 10, 20),
        step_record(3, 1, 30, 40),
        tool_record(4, 1, 25, 26),
        tool_record(5, 1, 50, 60),
    ]

    assert steps_with_calls(records) == {step_id(2): ["4"], step_id(3): ["5"]}


def test_a_call_before_any_step_belongs_to_an_implicit_one() -> None:
    records = [
        task_record(1, None, 0, 100),
        tool_record(4, 1, 5, 6),
        step_record(2, 1, 10, 20),
    ]

    (trace,) = assemble(records)
    assert [(s.implicit, s.thought, [c.tool_name for c in s.tool_calls]) for s in trace.steps] == [
        (True, "", ["web_search"]),
        (False, "thought 2", []),
    ]


def test_calls_that_were_told_of_come_in_that_order_in_the_latest_step_then() -> None:
    def told(span: int, took_ms: int, at_ms: int, name: str) -> SpanRecord:
        at_ns = {semconv.TOLD_NS: at_ms * 1_000_000}
        return tool_record(span, 1, at_ms - took_ms, at_ms, name, **at_ns)

    records = [
        task_record(1, None, 10, None),
        step_record(2, 1, 20, 20),
        step_record(3, 1, 40, 40),
        told(4, 45, 50, "later"),
        told(5, 5, 30, "first"),
        told(6, 2, 51, "last"),
    ]

    [trace] = assemble(records)
    [summary] = [summarize(tree, tree.tasks[0]) for tree in [Tree(records)]]

    assert [[c.tool_name for c in s.tool_calls] for s in trace.steps] == [
        ["first"],
        ["later", "last"],
    ]
    assert summary["tool_sequence"] == ["first", "later", "last"]


@pytest.mark.parametrize("told", ["soon", True, 1.5, None, [1]])
def test_a_call_that_says_nonsense_of_when_it_was_told_of_counts_from_its_start(told: Any) -> None:
    records = [
        task_record(1, None, 10, None),
        step_record(2, 1, 20, 20),
        tool_record(3, 1, 30, 40, **{semconv.TOLD_NS: told}),
    ]

    [trace] = assemble(records)

    assert len(trace.steps[0].tool_calls) == 1


def test_a_call_inside_a_call_names_it_and_stays_in_its_step() -> None:
    records = [
        task_record(1, None, 0, 100),
        step_record(2, 1, 10, 90),
        tool_record(3, 2, 20, 80, "outer"),
        tool_record(4, 3, 30, 40, "inner"),
    ]

    (trace,) = assemble(records)
    assert [(c.tool_name, c.parent_tool_call_id) for c in trace.tool_calls] == [
        ("outer", None),
        ("inner", "call-0000000000000003"),
    ]


def test_a_nested_task_is_a_trace_of_its_own() -> None:
    records = [
        task_record(1, None, 0, 100),
        step_record(2, 1, 10, 90),
        task_record(3, 2, 20, 80),
        tool_record(4, 3, 30, 40),
    ]

    outer, inner = assemble(records)
    assert (inner.parent_trace_id, outer.parent_trace_id) == (outer.trace_id, None)
    assert (len(outer.tool_calls), len(inner.tool_calls)) == (0, 1)


def test_spans_of_others_in_between_do_not_break_the_chain() -> None:
    skeleton = SpanRecord(
        trace=OTEL_TRACE, id=f"{9:016x}", parent=f"{2:016x}", start_ns=1, end_ns=2, skeleton=True
    )
    records = [
        task_record(1, None, 0, 100),
        step_record(2, 1, 10, 90),
        skeleton,
        tool_record(4, 9, 30, 40),
    ]

    assert steps_with_calls(records) == {step_id(2): ["4"]}


def test_a_span_whose_parent_is_unknown_belongs_to_the_task_that_was_running() -> None:
    records = [
        task_record(1, None, 0, 100),
        task_record(2, 1, 20, 60),
        tool_record(4, 77, 30, 40),
        tool_record(5, 77, 70, 80),
    ]

    outer, inner = assemble(records)
    assert [c.tool_call_id[-1] for c in outer.tool_calls] == ["5"]
    assert [c.tool_call_id[-1] for c in inner.tool_calls] == ["4"]


def test_a_task_that_never_ended_is_active_until_its_process_died() -> None:
    started = task_record(1, None, 0, None)
    died = SpanRecord(
        trace=OTEL_TRACE, id=f"{1:016x}", start_ns=5_000_000, end_ns=5_000_000, interrupted=True
    )

    assert [t.status for t in assemble([started])] == ["active"]
    assert [t.status for t in assemble([started, died])] == ["interrupted"]
    assert [t.status for t in assemble([died, task_record(1, None, 0, 9), started])] == [
        "completed"
    ]


def test_success_is_what_was_said_or_else_the_absence_of_an_error() -> None:
    def success(record: SpanRecord) -> Any:
        return assemble([record])[0].success

    failed = task_record(1, None, 0, 1)
    failed["status"] = 2
    failed["message"] = "ValueError: no"

    assert success(task_record(1, None, 0, 1)) is True
    assert success(task_record(1, None, 0, 1, **{semconv.SUCCESS: False})) is False
    assert (success(failed), assemble([failed])[0].outcome) == (False, "ValueError: no")


def test_json_that_another_limit_has_cut_stays_as_text() -> None:
    cut = {semconv.GEN_AI_TOOL_CALL_ARGUMENTS: '{"query":"ital'}

    (trace,) = assemble([task_record(1, None, 0, 9), tool_record(2, 1, 1, 2, **cut)])

    assert trace.tool_calls[0].arguments == '{"query":"ital'


def test_a_clock_set_back_makes_no_negative_duration() -> None:
    (trace,) = assemble([task_record(1, None, 0, 9), tool_record(2, 1, 5, 3)])

    (call,) = trace.tool_calls
    assert call.duration_ms == 0
    assert call.ended_at >= call.started_at


def test_a_cycle_of_parents_ends() -> None:
    records = [task_record(1, 2, 0, 9), task_record(2, 1, 0, 9), tool_record(3, 4, 1, 2)]
    records.append(tool_record(4, 3, 1, 2))
    random.Random(1).shuffle(records)

    assert len(assemble(records)) == 2
