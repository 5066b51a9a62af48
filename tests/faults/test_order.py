"""Spans in any order, twice, from three processes, under clocks that are set back: one trace."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

import autotrace
from autotrace import ChromaSpanExporter
from tests.embedders import SmallEmbedder
from tests.faults import agents
from tests.faults.checks import open_store, read_traces, stored_traces
from tests.faults.conftest import Figure
from tests.faults.processes import nursery, run

PROCESSES: Final = 3
EXAMPLES: Final = 6

Span = dict[str, Any]
"""A span without its trace: id, parent, kind, start and end in milliseconds, whether it failed."""


@st.composite
def trees(draw: st.DrawFn) -> list[Span]:
    """A task, and below it steps, tools, tasks and spans of others, some of unknown parents."""
    spans: list[Span] = [{"id": 1, "parent": None, "kind": "task", "start": 0, "end": 100}]
    for number in range(2, draw(st.integers(2, 12)) + 1):
        start = draw(st.integers(0, 90))
        spans.append(
            {
                "id": number,
                "parent": draw(st.sampled_from([*range(1, number), 99])),
                "kind": draw(st.sampled_from(["task", "step", "tool", "tool", "other"])),
                "start": start,
                "end": start + draw(st.integers(0, 100 - start)),
                "failed": draw(st.booleans()),
            }
        )
    return spans


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Span], list[tuple[int, int, bool]]]:
    """Spans; and in which order which process exports which, and whether it flushes then."""
    spans = draw(trees())
    again = draw(st.lists(st.sampled_from(range(len(spans))), max_size=6))
    order = draw(st.permutations([*range(len(spans)), *again]))
    each = st.tuples(st.integers(0, PROCESSES - 1), st.sampled_from([False, False, False, True]))
    return spans, [(number, *draw(each)) for number in order]


def readable(span: Span, trace: int) -> ReadableSpan:
    def context(span_id: int) -> SpanContext:
        return SpanContext(trace, span_id, is_remote=False, trace_flags=TraceFlags(1))

    kind, number = span["kind"], span["id"]
    attributes: dict[str, Any] = {
        "task": {"autotrace.kind": "task", "autotrace.task": f"task {number}"},
        "step": {"autotrace.kind": "step", "autotrace.step.thought": f"thought {number}"},
        "tool": {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": f"tool{number % 3}",
            "gen_ai.tool.call.arguments": json.dumps({"n": number}),
        },
        "other": {"db.statement": "SELECT 1"},
    }[kind]
    failed = span.get("failed", False)
    return ReadableSpan(
        name=kind,
        context=context(number),
        parent=None if span["parent"] is None else context(span["parent"]),
        attributes=attributes | ({"error.type": "ValueError"} if failed else {}),
        status=Status(StatusCode.ERROR, "no") if failed else Status(StatusCode.UNSET),
        start_time=1_700_000_000_000_000_000 + span["start"] * 1_000_000,
        end_time=1_700_000_000_000_000_000 + span["end"] * 1_000_000,
    )


def export_what_comes(store: str, orders: Connection) -> None:
    """Export the spans that come over a pipe, until None comes; answer flushes."""
    exporter = ChromaSpanExporter(store, embedder=SmallEmbedder())
    while (order := orders.recv()) is not None:
        if order == "flush":
            orders.send(exporter.force_flush(60_000))
        else:
            span, trace = order
            exporter.export([readable(span, trace)])
    exporter.shutdown()


@pytest.fixture
def exporters(store: Path) -> Iterator[list[Connection]]:
    """The pipes to three processes that export into one store."""
    context = nursery()
    pipes = [context.Pipe() for _ in range(PROCESSES)]
    processes = [
        context.Process(target=export_what_comes, args=(str(store), theirs), daemon=True)
        for _, theirs in pipes
    ]
    for process in processes:
        process.start()
    yield [ours for ours, _ in pipes]
    for ours, _ in pipes:
        ours.send(None)
    for process in processes:
        process.join(500)
        assert process.exitcode == 0


def flush(*pipes: Connection) -> None:
    for pipe in pipes:
        pipe.send("flush")
    assert all(pipe.recv() for pipe in pipes)


def test_any_order_any_repetition_and_three_processes_give_the_same_trace(
    store: Path, exporters: list[Connection], figure: Figure
) -> None:
    agents.configure(str(store))
    spans_sent = itertools.count()

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(delivered=deliveries())
    def same(delivered: tuple[list[Span], list[tuple[int, int, bool]]]) -> None:
        spans, order = delivered
        plain, mixed = secrets.randbits(128), secrets.randbits(128)
        for span in spans:
            exporters[0].send((span, plain))
        flush(exporters[0])
        for number, process, flushes in order:
            exporters[process].send((spans[number], mixed))
            next(spans_sent)
            if flushes:
                flush(exporters[process])
        flush(*exporters)

        for span in spans:
            if span["kind"] == "task":
                assert shown(mixed, span["id"]) == shown(plain, span["id"])

    def shown(trace: int, task: int) -> str:
        whole = autotrace.get_trace(f"trace-{trace:032x}-{task:016x}").model_dump_json()
        return whole.replace(f"{trace:032x}", "the trace")

    same()
    figure(
        f"{EXAMPLES} trees, {next(spans_sent)} spans in any order, some twice, from {PROCESSES} "
        "processes: every trace as when sent once, in order, by one"
    )


def test_a_call_that_comes_before_its_parent_is_counted_where_it_belongs(store: Path) -> None:
    agents.configure(str(store))
    exporter = ChromaSpanExporter(str(store), embedder=SmallEmbedder())
    outer = {"id": 1, "parent": None, "kind": "task", "start": 0, "end": 100}
    inner = {"id": 2, "parent": 1, "kind": "task", "start": 0, "end": 50}
    late = {"id": 3, "parent": 1, "kind": "step", "start": 5, "end": 60}
    call = {"id": 4, "parent": 3, "kind": "tool", "start": 10, "end": 20}
    for batch in ([outer, inner, call], [late]):
        exporter.export([readable(span, 7) for span in batch])
        assert exporter.force_flush(60_000)
    exporter.shutdown()

    assert {s.task: s.tool_call_count for s in autotrace.list_traces()} == {
        "task 1": 1,
        "task 2": 0,
    }
    read_traces()


CLOCK: Final = """
import sys, time
real_ns, offset_ns, calls = time.time_ns, 0, 0
def time_ns():
    # It is set back by an hour at every seventh look.
    global offset_ns, calls
    calls += 1
    offset_ns += 3600 * 10**9 * (calls % 7 == 0)
    return real_ns() - offset_ns
if sys.argv[2] == "stepping":
    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
import autotrace
from autotrace import step, task, tool
from tests.faults.agents import configure

@tool
def work(number):
    return number

configure(sys.argv[1])
for n in range(10):
    with task(f"{sys.argv[2]} {n}"), step("a step"):
        for call in range(5):
            work(call)
    if n == 5:
        assert autotrace.flush(timeout=500)
assert autotrace.flush(timeout=500)
assert autotrace.health().counters == {}
"""


def test_a_clock_that_is_set_back_costs_no_record_and_makes_no_negative_time(
    store: Path, figure: Figure
) -> None:
    for clock in ("steady", "stepping", "steady again"):
        done = run(CLOCK, store, clock)
        assert (done.returncode, done.stderr) == (0, "")

    open_store(store)
    traces = stored_traces()
    assert len(traces) == 30
    for trace in traces.values():
        assert trace.status == "completed"
        assert sorted(call.result for call in trace.tool_calls) == [0, 1, 2, 3, 4]
        assert all(0 <= call.duration_ms < 3_600_000 for call in trace.tool_calls)
        assert all(call.ended_at >= call.started_at for call in trace.tool_calls)
        assert trace.completed_at is not None
        assert trace.completed_at >= trace.created_at
        assert autotrace.recall(trace.task, limit=1)[0].trace_id == trace.trace_id
    figure("a clock set back by an hour at every seventh look: 30 of 30 traces whole and found")
