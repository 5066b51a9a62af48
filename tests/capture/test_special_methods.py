"""Special methods of classes do decorated what they do undecorated, and are recorded."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from autotrace import step, task, tool
from autotrace.testing import recording


def seen_of(decorate: Callable[[Any], Any]) -> list[Any]:
    """What a class does whose every special method is decorated."""
    out: list[Any] = []

    class Meta(type):
        @decorate
        def __call__(cls, *args: Any) -> Any:
            return super().__call__(*args)

        @classmethod
        @decorate
        def __prepare__(cls, name: str, bases: Any, **_: Any) -> Any:
            return {}

        @decorate
        def __instancecheck__(cls, instance: Any) -> bool:
            return True

    class Base(metaclass=Meta):
        @decorate
        def __new__(cls, x: int = 0) -> Any:
            return super().__new__(cls)

        @decorate
        def __init__(self, x: int = 0) -> None:
            self.x = x

        @decorate
        def __init_subclass__(cls, flag: bool = False, **more: Any) -> None:
            super().__init_subclass__(**more)
            out.append((cls.__name__, flag))

        @decorate
        def __class_getitem__(cls, key: Any) -> Any:
            return cls.__name__, key

        @decorate
        def __set_name__(self, owner: Any, name: str) -> None:
            out.append(("named", name))

        @decorate
        def __get__(self, instance: Any, owner: Any) -> str:
            return "got"

        @decorate
        def __getattr__(self, name: str) -> str:
            if name.startswith("__"):
                raise AttributeError(name)
            return f"attribute {name}"

        @decorate
        def __getattribute__(self, name: str) -> Any:
            return object.__getattribute__(self, name)

        @decorate
        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        @decorate
        def __enter__(self) -> str:
            return "entered"

        @decorate
        def __exit__(self, *error: object) -> bool:
            return True

        @decorate
        async def __aenter__(self) -> str:
            return "entered"

        @decorate
        async def __aexit__(self, *error: object) -> bool:
            return True

        @decorate
        def __iter__(self) -> Any:
            yield from (1, 2)

        @decorate
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return 5

        @decorate
        def __getitem__(self, key: Any) -> Any:
            return key

        @decorate
        def __contains__(self, key: Any) -> bool:
            return True

        @decorate
        def __len__(self) -> int:
            return 3

        @decorate
        def __bool__(self) -> bool:
            return True

        @decorate
        def __eq__(self, other: object) -> bool:
            return True

        @decorate
        def __hash__(self) -> int:
            return 7

        @decorate
        def __repr__(self) -> str:
            return "shown"

        @decorate
        def __format__(self, spec: str) -> str:
            return "formatted"

        @decorate
        def __add__(self, other: Any) -> str:
            return "sum"

        @decorate
        def __call__(self, x: Any) -> Any:
            return x

        @decorate
        def __reduce__(self) -> Any:
            return int, (3,)

        @decorate
        def __dir__(self) -> list[str]:
            return ["x"]

        @decorate
        def __del__(self) -> None: ...

    class Derived(Base, flag=True): ...

    made: Any = Derived(4)
    owner: Any = type("Owner", (), {"field": made})

    async def use() -> Any:
        async with made as entered:
            raise ValueError("kept")
        return entered, await made

    with made as entered:
        out.append(entered)
        raise ValueError("kept")
    out += [made.x, Derived[int], list(made), made["k"], len(made), bool(made), made == 1]
    out += [hash(made), repr(made), made.other, 3 in made, made + 1, owner.field, f"{made}"]
    out += [made(9), copy.copy(made), dir(made), asyncio.run(use()), isinstance(3, Base)]
    return out


@pytest.mark.parametrize("decorate", [tool, tool(name="t"), step("s"), task("t")])
def test_special_methods_do_what_they_do_undecorated(decorate: Any) -> None:
    expected = seen_of(lambda function: function)
    with recording() as recorded:
        assert seen_of(decorate) == expected
    assert "capture_errors" not in recorded.counters, recorded.last_error


def test_what_makes_a_class_or_an_instance_is_recorded_with_its_arguments() -> None:
    with recording() as recorded, task("t"):

        class Base:
            @tool
            def __init_subclass__(cls, flag: bool = False) -> None: ...

            @tool
            def __class_getitem__(cls, key: str) -> str:
                return key

            @tool
            def __new__(cls, x: int) -> Any:
                return super().__new__(cls)

        class Derived(Base, flag=True): ...

        assert Derived["k"] == "k"
        assert type(Derived(4)) is Derived  # type: ignore[call-arg] - __new__ takes it
    calls = [(call.tool_name, call.arguments) for call in recorded.traces[0].tool_calls]
    assert calls == [
        ("__init_subclass__", {"flag": True}),
        ("__class_getitem__", {"key": "k"}),
        ("__new__", {"x": 4}),
    ]


def test_the_end_of_an_iteration_is_no_failure() -> None:
    class Pages:
        left = 1

        @tool
        def __next__(self) -> int:
            if self.left == 0:
                raise StopIteration
            self.left -= 1
            return 7

        def __iter__(self) -> Pages:
            return self

        @tool
        async def __anext__(self) -> int:
            raise StopAsyncIteration

        def __aiter__(self) -> Pages:
            return self

    async def drain() -> None:
        async for _ in Pages():
            pass

    @tool
    def leaks() -> int:
        return next(iter([]))

    with recording() as recorded, task("t"):
        assert list(Pages()) == [7]
        asyncio.run(drain())
        with pytest.raises(StopIteration):
            leaks()

    calls = recorded.trace.tool_calls
    assert [(call.status, call.result) for call in calls] == [
        ("success", 7), ("success", None), ("success", None), ("error", None),
    ]  # fmt: skip
