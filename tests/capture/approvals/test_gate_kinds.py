"""The gate in front of every kind of function, and under other decorators."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from autotrace import step, tool
from autotrace.decisions.policies import policy
from autotrace.errors import (
    InvalidArgumentError,
)
from autotrace.models import ApprovalRequest
from tests.decisions.agents import Agent, Failing, Ran, pending, refused

pytestmark = pytest.mark.xdist_group("gate_kinds")
"""So many that handing them out one by one would cost more than running them."""

ROOT = Path(__file__).parents[3]


# --- decorators


def test_a_requirement_cannot_be_decorated_away(agent: Agent, ran: Ran) -> None:
    @policy("fine")
    def fine(inputs: dict[str, Any]) -> Any:
        return "allow"

    @policy("never")
    def never(inputs: dict[str, Any]) -> Any:
        return "deny"

    def body() -> None:
        ran.append(1)

    inner = tool(requires_approval=True, wait=False)(body)
    for outer in (
        tool,
        tool(name="other"),
        tool(requires_approval="fine"),
        tool(requires_approval=lambda arguments: False),
    ):
        pending(outer(inner))
    assert refused(tool(requires_approval="fine")(tool(requires_approval="never")(body))) == (
        "denied"
    )
    pending(tool(requires_approval=True, wait=False)(tool(requires_approval="fine")(body)))
    pending(step("s")(inner))
    assert ran == []


def test_of_two_requests_the_stricter_holds(agent: Agent) -> None:
    inner = ApprovalRequest("inner", None, 60, require_rationale=True, route=None)
    outer = ApprovalRequest("outer", "why", 90, approvals_needed=2)

    @tool(approval=outer, wait=False)
    @tool(requires_approval=True, approval=inner, wait=True)
    def pay() -> None: ...

    approval = agent.deciding.get(pending(pay)).approval
    assert approval is not None
    assert approval.expires_at is not None
    assert (approval.expires_at - approval.requested_at).total_seconds() == 60
    assert (approval.title, approval.require_rationale, approval.approvals_needed) == (
        "outer",
        True,
        2,
    )


@tool(requires_approval=True, wait=False)
def importable(amount: int, to: str = "bob") -> str:
    """Pays."""
    return f"paid {amount}"


def test_a_gated_function_tells_of_itself_what_it_is(agent: Agent) -> None:
    assert str(inspect.signature(importable)) == "(amount: 'int', to: 'str' = 'bob') -> 'str'"
    assert (importable.__name__, importable.__doc__) == ("importable", "Pays.")
    assert pickle.loads(pickle.dumps(importable)) is importable
    again = pickle.loads(pickle.dumps(tool(requires_approval=True, wait=False)(
        functools.partial(_named, 7))))  # fmt: skip
    pending(again)


def _named(amount: int) -> None: ...


def test_what_a_partial_adds_is_part_of_what_is_approved(agent: Agent) -> None:
    def transfer(source: str, target: str) -> str:
        return source + target

    to_bob = tool(requires_approval=True, wait=False)(functools.partial(transfer, "bob"))
    to_eve = tool(requires_approval=True, wait=False)(functools.partial(transfer, "eve"))
    first = pending(lambda: to_bob("x"))
    agent.approve(first)
    assert pending(lambda: to_eve("x")) != first
    assert to_bob("x") == "bobx"


def test_of_a_plain_function_self_and_cls_are_arguments_too(agent: Agent) -> None:
    @tool(requires_approval=True, wait=False)
    def enrol(cls: str, student: str) -> str:
        return f"{student} in {cls}"

    first = pending(lambda: enrol("maths", "ada"))
    agent.approve(first)
    assert pending(lambda: enrol("art", "ada")) != first
    assert enrol("maths", "ada") == "ada in maths"


def test_of_a_static_method_self_and_cls_are_arguments_too(agent: Agent) -> None:
    gate = tool(requires_approval=True, wait=False)

    # Linters refuse static methods of such parameters where they are written.
    names: dict[str, Any] = {"gate": gate, "__name__": __name__}
    source = (
        "class School:\n"
        "    @gate\n    @staticmethod\n    def above(cls): return cls\n"
        "    @staticmethod\n    @gate\n    def below(self): return self\n"
    )
    exec(source, names)
    School = names["School"]
    calls: list[Any] = [School.above, School().above, School.below]
    for call in calls:
        first = pending(functools.partial(call, "maths"))
        agent.approve(first)
        assert pending(functools.partial(call, "art")) != first
        assert call("maths") == "maths"


def test_arguments_that_do_not_fit_are_told_from_parameters_of_those_names(agent: Agent) -> None:
    def lenient(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs) if len(args) == 2 else "all"

        return call

    @tool(requires_approval=True, wait=False)
    @lenient
    def run(args: tuple[int, ...], kwargs: dict[str, int]) -> str:
        return "one"

    assert pending(lambda: run((1,), {})) != pending(lambda: run(1))  # type: ignore[call-arg]


def test_a_gated_method_may_be_decorated_in_turn(agent: Agent) -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function(*args)

        return call

    class Shop:
        @logged
        @tool(requires_approval=True, wait=False)
        def pay(self, amount: int) -> int:
            return amount

    agent.approve(pending(lambda: Shop().pay(1)))
    assert Shop().pay(1) == 1


def test_keyword_arguments_cannot_stand_for_others(agent: Agent) -> None:
    @tool(requires_approval=True, wait=False)
    def pay(*args: Any, **kwargs: Any) -> None: ...

    ids = {
        pending(lambda: pay(1, args=(2,))),
        pending(lambda: pay(2, args=(2,))),
        pending(lambda: pay(kwargs={"a": 1})),
        pending(lambda: pay(a=1)),
    }
    assert len(ids) == 4


def test_methods_of_every_kind_are_gated_without_their_receiver(agent: Agent) -> None:
    gate = tool(requires_approval=True, wait=False)

    class Shop:
        @gate
        def method(self, x: int) -> str:
            return f"method {x}"

        @classmethod
        @gate
        def class_below(cls, x: int) -> str:
            return f"{cls.__name__} {x}"

        @gate
        @classmethod
        def class_above(cls, x: int) -> str:
            return f"{cls.__name__} {x}"

        @staticmethod
        @gate
        def static_below(x: int) -> str:
            return f"static {x}"

        @gate
        @staticmethod
        def static_above(x: int) -> str:
            return f"static {x}"

    class Called:
        def __call__(self, x: int) -> str:
            return f"called {x}"

    shop = Shop()
    calls = {
        shop.method: "method 1",
        Shop.class_below: "Shop 1",
        Shop.class_above: "Shop 1",
        shop.class_above: "Shop 1",
        Shop.static_below: "static 1",
        shop.static_above: "static 1",
        gate(Called()): "called 1",
    }
    for call, result in calls.items():
        decision_id = pending(functools.partial(call, 1))
        made = agent.deciding.trace(decision_id)
        asked = made.events[1].model_extra or {}
        assert asked["arguments"] == {"x": 1}
        agent.approve(decision_id)
        assert call(1) == result
    agent.approve(pending(lambda: Shop.method(shop, 2)))
    assert shop.method(2) == "method 2"  # the same call, however it is spelled


@pytest.mark.parametrize(
    "options",
    [
        {"requires_approval": 1},
        {"requires_approval": " "},
        {"requires_approval": dict},
        {"requires_approval": True, "wait": -1},
        {"requires_approval": True, "wait": "long"},
        {"requires_approval": True, "approval": "please"},
    ],
)
def test_what_is_not_allowed_is_refused_at_decoration(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        tool(**options)


def test_an_async_function_cannot_say_whether_to_ask() -> None:
    async def ask(arguments: dict[str, Any]) -> bool:
        return True

    with pytest.raises(InvalidArgumentError, match="not async"):
        tool(requires_approval=ask)  # type: ignore[call-overload]


# --- async, generators


def test_an_async_function_waits_without_blocking_its_loop(agent: Agent) -> None:
    @tool(requires_approval=True)
    async def pay(amount: int) -> str:
        await asyncio.sleep(0)
        return f"paid {amount}"

    async def run() -> list[str]:
        loop = asyncio.get_running_loop()

        def answer(decision_id: str) -> None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
            agent.approve(decision_id)

        agent.when_asked(answer)
        return await asyncio.gather(pay(1), pay(2))

    assert asyncio.run(run()) == ["paid 1", "paid 2"]
    assert {d.status for d in agent.decisions} == {"committed"}


def test_a_call_cancelled_while_it_waits_leaves_its_request(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=True)
    async def pay() -> None:
        ran.append(1)

    async def run() -> None:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()
        agent.when_asked(lambda _: loop.call_soon_threadsafe(asked.set))
        waiting = asyncio.create_task(pay())
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert agent.decision.status == "needs_approval"
    agent.approve(agent.decision.decision_id)
    asyncio.run(pay())
    assert ran == [1]


async def _turns_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("times", [1, 3])
def test_a_call_cancelled_while_it_is_claimed_ends_and_does_not_run(
    agent: Agent, ran: Ran, times: int
) -> None:
    @tool(requires_approval=True)
    async def pay() -> None:
        ran.append(1)

    class Cancelling(Failing):
        def claim(self, *args: Any, **kwargs: Any) -> Any:
            for _ in range(times):
                loop.call_soon_threadsafe(running[0].cancel)
                asyncio.run_coroutine_threadsafe(_turns_of_the_loop(), loop).result()
            return agent.deciding.claim(*args, **kwargs)

        def end(self, *args: Any, **kwargs: Any) -> Any:
            return agent.deciding.end(*args, **kwargs)

    async def run() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        running.append(asyncio.create_task(pay()))
        with pytest.raises(asyncio.CancelledError):
            await running[0]

    loop: Any = None
    running: list[Any] = []
    agent.when_asked(agent.approve)
    agent.deciding_by(Cancelling(agent.deciding))
    asyncio.run(run())
    assert (ran, agent.decision.status) == ([], "aborted")
    assert agent.decision.reason == "cancelled before it ran"


def test_a_generator_asks_when_its_body_would_begin(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=True, wait=False)
    def stream(count: int) -> Iterator[int]:
        ran.append("began")
        yield from range(count)

    generator = stream(2)
    assert agent.decisions == []
    agent.approve(pending(lambda: next(generator)))
    generator = stream(2)
    assert next(generator) == 0
    assert agent.decision.status == "approved"
    assert list(generator) == [1]
    assert agent.decision.status == "committed"
    assert ran == ["began"]


def test_an_async_generator_asks_when_its_body_would_begin(agent: Agent, ran: Ran) -> None:
    @tool(requires_approval=True)
    async def stream(count: int) -> AsyncIterator[int]:
        ran.append("began")
        for number in range(count):
            yield number

    async def run() -> list[int]:
        generator = stream(2)
        assert agent.decisions == []
        return [number async for number in generator]

    agent.when_asked(agent.approve)
    assert asyncio.run(run()) == [0, 1]
    assert (agent.decision.status, ran) == ("committed", ["began"])


def test_a_generator_that_is_closed_early_has_not_failed(agent: Agent) -> None:
    agent.when_asked(agent.approve)

    @tool(requires_approval=True)
    def stream() -> Iterator[int]:
        yield 1
        yield 2

    @tool(requires_approval=True)
    async def stream_async() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def run() -> None:
        generator: Any = stream_async()
        assert await anext(generator) == 1
        await generator.aclose()

    generator: Any = stream()
    assert next(generator) == 1
    generator.close()
    asyncio.run(run())
    assert [d.status for d in agent.decisions] == ["committed", "committed"]


def test_a_coroutine_from_a_plain_wrapper_ends_its_run_when_it_ends(agent: Agent) -> None:
    agent.when_asked(agent.approve)

    async def pay() -> str:
        assert agent.decision.status == "approved"
        return "paid"

    @functools.wraps(pay)
    def wrapper() -> Any:
        return pay()

    gated: Any = tool(requires_approval=True)(wrapper)

    async def run() -> str:
        return await gated()

    assert asyncio.run(run()) == "paid"
    assert agent.decision.status == "committed"
