"""A gated body runs by a call through its gate and in no other way; else it is refused a gate.

Nothing is approved here: `asks` is a gate that always asks and never waits, over decisions that are
never answered. A body that has run notes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import pickle
import types
import typing
from collections.abc import Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pydantic
import pytest
import wrapt

from autotrace import InvalidArgumentError, active, step, tool
from autotrace.errors import ApprovalPending
from tests.capture import importable
from tests.capture.foreign_bodies import compiled
from tests.capture.subjects import FUNCTIONS, KINDS, adapted, foreign
from tests.capture.test_introspection import QUESTIONS, answer

asks = tool(requires_approval=True, wait=False)
ran: list[Any] = []


class Unanswered:
    """Decisions that nobody answers."""

    def check_route(self, *_: Any) -> None: ...

    def open_call(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(decision_id="d", status="waiting")

    def check_answer(self, *_: Any, **__: Any) -> None:
        raise ApprovalPending("d")


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    ran.clear()
    monkeypatch.setattr(active.current, "open", lambda: Unanswered())


def body(x: int = 1) -> int:
    """Note that it has run."""
    ran.append(x)
    return x


def rows(x: int = 1) -> Iterator[int]:
    ran.append(x)
    yield x


async def fetch(x: int = 1) -> int:
    ran.append(x)
    return x


@wrapt.decorator
def to_list(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return list(wrapped(*args, **kwargs))


@wrapt.decorator
def blocking(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return asyncio.run(wrapped(*args, **kwargs))


@wrapt.decorator
def as_task(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return asyncio.ensure_future(wrapped(*args, **kwargs))


class Called:
    """An object that is called, and nothing else."""

    def __init__(self) -> None:
        self._client = object()
        self.model = "m"

    def __call__(self, x: int = 1) -> int:
        return body(x)


GATED: dict[str, Callable[[], Any]] = {
    "a function": lambda: asks(body),
    "a partial": lambda: asks(functools.partial(body, 1)),
    "a method": lambda: type("Host", (), {"run": asks(lambda self: body())})().run,
    "a bound method": lambda: asks(type("Host", (), {"run": lambda self: body()})().run),
    "a class method": lambda: type("Host", (), {"run": asks(classmethod(lambda cls: body()))}).run,
    "a static method": lambda: type("Host", (), {"run": asks(staticmethod(body))}).run,
    "an object that is only called": lambda: asks(Called()),
    "a plain wrapper": lambda: asks(foreign(body)),
    "a step": lambda: asks(step(body)),
    "an adapter of a generator": lambda: asks(to_list(rows)),
    "an adapter of a coroutine": lambda: asks(blocking(fetch)),
    "a cached function": lambda: asks(functools.lru_cache(body)),
    "a cache above": lambda: functools.lru_cache(asks(body)),
    "a dispatcher above": lambda: functools.partial(functools.singledispatch(asks(body)), 1),
    "validation above": lambda: pydantic.validate_call(asks(body)),
    "a builtin": lambda: functools.partial(asks(ran.append), 1),
    "a compiled function": lambda: asks(compiled("generator", rows)),
    "a property above": lambda: lambda: Host().answer,
    "a context manager above": lambda: lambda: _entered(contextlib.contextmanager(asks(rows))),
}


class Host:
    @property
    @asks
    def answer(self) -> int:
        return body()

    @asks
    def rows(self) -> Generator[int]:
        yield body()


def _entered(make: Callable[[], Any]) -> None:
    with make():
        pass


@pytest.mark.parametrize("name", GATED)
def test_nothing_of_a_gated_function_runs_before_it_is_approved(name: str) -> None:
    call = GATED[name]()
    for _ in range(2):
        with pytest.raises(ApprovalPending):
            call()
    assert ran == []


@pytest.mark.parametrize("adapter", [as_task, adapted, lambda function: asks(function)])
def test_what_is_to_be_awaited_asks_when_it_is_awaited(adapter: Callable[[Any], Any]) -> None:
    async def main() -> None:
        pending = asks(adapter(fetch))(1)
        await asyncio.sleep(0)
        with pytest.raises(ApprovalPending):
            await pending

    asyncio.run(main())
    assert ran == []


# --- refused


class Task:
    """What queues make of a function."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, x: int) -> Any:
        return self._function(x)

    def delay(self, x: int) -> Any:
        return self._function(x)


class Lazy:
    """What stands for an object that is made when it is first used, as Celery's tasks do."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, x: int) -> Any:
        return self._task(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def queued(function: Any) -> Any:
    """Decorate as rq does: the function itself, with another method to run it."""
    function.delay = lambda x: function(x)
    return function


def defined(function: Any) -> Any:
    """Decorate as temporal does: what runs the function is kept with it."""
    function.__definition = SimpleNamespace(name="f", fn=function)
    return function


def _fresh() -> Any:
    return lambda x: ran.append(x)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a class": (lambda: Called, "used on a function"),
    "a property": (lambda: property(body), "used on a function"),
    "a task": (lambda: Task(body), "methods of this object (delay)"),
    "a task that is made later": (lambda: Lazy(Task(body)), "__getattr__"),
    "a task in an adapter": (lambda: adapted(Task(body)), "methods of this object (delay)"),
    "a partial of a task": (lambda: functools.partial(Task(body), 1), "methods of this object"),
    "a method of a task": (lambda: staticmethod(Task(body)), "methods of this object (delay)"),
    "a mock": (lambda: mock.Mock(), "may run it without an approval"),
    "a ufunc": (lambda: np.frompyfunc(lambda x: x, 1, 1), "methods of this object"),
    "a function with another": (lambda: queued(_fresh()), "its attribute 'delay'"),
    "the same under a step": (lambda: step(queued(_fresh())), "its attribute 'delay'"),
    "a function with its definition": (lambda: defined(_fresh()), "its attribute"),
    "a dispatcher": (lambda: functools.singledispatch(_fresh()), "its attribute"),
    "validation": (lambda: pydantic.validate_call(_fresh()), "its attribute 'raw_function'"),
    "a context manager": (lambda: contextlib.contextmanager(rows), "below @contextmanager"),
    "an async one": (lambda: contextlib.asynccontextmanager(rows), "below @contextmanager"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_run_past_a_gate_is_refused_with_the_reason(name: str) -> None:
    make, reason = REFUSED[name]
    made = make()
    with pytest.raises(InvalidArgumentError) as refused:
        asks(made)
    assert reason in str(refused.value)
    assert "@tool" in str(refused.value)


def test_what_is_refused_a_gate_can_still_be_recorded() -> None:
    assert tool(Task(lambda x: x + 1)).delay(1) == 2


def test_methods_that_come_with_a_gate_above_it_run_through_it() -> None:
    task = Task(asks(body))
    with pytest.raises(ApprovalPending):
        task.delay(1)
    with pytest.raises(ApprovalPending):
        queued(asks(_fresh())).delay(1)
    assert ran == []


# --- what it shows of itself


def outside(function: Any) -> dict[str, Any]:
    """What a function says of itself, but for where its code is."""
    where = {"getsource", "getsourcelines", "getfile", "unwrap", "__code__", "pydoc"}
    found = {name: answer(ask, function) for name, ask in QUESTIONS.items() if name not in where}
    found.pop("__dict__").pop("__wrapped__", None)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", [0, 1])
def test_a_gated_function_says_of_itself_what_it_says_undecorated(kind: str, host: int) -> None:
    function = FUNCTIONS[kind][host]
    assert outside(asks(function)) == outside(function)
    shown, code = asks(function).__code__, function.__code__
    parameters = code.co_argcount + code.co_kwonlyargcount + 2
    assert shown.co_varnames == code.co_varnames[:parameters]
    assert (shown.co_name, shown.co_flags & 0xF0) == (code.co_name, code.co_flags & 0xF0)


def test_it_says_the_same_above_a_plain_wrapper() -> None:
    decorated, undecorated = (outside(each) for each in (asks(foreign(body)), foreign(body)))
    decorated.pop("getfullargspec"), undecorated.pop("getfullargspec")  # of the wrapper, without us
    assert decorated == undecorated


def _positional(a: int, b: int = 2, /, c: int = 3, *, d: int, e: int = 5) -> None: ...


def test_every_kind_of_parameter_is_shown() -> None:
    assert inspect.signature(asks(_positional)) == inspect.signature(_positional)
    assert asks(_positional).__code__.co_posonlyargcount == 2
    assert inspect.getfullargspec(asks(_positional)) == inspect.getfullargspec(_positional)
    assert asks(lambda *, x=1: x).__code__.co_varnames == ("x",)
    assert typing.get_type_hints(asks(body)) == {"x": int, "return": int}


def test_its_source_is_that_of_a_function_that_refuses_to_run() -> None:
    source = inspect.getsource(asks(body))
    assert source.startswith("def stand_in(x=...):\n    'Note that it has run.'\n    raise Runtime")
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    with pytest.raises(RuntimeError, match="requires an approval"):
        namespace["stand_in"](1)
    assert ran == []


def _made_of(gated: Any) -> Iterator[Callable[[], Any]]:
    """What compilers, remote executors and frameworks reach through a function."""
    yield lambda: gated.__wrapped__(1)
    yield lambda: inspect.unwrap(gated)(1)
    yield lambda: types.FunctionType(gated.__code__, {"ran": ran})(1)


@pytest.mark.parametrize("decorate", [asks, lambda f: asks(foreign(f)), lambda f: asks(step(f))])
def test_what_is_reached_through_a_gated_function_refuses_to_run(
    decorate: Callable[[Any], Any],
) -> None:
    for call in _made_of(decorate(body)):
        with pytest.raises(RuntimeError, match="requires an approval"):
            call()
    assert ran == []


def test_the_function_of_a_gated_method_is_gated_and_its_body_refuses_to_run() -> None:
    class Host:
        @asks
        def run(self) -> None:
            ran.append(1)

    with pytest.raises(RuntimeError, match="requires an approval"):
        Host.run.__wrapped__(Host())
    for reach in (Host.run, Host().run.__func__, types.MethodType(Host().run.__func__, Host())):
        with pytest.raises(ApprovalPending):
            reach(*(() if isinstance(reach, types.MethodType) else (Host(),)))
    partial: Any = asks(functools.partial(body, 1))
    with pytest.raises(RuntimeError, match="requires an approval"):
        partial.func(1)
    assert ran == []


@pytest.mark.parametrize("make", [lambda: rows, lambda: fetch])
def test_what_is_reached_through_it_keeps_its_kind(make: Callable[[], Any]) -> None:
    reached = inspect.unwrap(asks(make()))(1)
    with pytest.raises(RuntimeError, match="requires an approval"):
        reached.send(None)
    assert ran == []


def test_a_cached_function_keeps_its_cache_under_a_gate() -> None:
    gated: Any = asks(functools.lru_cache(body))
    assert gated.cache_info().hits == 0
    assert gated.cache_parameters()["maxsize"] == 128


def test_a_gated_partial_is_gated_in_another_process_too() -> None:
    loaded = pickle.loads(pickle.dumps(asks(functools.partial(importable.search, limit=3))))
    with pytest.raises(ApprovalPending):
        loaded("a")


def test_two_gates_over_one_another_wrap_the_function_once() -> None:
    gated: Any = asks(tool(name="outer", requires_approval=lambda arguments: False)(body))
    with pytest.raises(ApprovalPending):
        gated(1)
    with pytest.raises(ApprovalPending):
        tool(name="renamed")(gated)(1)


def test_a_generator_method_asks_when_its_body_begins() -> None:
    generator = Host().rows()
    with pytest.raises(ApprovalPending):
        next(generator)
    assert ran == []
