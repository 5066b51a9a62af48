"""Decisions lie in the traces in which they were made, and are found by meaning."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import autotrace
from autotrace import decision, decisions, recall, step, task, tool

Configure = Callable[..., Path]


@tool
def look_up(customer: str) -> int:
    return len(customer)


def asked(intent: str, title: str) -> str:
    """Open a decision that is left waiting; return its id."""
    with suppress(autotrace.ApprovalPending), decision(intent, "approve", key=title) as d:
        d.request_approval(title=title)
        d.wait(timeout=0)
    return d.decision_id


@pytest.fixture(params=["thread", "process"])
def stored_by(request: pytest.FixtureRequest, configure: Configure) -> str:
    configure(storing=request.param)
    return request.param


@pytest.mark.usefixtures("stored_by")
def test_a_trace_has_the_decisions_that_were_made_in_it() -> None:
    with task("sell a printer") as outer:
        with step("may I?"), decision("order.create", actor="bot") as first:
            look_up("jane")
        with task("write the bill") as inner, decision("bill.write", actor="bot") as second:
            pass
        waiting = asked("order.discount", "25 % discount")
    assert autotrace.flush()

    trace = autotrace.get_trace(outer.trace_id)

    assert [d.decision_id for d in trace.decisions] == [first.decision_id, waiting]
    assert trace.decisions == [decisions.get(first.decision_id), decisions.get(waiting)]
    assert [d.status for d in trace.decisions] == ["committed", "needs_approval"]
    assert [s.thought for s in trace.steps] == ["may I?"]
    assert [call.tool_name for call in trace.tool_calls] == ["look_up"]
    assert autotrace.get_trace(inner.trace_id).decisions == [decisions.get(second.decision_id)]
    assert [(s.tool_name, s.call_count) for s in autotrace.tool_stats()] == [("look_up", 1)]


@pytest.mark.usefixtures("stored_by")
def test_a_rejection_stays_on_the_trace_for_the_next_attempt() -> None:
    with task("sell a printer at half the price") as t:
        waiting = asked("order.discount", "50 % discount")
    assert autotrace.flush()
    assert recall("sell a printer", success_only=False)[0].rejected_decisions == []

    decisions.reject(waiting, "ada", "elephants are grey")  # later, and in no task
    assert autotrace.flush()

    found = recall("sell a printer", success_only=False)[0]
    (rejected,) = autotrace.get_trace(t.trace_id).decisions
    assert found.rejected_decisions == [waiting] == autotrace.list_traces()[0].rejected_decisions
    assert rejected.approval is not None
    assert rejected.approval.rationale == "elephants are grey"
    assert decisions.search("grey elephants", limit=1)[0].decision_id == waiting


def test_an_event_is_one_record_which_holds_nothing_that_was_written(
    configure: Configure, provider: TracerProvider
) -> None:
    for options in ({}, {"tracer_provider": provider}):
        store = configure(storing="thread", flush_interval_ms=60_000, **options)
        before = spooled(store)
        with decision("order.create", actor="bot", metadata={"note": "secret"}) as d:
            d.add_context({"why": "secret"}, summary="secret")
        lines = [line for line in spooled(store) if line not in before]

        assert len([line for line in lines if d.decision_id in line]) == 3
        assert not [line for line in lines if "secret" in line]


def spooled(store: Path) -> list[str]:
    """Return every line that waits in the spool."""
    return [
        line for path in (store / "spool").rglob("*.log") for line in path.read_text().splitlines()
    ]


@pytest.mark.usefixtures("stored_by")
def test_what_is_decided_in_no_task_is_found_by_meaning_and_in_no_trace() -> None:
    texts: dict[str, Any] = {"context": "c", "decision": "d", "rationale": "r"}

    # Again and again: what another process has stored for this one is found at once.
    for title in ("a queue", "paper for printers", "grey elephants", "fresh milk"):
        made = decisions.record(title=title, category="other", **texts)
        assert autotrace.flush()
        assert decisions.search(title, limit=1)[0].decision_id == made.decision_id
    assert autotrace.list_traces() == []
