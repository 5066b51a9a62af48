"""An agent of the OpenAI Agents SDK whose memory is autotrace, plugged in as an MCP server.

The agent is asked to choose a region for a deployment. The first time it finds nothing in its
memory, looks up the latencies with a tool of its own, and records what it did and what it decided.
Asked again in other words, it finds its earlier work and needs no tool.

The model is a script, so that this runs without an account: it looks at what the tools answered and
says what to call next, as a model would. `--model NAME` takes a real one (OPENAI_API_KEY).

Needs `pip install openai-agents`, and `autotrace` with its extra `server` on the PATH.
"""

# The framework is installed for this example alone, so its types may be missing.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# pyright: reportUntypedFunctionDecorator=false, reportUntypedBaseClass=false

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

try:
    from agents import (
        Agent,
        Model,
        ModelResponse,
        Runner,
        Usage,
        function_tool,
        set_tracing_disabled,
    )
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}: pip install openai-agents") from None
from agents.mcp import MCPServerStdio
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

TASKS = (
    "Choose the region for the new checkout service",
    "Pick a region to deploy the checkout service to",
)
INSTRUCTIONS = (
    "Before a task, recall similar ones with trace_recall and reuse what worked. Record your own "
    "work with the trace_* tools, and decisions with decision_record."
)


@function_tool
def region_latencies() -> str:
    """Return the latency of each region to most customers, in milliseconds, as JSON."""
    return json.dumps({"eu-west": 38, "us-east": 112, "ap-south": 190})


class ScriptedModel(Model):
    """Calls the tools that a model would call, given what they have answered so far."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def get_response(self, *_: Any, **given: Any) -> ModelResponse:
        asked, answers = _read(given["input"])
        said = _next(asked, answers)
        number = str(next(self._numbers))
        if isinstance(said, str):
            text = ResponseOutputText(text=said, type="output_text", annotations=[])
            message = ResponseOutputMessage(
                id=number, content=[text], role="assistant", status="completed", type="message"
            )
            return ModelResponse(output=[message], usage=Usage(), response_id=None)
        name, arguments = said
        call = ResponseFunctionToolCall(
            call_id=number, name=name, arguments=json.dumps(arguments), type="function_call"
        )
        return ModelResponse(output=[call], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **given: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("this agent does not stream")


def _read(items: Any) -> tuple[str, dict[str, Any]]:
    """Return what was asked, and what each tool has answered."""
    names = {i["call_id"]: i["name"] for i in items if i.get("type") == "function_call"}
    answers: dict[str, Any] = {}
    for output in (i for i in items if i.get("type") == "function_call_output"):
        name, text = names[output["call_id"]], output["output"]
        if not text.startswith("{"):
            raise SystemExit(f"{name} has failed: {text}")  # a model would read it, and try again
        answers[name] = json.loads(text)
    return items[0]["content"], answers


def _next(asked: str, answers: dict[str, Any]) -> str | tuple[str, dict[str, Any]]:
    """Return what to call next, or what to say at the end."""
    if "trace_recall" not in answers:
        return "trace_recall", {"query": asked, "limit": 1}
    if found := answers["trace_recall"]["results"]:
        [earlier] = found
        return f"As before ({earlier['task']!r}): {earlier['outcome']}"
    if "trace_start" not in answers:
        return "trace_start", {"task": asked, "session_id": "deployments"}
    one = {"trace_id": answers["trace_start"]["trace_id"]}
    if "trace_step" not in answers:
        thought = "Latency to most customers should decide."
        return "trace_step", {**one, "thought": thought, "action": "call region_latencies"}
    if "region_latencies" not in answers:
        return "region_latencies", {}
    latencies: dict[str, int] = answers["region_latencies"]
    best = min(latencies, key=latencies.__getitem__)
    if "trace_tool_call" not in answers:
        call = {"tool_name": "region_latencies", "arguments": {}, "result": latencies}
        return "trace_tool_call", {**one, **call, "duration_ms": 1, "status": "success"}
    if "decision_record" not in answers:
        return "decision_record", {
            "title": f"Checkout runs in {best}",
            "category": "infra",
            "context": asked,
            "decision": f"Deploy the checkout service to {best}.",
            "rationale": f"It has the lowest latency to most customers: {latencies[best]} ms.",
            "alternatives_considered": [
                {"option": region, "rejected_because": f"{latency} ms"}
                for region, latency in latencies.items()
                if region != best
            ],
            "tags": ["checkout", "region"],
        }
    outcome = f"{best}, for its {latencies[best]} ms"
    if "trace_complete" not in answers:
        return "trace_complete", {**one, "outcome": outcome, "success": True}
    return outcome


async def main() -> None:
    parser = argparse.ArgumentParser(description="An agent with autotrace as its MCP server.")
    parser.add_argument("--store", default="./.autotrace", help="where its memory lies")
    parser.add_argument("--model", help="name of a real model; default: a script")
    chosen = parser.parse_args()
    set_tracing_disabled(disabled=True)

    memory = MCPServerStdio(
        params={
            "command": "autotrace",
            "args": ["mcp", "--agent", "deployer", "--store", chosen.store],
        },
        use_structured_content=True,
        client_session_timeout_seconds=60,
    )
    async with memory:
        agent = Agent(
            name="deployer",
            instructions=INSTRUCTIONS,
            model=chosen.model or ScriptedModel(),
            tools=[region_latencies],
            mcp_servers=[memory],
        )
        for task in TASKS:
            result = await Runner.run(agent, [{"role": "user", "content": task}], max_turns=20)
            called = [
                item.raw_item.name
                for item in result.new_items
                if isinstance(item.raw_item, ResponseFunctionToolCall)
            ]
            print(f"{task}\n  called: {', '.join(called)}\n  answer: {result.final_output}")


if __name__ == "__main__":
    asyncio.run(main())
