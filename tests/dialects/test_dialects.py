"""What other instrumentations record becomes the same traces as what this library records."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotrace.base.health_counters import HealthCounters
from autotrace.dialects.messages import conversation
from autotrace.models import Trace
from autotrace.settings import load_settings
from autotrace.spool.span_records import SpanRecord
from autotrace.store.tool_stats import ToolCallStat
from autotrace.store.trace_log import read_records
from autotrace.traces.assembly import assemble
from autotrace.traces.deletion import erase_trace
from autotrace.traces.ingest import Ingestor
from autotrace.traces.projection_changes import changes_of
from autotrace.traces.reader import Reader
from autotrace.traces.tool_calls import call_of
from autotrace.traces.tree import Tree
from autotrace.worker.rebuild import rebuild
from autotrace.worker.wiring import open_connection
from tests.dialects.dialect_runs import (
    ANSWER,
    FAILURE,
    FOUND,
    LOOK_UP,
    RUNS,
    SEARCH,
    TASK,
    THOUGHT,
    J,
    Spans,
    call,
    decorated,
    genai,
    layers,
    said,
    text,
)
from tests.embedders import HashEmbedder
from tests.recount import recount as recount_calls
from tests.store.memory import MemoryConnection

each_dialect = pytest.mark.parametrize("run", [*RUNS.values(), decorated], ids=[*RUNS, "decorated"])


@each_dialect
def test_a_run_is_a_trace_in_every_dialect(run: Callable[[], list[SpanRecord]]) -> None:
    (trace,) = assemble(run())

    assert (trace.task, trace.outcome) == (TASK, ANSWER)
    assert (trace.status, trace.success) == ("completed", True)
    assert (trace.session_id, trace.parent_trace_id) == ("s1", None)
    assert trace.agent == "guide"
    assert trace.steps[0].thought == THOUGHT
    search, maps = trace.tool_calls
    assert (search.tool_name, search.arguments, search.status) == ("search", SEARCH, "success")
    assert (search.result, search.error) == (FOUND, None)
    assert (maps.tool_name, maps.arguments, maps.status) == ("maps", LOOK_UP, "timeout")
    assert maps.error == FAILURE


@each_dialect
def test_the_order_of_spans_changes_nothing(run: Callable[[], list[SpanRecord]]) -> None:
    records = run()
    expected = assemble(records)

    for seed in range(5):
        shuffled = random.Random(seed).sample(records, len(records))
        assert assemble([*shuffled, *shuffled[:3]]) == expected


class Store:
    """An embedded store that takes batches."""

    def __init__(self, path: Path) -> None:
        self.settings = load_settings(store=str(path))
        self.connection = open_connection(self.settings, HashEmbedder.space)
        self.ingestor = Ingestor(self.connection, HashEmbedder(), HealthCounters().add)
        self.reader = Reader(self.connection, HashEmbedder())
        self.batches = 0

    def take(self, records: list[SpanRecord]) -> None:
        self.batches += 1
        self.ingestor.ingest(records, writer="w", batch=self.batches)

    def everything(self) -> dict[str, Any]:
        """Return all that can be asked of it."""
        listed = self.reader.list_traces(limit=1000)
        return {
            "listed": listed,
            "traces": [self.reader.get_trace(trace.trace_id) for trace in listed],
            "recalled": self.reader.recall(TASK, success_only=False, limit=50),
            "stats": self.reader.tool_stats(),
        }


def of_trace(records: list[SpanRecord], number: int) -> list[SpanRecord]:
    """Return the same spans in another OpenTelemetry trace."""
    return [{**record, "trace": f"{number:032x}"} for record in records]


def recount(traces: list[Trace]) -> list[Any]:
    """Return the statistics that follow from traces."""
    return recount_calls(
        ToolCallStat(
            call.tool_name,
            call.status,
            call.duration_ms,
            int(call.ended_at.timestamp() * 1000) * 1_000_000,
            call.error_type,
        )
        for trace in traces
        for call in trace.tool_calls
    )


def test_whatever_the_batches_what_is_stored_is_the_same(tmp_path: Path) -> None:
    runs = [of_trace(run(), number) for number, run in enumerate(RUNS.values(), start=1)]
    whole = Store(tmp_path / "whole")
    whole.take([record for run in runs for record in run])
    expected = whole.everything()
    assert len(expected["listed"]) == len(expected["recalled"]) == len(RUNS)
    assert expected["stats"] == recount(expected["traces"])

    # As exporters send them, what lies inside first; and in no order at all.
    inside_first = Store(tmp_path / "inside")
    for run in runs:
        inward = sorted(run, key=lambda r: r.get("end_ns", 0))
        for start in range(0, len(inward), 2):
            inside_first.take(inward[start : start + 2])
    assert inside_first.everything() == expected
    mixed = Store(tmp_path / "mixed")
    records = random.Random(7).sample([r for run in runs for r in run], sum(map(len, runs)))
    for start in range(0, len(records), 3):
        mixed.take(records[start : start + 3])
        mixed.take(records[: start + 1][-1:])  # and again
    assert mixed.everything() == expected

    rebuild(mixed.connection, HashEmbedder(), mixed.settings.spool_path)
    assert mixed.everything() == expected


@each_dialect
def test_whoever_stores_which_spans_the_calls_add_up(run: Callable[[], list[SpanRecord]]) -> None:
    for seed in range(10):
        chance = random.Random(seed)
        records = chance.sample(run(), len(run()))
        writers = [chance.choice("ab") for _ in records]
        tree = Tree(records)
        counted: Counter[Any] = Counter()
        for writer in "ab":
            fresh = [r for r, w in zip(records, writers, strict=True) if w == writer]
            changes = changes_of(records, fresh, tree)
            counted.update(changes.calls)
            counted.subtract(changes.taken_back)

        assert +counted == Counter(call_of(record) for record in tree.calls())


def test_a_batch_that_is_stored_again_counts_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    *inner, root = sorted(layers(), key=lambda r: r.get("end_ns", 0))
    store.take(inner[:4])
    store.take(inner[4:])
    for _ in range(3):
        store.ingestor.forget()
        store.ingestor.ingest([root], writer="w", batch=3)

    everything = store.everything()
    assert everything["stats"] == recount(everything["traces"])


@each_dialect
def test_whatever_the_batches_a_deletion_takes_every_call_back(
    run: Callable[[], list[SpanRecord]],
) -> None:
    for seed in range(5):
        connection = MemoryConnection(exclusive=True)
        ingestor = Ingestor(connection, HashEmbedder(), HealthCounters().add)
        records = random.Random(seed).sample(run(), len(run()))
        for number, record in enumerate(records, start=1):
            ingestor.ingest([record], writer="w", batch=number)
        reader = Reader(connection, HashEmbedder())
        for trace in reader.list_traces():  # none, if a root came alone, without an agent's data
            erase_trace(connection, HashEmbedder(), trace.trace_id)

            assert reader.tool_stats() == [], seed


@pytest.mark.parametrize("name", ["genai", "by_hand", "layers"])
def test_a_trace_of_another_dialect_can_be_deleted(name: str, tmp_path: Path) -> None:
    run = RUNS[name]
    store = Store(tmp_path)
    *first, late = of_trace(run(), 1)
    store.take([*first, *of_trace(run(), 2)])
    kept = Store(tmp_path / "kept")
    kept.take(of_trace(run(), 2))
    (gone,) = {t.trace_id for t in store.reader.list_traces()} - {
        t.trace_id for t in kept.reader.list_traces()
    }

    erase_trace(store.connection, HashEmbedder(), gone)
    store.ingestor.forget()
    store.take([late])

    assert store.everything() == kept.everything()
    with store.connection.reading() as collections:
        assert {r.get("skeleton") for r in read_records(collections.log, f"{1:032x}")} <= {
            True,
            None,
        }
        left = [r for r in read_records(collections.log, f"{1:032x}") if "attributes" in r]
    assert left == []


def test_an_agent_called_as_a_tool_is_a_trace_of_its_own() -> None:
    s = Spans("x")
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "boss"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "scout"}
    outer = s.add("invoke_agent boss", None, agent)
    called = s.add("execute_tool scout", outer, tool)
    inner = s.add("invoke_agent scout", called, agent | {"gen_ai.agent.name": "scout"})
    s.add("execute_tool search", inner, tool | {"gen_ai.tool.name": "search"})

    boss, scout = assemble(s.ended())

    assert [c.tool_name for c in boss.tool_calls] == ["scout"]
    assert [c.tool_name for c in scout.tool_calls] == ["search"]
    assert (scout.parent_trace_id, scout.agent) == (boss.trace_id, "scout")


def test_an_agent_that_another_hands_over_to_is_a_part_of_the_run() -> None:
    s = Spans("opentelemetry.instrumentation.genai.langchain")
    agent = {"gen_ai.operation.name": "invoke_agent"}
    tool = {"gen_ai.operation.name": "execute_tool"}
    flow = s.add("invoke_workflow swarm", None, {"gen_ai.operation.name": "invoke_workflow"})
    ask = {"gen_ai.input.messages": said(text(TASK), role="user")}
    first = s.add(
        "invoke_agent triage",
        flow,
        agent | ask | {"gen_ai.agent.name": "triage"},
        error="Command(graph='__parent__', goto='finder')",
    )
    s.add(
        "execute_tool transfer_to_finder", first, tool | {"gen_ai.tool.name": "transfer_to_finder"}
    )
    answer = {"gen_ai.output.messages": said(text(ANSWER)), "gen_ai.agent.name": "finder"}
    second = s.add("invoke_agent finder", flow, agent | answer)
    s.add("execute_tool search", second, tool | {"gen_ai.tool.name": "search"})

    (trace,) = assemble(s.ended())

    assert (trace.task, trace.outcome, trace.success) == (TASK, ANSWER, True)
    assert trace.agent == "triage"
    assert [c.tool_name for c in trace.tool_calls] == ["search"]
    assert "transfer_to_finder" in [step.action for step in trace.steps]


def test_a_run_failed_if_its_agent_did_though_its_root_does_not_say_so() -> None:
    s = Spans("x")
    root = s.add("w", None, {"gen_ai.operation.name": "invoke_workflow"})
    agent = s.add("a", root, {"gen_ai.operation.name": "invoke_agent"}, error="ValueError: no")
    s.add("t", agent, {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"})

    (trace,) = assemble(s.ended())

    assert (trace.success, trace.outcome) == (False, "ValueError: no")


def test_agents_inside_a_task_of_ours_are_parts_of_it() -> None:
    records = genai()
    task = SpanRecord(
        trace=records[0]["trace"],
        id=f"{99:016x}",
        parent=None,
        name="task",
        start_ns=1,
        end_ns=10**12,
        attributes={"autotrace.kind": "task", "autotrace.task": "ours"},
    )
    records[0]["parent"] = task["id"]

    (trace,) = assemble([task, *records])

    assert trace.task == "ours"
    assert [c.tool_name for c in trace.tool_calls] == ["search", "maps"]


def test_models_that_call_no_tool_are_no_agent() -> None:
    s = Spans("opentelemetry.instrumentation.genai.openai")
    root = s.add("GET /", None, {})
    s.records[0]["skeleton"] = True
    s.add("chat m", root, {"gen_ai.operation.name": "chat"})
    s.add("chat m", None, {"gen_ai.operation.name": "chat"})

    assert assemble(s.ended()) == []


def test_tool_calls_outside_any_run_are_counted(tmp_path: Path) -> None:
    s = Spans("mcp-python-sdk")
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    s.add("tools/call search", 77, tool | {"mcp.method.name": "tools/call"})
    store = Store(tmp_path)

    store.take(s.ended())

    assert [(t.tool_name, t.call_count) for t in store.reader.tool_stats()] == [("search", 1)]
    assert store.reader.list_traces() == []


def test_a_root_alone_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    lone = SpanRecord(
        trace="aa" * 16, id="bb" * 8, parent=None, start_ns=1, end_ns=2, skeleton=True
    )
    store = Store(tmp_path)

    store.take([lone])

    with store.connection.reading() as collections:
        assert collections.log.count() == 0


def test_what_a_model_asked_for_and_nobody_ran_is_no_call() -> None:
    s = Spans("x")
    agent = s.add("a", None, {"gen_ai.operation.name": "invoke_agent"})
    asked = {"gen_ai.output.messages": said(call("search", SEARCH, "c1"))}
    s.add("chat m", agent, {"gen_ai.operation.name": "chat", **asked})

    (trace,) = assemble(s.ended())

    assert trace.tool_calls == []
    assert trace.steps[0].action == "call search"


def test_a_call_is_what_its_outermost_span_says(tmp_path: Path) -> None:
    records = [r for r in layers() if "maps" in r.get("name", "")]
    assert [call_of(r).tool_name for r in records]  # none of them is lost

    (trace,) = assemble(layers())

    maps = trace.tool_calls[1]
    assert maps.tool_call_id == f"call-{records[0]['id']}" or maps.tool_call_id == "c2"
    assert J(maps.arguments) == J(LOOK_UP)


@pytest.mark.parametrize(
    ("part", "failed"),
    [
        ({"type": "tool_result", "content": "no", "is_error": True}, True),
        ({"toolResult": {"content": "no", "status": "error"}}, True),
        ({"toolResult": {"content": "yes", "status": "success"}}, False),
        ({"type": "tool_result", "content": "yes"}, False),
    ],
)
def test_an_answer_that_says_that_the_call_failed_is_a_failure(
    part: dict[str, Any], failed: bool
) -> None:
    (message,) = conversation([{"role": "tool", "content": [part]}], "user")

    assert [answer.failed for answer in message.answers] == [failed]
