"""A decorated function tells of itself what it does undecorated, and other libraries believe it."""

from __future__ import annotations

import abc
import asyncio
import copy
import functools
import inspect
import multiprocessing
import pickle
import pydoc
import types
import typing
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final
from unittest import mock

import pydantic
import pytest

from autotrace import InvalidArgumentError, step, task, tool
from tests.capture import importable
from tests.capture.spans import Spans, arguments_of
from tests.capture.subjects import FUNCTIONS, HOSTS, KINDS, foreign, hosted, plain

DECORATORS: Final[dict[str, Callable[[Any], Any]]] = {
    "tool": tool,
    "tool(...)": tool(name="another", redact=["c"]),
    "step": step,
    "step(...)": step("thought"),
    "task": task,
    "task(...)": task("text"),
    "tool twice": lambda function: tool(tool(function)),
    "all three": lambda function: task(step(tool(function))),
}
QUESTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "signature": inspect.signature,
    "getfullargspec": inspect.getfullargspec,
    "iscoroutinefunction": inspect.iscoroutinefunction,
    "asyncio.iscoroutinefunction": asyncio.iscoroutinefunction,
    "isgeneratorfunction": inspect.isgeneratorfunction,
    "isasyncgenfunction": inspect.isasyncgenfunction,
    "isfunction": inspect.isfunction,
    "ismethod": inspect.ismethod,
    "isroutine": inspect.isroutine,
    "callable": callable,
    "getdoc": inspect.getdoc,
    "getmodule": inspect.getmodule,
    "getsource": inspect.getsource,
    "getsourcelines": inspect.getsourcelines,
    "getfile": inspect.getfile,
    "get_type_hints": typing.get_type_hints,
    "get_annotations": inspect.get_annotations,
    "unwrap": inspect.unwrap,
    "pydoc": lambda function: pydoc.plain(pydoc.render_doc(function)),
    "isinstance of its type": lambda function: isinstance(
        function, types.FunctionType | types.MethodType | functools.partial
    ),
    "repr of the name": lambda function: getattr(function, "__name__", "none"),
    "__qualname__": lambda function: getattr(function, "__qualname__", "none"),
    "__module__": lambda function: getattr(function, "__module__", "none"),
    "__doc__": lambda function: function.__doc__,
    "__annotations__": lambda function: getattr(function, "__annotations__", "none"),
    "__defaults__": lambda function: getattr(function, "__defaults__", "none"),
    "__kwdefaults__": lambda function: getattr(function, "__kwdefaults__", "none"),
    "__code__": lambda function: getattr(function, "__code__", "none"),
    "__dict__": lambda function: dict(vars(function)),
}


def answer(question: Callable[[Any], Any], function: Any) -> Any:
    """What a question gets, be it an exception."""
    try:
        return question(function)
    except (TypeError, OSError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("below", [plain, foreign])
@pytest.mark.parametrize("kind", KINDS)
def test_a_function_answers_as_undecorated(
    kind: str, below: Callable[[Any], Any], decorator: str
) -> None:
    for name, ask in QUESTIONS.items():
        function = below(FUNCTIONS[kind][0])
        assert answer(ask, DECORATORS[decorator](function)) == answer(ask, function), name


@pytest.mark.parametrize("host", [host for host in HOSTS if host != "function"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_answers_as_undecorated(kind: str, host: str) -> None:
    decorated, undecorated = hosted(kind, host, tool), hosted(kind, host, plain)
    if host == "unbound method":  # a partial of both: look at what is inside
        decorated, undecorated = decorated.func, undecorated.func
    different = {"unwrap"}  # leads to an equal one of another instance
    if host in ("partial", "callable object"):
        different |= {"pydoc", "__dict__"}  # pydoc shows the class of what is no function
    if host == "callable object":
        different |= {"getfullargspec"}  # has `self` undecorated, of an instance
    for name in QUESTIONS.keys() - different:
        question = QUESTIONS[name]
        assert answer(question, decorated) == answer(question, undecorated), name


def test_what_is_set_on_a_decorated_function_is_set_on_the_function() -> None:
    def function() -> None: ...

    decorated = tool(function)
    decorated.is_safe = True  # type: ignore[attr-defined] - as frameworks do
    assert function.is_safe is True  # type: ignore[attr-defined] - set above
    assert weakref.ref(decorated)() is decorated
    assert {decorated: 1}[decorated] == 1
    assert decorated == function


def test_a_method_is_equal_to_itself_and_hashes_alike() -> None:
    class Host:
        @tool
        def subject(self) -> None: ...

    host = Host()
    assert host.subject == host.subject
    assert hash(host.subject) == hash(host.subject)
    assert host.subject.__self__ is host  # type: ignore[attr-defined] - bound methods have it
    assert host.subject != Host().subject


class Handler:
    @tool
    def handle(self, event: str) -> str:
        return f"{type(self).__name__} {event}"

    @classmethod
    @tool
    def make(cls, event: str) -> str:
        return f"{cls.__name__} {event}"

    @tool
    @classmethod
    def build(cls, event: str) -> str:
        return f"{cls.__name__} {event}"

    preset = functools.partialmethod(handle, "preset")


class Quiet(Handler):
    pass


def test_a_method_is_the_same_function_in_its_class_and_in_those_that_inherit_it() -> None:
    assert Quiet.handle is Handler.handle is vars(Handler)["handle"]
    assert Handler().handle.__func__ is Handler.handle
    assert Handler.preset(Quiet()) == "Quiet preset"
    assert inspect.signature(Handler.preset) == inspect.Signature(
        [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)],
        return_annotation="str",
    )


@pytest.mark.parametrize("name", ["handle", "make", "build"])
def test_a_method_can_be_referenced_weakly_and_is_recorded(spans: Spans, name: str) -> None:
    owner = Quiet()
    method = weakref.WeakMethod(getattr(owner, name))()
    assert method is not None
    assert method("event") == "Quiet event"
    assert [arguments_of(span) for span in spans.tools] == [{"event": "event"}]


def test_a_method_can_be_made_of_a_recording_function_for_another_object(spans: Spans) -> None:
    assert types.MethodType(Handler().handle.__func__, Quiet())("event") == "Quiet event"
    assert Handler.handle(Quiet(), "class") == "Quiet class"
    assert [arguments_of(span) for span in spans.tools] == [{"event": "event"}, {"event": "class"}]


class Fetch:
    async def __call__(self, url: str) -> str:
        return url


def test_the_call_method_of_an_object_says_whether_it_is_to_be_awaited(spans: Spans) -> None:
    fetch = tool(Fetch())
    assert inspect.iscoroutinefunction(fetch.__call__)
    assert not inspect.iscoroutinefunction(tool(functools.partial(int)).__call__)
    assert asyncio.run(fetch.__call__("u")) == "u"
    assert [arguments_of(span) for span in spans.tools] == [{"url": "u"}]


def test_an_abstract_method_stays_abstract() -> None:
    class Base(abc.ABC):
        @tool
        @abc.abstractmethod
        def subject(self) -> None: ...

    with pytest.raises(TypeError, match="subject"):
        Base()  # type: ignore[abstract] - that is the test


def test_a_property_getter_is_recorded(spans: Spans) -> None:
    class Host:
        @property
        @tool
        def answer(self) -> int:
            """The answer."""
            return 42

    assert Host().answer == 42
    assert Host.answer.__doc__ == "The answer."
    assert arguments_of(spans.tool) == {}


def test_super_and_overriding_reach_the_right_method(spans: Spans) -> None:
    class Base:
        @tool(name="base")
        def subject(self, x: int) -> int:
            return x

        @classmethod
        @tool(name="class method")
        def made_by(cls) -> str:
            return cls.__name__

    class Derived(Base):
        @tool(name="derived")
        def subject(self, x: int) -> int:
            return super().subject(x + 1) + 1

    assert Derived().subject(1) == 3
    assert Derived.made_by() == "Derived"
    assert [span.name for span in spans.tools] == [
        "execute_tool base",
        "execute_tool derived",
        "execute_tool class method",
    ]
    assert [arguments_of(span) for span in spans.tools] == [{"x": 2}, {"x": 1}, {}]


# --- other libraries


def test_single_dispatch_lru_cache_and_wraps_work_on_top(spans: Spans) -> None:
    @functools.lru_cache
    @tool
    def cached(x: int) -> int:
        return x * 2

    @functools.singledispatch
    @tool
    def shown(x: object) -> str:
        return "object"

    @shown.register
    @tool
    def shown_int(x: int) -> str:
        return "int"

    assert (cached(2), cached(2), cached.cache_info().hits) == (4, 4, 1)
    assert (shown("a"), shown(1)) == ("object", "int")
    assert len(spans.tools) == 3


def test_a_cached_method_below_keeps_its_cache_and_its_argument_names(spans: Spans) -> None:
    class Host:
        @tool
        @functools.lru_cache  # noqa: B019 - the instance lives as long as the test
        def subject(self, x: int, y: int = 2) -> int:
            return x + y

    host = Host()
    assert (host.subject(1), host.subject(1)) == (3, 3)
    assert Host.subject.cache_info().hits == 1  # type: ignore[attr-defined] - lru_cache's
    assert [arguments_of(span) for span in spans.tools] == [{"x": 1, "y": 2}] * 2


def test_pydantic_validates_calls_above_and_below(spans: Spans) -> None:
    @pydantic.validate_call
    @tool
    def above(x: int) -> int:
        return x

    @tool
    @pydantic.validate_call
    def below(x: int) -> int:
        return x

    assert above("1") == 1  # type: ignore[arg-type] - pydantic converts it
    assert below("1") == 1  # type: ignore[arg-type] - pydantic converts it
    with pytest.raises(pydantic.ValidationError):
        above("one")  # type: ignore[arg-type] - that is the test
    with pytest.raises(pydantic.ValidationError):
        below("one")  # type: ignore[arg-type] - that is the test
    assert [arguments_of(span) for span in spans.tools] == [{"x": 1}, {"x": "1"}, {"x": "one"}]


def test_a_schema_can_be_made_of_a_tool() -> None:
    def subject(query: str, limit: int = 10) -> dict[str, int]:
        """Search."""
        return {query: limit}

    decorated, undecorated = (
        pydantic.TypeAdapter(function).json_schema() for function in (tool(subject), subject)
    )
    assert decorated == undecorated


def test_mocks_can_be_decorated_and_still_count_their_calls(spans: Spans) -> None:
    search = mock.Mock(return_value=3)
    search_async = mock.AsyncMock(return_value=4)
    patched = mock.create_autospec(importable.search, return_value="found")
    assert tool(search)(1, x=2) == 3
    assert asyncio.run(tool(search_async)()) == 4
    assert tool(patched)("query") == "found"
    search.assert_called_once_with(1, x=2)
    search_async.assert_awaited_once_with()
    assert [span.name for span in spans.tools] == [
        "execute_tool Mock",
        "execute_tool AsyncMock",
        "execute_tool search",
    ]


def test_a_decorated_function_can_be_patched(spans: Spans) -> None:
    with mock.patch.object(importable.Service, "ask", autospec=True, return_value="no") as ask:
        assert importable.Service("s").ask("why") == "no"
    ask.assert_called_once()
    assert importable.Service("s").ask("why") == "s: why"


@pytest.mark.parametrize("value", [int, types.SimpleNamespace, 3, "text", property()])
@pytest.mark.parametrize("decorator", [tool, tool(name="t"), step("s"), task("t")])
def test_what_is_no_function_is_refused_by_an_error_that_says_what_to_do(
    decorator: Callable[[Any], Any], value: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="used on a function"):
        decorator(value)


# --- copies and processes


NAMED: Final = {
    "function": lambda: importable.search,
    "async function": lambda: importable.search_async,
    "generator": lambda: importable.pages,
    "task": lambda: importable.plan,
    "step": lambda: importable.rank,
    "foreign decorator on top": lambda: importable.guarded,
    "static method": lambda: importable.Service.ping,
    "static method of an instance": lambda: importable.Service("s").ping,
    "class method": lambda: importable.Service.make,
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_function_pickles_by_its_name(name: str, protocol: int) -> None:
    function = NAMED[name]()
    found = pickle.loads(pickle.dumps(function, protocol))
    if "method" in name:
        assert found == function
    else:
        assert found is function


@pytest.mark.parametrize("name", NAMED)
def test_a_copy_of_a_function_is_the_function(name: str) -> None:
    function = NAMED[name]()
    assert copy.copy(function) == function
    assert copy.deepcopy(function) == function


def test_a_bound_method_pickles_and_copies_with_its_instance(spans: Spans) -> None:
    service = importable.Service("one")
    loaded = pickle.loads(pickle.dumps(service.ask))
    deep = copy.deepcopy(service.ask)
    shallow = copy.copy(service.ask)
    service.name = "two"
    assert [loaded("?"), deep("?"), shallow("?")] == ["one: ?", "one: ?", "two: ?"]
    assert len(spans.tools) == 3


@pytest.mark.parametrize(
    "function", [importable.limited, importable.renamed, importable.Service("s").ask_decorated]
)
def test_what_its_name_does_not_lead_to_pickles_with_its_decorator(
    function: Callable[[str], str], spans: Spans
) -> None:
    loaded = pickle.loads(pickle.dumps(function))
    assert loaded("x") == function("x")
    assert len(spans.ended) == 2
    assert spans.ended[0].name == spans.ended[1].name
    assert spans.ended[0].attributes == spans.ended[1].attributes


def test_what_cannot_be_pickled_fails_as_undecorated() -> None:
    def local() -> None: ...

    errors: list[BaseException] = []
    for function in (local, tool(local)):
        with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
            pickle.dumps(function)
        errors.append(caught.value)
    assert type(errors[0]) is type(errors[1])
    assert str(errors[0]) == str(errors[1])


def test_another_process_runs_the_functions_it_is_sent() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        calls = [
            pool.submit(importable.search, "a"),
            pool.submit(importable.Service("s").ask, "b"),
            pool.submit(importable.Service.make, "c"),
            pool.submit(importable.Service.ping),
            pool.submit(importable.limited, "d"),
        ]
        results = [call.result() for call in calls]
    assert results[:2] == ["found a 10", "s: b"]
    assert results[2].name == "c"
    assert results[3:] == ["pong", "found d 3"]
