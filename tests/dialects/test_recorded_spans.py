"""Runs of real agent frameworks, recorded with real instrumentations, give what really happened.

`scripts/record_spans.py` has recorded those of tests/data. Those beside this checkout are read,
too, where they are at hand.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from autotrace.otlp.decode import read_json
from autotrace.spool.span_records import SpanRecord
from autotrace.traces.assembly import assemble
from autotrace.traces.tree import Tree
from tests.dialects.test_dialects import Store, recount

OURS = Path(__file__).parents[1] / "data" / "spans"
MORE = Path(__file__).parents[3] / "shared" / "spans"


def runs() -> list[dict[str, Any]]:
    """Return the description of each recorded run, with the path of its spans."""
    found = json.loads((OURS / "manifest.json").read_text("utf-8"))["runs"]
    made = [run | {"path": OURS / run["file"]} for run in found]
    if not MORE.is_dir():
        return made
    more = json.loads((MORE / "MANIFEST.json").read_text("utf-8"))
    return made + [run | {"path": MORE / "data" / run["file"]} for run in more]


RUNS = runs()
NO_ARGUMENTS = {"google_adk__native", "mcp2__native", "openai_agents__genai+openai-nocontent"}
NO_ARGUMENTS |= {"openai_agents__genai+openai-eventonly"}
NO_CALLS = {"openai_sdk__openai-v2-legacy", "smolagents__genai", "openai_sdk__openllmetry"}
"""Instrumentations that leave out what the test looks for, or have no span to hold it."""


def lacks(run: dict[str, Any], what: set[str]) -> bool:
    name = f"{run['framework']}__{run['instrumentation']}"
    return name in what and (name != "openai_sdk__openllmetry" or run["case"] == "basic-noparent")


def named(tool: str, arguments: Any) -> tuple[str, str]:
    return tool, json.dumps(arguments, sort_keys=True)


def records_of(run: dict[str, Any]) -> dict[str, list[SpanRecord]]:
    read = read_json(run["path"].read_bytes())
    assert read.rejected == 0
    by_trace: dict[str, list[SpanRecord]] = {}
    for record in read.records:
        by_trace.setdefault(record["trace"], []).append(record)
    assert sum(map(len, by_trace.values())) == run["spans"]
    return by_trace


@pytest.mark.parametrize(
    "run", RUNS, ids=[f"{r['path'].parent.name}-{r['path'].stem}" for r in RUNS]
)
def test_a_recorded_run_is_found_with_its_tool_calls_in_order(run: dict[str, Any]) -> None:
    by_trace = records_of(run)
    for records in by_trace.values():
        assert {r["id"] for r in records} <= Tree(records).spans.keys()
    traces = [trace for records in by_trace.values() for trace in assemble(records)]
    traces.sort(key=lambda trace: trace.created_at)
    calls = sorted((c for t in traces for c in t.tool_calls), key=lambda c: c.started_at)
    if lacks(run, NO_CALLS):
        return

    found = [(c.tool_name, c.status == "success") for c in calls]
    expected = [(tool["tool"], tool["ok"]) for tool in run["tools"]]
    if lacks(run, NO_ARGUMENTS):
        assert [name for name, _ in found] == [name for name, _ in expected]
        return
    if "parallel" not in run["case"]:
        assert found == expected
    assert Counter(
        (c.tool_name, json.dumps(c.arguments, sort_keys=True)) for c in calls
    ) == Counter(
        (tool["tool"], json.dumps(tool["arguments"], sort_keys=True)) for tool in run["tools"]
    )
    tops = [trace for trace in traces if trace.parent_trace_id is None]
    assert len(tops) == (2 if run["case"] == "multiturn" else 1)
    if run["framework"] != "mcp1" and run["instrumentation"] != "genai":
        assert tops[0].task == run["task"]
        assert run["final"] is None or run["final"] in (tops[-1].outcome or "")
    assert tops[-1].success is (run["run_error"] is None)


def test_statistics_of_recorded_runs_equal_a_recount_however_they_arrive(tmp_path: Path) -> None:
    inside_first, at_once = Store(tmp_path / "inside"), Store(tmp_path / "once")
    everything: list[SpanRecord] = []
    for run in RUNS[:4] + RUNS[4::8]:  # each batch is a write, which takes a while
        for records in records_of(run).values():
            everything += records
            records.sort(key=lambda r: r.get("end_ns", 0))
            for start in range(0, len(records), 5):
                inside_first.take(records[start : start + 5])
    at_once.take(everything)

    expected = at_once.everything()
    assert inside_first.everything() == expected
    in_traces = {tool.tool_name: tool.call_count for tool in recount(expected["traces"])}
    assert {tool.tool_name: tool.call_count for tool in expected["stats"]} == in_traces
