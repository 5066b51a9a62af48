"""Processes that race for the same decisions: one outcome each, and all agree."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotrace.decision_requests import ApprovalAnswer, DecisionRequest, GatedCall
from autotrace.errors import AutotraceError
from autotrace.models import ApprovalRequest
from tests.decisions.deciding import open_deciding
from tests.servers import ChromaServer

ROOT = Path(__file__).parents[2]
PROCESSES = 8
DECISIONS = 6


def race(settings: dict[str, str], number: int, decision_ids: list[str]) -> None:
    """Try everything on every decision, in an order of its own; tell what went through."""
    deciding = open_deciding(settings)
    order = random.Random(number)
    name = f"person {number}"
    attempts = {
        "approve": lambda d: deciding.resolve(d, ApprovalAnswer(granted=True, approver=name)),
        "reject": lambda d: deciding.resolve(
            d, ApprovalAnswer(granted=False, approver=name, rationale=name)
        ),
        "claim": lambda d: deciding.claim(d, GatedCall(name, {"name": "pay"}, "00")),
        "commit": lambda d: deciding.close(d, "commit", by=name, summary={"by": name}),
        "abort": lambda d: deciding.close(d, "abort", by=name, reason=name),
    }
    deciding.list()  # Chroma is open, and its threads are at work
    print("ready", flush=True)
    sys.stdin.readline()
    won: list[tuple[str, str, str]] = []
    turns = [(d, what) for d in decision_ids for what in [*attempts, "claim", "commit"]]
    order.shuffle(turns)
    turns.sort(key=lambda turn: turn[0])  # all at the same decision at about the same time
    for decision_id, what in turns:
        try:
            attempts[what](decision_id)
        except AutotraceError:
            continue
        won.append((decision_id, what, name))
    print(json.dumps(won), flush=True)
    sys.stdin.readline()
    print(json.dumps([deciding.trace(d).model_dump_json() for d in decision_ids]))


def test_eight_processes_that_race_agree_on_one_outcome_of_each_decision(
    store_settings: dict[str, str],
) -> None:
    deciding = open_deciding(store_settings)
    ids: list[str] = []
    for number in range(DECISIONS):
        made = deciding.open_call(GatedCall(f"bot {number}", {"name": "pay"}, "00"))
        deciding.request_approval(made.decision_id, ApprovalRequest(), by=f"bot {number}")
        ids.append(made.decision_id)
    code = (
        "import json, sys; from tests.decisions.test_race import race; "
        "race(*json.loads(sys.argv[1]))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, json.dumps([store_settings, number, ids])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(PROCESSES)
    ]
    try:
        told = [_line(process) for process in processes]
        assert told == ["ready"] * PROCESSES
        for process in processes:
            _go(process)
        told = [_line(process) for process in processes]
        for process in processes:
            _go(process)
        seen = {process.communicate(timeout=500)[0] for process in processes}
    finally:
        for process in processes:
            process.kill()
            process.wait()

    won = {tuple(each) for of_one in told for each in json.loads(of_one)}
    traces = [deciding.trace(decision_id) for decision_id in ids]
    assert [json.loads(each) for each in seen] == [[t.model_dump_json() for t in traces]]
    for decision_id, trace in zip(ids, traces, strict=True):
        types = [event.type for event in trace.events]
        ended = [event for event in trace.events if event.type in ("closed", "approval_rejected")]
        assert trace.status in ("committed", "aborted")
        assert len(ended) == 1
        assert types.count("claimed") <= 1
        assert types.count("approval_granted") <= 1
        happened = {
            "approval_granted": "approve",
            "approval_rejected": "reject",
            "claimed": "claim",
        }
        history = [
            (decision_id, happened.get(event.type) or str(event.model_extra["action"]), event.by)  # type: ignore[index]
            for event in trace.events[2:]
        ]
        assert sorted(w for w in won if w[0] == decision_id) == sorted(history)
        assert deciding.verify(decision_id)
    deciding.event_store.connection.close()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_an_answer_between_the_reads_of_log_and_ledger_is_not_taken_for_damage(
    server: ChromaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.create_database("decisions-between")
    # No lock keeps the processes of one machine apart where Chroma is a server.
    settings = {
        "store": server.url,
        "chroma_database": "decisions-between",
        "spool": str(tmp_path / "spool"),
    }
    slow, quick = (open_deciding(settings) for _ in "ab")
    request = ApprovalRequest(approvals_needed=2)
    made = slow.create(DecisionRequest("a.b", "approve", actor="bot")).decision_id
    slow.request_approval(made, request, by="bot")
    rivals = [lambda: quick.resolve(made, ApprovalAnswer(True, "bob"))]

    def then_answered(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*args: Any) -> Any:
            found = read(*args)
            if rivals:
                rivals.pop()()
            return found

        return reading

    book = slow.event_store
    monkeypatch.setattr(book, "_find", then_answered(book._find))  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(book.ledger, "marks", then_answered(book.ledger.marks))
    answered = slow.resolve(made, ApprovalAnswer(True, "ada"))

    assert (answered.status, rivals) == ("approved", [])
    for deciding in (slow, quick):
        deciding.shut_down(5)
