"""What a framework hands to a tool is recorded by the name of its type."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Generic, Optional, TypedDict, TypeVar, Union

import pytest

import autotrace
from autotrace.encoding.encoder import Encoder
from autotrace.encoding.injected_types import ROOTS
from autotrace.encoding.redaction import Redactor
from autotrace.testing import recording
from tests.conftest import Configure

if TYPE_CHECKING:
    from langgraph.prebuilt import ToolRuntime

T = TypeVar("T")


def of(module: str) -> Callable[[Any], Any]:
    """Say that a class is defined in a module of another library."""

    def move(kind: Any) -> Any:
        kind.__module__, kind.__qualname__ = module, kind.__name__
        return kind

    return move


@of("pydantic_ai._run_context")
@dataclasses.dataclass
class RunContext(Generic[T]):
    deps: T
    messages: list[str] = dataclasses.field(default_factory=lambda: ["secret talk"])


@of("langchain_core.runnables.config")
class RunnableConfig(TypedDict, total=False):
    configurable: dict[str, Any]


@of("langgraph.prebuilt.tool_node")
class InjectedState:
    pass


@of("fastapi.params")
class Depends:
    def __init__(self, dependency: Any = None) -> None:
        self.dependency = dependency


@of("mcp.server.fastmcp.server")
class Context:
    def __init__(self) -> None:
        self.session = "secret talk"


class Own:
    """A context of the program's own."""

    def __init__(self) -> None:
        self.talk = "secret talk"


class OwnMore(Own):
    pass


library = types.ModuleType("library")
library.RunContext = RunContext  # type: ignore[attr-defined]

STATE = {"messages": ["secret talk"]}


def plain(q: str, ctx: RunContext[int]) -> None: ...
def optional(q: str, ctx: RunContext[int] | None) -> None: ...
def old_optional(q: str, ctx: Optional[RunContext[int]]) -> None: ...  # noqa: UP045
def union(q: str, ctx: Union[str, RunContext[int]]) -> None: ...  # noqa: UP007
def bare(q: str, ctx) -> None: ...  # type: ignore[no-untyped-def]
def config(q: str, ctx: RunnableConfig) -> None: ...
def state(q: str, ctx: Annotated[dict, InjectedState]) -> None: ...
def state_object(q: str, ctx: Annotated[dict, InjectedState()]) -> None: ...
def dependency(q: str, ctx: Any = Depends(int)) -> None: ...  # noqa: B008
def annotated_dependency(q: str, ctx: Annotated[dict, Depends(int)]) -> None: ...
def through_module(q: str, ctx: library.RunContext) -> None: ...
def unresolved(q: str, ctx: ToolRuntime[Any] | None) -> None: ...
def keyword_only(q: str, *, ctx: RunnableConfig) -> None: ...


RUN = "<pydantic_ai._run_context.RunContext>"
CONFIG = "<langchain_core.runnables.config.RunnableConfig>"
INJECTED = "<langgraph.prebuilt.tool_node.InjectedState>"
DEPENDS = "<fastapi.params.Depends>"


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        (plain, RunContext(1), RUN),
        (optional, RunContext(1), RUN),
        (old_optional, RunContext(1), RUN),
        (union, RunContext(1), RUN),
        (bare, RunContext(1), RUN),
        (config, STATE, CONFIG),
        (keyword_only, STATE, CONFIG),
        (state, STATE, INJECTED),
        (state_object, STATE, INJECTED),
        (dependency, STATE, DEPENDS),
        (annotated_dependency, STATE, DEPENDS),
        (through_module, STATE, RUN),
        (unresolved, STATE, "<ToolRuntime>"),
        (bare, Context(), "<mcp.server.fastmcp.server.Context>"),
    ],
)
def test_an_injected_argument_is_recorded_by_its_type(
    function: Any, value: Any, shown: str
) -> None:
    with recording() as rec, autotrace.task("t"):
        autotrace.tool(function)("hi", ctx=value)

    assert rec.trace.tool_calls[0].arguments == {"q": "hi", "ctx": shown}


def test_none_stays_and_a_list_of_contexts_is_no_context() -> None:
    def many(ctx: RunContext[int] | None, all_of_them: list[RunContext[int]]) -> None: ...

    with recording() as rec, autotrace.task("t"):
        autotrace.tool(many)(None, [RunContext(1)])

    assert rec.trace.tool_calls[0].arguments == {"ctx": None, "all_of_them": [RUN]}


def test_contexts_in_var_parameters_are_not_recorded() -> None:
    @autotrace.tool
    def run(query: str, *ctxs: RunContext[Any], **configs: RunnableConfig) -> int:
        return len(ctxs) + len(configs)

    with recording() as rec, autotrace.task("t"):
        assert run("a", RunContext(1), first=STATE, second=STATE) == 3

    arguments = rec.trace.tool_calls[0].arguments
    assert "secret talk" not in json.dumps(arguments)
    assert arguments["query"] == "a"
    assert arguments["second"] == "<langchain_core.runnables.config.RunnableConfig>"


def test_a_class_of_the_programs_own_that_is_called_request_is_recorded() -> None:
    @dataclasses.dataclass
    class Request:
        n: int

    def own(ctx: Request) -> None: ...

    with recording() as rec, autotrace.task("t"):
        autotrace.tool(own)(Request(1))

    assert rec.trace.tool_calls[0].arguments == {"ctx": {"n": 1}}


@pytest.mark.parametrize("name", ["Own", f"{__name__}.Own"])
def test_further_names_are_a_setting_and_hold_for_tools_decorated_before(
    name: str, configure: Configure
) -> None:
    @autotrace.tool
    def annotated(ctx: OwnMore) -> None: ...

    @autotrace.tool
    def unannotated(ctx: Any) -> None: ...

    configure(injected_types=[name])
    with autotrace.task("t") as task:
        annotated(STATE)  # type: ignore[arg-type]
        unannotated([Own(), OwnMore()])
    assert autotrace.flush()

    calls = autotrace.get_trace(task.trace_id).tool_calls
    assert [call.arguments for call in calls] == [
        {"ctx": f"<{__name__}.Own>"},
        {"ctx": [f"<{__name__}.Own>", f"<{__name__}.OwnMore>"]},
    ]


def test_a_context_is_shown_by_its_type_wherever_it_stands() -> None:
    text = Encoder(Redactor()).json({"a": [{"b": RunContext(1)}], "result": Context()})

    assert json.loads(text) == {"a": [{"b": RUN}], "result": "<mcp.server.fastmcp.server.Context>"}


def test_every_name_of_the_table_is_a_name_of_a_class() -> None:
    assert all(name.isidentifier() and name[0].isupper() for name in ROOTS)
    assert all(root.isidentifier() for roots in ROOTS.values() for root in roots)


# --- the real ones


def test_the_context_of_openai_agents_is_not_recorded() -> None:
    agents = pytest.importorskip("agents", reason="openai-agents is not installed")

    def ask(ctx: Any, q: str) -> str:
        return q

    ask.__annotations__["ctx"] = agents.RunContextWrapper[Own]
    with recording() as rec, autotrace.task("t"):
        autotrace.tool(ask)(agents.RunContextWrapper(Own()), "hi")

    (call,) = rec.trace.tool_calls
    assert call.arguments == {"ctx": "<agents.run_context.RunContextWrapper>", "q": "hi"}


def test_what_langchain_injects_is_not_recorded() -> None:
    tools = pytest.importorskip("langchain_core.tools", reason="langchain-core is not installed")
    config_type = pytest.importorskip("langchain_core.runnables").RunnableConfig

    def search(query: str, config: Any = None) -> str:
        """Search."""
        return query

    search.__annotations__ = {"query": str, "config": config_type, "return": str}
    with recording() as rec, autotrace.task("t"):
        tools.tool(autotrace.tool(search)).invoke({"query": "q"}, config={"tags": ["secret talk"]})

    assert rec.trace.tool_calls[0].arguments == {"query": "q", "config": CONFIG}


def test_the_context_of_pydantic_ai_is_not_recorded() -> None:
    real = pytest.importorskip("pydantic_ai", reason="pydantic-ai-slim is not installed")

    assert f"{real.RunContext.__module__}.RunContext" == RUN[1:-1]


def test_requests_of_starlette_are_not_recorded() -> None:
    requests = pytest.importorskip("starlette.requests", reason="starlette is not installed")
    request = requests.Request({"type": "http", "headers": [(b"cookie", b"secret")]})

    assert Encoder(Redactor()).json([request]) == '["<starlette.requests.Request>"]'


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sqlalchemy.orm.session", "Session"), ("sqlalchemy.ext.asyncio.session", "AsyncSession"),
        ("sqlalchemy.engine.base", "Connection"), ("starlette.datastructures", "State"),
        ("langchain_core.callbacks.base", "BaseCallbackManager"), ("strands.agent.agent", "Agent"),
        ("smolagents.agents", "MultiStepAgent"), ("rest_framework.request", "Request"),
    ],
)  # fmt: skip
def test_sessions_agents_and_callbacks_of_libraries_are_shown_by_type(
    module: str, name: str
) -> None:
    kind = of(module)(type(name, (Own,), {}))
    derived = type("Derived", (kind,), {})
    encoder = Encoder(Redactor())

    assert encoder.json([kind(), {"x": kind()}]) == (
        f'["<{module}.{name}>",{{"x":"<{module}.{name}>"}}]'
    )
    assert "secret talk" not in encoder.json(derived())
    assert "secret talk" in encoder.json(type(name, (Own,), {})())


def fastapi_depends(dependency: Any = None) -> Depends:
    return Depends(dependency)


fastapi_depends.__module__, fastapi_depends.__name__ = "fastapi.param_functions", "Depends"


@of("httpx")
class Client:
    headers: dict[str, str] = {"x-custom": "hunter22"}  # noqa: RUF012 - as httpx has it


def test_marks_made_by_functions_and_marks_inside_containers_are_known() -> None:
    def ask(
        question: str,
        user: str,
        states: list[Annotated[dict[str, str], InjectedState]],
        client: Any,
    ) -> None: ...

    ask.__annotations__["user"] = "Annotated[str, fastapi_depends(None)]"

    with recording() as rec, autotrace.task("t"):
        autotrace.tool(ask)("which?", "ada", [{"secret": "hunter22"}], Client())

    assert rec.trace.tool_calls[0].arguments == {
        "question": "which?",
        "user": "<fastapi.param_functions.Depends>",
        "states": "<langgraph.prebuilt.tool_node.InjectedState>",
        "client": "<httpx.Client>",
    }
