"""How a call has ended that raised: an error, a timeout, cancelled, or paused for a person."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import socket
import subprocess
import sys
import urllib.error
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import anyio
import grpc
import httpx
import pytest
import requests
import trio
import trio.testing
import urllib3

from autotrace import ApprovalPending, step, task, tool
from autotrace.models import ToolCall
from autotrace.spool.span_roles import role_of
from autotrace.store.tool_stats import ToolCallStat
from autotrace.testing import Recording
from autotrace.traces.tool_calls import call_of
from tests.recount import recount


def caused_by(cause: BaseException, error: BaseException) -> BaseException:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def raise_while_handling(cause: BaseException, error: BaseException, *, hidden: bool) -> NoReturn:
    try:
        raise cause
    except type(cause):
        raise_in_turn(error, hidden=hidden)


def raise_in_turn(error: BaseException, *, hidden: bool) -> NoReturn:
    if hidden:
        raise error from None
    raise error


def while_handling(cause: BaseException, error: BaseException, *, hidden: bool) -> BaseException:
    try:
        raise_while_handling(cause, error, hidden=hidden)
    except type(error) as caught:
        return caught
    raise AssertionError(error)


def named(module: str, name: str, *bases: type[BaseException]) -> type[BaseException]:
    """Make a class as a library has it that is not installed here."""
    return type(name, bases or (Exception,), {"__module__": module})


class _Rpc(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


URL = "http://127.0.0.1/"
TIMEOUTS = [
    TimeoutError(),
    concurrent.futures.TimeoutError(),
    socket.timeout(),  # noqa: UP041 - the name that libraries raise it by
    multiprocessing.TimeoutError(),
    subprocess.TimeoutExpired("sleep", 1),
    urllib.error.URLError(TimeoutError()),
    requests.exceptions.ReadTimeout(),
    requests.exceptions.ConnectTimeout(),
    urllib3.exceptions.ReadTimeoutError(None, URL, "late"),  # pyright: ignore[reportArgumentType] - no pool is needed
    urllib3.exceptions.MaxRetryError(
        None,  # pyright: ignore[reportArgumentType] - no pool is needed
        URL,
        urllib3.exceptions.ConnectTimeoutError(None, "late"),
    ),
    httpx.PoolTimeout("late"),
    trio.TooSlowError(),
    _Rpc(grpc.StatusCode.DEADLINE_EXCEEDED),
    named("openai", "APITimeoutError")(),
    named("anthropic", "APITimeoutError")(),
    named("botocore.exceptions", "ReadTimeoutError")(),
    named("redis.exceptions", "TimeoutError")(),
    named("sqlalchemy.exc", "TimeoutError")(),
    named("psycopg_pool", "PoolTimeout")(),
    named("psycopg.errors", "QueryCanceled")("canceling statement due to statement timeout"),
    named("google.api_core.exceptions", "DeadlineExceeded")(),
    named("google.api_core.exceptions", "RetryError")(),
    named("rq.timeouts", "JobTimeoutException", named("rq.timeouts", "BaseTimeoutException"))(),
    named("dramatiq.middleware.time_limit", "TimeLimitExceeded")(),
    named("asyncpg.exceptions", "TransactionTimeoutError")(),
    named("psycopg.errors", "TransactionTimeout")(),
    named("temporalio.exceptions", "TimeoutError")(),
    named("workflows.errors", "WorkflowTimeoutError")(),
    named("dns.resolver", "LifetimeTimeout", named("dns.exception", "Timeout"))(),
    named("my_tools", "SlowBackend", named("httpx", "TimeoutException"))(),
    caused_by(TimeoutError(), RuntimeError("no answer")),
    while_handling(TimeoutError(), RuntimeError("no answer"), hidden=False),
    caused_by(named("httpx", "ReadTimeout", named("httpx", "TimeoutException"))(), OSError()),
    ExceptionGroup("both", [TimeoutError(), TimeoutError()]),
    BaseExceptionGroup("one late", [TimeoutError(), asyncio.CancelledError()]),
]
ERRORS = [
    ValueError("timeout"),
    SystemExit(3),
    SystemExit("usage: …"),
    SystemExit(False),
    named("my_cli", "Exit", SystemExit)(1),
    named("my_tools", "TimeoutSettingError")(),
    named("my_tools", "ReadTimeout")(),
    named("urllib3.exceptions", "NewConnectionError", urllib3.exceptions.ConnectTimeoutError)(),
    named("psycopg.errors", "QueryCanceled")("canceling statement due to user request"),
    named("pydantic_ai.exceptions", "ModelRetry")(),
    _Rpc(grpc.StatusCode.UNAVAILABLE),
    while_handling(TimeoutError(), RuntimeError("no answer"), hidden=True),
    ExceptionGroup("both", [TimeoutError(), ValueError()]),
]
PAUSES = [
    ApprovalPending("decision-1"),
    named("langgraph.errors", "GraphInterrupt")(),
    named("my_graph", "AskedHuman", named("langgraph.errors", "GraphBubbleUp"))(),
    named("pydantic_ai.exceptions", "CallDeferred")(),
    named("pydantic_ai.exceptions", "ApprovalRequired")(),
    named("celery.exceptions", "Retry")(),
    named("arq.worker", "Retry")(),
    named("airflow.exceptions", "AirflowRescheduleException")(),
    ExceptionGroup("both", [ApprovalPending("decision-1"), ApprovalPending("decision-2")]),
]
CANCELLED = [
    asyncio.CancelledError(),
    concurrent.futures.CancelledError(),
    KeyboardInterrupt(),
    GeneratorExit(),
    named("airflow.exceptions", "AirflowSkipException")(),
    named("starlette.requests", "ClientDisconnect")(),
    named("dramatiq.middleware.shutdown", "Shutdown", BaseException)(),
    _Rpc(grpc.StatusCode.CANCELLED),
]


def call_that_raised(recorded: Recording, error: BaseException) -> ToolCall:
    @tool(name="called")
    def called() -> None:
        raise error

    with pytest.raises(type(error)), task("t"):
        called()
    (call,) = recorded.trace.tool_calls
    return call


def calls_of(recorded: Recording) -> list[ToolCallStat]:
    return [call_of(record) for record in recorded.records if role_of(record) == "tool"]


@pytest.mark.parametrize("error", TIMEOUTS, ids=repr)
def test_a_timeout_is_known_by_its_class_and_its_causes(
    error: BaseException, recorded: Recording
) -> None:
    assert call_that_raised(recorded, error).status == "timeout"


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_word_in_a_name_makes_no_timeout_and_no_pause(
    error: BaseException, recorded: Recording
) -> None:
    assert call_that_raised(recorded, error).status == "error"


@pytest.mark.parametrize(
    ("error", "status", "sent_as"),
    [(error, "paused", "success") for error in PAUSES]
    + [(error, "cancelled", "error") for error in CANCELLED],
    ids=repr,
)
def test_a_call_that_was_paused_or_cancelled_has_not_failed(
    error: BaseException, status: str, sent_as: str, recorded: Recording
) -> None:
    call = call_that_raised(recorded, error)
    assert (call.status, call.error, call.error_type) == (status, None, None)
    assert type(error).__name__ in (call.ended_by or "")
    sent = call.model_dump(mode="json")
    assert (sent["status"], sent["ended_as"]) == (sent_as, status)
    (stats,) = recount(calls_of(recorded))
    counts = {"paused": stats.paused_count, "cancelled": stats.cancelled_count}
    assert counts == {"paused": 0, "cancelled": 0} | {status: 1}
    assert (stats.call_count, stats.success_rate, stats.error_types) == (1, 1.0, {})


def test_cancelled_and_paused_calls_leave_the_success_rate_to_the_others(
    recorded: Recording,
) -> None:
    @tool(name="called")
    def called(error: BaseException | None) -> None:
        if error is not None:
            raise error

    errors = (None, ValueError(), asyncio.CancelledError(), ApprovalPending("decision-1"))
    with task("t"):
        for error in errors:
            with contextlib.suppress(BaseException):
                called(error)
    (stats,) = recount(calls_of(recorded))
    assert (stats.call_count, stats.success_rate, stats.error_types) == (4, 0.5, {"ValueError": 1})


def test_a_pause_that_leaves_a_task_is_no_error_of_it_and_no_success(recorded: Recording) -> None:
    with pytest.raises(ApprovalPending), task("t"), step("s"):
        raise ApprovalPending("decision-1")
    trace = recorded.trace
    assert (trace.success, trace.steps[0].error) == (False, None)
    assert "decision-1" in (trace.outcome or "")
    assert [record.get("status") for record in recorded.records if "end_ns" in record] == [None] * 2


# --- around a call


@tool
async def slow() -> None:
    await asyncio.Event().wait()


async def in_wait_for() -> None:
    await asyncio.wait_for(slow(), 0.001)


async def in_a_timeout() -> None:
    async with asyncio.timeout(0.001):
        await slow()


async def in_gather() -> None:
    async with asyncio.timeout(0.001):
        await asyncio.gather(slow(), asyncio.Event().wait())


async def in_a_task_group() -> None:
    async with asyncio.timeout(0.001), asyncio.TaskGroup() as group:
        group.create_task(slow())


async def in_a_task_in_wait_for() -> None:
    await asyncio.wait_for(asyncio.gather(asyncio.create_task(slow())), 0.001)


async def in_fail_after() -> None:
    with anyio.fail_after(0.001):
        await slow()


@pytest.mark.parametrize(
    "around",
    [in_wait_for, in_a_timeout, in_gather, in_a_task_group, in_a_task_in_wait_for, in_fail_after],
)
def test_a_timeout_around_a_call_is_its_timeout(
    around: Callable[[], Awaitable[None]], recorded: Recording
) -> None:
    async def main() -> None:
        with task("t"), pytest.raises(TimeoutError):
            await around()

    asyncio.run(main())
    assert [call.status for call in recorded.trace.tool_calls] == ["timeout"]


async def started(call: Awaitable[Any]) -> asyncio.Task[Any]:
    running = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return running  # pyright: ignore[reportReturnType] - a coroutine makes a task


async def under_a_timeout(seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await slow()


async def after_a_timeout() -> None:
    try:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    except TimeoutError:
        await slow()


@pytest.mark.parametrize(
    "around",
    [slow, lambda: under_a_timeout(60), lambda: asyncio.wait_for(slow(), 60), after_a_timeout],
)
def test_a_call_that_somebody_cancels_is_cancelled(
    around: Callable[[], Awaitable[None]], recorded: Recording
) -> None:
    async def main() -> None:
        with task("t"):
            running = await started(around())
            for _ in range(5):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())
    assert [call.status for call in recorded.trace.tool_calls] == ["cancelled"]


@pytest.mark.parametrize(("deadline", "status"), [(True, "timeout"), (False, "cancelled")])
def test_trio_says_why_it_cancels(deadline: bool, status: str, recorded: Recording) -> None:
    @tool
    async def sleeps() -> None:
        await trio.sleep_forever()

    async def main() -> None:
        with task("t"), trio.move_on_after(0.001 if deadline else 60) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sleeps)
                if not deadline:
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()

    trio.run(main)
    assert [call.status for call in recorded.trace.tool_calls] == [status]


def test_no_library_is_imported_to_know_its_exceptions() -> None:
    code = (
        "import sys; from autotrace.capture.call_outcomes import ending_of;"
        "ending_of(ValueError());"
        "print(*{'anyio', 'trio', 'requests', 'httpx', 'grpc', 'urllib3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


class _Exit(named("click.exceptions", "Exit")):
    def __init__(self, code: int) -> None:
        self.exit_code = code


@pytest.mark.parametrize(
    ("error", "succeeds"),
    [
        (SystemExit(), True),
        (SystemExit(0), True),
        (_Exit(0), True),
        (SystemExit(2), False),
        (_Exit(1), False),
    ],
    ids=repr,
)
def test_a_program_that_exits_with_success_fails_no_call_and_no_task(
    error: BaseException, succeeds: bool, recorded: Recording
) -> None:
    @tool
    def leave() -> None:
        raise error

    def run() -> None:
        with task("clean up") as cleaning:
            cleaning.complete("cleaned")
            leave()

    with pytest.raises(type(error)):
        run()
    assert recorded.trace.success is succeeds
    (call,) = recorded.trace.tool_calls
    assert call.status == ("success" if succeeds else "error")
    if succeeds:
        assert recorded.trace.outcome == "cleaned"
