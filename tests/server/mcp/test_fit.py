"""Answers of a bounded size: pages, cut values, and how to ask for the rest."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from autotrace.models import Decision, Step, ToolCall, Trace
from autotrace.server.mcp.response_limits import (
    CUT,
    DEFAULT_MAX_BYTES,
    LARGEST_BYTES,
    SMALLEST_BYTES,
    bounded,
    bounded_trace,
    size_bytes,
)
from autotrace.server.mcp.server import TOOLS
from tests.server.mcp.conftest import Api

AT = datetime(2026, 1, 1, tzinfo=UTC)
SIZES = (0, 10, 1_000, 30_000, 200_000)


def text_of(chance: random.Random) -> str:
    unit = chance.choice(["x", '"\\', "\0", "é", "🎉"])
    return unit * (chance.choice(SIZES) // len(unit))


def value_of(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(5 if depth < 6 else 2)
    if kind == 0:
        return chance.choice([1, 0.5, None, True, ""])
    if kind == 1:
        return text_of(chance)
    if kind == 2:
        return [value_of(chance, depth + 1) for _ in range(chance.randrange(3))]
    if kind == 3:
        names = [text_of(chance)[:1_000] for _ in range(chance.randrange(3))]
        return {name: value_of(chance, depth + 1) for name in names}
    return [[{"a": number}] for number in range(chance.choice(SIZES) // 10)]


def trace_of(chance: random.Random) -> Trace:
    """Make a trace of few or many steps and calls, some of which hold much."""
    calls = iter(range(1_000_000))

    def call() -> ToolCall:
        number = next(calls)
        value = value_of(chance) if number < 5 else number
        return ToolCall(
            tool_call_id=f"call-{number}",
            tool_name="t" * 256,
            arguments={"a": value},
            result=value,
            duration_ms=1,
            status="success",
            started_at=AT,
            ended_at=AT,
        )

    steps = [
        Step(
            step_id=f"step-{number}",
            thought=text_of(chance) if number < 5 else "",
            observations=[text_of(chance)] * chance.randrange(3) if number < 5 else [],
            tool_calls=[call() for _ in range(chance.choice([0, 1, 2, 30]))],
            created_at=AT,
        )
        for number in range(chance.choice([0, 1, 5, 60]))
    ]
    decision = Decision(
        decision_id="decision-1",
        intent="a.b",
        status="open",
        automation_mode="propose",
        created_at=AT,
        approval_required=False,
        actor="a",
        agent="a",
        metadata={"m": value_of(chance)},
    )
    return Trace(
        trace_id="trace-1",
        task=text_of(chance),
        outcome=text_of(chance),
        status="active",
        steps=steps,
        decisions=[decision] * chance.choice([0, 1, 50]),
        created_at=AT,
    )


def ids_of(trace: dict[str, Any]) -> list[str]:
    return [
        each
        for step in trace["steps"]
        for each in (step["step_id"], *(call["tool_call_id"] for call in step["tool_calls"]))
    ]


@pytest.mark.parametrize("max_bytes", [SMALLEST_BYTES, DEFAULT_MAX_BYTES])
@pytest.mark.parametrize("seed", range(6))
def test_the_pages_of_a_trace_hold_all_of_it_once_and_none_is_too_large(
    seed: int, max_bytes: int
) -> None:
    trace = trace_of(random.Random(seed)).model_dump(mode="json")
    validator = Draft202012Validator(TOOLS["trace_get"].output_schema)
    seen: list[str] = []
    after = None
    while True:
        page = bounded_trace(trace, after, max_bytes)
        assert size_bytes(page) <= max_bytes
        validator.validate(page)
        ids = ids_of(page)
        if after is not None and ids and ids[0] in seen:
            ids = ids[1:]  # the step that goes on
        seen += ids
        assert page.get("left_out", 0) == len(ids_of(trace)) - len(seen)
        if not page.get("left_out"):
            break
        assert f"call trace_get with after={seen[-1]!r}" in page["more"]
        after = seen[-1]
    assert seen == ids_of(trace)


def test_what_fits_is_left_as_it_is() -> None:
    trace = Trace(trace_id="t", task="x" * 40_000, status="active", created_at=AT)
    answer = trace.model_dump(mode="json")

    assert bounded_trace(answer, None, DEFAULT_MAX_BYTES) is answer
    listed = {"results": [{"task": "x"}] * 100, "count": 100}
    assert bounded(listed, "results", SMALLEST_BYTES, str) is listed


def test_long_values_are_cut_and_short_ones_are_not() -> None:
    call = ToolCall(
        tool_call_id="call-1",
        tool_name="big",
        arguments={"query": "short", "deep": [{"a": "x" * 1_000_000}]},
        result="y" * 1_000_000,
        duration_ms=1,
        status="success",
        started_at=AT,
        ended_at=AT,
    )
    step = Step(step_id="step-1", thought="think", tool_calls=[call], created_at=AT)
    trace = Trace(trace_id="t", task="task", status="active", steps=[step], created_at=AT)

    page = bounded_trace(trace.model_dump(mode="json"), None, DEFAULT_MAX_BYTES)

    (shown,) = page["steps"][0]["tool_calls"]
    assert (page["task"], page["steps"][0]["thought"]) == ("task", "think")
    assert shown["arguments"]["query"] == "short"
    assert shown["arguments"]["deep"][0]["a"].endswith("x" + CUT)
    assert shown["result"].endswith("y" + CUT)
    assert 5_000 < len(shown["result"]) < 10_000
    assert page["left_out"] == 0
    assert page["more"] == (
        f"2 long values are cut: ask with a larger max_bytes than {DEFAULT_MAX_BYTES}, "
        f"up to {LARGEST_BYTES}."
    )


# --- over the tools


def started(api: Api, calls: int, length: int) -> str:
    trace_id = api.call("trace_start", task="many calls", session_id="s")["trace_id"]
    api.call("trace_step", trace_id=trace_id, thought="t", action="a")
    for number in range(calls):
        api.call(
            "trace_tool_call",
            trace_id=trace_id,
            tool_name=f"tool{number}",
            arguments={},
            result="x" * length,
            duration_ms=1,
            status="success",
        )
    return trace_id


def test_a_large_trace_comes_in_pages_of_what_a_host_reads(api: Api) -> None:
    trace_id = started(api, 12, 20_000)

    first = api.response("trace_get", {"trace_id": trace_id})
    page = first.json()["result"]["structuredContent"]

    assert len(first.content) <= DEFAULT_MAX_BYTES
    names: list[str] = []
    after = None
    while page["left_out"]:
        names += [call["tool_name"] for call in page["steps"][0]["tool_calls"]]
        last = page["steps"][-1]["tool_calls"][-1]["tool_call_id"]
        assert f"after={last!r}" in page["more"]
        after = last
        page = api.call("trace_get", trace_id=trace_id, after=after)
    names += [call["tool_name"] for call in page["steps"][0]["tool_calls"]]
    assert names == [f"tool{number}" for number in range(12)]
    whole = api.call("trace_get", trace_id=trace_id, max_bytes=2_000_000)
    assert {len(call["result"]) for call in whole["steps"][0]["tool_calls"]} == {20_000}
    assert "more" not in whole


def test_a_place_that_is_not_in_the_trace_is_an_invalid_parameter(api: Api) -> None:
    trace_id = started(api, 0, 0)

    status, error = api.refused("trace_get", trace_id=trace_id, after="call-nowhere")

    assert (status, error["code"]) == (200, -32602)
    assert error["data"] == (
        "after='call-nowhere' is not allowed: it must be a step_id or a tool_call_id of this trace"
    )
    for bad in (SMALLEST_BYTES - 1, LARGEST_BYTES + 1):
        assert api.refused("trace_get", trace_id=trace_id, max_bytes=bad)[1]["code"] == -32602


def test_recall_and_search_keep_to_what_a_host_reads(api: Api) -> None:
    long = "an unusually long text " * 500
    for number in range(6):
        trace_id = api.call("trace_start", task=f"long {number} {long}", session_id="s")["trace_id"]
        api.call("trace_complete", trace_id=trace_id, outcome=long, success=True)
        recorded = {"title": f"long {number}", "context": long, "decision": long}
        api.call("decision_record", category="other", rationale=long, **recorded)

    recalled = api.response("trace_recall", {"query": "unusually long", "limit": 50})
    searched = api.response("decision_search", {"query": "unusually long", "limit": 100})

    for response, name in ((recalled, "results"), (searched, "decisions")):
        assert len(response.content) <= DEFAULT_MAX_BYTES
        assert "result" in response.json(), response.text[-500:]
        answer = response.json()["result"]["structuredContent"]
        assert 0 < answer["count"] == len(answer[name])
        assert (
            f"{answer['left_out']} of the {name} follow: ask with a larger max_bytes"
            in (answer["more"])
        )
    more = api.call("trace_recall", query="unusually long", limit=50, max_bytes=1_000_000)
    assert more["count"] > recalled.json()["result"]["structuredContent"]["count"]


def test_the_history_of_a_decision_comes_in_pages(api: Api) -> None:
    decision_id = api.call("decision_create", intent="a.b", automation_mode="propose")[
        "decision_id"
    ]
    added = [
        api.call("decision_add_context", decision_id=decision_id, context={"n": "x" * 9_000})
        for _ in range(10)
    ]

    page = api.call("decision_trace", decision_id=decision_id)
    assert page["left_out"] > 0
    events = page["events"]
    while page.get("left_out"):
        after = events[-1]["event_id"]
        assert page["more"].startswith(
            f"{page['left_out']} of the events follow: call decision_trace with after={after!r}"
        )
        page = api.call("decision_trace", decision_id=decision_id, after=after)
        events += page["events"]

    assert [event["event_id"] for event in events[1:]] == [event["event_id"] for event in added]
    _, error = api.refused("decision_trace", decision_id=decision_id, after="event-no")
    assert error["code"] == -32602


def test_statistics_of_many_tools_come_in_pages(api: Api) -> None:
    trace_id = api.call("trace_start", by="foreign", task="t", session_id="s")["trace_id"]
    for number in range(300):
        api.call(
            "trace_tool_call",
            by="foreign",
            trace_id=trace_id,
            tool_name=f"{number:0250d}",
            arguments={},
            result=None,
            duration_ms=1,
            status="success",
        )

    response = api.response("tool_stats", {"limit": 1000}, by="foreign")

    assert len(response.content) <= DEFAULT_MAX_BYTES + 1_000
    page = response.json()["result"]["structuredContent"]
    assert page["count"] + page["left_out"] == 300
    assert page["others"]["call_count"] == page["left_out"]
    last = page["tool_stats"][-1]["tool_name"]
    after = api.call("tool_stats", by="foreign", limit=1, after=last)
    assert after["left_out"] == page["left_out"] - 1


@pytest.mark.parametrize("value", ["x" * 300_000, ["🎉" * 9] * 9_999, {"a" * 99_999: 1}])
def test_sizes_are_those_of_what_is_sent(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    sent = {"content": text, "structured": value}

    assert 0 <= len(json.dumps(sent, ensure_ascii=False).encode()) - size_bytes(value) < 50
