"""Traces told of over the tools: what each answers, and what becomes of it."""

from __future__ import annotations

from typing import Any

from tests.server.mcp.conftest import Api
from tests.server.mcp.test_jsonrpc import plain

TASK = "Summarize the latest papers on reliable agents"
CALL: dict[str, Any] = {
    "tool_name": "web_fetch",
    "arguments": {"url": "https://example.org/papers"},
    "result": {"papers": ["one", "two"]},
    "duration_ms": 650,
    "status": "success",
}


def test_a_trace_told_step_by_step_is_read_back_recalled_and_counted(api: Api) -> None:
    started = api.call("trace_start", task=TASK, session_id="s-1", triggered_by_memory_id="mem_1")
    trace_id = started["trace_id"]
    assert plain(started) == {
        "trace_id": "trace-…",
        "task": TASK,
        "status": "active",
        "created_at": "time",
    }
    step = api.call(
        "trace_step",
        trace_id=trace_id,
        thought="I should look for recent papers.",
        action="call web_fetch",
        observations=["the index is up"],
    )
    assert {"step_id", "trace_id", "created_at"} <= step.keys()
    called = api.call("trace_tool_call", trace_id=trace_id, **CALL)
    assert called["trace_id"] == trace_id
    failed: dict[str, Any] = CALL | {"status": "timeout", "result": None, "duration_ms": 30_000}
    api.call("trace_tool_call", trace_id=trace_id, step_id=step["step_id"], **failed)
    ending: dict[str, Any] = {"outcome": "12 papers summarized", "success": True}
    completed = api.call("trace_complete", trace_id=trace_id, **ending)
    assert api.call("trace_complete", trace_id=trace_id, **ending) == completed

    trace = api.call("trace_get", trace_id=trace_id)
    assert (trace["status"], trace["success"], trace["outcome"], trace["agent"]) == (
        "completed",
        True,
        "12 papers summarized",
        "bot",
    )
    [only] = trace["steps"]
    assert (only["step_id"], only["observations"]) == (step["step_id"], ["the index is up"])
    kept = [{name: call[name] for name in CALL} for call in only["tool_calls"]]
    assert sorted(kept, key=lambda call: call["duration_ms"]) == [CALL, failed]

    recalled = api.call("trace_recall", query="summarize papers on agents", limit=1)
    assert recalled["count"] == 1
    assert recalled["results"][0]["trace_id"] == trace_id
    assert recalled["results"][0]["tool_sequence"] == ["web_fetch", "web_fetch"]
    stats = {each["tool_name"]: each for each in api.call("tool_stats")["tool_stats"]}
    assert stats["web_fetch"]["call_count"] == 2
    assert stats["web_fetch"]["timeout_count"] == 1


def test_a_trace_lists_its_decisions_and_recall_names_those_that_were_rejected(api: Api) -> None:
    trace_id = api.call("trace_start", task="refund order 99 wholly", session_id="s")["trace_id"]
    asked = api.call(
        "decision_create", intent="refund", automation_mode="approve", trace_id=trace_id
    )["decision_id"]
    api.call("decision_request_approval", decision_id=asked)
    api.answer(asked, "reject", rationale="too late")
    made = api.call(
        "decision_record",
        title="no refund",
        category="other",
        context="c",
        decision="none",
        rationale="r",
        trace_id=trace_id,
    )["decision_id"]
    api.call("trace_complete", trace_id=trace_id, outcome="refused", success=False)

    assert api.call("decision_get", decision_id=asked)["trace_id"] == trace_id
    decisions = api.call("trace_get", trace_id=trace_id)["decisions"]
    assert [(d["decision_id"], d["status"]) for d in decisions] == [
        (asked, "aborted"),
        (made, "committed"),
    ]
    [found] = api.call("trace_recall", query="refund order 99 wholly", success_only=False, limit=1)[
        "results"
    ]
    assert found["rejected_decisions"] == [asked]


def test_recall_notes_a_failed_trace_that_is_nearer_and_how_to_see_it(api: Api) -> None:
    query = "deploy the mobile application that was never signed"
    trace_id = api.call("trace_start", task=query, session_id="s")["trace_id"]
    api.call("trace_complete", trace_id=trace_id, outcome="signing key expired", success=False)

    noted = api.call("trace_recall", query=query)["note"]
    assert noted == "a trace that failed is nearer (1.00): ask with success_only=false"
    [found] = api.call("trace_recall", query=query, success_only=False, limit=1)["results"]
    assert found["trace_id"] == trace_id


def test_a_decision_is_opened_only_in_a_trace_of_ones_own(api: Api) -> None:
    trace_id = api.call("trace_start", task="t", session_id="s")["trace_id"]
    create: dict[str, Any] = {"intent": "a.b", "automation_mode": "propose"}

    status, error = api.refused("decision_create", by="other", trace_id=trace_id, **create)
    assert (status, error["code"]) == (403, -32603)
    for by, named in (("foreign", trace_id), ("bot", "nonsense"), ("bot", trace_id[:-1] + "x")):
        _, error = api.refused("decision_create", by=by, trace_id=named, **create)
        assert error["data"] == "Trace not found"


def test_what_a_completed_trace_does_not_allow_is_an_error_that_says_so(api: Api) -> None:
    trace_id = api.call("trace_start", task="t", session_id="s")["trace_id"]
    api.call("trace_complete", trace_id=trace_id, outcome="done", success=True)

    for tool, arguments in (
        ("trace_step", {"thought": "t", "action": "a"}),
        ("trace_tool_call", CALL),
        ("trace_complete", {"outcome": "otherwise", "success": False}),
    ):
        status, error = api.refused(tool, trace_id=trace_id, **arguments)
        assert (status, error["code"]) == (200, -32603)
        assert "completed" in error["data"]
