"""What type checkers make of the public API: checked by `pyright --strict`, never run.

A decorated function keeps its type, whichever way it is decorated. Where a call is wrong, the
checker must say so: an ignored error that is none is an error itself.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TypeVar, assert_type, overload

import autotrace
from autotrace import (
    ApprovalRequest,
    StepHandle,
    TaskHandle,
    current_task,
    decision,
    step,
    task,
    tool,
    tool_call,
    use_decision,
)
from autotrace.models import (
    Approval,
    Decision,
    DecisionEvent,
    DecisionStatus,
    Health,
    PolicyOutcome,
    RecallResult,
    ToolStats,
    Trace,
    TraceSummary,
)

T = TypeVar("T")


# --- functions of every kind


@tool
def bare(query: str, limit: int = 10) -> dict[str, int]:
    return {query: limit}


@tool(name="named", redact=["query"], capture_arguments=True, capture_result=False)
def called(query: str, *, limit: int = 10) -> dict[str, int]:
    return {query: limit}


@tool
async def asynchronous(query: str) -> int:
    return len(query)


@tool
def generator(count: int) -> Generator[int, str, bool]:
    got = yield count
    return bool(got)


@tool()
async def async_generator(count: int) -> AsyncIterator[int]:
    yield count


@tool
def generic(value: T) -> list[T]:
    return [value]


@overload
def overloaded(value: int) -> int: ...
@overload
def overloaded(value: str) -> str: ...
@tool
def overloaded(value: int | str) -> int | str:
    return value


assert_type(bare("x", limit=3), dict[str, int])
assert_type(called("x", limit=3), dict[str, int])
assert_type(generator(3), Generator[int, str, bool])
assert_type(async_generator(3), AsyncIterator[int])
assert_type(generic("x"), list[str])
assert_type(overloaded(3), int)
assert_type(overloaded("x"), str)

bare(3)  # type: ignore[arg-type]
bare("x", limits=3)  # type: ignore[call-arg]
called("x", 3)  # type: ignore[call-arg]
tool(3)  # type: ignore[call-overload]
tool(redact=3)  # type: ignore[call-overload]


# --- methods, in either order of stacking


class Service:
    @tool
    def method(self, x: int) -> str:
        return str(x)

    @classmethod
    @tool
    def below_classmethod(cls, x: int) -> Service:
        return cls()

    @tool
    @classmethod
    def above_classmethod(cls, x: int) -> Service:
        return cls()

    @staticmethod
    @tool(name="static")
    def below_staticmethod(x: int) -> str:
        return str(x)

    @tool(name="static")
    @staticmethod
    def above_staticmethod(x: int) -> str:
        return str(x)

    @property
    @tool
    def value(self) -> int:
        return 3

    @task("Run {goal}", agent="service")
    @step
    async def run(self, goal: str) -> str:
        return goal


assert_type(Service().method(1), str)
assert_type(Service.method(Service(), 1), str)
assert_type(Service.below_classmethod(1), Service)
assert_type(Service().below_classmethod(1), Service)
assert_type(Service.above_classmethod(1), Service)
assert_type(Service.below_staticmethod(1), str)
assert_type(Service.above_staticmethod(1), str)
assert_type(Service().value, int)
Service().method("x")  # type: ignore[arg-type]
Service.above_classmethod("x")  # type: ignore[arg-type]


# --- what is no function


def plain(query: str, limit: int) -> int:
    return limit


assert_type(tool(functools.partial(plain, limit=3)), functools.partial[int])
callback: Callable[[str], int] = tool(lambda query: len(query))


# --- tasks and steps


@task
def bare_task(query: str) -> int:
    return len(query)


@task("Summarise {query}", session_id="s", agent="a", triggered_by_memory_id="m")
async def called_task(query: str) -> int:
    return len(query)


@task(agent="a")
def stream(query: str) -> Iterator[str]:
    yield query


@step
def bare_step(x: int) -> int:
    return x


@step("Think of {x}", action="act", observations=["o"])
def called_step(x: int) -> int:
    return x


assert_type(bare_task("x"), int)
assert_type(stream("x"), Iterator[str])
assert_type(bare_step(1), int)
assert_type(called_step(1), int)
bare_task(1)  # type: ignore[arg-type]
called_step("x")  # type: ignore[arg-type]
task("x", "y")  # type: ignore[call-overload]
task(3)  # type: ignore[call-overload]

with task("x", session_id="s") as t, step("y", "z", ["o"]) as s, tool_call("t", {"a": 1}) as c:
    assert_type(t, TaskHandle)
    assert_type(t.trace_id, str)
    assert_type(s, StepHandle)
    assert_type(s.step_id, str)
    assert_type(c, tool_call)
    assert_type(c.tool_call_id, str)
    t.complete("done", success=True)
    s.observe("seen")
    c.set_result([1])
    c.set_error("no", error_type="quota", timeout=True)


async def in_async_code() -> None:
    assert_type(await asynchronous("x"), int)
    assert_type(await Service().run("x"), str)
    assert_type(await called_task("x"), int)
    await asynchronous(3)  # type: ignore[arg-type]
    asynchronous("x") + 1  # type: ignore[operator]
    async with task("x") as t, step("y") as s, tool_call("z") as c:
        assert_type(t, TaskHandle)
        assert_type(s, StepHandle)
        assert_type(c, tool_call)


# --- decisions


@tool(requires_approval=True, wait=300, approval=ApprovalRequest("Pay?", require_rationale=True))
def gated(amount: int) -> str:
    return str(amount)


@tool(requires_approval="discount_cap_v1", wait=False)
async def gated_by_policy(amount: int) -> str:
    return str(amount)


@tool(requires_approval=lambda arguments: arguments["amount"] > 100)
def gated_by_function(amount: int) -> Iterator[str]:
    yield str(amount)


assert_type(gated(3), str)
assert_type(gated_by_function(3), Iterator[str])
gated("x")  # type: ignore[arg-type]
tool(requires_approval=3)  # type: ignore[call-overload]
tool(wait="long")  # type: ignore[call-overload]
tool(approval="please")  # type: ignore[call-overload]

with decision(
    "order.create", "approve", actor="bot", metadata={"n": 1}, key="k", instance="i", version="v"
) as d:
    assert_type(d, decision)
    assert_type(d.decision_id, str)
    assert_type(d.decision, Decision)
    assert_type(d.status, DecisionStatus)
    assert_type(d.add_context({"risk": 0.1}, summary="low"), DecisionEvent)
    assert_type(d.evaluate("cap", {"discount": 0.2}), PolicyOutcome)
    assert_type(d.request_approval("t", "m", expires_in_seconds=60, approvals_needed=2), Approval)
    assert_type(d.wait(timeout=1.5), Decision)
    assert_type(d.commit({"order": 7}), Decision)
    assert_type(d.abort("no"), Decision)
    d.evaluate("cap", 3)  # type: ignore[arg-type]
decision("order.create", "maybe")  # type: ignore[arg-type]
decision("order.create", "approve", "bot")  # type: ignore[misc]
with use_decision("decision-x"):
    gated(3)


async def decide() -> None:
    assert_type(await gated_by_policy(3), str)
    async with decision("order.create") as d:
        assert_type(d, decision)
        assert_type(await d.wait_async(timeout=1), Decision)


# --- the rest

assert_type(current_task(), TaskHandle | None)
assert_type(autotrace.inject(), dict[str, str])
assert_type(autotrace.get_trace("trace-x"), Trace)
assert_type(autotrace.list_traces(status="completed", limit=3), list[TraceSummary])
assert_type(autotrace.recall("x", True, 3, tools=["search"]), list[RecallResult])
assert_type(autotrace.tool_stats(), list[ToolStats])
assert_type(autotrace.health(), Health)
assert_type(autotrace.flush(timeout=1.5), bool)
autotrace.list_traces(status="done")  # type: ignore[arg-type]
with autotrace.attach({"traceparent": "00"}):
    pass
