"""An approval runs one call once: races, crashes, `use`, and calls inside a decision."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autotrace import tool
from autotrace.capture.approvals.decision_block import decision
from autotrace.capture.approvals.gate import use_decision
from autotrace.errors import (
    ApprovalPending,
    ApprovalRefused,
)
from autotrace.models import ApprovalRequest
from tests.decisions.agents import Agent, Failing, Ran, pending, refused

ROOT = Path(__file__).parents[3]


# --- races and crashes


def test_of_threads_that_race_for_one_approval_exactly_one_runs(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    agent.approve(pending(lambda: pay(7)))
    barrier = threading.Barrier(6)

    def attempt(_: int) -> str:
        barrier.wait()
        try:
            return pay(7)
        except ApprovalPending:
            return "pending"  # after the one that ran had finished: a new decision
        except ApprovalRefused as refusal:
            return refusal.reason

    with ThreadPoolExecutor(6) as pool:
        ends = list(pool.map(attempt, range(6)))
    assert ran == [(7, "bob")]
    assert ends.count("paid 7") == 1
    assert set(ends) - {"paid 7"} <= {"claimed", "used", "pending"}


@tool(name="pay", requires_approval=True, wait=False)
def pay_or_die(amount: int) -> None:
    """A tool of this module: the same function in every process."""
    print("ran", flush=True)
    if sys.argv[3:] == ["die"]:
        os.kill(os.getpid(), signal.SIGKILL)


PAY = """
import os, signal, sys
from autotrace import tool
from autotrace.capture.approvals.gate import use_decision
from autotrace.errors import ApprovalPending
from tests.decisions.agents import agent_in, open_store
from tests.capture.approvals.test_gate_once import pay_or_die as pay

with agent_in(sys.argv[1], *open_store(sys.argv[1]), name=sys.argv[2]):
    try:
        pay(7)
    except ApprovalPending as pending:
        print(pending.decision_id, flush=True)
    if sys.argv[3] == "fork" and os.fork() == 0:
        signal.alarm(60)
        try:
            pay(7)
        except ApprovalPending as pending:
            print(pending.decision_id, flush=True)
        os._exit(0)
    if sys.argv[3] == "fork":
        print(os.wait()[1])
"""


def run_elsewhere(agent: Agent, how: str) -> list[str]:
    """Call `pay(7)` in a process of its own; return what it has printed."""
    command = [sys.executable, "-c", PAY, agent.store, agent.name, how]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.split()


def test_a_call_comes_back_in_another_process(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    (decision_id,) = run_elsewhere(agent, "live")
    agent.approve(decision_id)
    assert run_elsewhere(agent, "live") == ["ran"]
    assert agent.deciding.get(decision_id).status == "committed"


def test_a_process_killed_in_the_body_leaves_claimed_what_is_never_run_again(
    agent: Agent,
) -> None:
    decision_id = pending(lambda: pay_or_die(7))
    agent.approve(decision_id)
    assert run_elsewhere(agent, "die") == ["ran"]
    execution = agent.deciding.get(decision_id).execution
    assert execution is not None
    assert execution.status == "claimed"
    assert refused(lambda: pay_or_die(7)) == "claimed"
    assert refused(lambda: pay_or_die(7)) == "claimed"
    agent.deciding.close(decision_id, "abort", by="ada", reason="it had no effect")
    pending(lambda: pay_or_die(7))


def test_a_child_forked_from_who_has_decided_finds_the_same_decision(agent: Agent) -> None:
    decision_id, *of_the_child = run_elsewhere(agent, "fork")
    assert of_the_child == [decision_id, "0"]


# --- use


def test_use_runs_the_call_a_decision_was_opened_for_and_no_other(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    decision_id = pending(lambda: pay(7))
    with use_decision(decision_id):
        assert pending(lambda: pay(7)) == decision_id
        agent.approve(decision_id)
        assert refused(lambda: pay(8)) == "changed"
        assert pay(7) == "paid 7"
        assert refused(lambda: pay(7)) == "used"
    assert pending(lambda: pay(7)) != decision_id
    assert ran == [(7, "bob")]


def test_use_of_a_rejected_decision_says_why_every_time(
    agent: Agent, pay: Callable[..., str]
) -> None:
    decision_id = pending(lambda: pay(7))
    agent.reject(decision_id)
    with use_decision(decision_id):
        assert [refused(lambda: pay(7)), refused(lambda: pay(7))] == ["rejected", "rejected"]


def test_use_of_a_decision_on_something_else_runs_nothing(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    with decision("order.create") as d:
        d.request_approval()
        agent.approve(d.decision_id)
        with use_decision(d.decision_id):
            assert refused(lambda: pay(7)) == "changed"
    assert ran == []


def test_what_a_used_call_calls_in_turn_asks_for_itself(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    @tool(requires_approval=True, wait=False)
    def order() -> str:
        return pending(lambda: pay(7))

    decision_id = pending(order)
    agent.approve(decision_id)
    with use_decision(decision_id):
        assert order() != decision_id
    assert ran == []


# --- with a block


def test_a_gated_call_inside_a_block_is_an_event_of_it_and_has_its_own(
    agent: Agent, ran: Ran
) -> None:
    agent.when_asked(agent.approve)

    @tool(requires_approval=True)
    def pay() -> None:
        ran.append(1)

    with decision("order.create", actor=f"{agent.name} of the block") as d:
        pay()
    envelope = agent.deciding.trace(d.decision_id)
    called = [e.model_extra or {} for e in envelope.events if e.type == "tool_called"]
    assert [event["tool_name"] for event in called] == ["pay"]
    (own,) = agent.deciding.list(actor=f"{agent.name} of the block")[:1]
    assert own.intent == "tool.pay"
    assert own.status == "committed"


def test_a_second_caller_of_the_same_call_does_not_ask_twice(agent: Agent, ran: Ran) -> None:
    deciding = agent.deciding

    class Late(Failing):
        """Lets somebody else ask, and be answered, before this caller asks."""

        def request_approval(self, decision_id: str, *args: Any, **kwargs: Any) -> Any:
            deciding.request_approval(decision_id, ApprovalRequest(), by=agent.name)
            agent.approve(decision_id)
            return deciding.request_approval(decision_id, *args, **kwargs)

        def end(self, *args: Any, **kwargs: Any) -> Any:
            return deciding.end(*args, **kwargs)

    @tool(requires_approval=True)
    def pay() -> None:
        ran.append(1)

    agent.deciding_by(Late(deciding))
    pay()
    assert ran == [1]


def test_a_coroutine_that_is_never_awaited_asks_nobody_and_is_warned_of_once(
    agent: Agent,
) -> None:
    @tool(requires_approval=True)
    async def pay() -> None: ...

    with pytest.warns(RuntimeWarning, match="was never awaited") as warned:
        pay()  # type: ignore[unused-coroutine]
    gc.collect()  # filterwarnings makes an error of another warning
    assert len(warned) == 1
    assert agent.decisions == []
