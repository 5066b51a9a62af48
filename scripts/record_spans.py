"""Record runs of agent frameworks with scripted models, for tests/dialects/test_recorded_spans.py.

Run it in an environment that has the frameworks and their instrumentations (`PACKAGES`):

    python -m venv /tmp/frameworks
    /tmp/frameworks/bin/pip install $(python scripts/record_spans.py --packages)
    /tmp/frameworks/bin/python scripts/record_spans.py

Each agent is asked `TASK`; its model follows `SCRIPT`. The manifest holds the calls that ran.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("opentelemetry-sdk", "pydantic-ai-slim", "openai-agents", "langgraph", "smolagents"),
    *(f"openinference-instrumentation-{name}" for name in ("openai-agents", "langchain")),
    "openinference-instrumentation-smolagents",
)
FOLDER = Path(__file__).parents[1] / "tests" / "data" / "spans"
TASK = "Find an Italian restaurant near the conference venue"
SCRIPT: list[tuple[str, dict[str, Any]]] = [
    ("web_search", {"query": "Italian restaurants near the venue", "limit": 5}),
    ("maps_api", {"place": "Trattoria Roma"}),
    ("web_search", {"query": "Trattoria Roma address", "limit": 1}),
]
FINAL = "The best one is Trattoria Roma, 0.3 km from the venue."

called: list[dict[str, Any]] = []
"""The tool calls of the run, in order."""


def web_search(query: str, limit: int) -> list[dict[str, Any]]:
    """Search the web.

    Args:
        query: Words to look for.
        limit: The largest number of results.
    """
    _note("web_search", {"query": query, "limit": limit}, None)
    return [{"name": "Trattoria Roma", "stars": 4.7}][:limit]


def maps_api(place: str) -> dict[str, Any]:
    """Look a place up on a map.

    Args:
        place: The name of the place.
    """
    error = "TimeoutError: maps_api timed out after 5s"
    _note("maps_api", {"place": place}, error)
    raise TimeoutError("maps_api timed out after 5s")


def _note(tool: str, arguments: dict[str, Any], error: str | None) -> None:
    called.append({"tool": tool, "arguments": arguments, "ok": error is None, "error": error})


# --- frameworks


def run_pydantic_ai(provider: Any) -> None:
    """Run an agent of Pydantic AI."""
    from pydantic_ai import Agent, ModelRetry
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.models.instrumented import InstrumentationSettings

    turns = iter(SCRIPT)

    def answer(messages: Any, info: Any) -> ModelResponse:
        turn = next(turns, None)
        return ModelResponse([TextPart(FINAL) if turn is None else ToolCallPart(*turn)])

    def maps_or_retry(place: str) -> Any:
        try:
            return maps_api(place)
        except TimeoutError as error:
            raise ModelRetry(f"TimeoutError: {error}") from error

    maps_or_retry.__name__ = "maps_api"
    agent = Agent(
        FunctionModel(answer),
        name="concierge",
        tools=[web_search, maps_or_retry],
        retries=3,
    )
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
    assert agent.run_sync(TASK).output == FINAL


def run_openai_agents(provider: Any) -> None:
    """Run an agent of the OpenAI Agents SDK."""
    from agents import (
        Agent,
        Model,
        ModelResponse,
        Runner,
        Usage,
        function_tool,
        generation_span,
    )
    from openai.types.responses import (
        ResponseFunctionToolCall,
        ResponseOutputMessage,
        ResponseOutputText,
    )
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    class Scripted(Model):
        def __init__(self) -> None:
            self.turns = iter(enumerate(SCRIPT))

        async def get_response(self, *args: Any, **given: Any) -> ModelResponse:
            number, turn = next(self.turns, (0, None))
            said: dict[str, Any] = {"role": "assistant", "content": FINAL}
            if turn is None:
                text = ResponseOutputText(text=FINAL, type="output_text", annotations=[])
                output: Any = ResponseOutputMessage(
                    id="m", content=[text], role="assistant", status="completed", type="message"
                )
            else:
                function = {"name": turn[0], "arguments": json.dumps(turn[1])}
                call = {"id": f"c{number}", "type": "function", "function": function}
                said = {"role": "assistant", "content": None, "tool_calls": [call]}
                output = ResponseFunctionToolCall(
                    call_id=f"c{number}", type="function_call", **function
                )
            asked = given["input"] if "input" in given else args[1]
            if isinstance(asked, str):
                asked = [{"role": "user", "content": asked}]
            with generation_span(input=asked, output=[said], model="scripted"):
                return ModelResponse(output=[output], usage=Usage(), response_id="r")

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    instrumentor = OpenAIAgentsInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    agent = Agent(
        name="concierge",
        model=Scripted(),
        tools=[function_tool(web_search), function_tool(maps_api)],
    )
    assert asyncio.run(Runner.run(agent, TASK)).final_output == FINAL


def run_langgraph(provider: Any) -> None:
    """Run an agent of LangGraph."""
    from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.prebuilt import ToolNode, create_react_agent
    from openinference.instrumentation.langchain import LangChainInstrumentor

    class Scripted(FakeMessagesListChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

    responses: list[Any] = [
        AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"c{number}"}])
        for number, (name, arguments) in enumerate(SCRIPT)
    ]
    LangChainInstrumentor().instrument(tracer_provider=provider)
    agent = create_react_agent(
        Scripted(responses=[*responses, AIMessage(FINAL)]),
        ToolNode([tool(web_search), tool(maps_api)], handle_tool_errors=True),
        name="concierge",
    )
    answer = agent.invoke({"messages": [("user", TASK)]})
    assert answer["messages"][-1].content == FINAL
    LangChainInstrumentor().uninstrument()


def run_smolagents(provider: Any) -> None:
    """Run an agent of smolagents."""
    from openinference.instrumentation.smolagents import SmolagentsInstrumentor
    from smolagents import ToolCallingAgent, tool
    from smolagents.models import (
        ChatMessage,
        ChatMessageToolCall,
        ChatMessageToolCallFunction,
        MessageRole,
        Model,
    )

    class Scripted(Model):
        def __init__(self) -> None:
            super().__init__(model_id="scripted")
            self.turns = iter(enumerate([*SCRIPT, ("final_answer", {"answer": FINAL})]))

        def generate(self, messages: Any, **kwargs: Any) -> ChatMessage:
            number, (name, arguments) = next(self.turns)
            function = ChatMessageToolCallFunction(name=name, arguments=arguments)
            call = ChatMessageToolCall(id=f"c{number}", type="function", function=function)
            return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])

    SmolagentsInstrumentor().instrument(tracer_provider=provider)
    agent = ToolCallingAgent(
        tools=[tool(web_search), tool(maps_api)], model=Scripted(), verbosity_level=0
    )
    assert agent.run(TASK) == FINAL


RUNS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("pydantic_ai", "native"): run_pydantic_ai,
    ("openai_agents", "openinference"): run_openai_agents,
    ("langgraph", "openinference"): run_langgraph,
    ("smolagents", "openinference"): run_smolagents,
}


# --- OTLP/JSON


def export_of(spans: Iterable[Any]) -> dict[str, Any]:
    """Return an ExportTraceServiceRequest as OTLP/JSON."""
    scopes: dict[str, list[Any]] = {}
    for span in spans:
        scopes.setdefault(span.instrumentation_scope.name, []).append(_span(span))
    found = [{"scope": {"name": name}, "spans": of_scope} for name, of_scope in scopes.items()]
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": found}]}


def _span(span: Any) -> dict[str, Any]:
    made = {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": list(_attributes(span.attributes)),
        "events": [
            {
                "name": event.name,
                "timeUnixNano": str(event.timestamp),
                "attributes": list(_attributes(event.attributes)),
            }
            for event in span.events
        ],
        "status": {"code": span.status.status_code.value},
    }
    if span.parent is not None:
        made["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.status.description:
        made["status"]["message"] = span.status.description
    return made


def _attributes(attributes: Any) -> Iterator[dict[str, Any]]:
    for key, value in (attributes or {}).items():
        if key != "exception.stacktrace":  # holds paths of the machine
            yield {"key": key, "value": _value(value)}


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case _:
            return {"arrayValue": {"values": [_value(item) for item in value]}}


def main() -> None:
    """Write a file for each run, and the manifest."""
    if sys.argv[1:] == ["--packages"]:
        print(*PACKAGES)
        return
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    logging.disable()
    FOLDER.mkdir(parents=True, exist_ok=True)
    manifest: list[dict[str, Any]] = []
    for (framework, instrumentation), run in RUNS.items():
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        called.clear()
        run(provider)
        provider.shutdown()
        spans = exporter.get_finished_spans()
        name = f"{framework}__{instrumentation}__toolerror.json"
        text = json.dumps(export_of(spans), indent=1).replace(sys.prefix, "/frameworks")
        (FOLDER / name).write_text(text + "\n", "utf-8")
        manifest.append(
            {
                "file": name,
                "framework": framework,
                "instrumentation": instrumentation,
                "case": "toolerror",
                "task": TASK,
                "tools": list(called),
                "final": FINAL,
                "run_error": None,
                "spans": len(spans),
            }
        )
    facts = {"packages": {name: version(name) for name in PACKAGES}, "runs": manifest}
    (FOLDER / "manifest.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
