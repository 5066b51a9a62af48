"""`@tool(requires_approval=...)`: what is asked, and when the body runs, over a real store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autotrace import semconv, task, tool
from autotrace.capture.recorder import SUPPRESSED
from autotrace.decisions.policies import policy
from autotrace.errors import (
    ApprovalRefused,
    InvalidArgumentError,
    NotConfiguredError,
    PolicyError,
    PolicyNotFoundError,
    StoreUnavailableError,
)
from autotrace.models import ApprovalRequest
from autotrace.testing import recording
from tests.decisions.agents import Agent, Failing, Ran, pending, refused, types_of

ROOT = Path(__file__).parents[3]


# --- asking, waiting, running


def test_a_call_waits_for_approval_runs_and_commits(agent: Agent, ran: Ran) -> None:
    agent.when_asked(agent.approve)

    @tool(requires_approval=True)
    def pay(amount: int, to: str = "bob") -> str:
        ran.append(amount)
        return f"paid {amount}"

    with task("pay bob"):
        assert pay(7) == "paid 7"
    assert ran == [7]
    made = agent.decision
    assert types_of(made) == [
        *("created", "approval_requested", "approval_granted"),
        *("claimed", "closed"),
    ]
    assert (made.intent, made.status, made.automation_mode) == ("tool.pay", "committed", "approve")
    assert made.execution is not None
    assert made.execution.status == "succeeded"
    assert made.approval is not None
    assert made.approval.title == f"{agent.name} asks to run pay"
    assert made.events[1].model_extra is not None
    assert made.events[1].model_extra["arguments"] == {"amount": 7, "to": "bob"}
    assert made.summary is not None
    assert made.summary["status"] == "success"
    assert made.trace_id == agent.recorded.trace.trace_id


def test_waiting_for_people_is_no_part_of_the_calls_duration(agent: Agent) -> None:
    @tool(requires_approval=True)
    def pay() -> None: ...

    def answer(decision_id: str) -> None:
        before.append([r["name"] for r in agent.recorded.records])
        agent.approve(decision_id)

    before: list[list[str]] = []
    agent.when_asked(answer)
    with task("x"):
        pay()
    assert not any(name.startswith("execute_tool") for name in before[0])
    (call,) = agent.recorded.trace.tool_calls
    claimed = next(e for e in agent.decision.events if e.type == "claimed")
    assert call.started_at >= claimed.timestamp


def test_the_span_of_a_gated_call_names_its_decision(agent: Agent) -> None:
    agent.when_asked(agent.approve)

    @tool(requires_approval=True)
    def pay() -> None: ...

    @tool(requires_approval=True)
    def stream() -> Iterator[int]:
        yield 1

    pay()
    list(stream())
    spans = [r for r in agent.recorded.records if r["name"].startswith("execute_tool")]
    assert [r["attributes"][semconv.DECISION_ID] for r in spans] == agent.ids


def test_a_call_that_does_not_wait_comes_back_with_the_same_arguments(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    decision_id = pending(lambda: pay(7))
    assert pending(lambda: pay(amount=7, to="bob")) == decision_id
    agent.approve(decision_id)
    assert pay(7) == "paid 7"
    assert ran == [(7, "bob")]


def test_an_approval_is_used_up_by_one_run(agent: Agent, pay: Callable[..., str], ran: Ran) -> None:
    first = pending(lambda: pay(7))
    agent.approve(first)
    pay(7)
    second = pending(lambda: pay(7))
    assert second != first
    assert ran == [(7, "bob")]
    assert agent.decisions[1].events[0].model_extra == (
        agent.decisions[1].events[0].model_extra or {}
    ) | {"previous_decision_id": first}


def test_other_arguments_are_another_decision(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    agent.approve(pending(lambda: pay(7)))
    pending(lambda: pay(700))
    pending(lambda: pay(7, to="mallory"))
    assert ran == []


def test_waiting_so_many_seconds_leaves_the_request(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=True, wait=0.05)
    def pay(amount: int) -> None:
        ran.append(amount)

    decision_id = pending(lambda: pay(7))
    assert agent.deciding.get(decision_id).status == "needs_approval"


def test_a_rejection_is_told_once_and_the_next_call_asks_anew(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    first = pending(lambda: pay(7))
    agent.reject(first)
    with pytest.raises(ApprovalRefused, match="ada: too much"):
        pay(7)
    second = pending(lambda: pay(7))
    agent.approve(second)
    pay(7)
    assert ran == [(7, "bob")]


def test_an_approval_that_was_not_used_in_time_has_expired(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=True, wait=False, approval=ApprovalRequest(expires_in_seconds=1))
    def pay() -> None:
        ran.append(1)

    first = pending(pay)
    agent.approve(first)
    book = agent.deciding.event_store
    before, book.now_ns = book.now_ns, lambda: before() + 2_000_000_000
    try:
        assert refused(pay) == "expired"
        assert pending(pay) != first
    finally:
        book.now_ns = before
    assert ran == []


def test_who_asks_cannot_approve(agent: Agent, pay: Callable[..., str]) -> None:
    decision_id = pending(lambda: pay(7))
    with pytest.raises(ApprovalRefused) as caught:
        agent.approve(decision_id, agent.name.upper())
    assert caught.value.reason == "own"


def test_a_request_says_what_the_decorator_says(agent: Agent) -> None:
    request = ApprovalRequest("Pay?", "Really?", 60, require_rationale=True, approvals_needed=2)

    @tool(requires_approval=True, wait=False, approval=request)
    def pay() -> None: ...

    decision_id = pending(pay)
    approval = agent.deciding.get(decision_id).approval
    assert approval is not None
    assert (approval.title, approval.message) == ("Pay?", "Really?")
    assert (approval.require_rationale, approval.approvals_needed) == (True, 2)


def test_an_error_of_the_body_aborts_and_the_next_call_asks_anew(agent: Agent) -> None:
    agent.when_asked(agent.approve)

    @tool(requires_approval=True, redact=["account"])
    def pay(account: str) -> None:
        raise ValueError(f"no money on {account}")

    with pytest.raises(ValueError, match="DE12345"):
        pay("DE12345")
    assert agent.decision.reason == "ValueError: no money on [REDACTED]"
    assert agent.decision.execution is not None
    assert agent.decision.execution.status == "failed"
    with pytest.raises(ValueError, match="DE12345"):
        pay("DE12345")
    assert len(agent.decisions) == 2


def test_the_result_is_returned_if_the_end_cannot_be_written(
    agent: Agent, pay: Callable[..., str]
) -> None:
    decision_id = pending(lambda: pay(7))
    agent.approve(decision_id)
    agent.deciding_by(Failing(agent.deciding))
    assert pay(7) == "paid 7"
    agent.deciding_by(agent.deciding)
    assert agent.recorded.counters["unclosed_decisions"] >= 1
    assert refused(lambda: pay(7)) == "claimed"
    execution = agent.deciding.get(decision_id).execution
    assert execution is not None
    assert execution.status == "claimed"


# --- the body does not run


def test_nothing_runs_without_a_configuration(pay: Callable[..., str], ran: Ran) -> None:
    with pytest.raises(NotConfiguredError, match="pay"):
        pay(7)
    with recording(), pytest.raises(NotConfiguredError):
        pay(7)
    assert ran == []


def test_nothing_runs_if_the_store_fails(agent: Agent, pay: Callable[..., str], ran: Ran) -> None:
    class Gone(Failing):
        def open_call(self, *_: Any, **__: Any) -> Any:
            raise StoreUnavailableError("gone")

    agent.deciding_by(Gone(agent.deciding))
    with pytest.raises(StoreUnavailableError):
        pay(7)
    assert ran == []


def test_the_gate_holds_where_instrumentation_is_suppressed(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    from opentelemetry import context

    token = context.attach(context.set_value(SUPPRESSED, True))
    try:
        decision_id = pending(lambda: pay(7))
        agent.approve(decision_id)
        assert pay(7) == "paid 7"
    finally:
        context.detach(token)
    assert agent.recorded.records == []


def test_a_wrong_call_raises_asks_nobody_and_is_recorded(
    agent: Agent, pay: Callable[..., str], ran: Ran
) -> None:
    with task("x"), pytest.raises(TypeError, match=r"pay\(\) missing"):
        pay(to="bob")
    assert agent.decisions == []
    (call,) = agent.recorded.trace.tool_calls
    assert call.error_type == "TypeError"


def test_arguments_that_cannot_be_told_are_refused_before_anybody_is_asked(
    agent: Agent, ran: Ran
) -> None:
    @tool(requires_approval=True, wait=False)
    def send(file: Any) -> None:
        ran.append(file)

    with pytest.raises(InvalidArgumentError, match="file"):
        send(object())
    with Path(__file__).open() as file, pytest.raises(InvalidArgumentError):
        send(file)
    assert (agent.decisions, ran) == ([], [])


def test_arguments_changed_while_it_waited_are_refused(agent: Agent, ran: Ran) -> None:
    items = ["a cheap one"]

    def answer(decision_id: str) -> None:
        items.append("and a dear one")
        agent.approve(decision_id)

    @tool(requires_approval=True)
    def order(items: list[str]) -> None:
        ran.append(items)

    agent.when_asked(answer)
    assert refused(lambda: order(items)) == "changed"
    assert ran == []
    items.pop()
    order(items)  # what was approved is still approved
    assert ran == [["a cheap one"]]


# --- when to ask


def test_a_function_of_the_arguments_says_whether_to_ask(agent: Agent, ran: Ran) -> None:
    def big(arguments: dict[str, Any]) -> bool:
        arguments["items"].append("a copy is changed")
        return arguments["amount"] > 100

    @tool(requires_approval=big, wait=False)
    def pay(amount: int, items: list[str]) -> None:
        ran.append((amount, items))

    pay(7, [])
    assert ran == [(7, [])]
    assert agent.decisions == []
    pending(lambda: pay(700, []))
    assert len(ran) == 1


@pytest.mark.parametrize("answer", [1, None, "yes"])
def test_an_answer_that_is_no_bool_runs_nothing(agent: Agent, ran: Ran, answer: Any) -> None:
    @tool(requires_approval=lambda arguments: answer)
    def pay() -> None:
        ran.append(1)

    with pytest.raises(InvalidArgumentError, match="True or False"):
        pay()
    assert ran == []


def test_a_function_that_raises_runs_nothing(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=lambda arguments: arguments["no such"])
    def pay() -> None:
        ran.append(1)

    with pytest.raises(KeyError):
        pay()
    assert ran == []


@pytest.fixture
def capped(ran: Ran) -> Callable[[int], str]:
    """A tool that a policy allows up to 10, sends to a person up to 100, and denies above."""

    @policy("cap")
    def cap(inputs: dict[str, Any]) -> Any:
        if inputs["amount"] <= 10:
            return "allow"
        return "requires_exception" if inputs["amount"] <= 100 else ("deny", "too much")

    @tool(requires_approval="cap", wait=False, redact=["amount"])
    def pay(amount: int) -> str:
        ran.append(amount)
        return f"paid {amount}"

    return pay


def test_a_policy_allows_denies_or_sends_to_a_person(
    agent: Agent, capped: Callable[[int], str], ran: Ran
) -> None:
    assert capped(7) == "paid 7"
    with pytest.raises(ApprovalRefused, match="too much") as caught:
        capped(700)
    assert caught.value.reason == "denied"
    agent.approve(pending(lambda: capped(70)))
    assert capped(70) == "paid 70"
    assert ran == [7, 70]
    allowed, denied, asked = agent.decisions
    assert [d.status for d in agent.decisions] == ["committed", "aborted", "committed"]
    assert types_of(allowed) == ["created", "policy_evaluated", "closed"]
    assert "too much" in (denied.reason or "")
    assert types_of(asked)[1:3] == ["policy_evaluated", "approval_requested"]
    kept = [e.model_extra["inputs"] for d in agent.decisions for e in d.events
            if e.type == "policy_evaluated" and e.model_extra]  # fmt: skip
    assert kept == [{"amount": "[REDACTED]"}] * 3


def test_calls_that_a_policy_allows_do_not_wait_for_each_other(agent: Agent) -> None:
    @policy("always")
    def always(inputs: dict[str, Any]) -> Any:
        return "allow"

    both = threading.Barrier(2)

    @tool(requires_approval="always")
    def pay() -> None:
        both.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: pay(), range(2)))
    assert [d.status for d in agent.decisions] == ["committed", "committed"]


def test_a_policy_that_is_missing_or_raises_runs_nothing(agent: Agent, ran: Ran) -> None:
    @policy("broken")
    def broken(inputs: dict[str, Any]) -> Any:
        raise ValueError

    for policy_id, error in (("broken", PolicyError), ("missing", PolicyNotFoundError)):

        @tool(requires_approval=policy_id)
        def pay() -> None:
            ran.append(1)

        with pytest.raises(error):
            pay()
    assert (ran, agent.decisions) == ([], [])


# --- what approvers see


def test_a_route_that_does_not_exist_is_refused_before_anything_is_opened(agent: Agent) -> None:
    @tool(requires_approval=True, wait=False, approval=ApprovalRequest(route="nobody"))
    def wire(amount: int) -> None:
        pytest.fail("it ran")

    with pytest.raises(InvalidArgumentError, match="approval_route_id='nobody'"):
        wire(7)
    assert agent.decisions == []
