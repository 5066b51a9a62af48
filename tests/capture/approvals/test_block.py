"""The with-block `decision(...)`, over a real store."""

# ruff: noqa: PT012 - what a block does until it is left by an exception is what is tested here

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel_context

from autotrace import semconv, step, task, tool, tool_call
from autotrace.capture.approvals.decision_block import decision
from autotrace.decisions.policies import policy
from autotrace.errors import (
    ApprovalPending,
    ApprovalRefused,
    AutotraceError,
    DecisionStateError,
    InvalidArgumentError,
    NotConfiguredError,
    StoreUnavailableError,
)
from tests.decisions.agents import Agent, Failing, types_of

ROOT = Path(__file__).parents[3]


def test_a_block_opens_on_entering_and_commits_on_leaving(agent: Agent) -> None:
    block = decision("order.create", "approve", metadata={"order": 7}, instance="i", version="2")
    assert agent.decisions == []
    assert block.decision_id == ""
    with block as d:
        assert d.status == "open"
        d.add_context({"risk": 0.12}, summary="low risk")
    assert agent.decision.decision_id == d.decision_id
    assert (d.status, d.decision.metadata) == ("committed", {"order": 7})
    assert (d.decision.actor, d.decision.instance, d.decision.version) == (agent.name, "i", "2")
    assert types_of(agent.decision) == ["created", "context_added", "closed"]


def test_an_exception_aborts_with_its_redacted_message_and_goes_on(agent: Agent) -> None:
    error = ValueError("card declined, password=hunter2!")
    with pytest.raises(ValueError, match="declined") as caught, decision("order.create"):
        raise error
    assert caught.value is error
    assert agent.decision.status == "aborted"
    assert agent.decision.reason == "ValueError: card declined, password=[REDACTED]"


def test_an_explicit_end_wins(agent: Agent) -> None:
    with decision("order.create") as d:
        d.commit({"order": 7})
    assert (d.status, d.decision.summary) == ("committed", {"order": 7})
    with pytest.raises(RuntimeError), decision("order.create") as d:
        d.abort("changed my mind")
        raise RuntimeError
    assert (d.status, d.decision.reason) == ("aborted", "changed my mind")


def test_what_a_policy_denies_cannot_be_committed_and_is_aborted(agent: Agent) -> None:
    @policy("never")
    def never(inputs: dict[str, Any]) -> Any:
        return "deny", "nobody"

    with pytest.raises(DecisionStateError, match="never"), decision("order.create") as d:
        assert d.evaluate("never", {"discount": 0.9}) == "deny"
    assert d.status == "aborted"
    assert "the policy 'never' denies it" in (d.decision.reason or "")
    assert d.decision.evaluations[0].rationale == {"reason": "nobody"}


def test_a_block_that_is_left_while_its_request_waits_is_aborted_and_raises(agent: Agent) -> None:
    with pytest.raises(DecisionStateError, match="waits"), decision("order.create") as d:
        d.request_approval("may I?")
    assert d.status == "aborted"


def test_waiting_returns_once_a_person_has_approved(agent: Agent) -> None:
    agent.when_asked(agent.approve)
    with decision("order.create", "approve") as d:
        approval = d.request_approval("25 % discount", "a good customer", expires_in_seconds=60)
        assert approval.title == "25 % discount"
        assert d.wait(timeout=500).status == "approved"
    assert d.status == "committed"


def test_waiting_for_nothing_returns_at_once(agent: Agent) -> None:
    with decision("order.create") as d:
        assert d.wait().status == "open"


def test_a_rejection_raises_with_its_rationale_and_closes(agent: Agent) -> None:
    agent.when_asked(agent.reject)
    refused = pytest.raises(ApprovalRefused, match="ada: too much")
    with refused as caught, decision("order.create") as d:
        d.request_approval()
        d.wait(timeout=500)
    assert caught.value.reason == "rejected"
    assert types_of(agent.decision)[-1] == "approval_rejected"


def test_a_refusal_that_was_handled_inside_is_not_raised_on_leaving(agent: Agent) -> None:
    agent.when_asked(agent.reject)
    with decision("order.create") as d:
        d.request_approval()
        with pytest.raises(ApprovalRefused):
            d.wait(timeout=500)
    assert d.status == "aborted"


def test_an_end_that_came_from_elsewhere_is_left_as_it_is_and_told(agent: Agent) -> None:
    deciding = agent.deciding
    with pytest.raises(DecisionStateError), decision("order.create") as d:
        deciding.close(d.decision_id, "abort", by="ada", reason="stop that")
    assert d.decision.reason == "stop that"
    with pytest.raises(KeyError), decision("order.create") as d:
        deciding.close(d.decision_id, "commit", by="ada")
        raise KeyError
    assert d.status == "committed"


def test_a_request_that_is_not_answered_in_time_stays_pending_until_it_expires(
    agent: Agent,
) -> None:
    with pytest.raises(ApprovalRefused) as caught, decision("order.create") as d:
        d.request_approval(expires_in_seconds=0.2)
        with pytest.raises(ApprovalPending) as pending:
            d.wait(timeout=0)
        assert pending.value.decision_id == d.decision_id
        d.wait()
    assert caught.value.reason == "expired"
    approval = d.decision.approval
    assert approval is not None
    assert approval.status == "expired"


@pytest.mark.parametrize("timeout", [-1, "soon", True])
def test_a_timeout_that_is_none_is_refused(agent: Agent, timeout: Any) -> None:
    with decision("order.create") as d, pytest.raises(InvalidArgumentError, match="timeout"):
        d.wait(timeout)


def test_async_code_waits_without_blocking_its_loop(agent: Agent) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        alive = asyncio.Event()

        def answer(decision_id: str) -> None:
            # Only a loop that runs sets the event, and only then is there an answer.
            asyncio.run_coroutine_threadsafe(_set(alive), loop).result()
            agent.approve(decision_id)

        agent.when_asked(answer)
        async with decision("order.create") as d:
            await asyncio.to_thread(d.request_approval)
            assert (await d.wait_async(timeout=500)).status == "approved"
        assert alive.is_set()
        assert d.status == "committed"

    asyncio.run(run())


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_a_cancelled_block_is_aborted_unless_a_key_finds_it_again(agent: Agent) -> None:
    async def wait(key: str | None, asked: asyncio.Event) -> None:
        async with decision("order.create", key=key) as d:
            d.request_approval()
            asked.set()
            await d.wait_async()

    async def run() -> None:
        for key in (None, "order-7"):
            asked = asyncio.Event()
            waiting = asyncio.create_task(wait(key, asked))
            await asked.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(run())
    without, with_key = agent.decisions
    assert (without.status, with_key.status) == ("aborted", "needs_approval")
    assert "CancelledError" in (without.reason or "")


@pytest.mark.parametrize("pause", [KeyboardInterrupt, SystemExit])
def test_a_key_leaves_what_waits_waiting_when_the_agent_stops(
    agent: Agent, pause: type[BaseException]
) -> None:
    with pytest.raises(pause), decision("order.create", key="k") as d:
        d.request_approval()
        raise pause
    assert d.status == "needs_approval"
    with pytest.raises(pause), decision("order.create", key="other") as d:
        raise pause  # nobody was asked: there is nothing to wait for
    assert d.status == "aborted"


def test_an_answer_that_came_while_the_block_was_left_is_found_by_its_key(agent: Agent) -> None:
    with pytest.raises(ApprovalPending), decision("order.create", "approve", key="k") as d:
        d.request_approval()
        try:
            d.wait(timeout=0)
        except ApprovalPending:
            agent.approve(d.decision_id)
            raise
    assert d.status == "approved"
    with decision("order.create", "approve", key="k") as d:
        d.wait(timeout=0)
    assert agent.decision.status == "committed"


def test_a_tool_inside_that_waits_for_approval_leaves_a_keyed_block_open(agent: Agent) -> None:
    @tool(requires_approval=True, wait=False)
    def pay(amount: int) -> int:
        return amount

    def attempt() -> int:
        with decision("order.create", key="k"):
            return pay(7)

    with pytest.raises(ApprovalPending) as pending:
        attempt()
    agent.approve(pending.value.decision_id)
    assert attempt() == 7
    assert [made.status for made in agent.decisions] == ["committed", "committed"]


def test_a_key_goes_on_with_the_decision_it_has_opened(agent: Agent) -> None:
    @policy("big")
    def big(inputs: dict[str, Any]) -> Any:
        return "requires_exception"

    def attempt() -> decision:
        with decision("order.create", "approve", key="order-7") as d:
            d.add_context({"risk": 0.1})
            assert d.evaluate("big", {"amount": 7}) == "requires_exception"
            d.request_approval("big order")
            d.wait(timeout=0)
        return d

    with pytest.raises(ApprovalPending) as pending:
        attempt()
    with pytest.raises(ApprovalPending):
        attempt()
    agent.approve(pending.value.decision_id)
    assert attempt().status == "committed"
    assert types_of(agent.decision).count("approval_requested") == 1


def test_a_key_of_what_has_ended_does_not_decide_it_twice(agent: Agent) -> None:
    ran: list[str] = []
    with decision("order.create", key="done"):
        ran.append("done")
    with pytest.raises(ApprovalRefused) as caught, decision("order.create", key="done"):
        ran.append("twice")
    assert caught.value.reason == "used"
    agent.when_asked(agent.reject)
    with pytest.raises(ApprovalRefused), decision("order.create", key="no") as d:
        d.request_approval()
        d.wait(timeout=500)
    with pytest.raises(ApprovalRefused, match="too much"), decision("order.create", key="no"):
        ran.append("rejected")
    assert ran == ["done"]


def test_a_killed_agent_finds_its_decision_again_by_its_key(agent: Agent) -> None:
    code = """
import sys
from tests.decisions.agents import agent_in, open_store
from autotrace.capture.approvals.decision_block import decision
with agent_in(sys.argv[1], *open_store(sys.argv[1]), name=sys.argv[2]):
    with decision("order.create", key="order-7") as d:
        d.request_approval("order 7")
        print(d.decision_id, flush=True)
        d.wait()
        print("committed", flush=True)
"""
    command = [sys.executable, "-c", code, agent.store, agent.name]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert first.stdout is not None
    decision_id = first.stdout.readline().strip()
    first.kill()
    first.communicate()
    agent.approve(decision_id)
    second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert second.stdout.split() == [decision_id, "committed"]


def test_the_actor_is_the_nearest_that_is_named(agent: Agent) -> None:
    with decision("a.b") as of_settings:
        pass
    with task("x", agent="concierge"), decision("a.b") as of_task, decision("a.b") as inner:
        pass
    buyer = decision("a.b", actor="buyer")
    with task("x", agent="concierge"), buyer as named, decision("a.b") as of_outer:
        pass
    actors = [d.decision.actor for d in (of_settings, of_task, inner, named, of_outer)]
    assert actors == [agent.name, "concierge", "concierge", "buyer", "buyer"]


def test_tool_calls_inside_become_events_and_name_the_decision(agent: Agent) -> None:
    @tool
    def search(query: str) -> str:
        return query

    @tool
    def fail() -> None:
        raise TimeoutError

    with task("x"):
        with decision("order.create") as d:
            with step("inside"):
                search("a")
            with pytest.raises(TimeoutError):
                fail()
            with tool_call("by hand") as call:
                call.set_error("no", timeout=False)
            with decision("other"):
                search("of the inner one")
        search("after")
    called = [e for e in agent.decisions[0].events if e.type == "tool_called"]
    told = [{k: v for k, v in (e.model_extra or {}).items() if k != "duration_ms"} for e in called]
    calls = {call.tool_call_id: call for call in agent.recorded.trace.tool_calls}
    assert [(t["tool_name"], t["status"]) for t in told] == [
        ("search", "success"),
        ("fail", "timeout"),
        ("by hand", "error"),
    ]
    assert all(calls[t["tool_call_id"]].tool_name == t["tool_name"] for t in told)
    ended = [r for r in agent.recorded.records if "end_ns" in r and r["name"].startswith("execute")]
    named = [r["attributes"].get(semconv.DECISION_ID) for r in ended]
    assert named.count(d.decision_id) == 3
    assert named.count(None) == 1


def test_tool_calls_of_threads_and_tasks_started_inside_count(agent: Agent) -> None:
    @tool
    def search(query: str) -> str:
        return query

    @tool
    async def search_async(query: str) -> str:
        return query

    async def together() -> None:
        async with decision("order.create"):
            await asyncio.gather(*(search_async(str(n)) for n in range(5)))

    with decision("order.create"), ThreadPoolExecutor(4) as pool:
        list(pool.map(search, "abcdefgh"))
    asyncio.run(together())
    assert [types_of(d).count("tool_called") for d in agent.decisions] == [8, 5]


def test_of_many_tool_calls_the_rest_is_counted(agent: Agent) -> None:
    with decision("order.create"):
        for _ in range(1005):
            with tool_call("t"):
                pass
    called = [e.model_extra or {} for e in agent.decision.events if e.type == "tool_called"]
    assert len(called) == 1000
    assert called[-1] == {"left_out": 6}


def test_an_object_is_entered_once_at_a_time(agent: Agent) -> None:
    block = decision("order.create")
    with block, pytest.raises(DecisionStateError, match="block already"), block:
        pass
    with block as again:
        pass
    assert [d.status for d in agent.decisions] == ["committed", "committed"]
    assert agent.decisions[1].decision_id == again.decision_id
    with pytest.raises(AutotraceError, match="not open"):
        decision("order.create").add_context({"a": 1})


def test_the_context_is_what_it_was(agent: Agent) -> None:
    with task("x"):
        before = otel_context.get_current()
        with pytest.raises(KeyError), decision("order.create"):
            raise KeyError
        assert otel_context.get_current() == before


def test_blocks_of_generators_that_take_turns_are_left_in_any_order(agent: Agent) -> None:
    @tool
    def note(text: str) -> None: ...

    def turn(number: int) -> Iterator[None]:
        with decision(f"order.{number}"):
            yield

    before = otel_context.get_current()
    first, second = turn(1), turn(2)
    next(first)
    next(second)
    first.close()
    note("inside the second")
    second.close()
    note("outside of both")
    otel_context.attach(before)
    called = {d.intent: types_of(d).count("tool_called") for d in agent.decisions}
    assert called == {"order.1": 0, "order.2": 1}


def test_a_tool_call_that_ends_after_the_block_is_none_of_it(agent: Agent) -> None:
    @tool
    async def search(query: str) -> None: ...

    async def run() -> None:
        async with decision("order.create"):
            left = asyncio.Event()
            late = asyncio.create_task(_after(left, search))
        left.set()
        await late

    asyncio.run(run())
    assert types_of(agent.decision) == ["created", "closed"]
    (ended,) = [r for r in agent.recorded.records if r["name"].startswith("execute")]
    assert semconv.DECISION_ID not in ended["attributes"]


async def _after(event: asyncio.Event, search: Any) -> None:
    await event.wait()
    await search("late")


def test_without_a_configuration_entering_raises() -> None:
    with pytest.raises(NotConfiguredError), decision("order.create"):
        pytest.fail("a decision was left out")


@pytest.mark.parametrize(
    ("field", "options"),
    [("intent", {"intent": " "}), ("automation_mode", {"automation_mode": "maybe"})],
)
def test_what_is_not_allowed_is_refused_on_entering(
    agent: Agent, field: str, options: dict[str, Any]
) -> None:
    block = decision(**({"intent": "order.create"} | options))
    with pytest.raises(InvalidArgumentError, match=field), block:
        pytest.fail("it was opened")


def test_a_store_that_fails_never_masks_the_error_of_the_block(agent: Agent) -> None:
    agent.deciding_by(Failing(agent.deciding))
    with pytest.raises(KeyError), decision("order.create"):
        raise KeyError
    assert agent.recorded.counters["unclosed_decisions"] >= 1
    assert "gone" in (agent.recorded.last_error or "")
    with pytest.raises(StoreUnavailableError), decision("order.create"):
        pass


def test_a_process_elsewhere_answers(agent: Agent) -> None:
    code = (
        "import json, sys; from tests.decisions.deciding import open_deciding; "
        "from autotrace.decision_requests import ApprovalAnswer; "
        "store, decision_id = json.loads(sys.argv[1]); "
        "open_deciding({'store': store}).resolve("
        "decision_id, ApprovalAnswer(True, 'ada', 'fine'))"
    )

    def answer(decision_id: str) -> None:
        given = json.dumps([agent.store, decision_id])
        subprocess.run([sys.executable, "-c", code, given], cwd=ROOT, check=True)

    agent.when_asked(answer)
    with decision("order.create") as d:
        d.request_approval(require_rationale=True)
        approval = d.wait(timeout=500).approval
    assert approval is not None
    assert (approval.approver, approval.rationale) == ("ada", "fine")


def test_blocks_of_several_threads_do_not_meet(agent: Agent) -> None:
    @tool
    def note(text: str) -> str:
        return text

    barrier = threading.Barrier(3)

    def one(number: int) -> str:
        with decision(f"order.create.{number}") as d:
            barrier.wait()
            note(str(number))
            barrier.wait()
        return d.decision_id

    with ThreadPoolExecutor(3) as pool:
        ids = set(pool.map(one, range(3)))
    assert {d.decision_id for d in agent.decisions} == ids
    assert [types_of(d).count("tool_called") for d in agent.decisions] == [1, 1, 1]
