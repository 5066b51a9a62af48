"""Record a small store, a spool that was not stored, and what a reader of both sees.

Run this file of the newest commit in a checkout of the commit whose formats are to be kept:

    python record_store.py STORE store          record, answer requests for approval, store
    python record_store.py STORE facts FILE     write what a reader sees into FILE, as JSON
    python record_store.py STORE spool          record, and die by SIGKILL; print the trace ids

Hold the drain lock of STORE/spool in another process during the last one, and end the worker
process before the lock is released: the records then stay in the spool. `tests/data/stores` holds
the folder STORE as NAME.tar.gz and the facts as NAME.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

import autotrace
from autotrace import step, task, tool
from tests.embedders import HashEmbedder


@tool
def city_map(place: str) -> dict[str, object]:
    """Answer."""
    return {"place": place, "metres": 300}


@tool
def live_rates(pair: str) -> float:
    """Time out."""
    raise TimeoutError(f"{pair}: no answer within 2 s")


@tool
def book(table: int) -> str:
    """Fail."""
    raise LookupError(f"no table for {table}")


@tool(name="refund", requires_approval=True, wait=False)
def refund(order: str, euros: int) -> str:
    """Answer, once a person has approved it."""
    return f"{euros} for {order}"


def record(prefix: str) -> list[str]:
    """Record four traces: a success, a failure, and a task within another."""
    with task(
        f"{prefix} Find a restaurant near the venue", session_id="s1", agent="concierge"
    ) as t:
        with step("Look at the map first", action="call city_map") as s:
            city_map("Moscone")
            s.observe("300 m away")
        t.complete("Osteria da Zoe", success=True)
    failed = ""
    try:
        with task(f"{prefix} Convert 5 EUR to USD", agent="cashier") as f:
            failed = f.trace_id
            with contextlib.suppress(TimeoutError):
                live_rates("EUR/USD")
            book(12)
    except LookupError:
        pass
    with (
        task(f"{prefix} Plan the evening", agent="concierge") as outer,
        task(f"{prefix} Book a table", agent="booker") as inner,
    ):
        try:
            book(4)
        except LookupError:
            inner.complete("no table", success=False)
    return [t.trace_id, failed, outer.trace_id, inner.trace_id]


def ask_for_refunds() -> None:
    """Leave one request for approval granted and used, one rejected, one open."""
    decision_ids: list[str] = []
    for order in ("A1", "A2", "A3"):
        try:
            with task(f"stored: Refund {order}", agent="cashier"):
                refund(order, 20)
        except autotrace.ApprovalPending as pending:
            decision_ids.append(pending.decision_id)
    autotrace.decisions.approve(decision_ids[0], approver="ada", rationale="known customer")
    autotrace.decisions.reject(decision_ids[1], approver="ada", rationale="too late")
    with (
        autotrace.use_decision(decision_ids[0]),
        task("stored: Refund A1 again", agent="cashier"),
    ):
        refund("A1", 20)


def facts() -> dict[str, object]:
    """Return all that a reader sees."""
    wanted = "stored: Find a restaurant near the venue"
    return {
        "traces": {
            summary.trace_id: autotrace.get_trace(summary.trace_id).model_dump(mode="json")
            for summary in autotrace.list_traces(limit=50)
        },
        "tool_stats": [each.model_dump(mode="json") for each in autotrace.tool_stats()],
        "decisions": [each.model_dump(mode="json") for each in autotrace.decisions.list()],
        "recalled": [[r.trace_id, r.similarity] for r in autotrace.recall(wanted, limit=3)],
    }


def main(store: str, job: str, *file: str) -> None:
    """Do one of the three jobs that the docstring of this module lists."""
    autotrace.configure(store=store, embedder=HashEmbedder())
    if job == "store":
        record("stored:")
        ask_for_refunds()
    elif job == "facts":
        Path(*file).write_text(json.dumps(facts(), indent=1) + "\n", encoding="utf-8")
    else:
        print(json.dumps(record("spooled:")), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    autotrace.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
