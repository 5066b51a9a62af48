"""An approval means what was seen: what approvers are shown, and what it lets run."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import rfc8785
import wrapt

from autotrace import tool
from autotrace.capture.approvals.gate import use_decision
from autotrace.decision_requests import GatedCall
from autotrace.decisions.policies import policy
from autotrace.errors import ApprovalPending, ApprovalRefused, InvalidArgumentError
from autotrace.models import ApprovalRequest
from tests.decisions.agents import Agent, Ran, pending, refused

TOKEN = "sk-proj-0123456789abcdefABCDEF"


def asked(agent: Agent, call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Make a call that has to ask; return the arguments and the hidden places as shown."""
    made = agent.deciding.trace(pending(call))
    assert made.approval is not None
    event = next(e for e in made.events if e.type == "approval_requested").model_extra or {}
    tool_facts = {
        name: value
        for name, value in (made.events[0].model_extra or {})["tool"].items()
        if name != "arguments_sha256"
    }
    # Whoever sees the request can compute what the approval is bound to.
    document = rfc8785.dumps({"tool": tool_facts, "arguments": event["arguments"]})
    assert made.approval.arguments_sha256 == hashlib.sha256(document).hexdigest()
    assert made.approval.hidden == event["hidden"]
    return event["arguments"], event["hidden"]


@pytest.fixture
def run() -> Callable[..., str]:
    @tool(requires_approval=True, wait=False, redact=["iban"])
    def run(job: Any = None, iban: str = "DE1", password: str = "hunter2") -> str:
        return "ran"

    return run


# --- what is hidden


def test_a_caller_hides_nothing_by_the_names_of_its_keys(
    agent: Agent, run: Callable[..., str]
) -> None:
    job = {
        "token": "; rm -rf / --no-preserve-root",
        "api_key": {"then": "wire 1e6"},
        "password": ["x", "/etc/passwd1"],
        "secret": "https://evil1.example/x",
        "jwt": "reboot",
    }
    shown, hidden = asked(agent, lambda: run(job))
    assert shown["job"] == job
    assert hidden == ["iban", "password"]


def test_every_hidden_place_is_listed_and_bound(agent: Agent, run: Callable[..., str]) -> None:
    call = lambda key="0123456789abcdef", **more: run(  # noqa: E731
        {"deep": [{"api_key": key}], "cmd": f"curl -H 'X: {TOKEN}'; rm -rf /"}, **more
    )
    shown, hidden = asked(agent, call)
    assert hidden == ["iban", "job.cmd", "job.deep[0].api_key", "password"]
    command = shown["job"]["cmd"]["parts"]
    assert (command[0], command[2]) == ("curl -H 'X: ", "'; rm -rf /")
    assert TOKEN not in str(shown)
    assert {shown["iban"]["autotrace.type"], command[1]["autotrace.type"]} == {"hidden"}
    first = pending(call)
    assert pending(lambda: call("0123456789abcdee")) != first
    assert pending(lambda: call(iban="DE2")) != first
    assert pending(lambda: call(password="hunter3")) != first
    assert pending(call) == first


def test_what_is_hidden_cannot_be_found_by_trying_values(
    agent: Agent, run: Callable[..., str]
) -> None:
    shown, _ = asked(agent, lambda: run(password="1234"))
    assert shown["password"]["hmac_sha256"] not in {
        hashlib.sha256(rfc8785.dumps(f"{pin:04}")).hexdigest() for pin in range(10_000)
    }
    assert len(agent.deciding.hiding_key()) == 32


def test_without_captured_arguments_all_are_hidden_and_listed(
    agent: Agent, run: Callable[..., str]
) -> None:
    shown, hidden = asked(agent, lambda: tool(capture_arguments=False)(run)({"a": 1}))
    assert hidden == ["iban", "job", "password"]
    assert {value["autotrace.type"] for value in shown.values()} == {"hidden"}


def test_a_decorator_cannot_show_other_arguments_than_those_that_run() -> None:
    with pytest.raises(InvalidArgumentError, match=r"approval\.arguments"):
        tool(requires_approval=True, approval=ApprovalRequest(arguments={"amount": 1}))


def test_what_a_private_key_block_holds_is_shown_unless_it_is_a_key(
    agent: Agent, run: Callable[..., str]
) -> None:
    begin, end = "-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----"
    command, key = f"{begin}rm -rf /\n{end}", f"{begin}{'QUJD' * 16}\n{'QUJD' * 4}\n{end}"
    shown, hidden = asked(agent, lambda: run([command, key, "bearer ../../etc/passwd1"]))
    assert (shown["job"][0], shown["job"][2]) == (command, "bearer ../../etc/passwd1")
    assert hidden == ["iban", "job[1]", "password"]


# --- which function


def listing(agent: Agent, body: Callable[[str], str], **options: Any) -> Callable[[str], str]:
    return tool(name="cleanup", requires_approval=True, wait=False, **options)(body)


def removing(what: Any) -> Callable[[str], str]:
    def cleanup(path: str) -> str:
        return f"removed {what} of {path}"

    return cleanup


def test_another_function_of_the_same_tool_name_uses_no_approval(agent: Agent) -> None:
    def first(path: str) -> str:
        return "listed"

    def second(path: str) -> str:
        return "DELETED"

    class Deleter:
        def __init__(self, what: str) -> None:
            self.what = what

        def delete(self, path: str) -> str:
            return self.what

    class Called:
        def __init__(self, what: str) -> None:
            self.what = what

        def __call__(self, path: str) -> str:
            return self.what

    def wrapped(function: Any) -> Any:
        @functools.wraps(function)
        def inner(path: str) -> Any:
            return function(path)

        return inner

    class Slotted:
        __slots__ = ("what",)

        def __init__(self, what: Any) -> None:
            self.what = what

        def __call__(self, path: str) -> str:
            return f"removed {self.what} of {path}"

    def wrapped_by(limit: int) -> Any:
        def wrapper(function: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            return function(*args) if limit else "nothing"

        return wrapt.decorator(wrapper)(first)

    made_with: list[Any] = [
        *(Path("/safe"), Path("/prod"), Decimal("1"), Decimal("2"), {1}, {2}, b"a", b"b", 1, 1.0),
        *([1], (1,), [first], [second], {"a": first}, {"a": second}, Ran, Agent),
        *(functools.partial(first, "1"), functools.partial(first, "2"), os.remove, os.rmdir),
        *(ApprovalRequest("one"), ApprovalRequest("two"), str.upper, str.lower, "a".join, "b".join),
        *(Path("/safe").joinpath, Path("/prod").joinpath),
    ]
    bodies: list[Any] = [
        *(removing(value) for value in made_with),
        *(Slotted("one"), Slotted("all"), Slotted(Path("/one")), Slotted(Path("/all"))),
        *(Path("/safe").joinpath, Path("/prod").joinpath, str.upper, str.lower, wrapped_by(0)),
        *("a".join, "b".join, wrapped_by(1)),
        *(first, second, removing("one"), removing("all"), wrapped(first), wrapped(second)),
        *(lambda path: 1, lambda path: 2, Called("one"), Called("all")),
        *(Deleter("one").delete, Deleter("all").delete),
        functools.partial(removing("none")),
    ]  # fmt: skip
    decisions: set[str] = set()
    for body in bodies:
        decisions.add(pending(lambda: listing(agent, body)("/data")))  # noqa: B023
        decisions.add(pending(lambda: listing(agent, body)("/data")))  # noqa: B023
    assert len(decisions) == len(bodies)


def test_functions_that_hold_each_other_are_told_apart_in_bounded_time(agent: Agent) -> None:
    def ring(last: int) -> Callable[[str], str]:
        functions: dict[str, Any] = {"last": last}
        names = [f"f{n}" for n in range(14)]
        lines = ["def make(last):"]
        for name in names:
            lines += [f"    def {name}(path):", f"        return ({', '.join(names)}, last)"]
        exec("\n".join([*lines, "    return f0"]), functions)
        return listing(agent, functions["make"](last))

    first = ring(1)
    assert first is not None


def test_a_changed_body_uses_no_approval(agent: Agent) -> None:
    def defined(source: str) -> Any:
        names: dict[str, Any] = {"__name__": "shop"}
        exec(source, names)
        return listing(agent, names["cleanup"])

    source = "def cleanup(path):\n    return 'listed'\n"
    decision_id = pending(lambda: defined(source)("/"))
    assert pending(lambda: defined("\n\n" + source)("/")) == decision_id
    agent.approve(decision_id)
    changed = defined(source.replace("listed", "DELETED"))
    with use_decision(decision_id):
        assert refused(lambda: changed("/")) == "changed"
    assert pending(lambda: changed("/")) != decision_id
    assert defined(source)("/") == "listed"


def test_an_approval_of_an_older_autotrace_is_refused_with_the_reason(
    agent: Agent, run: Callable[..., str]
) -> None:
    deciding = agent.deciding
    old = deciding.open_call(GatedCall(agent.name, {"name": "run"}, "ab" * 32)).decision_id
    deciding.request_approval(old, ApprovalRequest(), by=agent.name)
    agent.approve(old)
    with use_decision(old), pytest.raises(ApprovalRefused, match="older autotrace") as caught:
        run()
    assert caught.value.reason == "changed"
    assert pending(run) != old


# --- what runs


def during_the_claim(agent: Agent, change: Callable[[], Any]) -> None:
    """Have a change happen after the last look at the caller's arguments, before the body."""

    class Changing:
        def __getattr__(self, name: str) -> Any:
            return getattr(agent.deciding, name)

        def claim(self, *args: Any, **kwargs: Any) -> Any:
            claimed = agent.deciding.claim(*args, **kwargs)
            change()
            return claimed

    agent.deciding_by(Changing())


def test_what_another_thread_changes_after_the_last_look_does_not_run(
    agent: Agent, ran: Ran
) -> None:
    def orders() -> list[Any]:
        return [{"to": ["bob"]}]

    given = orders()

    class Shop:
        @tool(requires_approval=True)
        def plain(self, orders: Any) -> None:
            ran.append(repr(orders))

        @tool(requires_approval=True)
        async def later(self, orders: Any) -> None:
            await asyncio.sleep(0)
            ran.append(repr(orders))

        @tool(requires_approval=True)
        def stream(self, orders: Any) -> Iterator[str]:
            yield repr(orders)

        @tool(requires_approval=True)
        async def stream_later(self, orders: Any) -> AsyncIterator[str]:
            yield repr(orders)

    async def streamed() -> None:
        ran.extend([each async for each in Shop().stream_later(given)])

    agent.when_asked(agent.approve)
    during_the_claim(agent, lambda: given[0]["to"].__setitem__(0, "mallory"))
    calls: list[Callable[[], Any]] = [
        lambda: Shop().plain(given),
        lambda: asyncio.run(Shop().later(given)),
        lambda: ran.extend(Shop().stream(given)),
        lambda: asyncio.run(streamed()),
    ]
    for call in calls:
        given[:] = orders()
        call()
    assert ran == [repr(orders())] * 4
    assert [d.status for d in agent.decisions] == ["committed"] * 4


def test_a_decision_that_is_used_runs_what_was_approved(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=True, wait=False)
    def pay(orders: list[int]) -> None:
        ran.append(list(orders))

    orders = [10]
    decision_id = pending(lambda: pay(orders))
    agent.approve(decision_id)
    during_the_claim(agent, lambda: orders.__setitem__(0, 10**9))
    with use_decision(decision_id):
        pay(orders)
    assert ran == [[10]]


def test_arguments_that_no_copy_can_hold_still_are_hashed_again(agent: Agent, ran: Ran) -> None:
    shared = ["bob"]

    @tool(requires_approval=True, wait=False)
    def pay(to: list[str] = shared) -> None:
        ran.append(to)

    agent.approve(pending(pay))
    during_the_claim(agent, lambda: shared.append("mallory"))
    assert refused(pay) == "changed"
    made = agent.decision
    assert (ran, made.status) == ([], "aborted")
    assert "changed" in (made.reason or "")
    shared.pop()
    assert pending(pay) != made.decision_id  # used up: an honest retry asks again


def test_a_function_that_decides_decides_on_what_runs(agent: Agent, ran: Ran) -> None:
    orders = [1]

    def is_large(arguments: dict[str, Any]) -> bool:
        large = arguments["orders"][0] > 100
        orders[0] = 10**9
        return large

    @tool(requires_approval=is_large)
    def pay(orders: list[int]) -> None:
        ran.append(list(orders))

    pay(orders)
    assert ran == [[1]]


def test_what_a_policy_has_allowed_runs_as_it_was(agent: Agent, ran: Ran) -> None:
    @dataclasses.dataclass
    class Order:  # a local class, which no approver could be shown
        amount: int

    order, numbers = Order(1), [1, 2**10_000]

    @policy("cap")
    def cap(inputs: dict[str, Any]) -> str:
        order.amount = numbers[0] = 10**9  # as another thread might
        return "allow" if inputs["order"]["amount"] + inputs["numbers"][0] < 10 else "deny"

    @tool(requires_approval="cap", wait=False)
    def pay(order: Order, numbers: list[int]) -> None:
        ran.append((order.amount, numbers[0]))

    pay(order, numbers)
    assert ran == [(1, 1)]


def test_what_a_body_changes_in_its_arguments_is_changed_for_the_caller(agent: Agent) -> None:
    agent.when_asked(agent.approve)

    @tool(requires_approval=True)
    def fill(found: list[int], seen: dict[str, Any], data: bytearray, same: Any) -> list[int]:
        found.append(len(found))
        seen["n"] = found
        data += b"!"
        return found

    @tool(requires_approval=lambda arguments: False)
    async def fill_later(found: list[int]) -> list[int]:
        await asyncio.sleep(0)
        found.append(7)
        raise ValueError(found)

    @tool(requires_approval=True)
    def stream(found: list[int]) -> Iterator[int]:
        found.append(8)
        yield 1

    found, seen, data, same = [5], {"a": 1}, bytearray(b"x"), {"kept": [1]}
    kept = same["kept"]
    assert fill(found, seen, data, same) is found
    assert (found, seen, data, same) == ([5, 1], {"a": 1, "n": [5, 1]}, b"x!", {"kept": [1]})
    assert seen["n"] is found
    assert same["kept"] is kept
    with pytest.raises(ValueError, match="7"):
        asyncio.run(fill_later(found))
    assert list(stream(found)) == [1]
    assert found == [5, 1, 7, 8]


def test_what_was_no_copy_when_the_call_began_is_not_approved_later(agent: Agent, ran: Ran) -> None:
    orders: list[Any] = [print]  # cannot be shown, and so is not copied

    def later(arguments: dict[str, Any]) -> bool:
        orders[0] = 10
        return True

    @tool(requires_approval=later, wait=False)
    def pay(orders: Any) -> None:
        ran.append(orders)

    with pytest.raises(InvalidArgumentError, match=r"orders=.*copied"):
        pay(orders)
    assert (ran, agent.decisions) == ([], [])


class Session:
    """An object that cannot be shown."""


def test_objects_are_passed_as_they_are_where_nobody_need_be_asked(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=lambda arguments: arguments["amount"] > 100, wait=False)
    def use(amount: int, session: Any, both: Any = None) -> None:
        ran.append((session, both))

    session = Session()
    both = [session, []]
    use(1, session, both)
    assert ran[0][0] is session
    assert ran[0][1] is both
    with pytest.raises(InvalidArgumentError, match="session="):
        use(1000, session)


@pytest.mark.parametrize("amount", [float("nan"), [float("inf")], {"a": complex("nan")}])
def test_a_number_that_passes_any_limit_runs_nothing(agent: Agent, ran: Ran, amount: Any) -> None:
    @policy("limit")
    def limit(inputs: dict[str, Any]) -> Any:
        return "allow"

    @tool(requires_approval="limit", wait=False)
    def pay(amount: Any) -> None:
        ran.append(amount)

    with pytest.raises(InvalidArgumentError, match="amount="):
        pay(amount)
    assert (ran, agent.decisions) == ([], [])


@pytest.mark.parametrize("amount", [float("nan"), [float("inf")], {"a": complex("nan")}])
def test_a_person_decides_where_a_test_cannot(agent: Agent, ran: Ran, amount: Any) -> None:
    @tool(requires_approval=lambda arguments: False, wait=False)
    def pay(amount: Any) -> None:
        ran.append(amount)

    with pytest.raises(ApprovalPending) as asked:
        pay(amount)
    assert ran == []

    agent.approve(asked.value.decision_id)
    pay(amount)
    assert len(ran) == 1


# --- policies


def test_a_policy_is_asked_once_for_a_call_and_that_answer_is_recorded(agent: Agent) -> None:
    answers = ["allow", "deny", "requires_exception", "allow"]
    said: list[str] = []

    @policy("fickle")
    def fickle(inputs: dict[str, Any]) -> Any:
        said.append(answers[len(said)])
        return said[-1], f"answer {len(said)}"

    @tool(requires_approval="fickle", wait=False)
    def pay(amount: int) -> str:
        return "paid"

    assert pay(1) == "paid"
    assert refused(lambda: pay(2)) == "denied"
    pending(lambda: pay(3))
    assert said == answers[:3]
    recorded = [evaluation for made in agent.decisions for evaluation in made.evaluations]
    assert [(e.outcome, e.rationale["reason"]) for e in recorded] == [
        ("allow", "answer 1"),
        ("deny", "answer 2"),
        ("requires_exception", "answer 3"),
    ]
