"""One and the same run as each family of instrumentations writes it down.

Asked "Find the venue", the agent searches, looks a place up, which fails, and answers "It is here".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from autotrace.spool.span_records import EventRecord, SpanRecord

OTEL_TRACE = "ef" * 16
TASK = "Find the venue"
ANSWER = "It is here"
SEARCH, FOUND = {"query": "venue", "limit": 2}, [{"name": "Moscone"}]
LOOK_UP, FAILURE = {"place": "Moscone"}, "TimeoutError: too slow"
THOUGHT = "I should search"
J = json.dumps


class Spans:
    """Collects spans, each starting after the one before it."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.records: list[SpanRecord] = []

    def add(
        self,
        name: str,
        parent: int | None,
        attributes: dict[str, Any],
        *,
        error: str | None = None,
        events: list[EventRecord] | None = None,
        scope: str | None = None,
    ) -> int:
        number = len(self.records) + 1
        record = SpanRecord(
            trace=OTEL_TRACE,
            id=f"{number:016x}",
            parent=None if parent is None else f"{parent:016x}",
            name=name,
            start_ns=number * 1_000_000_000,
            end_ns=number * 1_000_000_000 + 5_000_000,
            attributes=attributes,
            scope=self.scope if scope is None else scope,
        )
        if error is not None:
            record["status"], record["message"] = 2, error
        if events is not None:
            record["events"] = events
        self.records.append(record)
        return number

    def ended(self) -> list[SpanRecord]:
        """Return the spans, with every parent lasting as long as what lies in it."""
        for record in self.records[::-1]:
            for other in self.records:
                if other["id"] == record.get("parent"):
                    other["end_ns"] = max(other.get("end_ns", 0), record.get("end_ns", 0))
        return self.records


def said(*parts: dict[str, Any], role: str = "assistant") -> str:
    return J([{"role": role, "parts": list(parts)}])


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def call(name: str, arguments: Any, call_id: str) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def genai() -> list[SpanRecord]:
    s = Spans("opentelemetry.instrumentation.genai.any")
    ask = {"gen_ai.input.messages": said(text(TASK), role="user")}
    who = {"gen_ai.agent.name": "guide", "gen_ai.conversation.id": "s1"}
    flow = s.add("invoke_workflow w", None, {"gen_ai.operation.name": "invoke_workflow"})
    agent = s.add("invoke_agent guide", flow, {"gen_ai.operation.name": "invoke_agent", **who})
    chat = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "x", **ask}
    tool = {"gen_ai.operation.name": "execute_tool"}
    thought = {"type": "reasoning", "content": THOUGHT}
    first = said(thought, call("search", SEARCH, "c1"))
    s.add("chat m", agent, chat | {"gen_ai.output.messages": first})
    s.add(
        "execute_tool search",
        agent,
        tool
        | {
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.id": "c1",
            "gen_ai.tool.call.arguments": J(SEARCH),
            "gen_ai.tool.call.result": J(FOUND),
        },
    )
    s.add("chat m", agent, chat | {"gen_ai.output.messages": said(call("maps", LOOK_UP, "c2"))})
    maps = {"gen_ai.tool.name": "maps", "gen_ai.tool.call.arguments": J(LOOK_UP)}
    s.add("execute_tool maps", agent, tool | maps, error=FAILURE)
    s.add("chat m", agent, chat | {"gen_ai.output.messages": said(text(ANSWER))})
    return s.ended()


def by_hand() -> list[SpanRecord]:
    """A loop without a framework: only the calls of the model have spans."""
    s = Spans("opentelemetry.instrumentation.genai.openai")
    root = s.add("answer", None, {}, scope="my.app")
    s.records[0]["skeleton"] = True
    del s.records[0]["attributes"], s.records[0]["scope"]
    asked = [{"role": "user", "parts": [text(TASK)]}]
    replies: list[dict[str, Any]] = [
        {"role": "assistant", "parts": [text(THOUGHT), call("search", SEARCH, "c1")]},
        {"role": "assistant", "parts": [call("maps", LOOK_UP, "c2")]},
        {"role": "assistant", "parts": [text(ANSWER)]},
    ]
    results = {"c1": J(FOUND), "c2": FAILURE}
    for number, reply in enumerate(replies):
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": J(asked),
            "gen_ai.output.messages": J([reply]),
            "gen_ai.conversation.id": "s1",
            "gen_ai.agent.name": "guide",
        }
        s.add("chat m", root, attributes)
        answered = {"type": "tool_call_response", "id": f"c{number + 1}"}
        answered["response"] = results.get(f"c{number + 1}", "")
        asked = [*asked, reply, {"role": "tool", "parts": [answered]}]
    return s.ended()


def openinference() -> list[SpanRecord]:
    s = Spans("openinference.instrumentation.langchain")
    kind, session = "openinference.span.kind", {"session.id": "s1"}
    inputs = {"input.value": J({"messages": [["user", TASK]]})}
    output = {"output.value": J({"messages": [{"type": "ai", "data": {"content": ANSWER}}]})}
    agent = s.add("guide", None, {kind: "AGENT", **inputs, **output, **session})

    def chat(parent: int, reply: dict[str, Any]) -> None:
        prefix = "llm.output_messages.0.message."
        asked = {"llm.input_messages.0.message.role": "user"}
        asked["llm.input_messages.0.message.content"] = TASK
        replied = {prefix + key: value for key, value in reply.items()}
        s.add("ChatModel", parent, {kind: "LLM", prefix + "role": "assistant", **asked, **replied})

    def asking(name: str, arguments: Any, call_id: str) -> dict[str, Any]:
        prefix = "tool_calls.1.tool_call."  # what was at 0 is no call
        function = {f"{prefix}function.name": name, f"{prefix}function.arguments": J(arguments)}
        return {f"{prefix}id": call_id, **function}

    node = s.add("model", agent, {kind: "CHAIN"})
    chat(node, {"content": THOUGHT, **asking("search", SEARCH, "c1")})
    node = s.add("tools", agent, {kind: "CHAIN"})
    wrapped = {"type": "tool", "data": {"content": J(FOUND), "tool_call_id": "c1"}}
    result = {"input.value": repr(SEARCH), "output.value": J(wrapped)}
    s.add("search", node, {kind: "TOOL", "tool.name": "search", **result})
    chat(s.add("model", agent, {kind: "CHAIN"}), asking("maps", LOOK_UP, "c2"))
    # A tool with one parameter: its bare value.
    maps = {kind: "TOOL", "tool.name": "maps", "input.value": LOOK_UP["place"]}
    s.add(
        "maps",
        s.add("tools", agent, {kind: "CHAIN"}),
        maps,
        error=f"{FAILURE}Traceback (most recent call last):",
    )
    chat(s.add("model", agent, {kind: "CHAIN"}), {"content": ANSWER})
    return s.ended()


def traceloop() -> list[SpanRecord]:
    s = Spans("traceloop.tracer")
    kind, name = "traceloop.span.kind", "traceloop.entity.name"
    session = {"traceloop.association.properties.session_id": "s1"}
    flow = s.add("flow.workflow", None, {kind: "workflow", name: "flow", **session})
    io = {"traceloop.entity.input": J({"args": [TASK], "kwargs": {}})}
    io["traceloop.entity.output"] = J(ANSWER)
    agent = s.add(
        "guide.agent", flow, {kind: "agent", name: "guide", "gen_ai.agent.name": "guide", **io}
    )
    plan = s.add("plan.task", agent, {kind: "task", name: "plan"})
    old = {"llm.request.type": "chat", "gen_ai.prompt.0.role": "user"}
    old |= {"gen_ai.prompt.0.content": TASK, "gen_ai.completion.0.role": "assistant"}
    ask = "gen_ai.completion.0.tool_calls.0."
    calls = {f"{ask}id": "c1", f"{ask}name": "search", f"{ask}arguments": J(SEARCH)}
    s.add("openai.chat", plan, old | calls | {"gen_ai.completion.0.content": THOUGHT})
    args = {"traceloop.entity.input": J({"args": [], "kwargs": SEARCH})}
    args["traceloop.entity.output"] = J(FOUND)
    s.add("search.tool", agent, {kind: "tool", name: "search", **args})
    # LangGraph's wrapping: a repr in JSON.
    args = {"traceloop.entity.input": J({"input_str": repr(LOOK_UP), "tags": []})}
    s.add("maps.tool", agent, {kind: "tool", name: "maps", **args}, error=FAILURE)
    s.add("openai.chat", agent, old | {"gen_ai.completion.0.content": ANSWER})
    return s.ended()


def pydantic_ai() -> list[SpanRecord]:
    s = Spans("pydantic-ai")
    ask = {"role": "user", "content": TASK, "event.name": "gen_ai.user.message"}
    everything = {"all_messages_events": J([ask]), "final_result": ANSWER}
    who = {"agent_name": "guide", "gen_ai.conversation.id": "s1"}
    agent = s.add("agent run", None, {**who, **everything})

    def chat(**message: Any) -> None:
        choice = {"index": 0, "message": {"role": "assistant", **message}}
        events = [ask, choice | {"event.name": "gen_ai.choice"}]
        s.add("chat m", agent, {"gen_ai.operation.name": "chat", "events": J(events)})

    def asking(name: str, arguments: Any) -> list[dict[str, Any]]:
        return [{"id": name, "function": {"name": name, "arguments": J(arguments)}}]

    thinking = [{"kind": "thinking", "text": THOUGHT}]
    chat(content=thinking, tool_calls=asking("search", SEARCH))
    running = s.add("running tools", agent, {"tools": ["search"]})
    tool = {"tool_arguments": J(SEARCH), "tool_response": J(FOUND)}
    s.add("running tool", running, {"gen_ai.tool.name": "search", **tool})
    chat(tool_calls=asking("maps", LOOK_UP))
    tool = {"tool_arguments": J(LOOK_UP)}
    s.add("running tool", agent, {"gen_ai.tool.name": "maps", **tool}, error=FAILURE)
    chat(content=ANSWER)
    return s.ended()


def google_adk() -> list[SpanRecord]:
    s = Spans("gcp.vertex.agent")
    root = s.add("invocation", None, {})
    agent = s.add("agent_run [guide]", root, {})
    ask = {"contents": [{"role": "user", "parts": [{"text": TASK}]}]}

    def chat(*parts: dict[str, Any]) -> int:
        reply = {"content": {"role": "model", "parts": list(parts)}}
        attributes = {
            "gcp.vertex.agent.llm_request": J(ask),
            "gcp.vertex.agent.llm_response": J(reply),
            "gcp.vertex.agent.session_id": "s1",
        }
        return s.add("call_llm", agent, attributes)

    def tool(parent: int, name: str, arguments: Any, response: Any) -> None:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gcp.vertex.agent.tool_call_args": J(arguments),
            "gcp.vertex.agent.tool_response": J(response),
        }
        s.add(f"execute_tool {name}", parent, attributes)

    def asking(name: str, arguments: Any) -> dict[str, Any]:
        return {"function_call": {"name": name, "args": arguments}}

    thought = {"text": THOUGHT, "thought": True}
    tool(chat(thought, asking("search", SEARCH)), "search", SEARCH, FOUND)
    # No span says that it failed: the response does.
    failed = {"status": "error", "error_message": FAILURE}
    tool(chat(asking("maps", LOOK_UP)), "maps", LOOK_UP, failed)
    merged = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "(merged tools)"}
    s.add("execute_tool (merged)", agent, merged)
    chat({"text": ANSWER})
    return s.ended()


def langsmith() -> list[SpanRecord]:
    s = Spans("langsmith")
    kind = "langsmith.span.kind"

    def ai(**fields: Any) -> str:
        message = {"lc": 1, "id": ["langchain", "AIMessage"], "kwargs": fields}
        return J({"generations": [[{"text": "", "message": message}]]})

    human = {"lc": 1, "id": ["langchain", "HumanMessage"], "kwargs": {"content": TASK}}
    io = {"gen_ai.prompt": J({"messages": [["user", TASK]]})}
    io["gen_ai.completion"] = J({"messages": [{"type": "ai", "content": ANSWER}]})
    root = s.add("guide", None, {kind: "chain", "langsmith.metadata.session_id": "s1", **io})
    asked = {kind: "llm", "gen_ai.prompt": J({"messages": [[human]]})}
    calls = [{"name": "search", "args": SEARCH, "id": "c1", "type": "tool_call"}]
    replied = ai(content=THOUGHT, tool_calls=calls)
    s.add("Model", root, asked | {"gen_ai.completion": replied})
    output = {"output": {"content": J(FOUND), "status": "success"}}
    tool = {"gen_ai.tool.name": "search", "gen_ai.prompt": J(SEARCH)}
    s.add("search", root, {kind: "tool", "gen_ai.completion": J(output), **tool})
    tool = {"gen_ai.tool.name": "maps", "gen_ai.prompt": J(LOOK_UP), "gen_ai.completion": "{}"}
    s.add("maps", root, {kind: "tool", **tool}, error=FAILURE)
    s.add("Model", root, asked | {"gen_ai.completion": ai(content=ANSWER)})
    return s.ended()


def vercel_ai() -> list[SpanRecord]:
    s = Spans("ai")
    root = s.add(
        "ai.generateText",
        None,
        {
            "ai.operationId": "ai.generateText",
            "ai.telemetry.functionId": "guide",
            "ai.telemetry.metadata.sessionId": "s1",
            "ai.prompt": J({"system": "Be short", "prompt": TASK}),
            "ai.response.text": ANSWER,
        },
    )
    messages = [{"role": "user", "content": [{"type": "text", "text": TASK}]}]
    step = {"ai.operationId": "ai.generateText.doGenerate", "ai.prompt.messages": J(messages)}
    calls = [{"toolCallId": "c1", "toolName": "search", "input": J(SEARCH)}]
    replied = {"ai.response.reasoning": THOUGHT, "ai.response.toolCalls": J(calls)}
    s.add("ai.generateText.doGenerate", root, step | replied)
    tool = {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "search", "ai.toolCall.id": "c1"}
    io = {"ai.toolCall.args": J(SEARCH), "ai.toolCall.result": J(FOUND)}
    s.add("ai.toolCall", root, tool | io)
    tool = {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "maps", "ai.toolCall.id": "c2"}
    s.add("ai.toolCall", root, tool | {"ai.toolCall.args": J(LOOK_UP)}, error=FAILURE)
    s.add("ai.generateText.doGenerate", root, step | {"ai.response.text": ANSWER})
    return s.ended()


def strands() -> list[SpanRecord]:
    """Content in events of spans."""
    s = Spans("strands.telemetry.tracer")

    def event(name: str, **attributes: Any) -> EventRecord:
        return {"name": name, "time_ns": 1, "attributes": attributes}

    ask = event("gen_ai.user.message", content=J([{"text": TASK}]))
    answer = event("gen_ai.choice", message=J([{"text": f"{ANSWER}\n"}]), finish_reason="end_turn")
    agent = s.add(
        "invoke_agent guide",
        None,
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "guide",
            "session.id": "s1",
        },
        events=[ask, answer],
    )
    thinking = {"reasoningContent": {"reasoningText": {"text": THOUGHT}}}
    use = {"toolUse": {"toolUseId": "c1", "name": "search", "input": SEARCH}}
    reply = event("gen_ai.choice", message=J([thinking, use]))
    s.add("chat", agent, {"gen_ai.operation.name": "chat"}, events=[ask, reply])

    def tool(name: str, arguments: Any, result: str, status: str) -> None:
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        given = event("gen_ai.tool.message", role="tool", content=J(arguments))
        back = event("gen_ai.choice", message=J([{"text": result}]))
        attributes |= {"gen_ai.tool.status": status}
        s.add(f"execute_tool {name}", agent, attributes, events=[given, back])

    tool("search", SEARCH, J(FOUND), "success")
    tool("maps", LOOK_UP, FAILURE, "error")
    s.add("chat", agent, {"gen_ai.operation.name": "chat"}, events=[ask, answer])
    return s.ended()


def layers() -> list[SpanRecord]:
    """Each tool call in four spans, each call of the model in two."""
    s = Spans("pydantic-ai")
    who = {"gen_ai.agent.name": "guide", "gen_ai.conversation.id": "s1"}
    ask = {"gen_ai.input.messages": said(text(TASK), role="user")}
    agent = s.add("invoke_agent guide", None, {"gen_ai.operation.name": "invoke_agent", **who})
    s.add("tools/list", agent, {"mcp.method.name": "tools/list"}, scope="fastmcp")

    def chat(*parts: dict[str, Any]) -> None:
        reply = {"gen_ai.output.messages": said(*parts), **ask}
        outer = s.add("chat m", agent, {"gen_ai.operation.name": "chat", **reply})
        s.add("ChatCompletion", outer, {"openinference.span.kind": "LLM"}, scope="openinference.x")

    def tool(name: str, arguments: Any, **result: Any) -> None:
        execute = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        mcp = {"mcp.method.name": "tools/call"}
        outer = {"gen_ai.tool.call.arguments": J(arguments), **execute, **result}
        span = s.add(f"execute_tool {name}", agent, outer)
        span = s.add(f"tools/call {name}", span, mcp | execute, scope="fastmcp")
        span = s.add(f"MCP send tools/call {name}", span, mcp, scope="mcp-python-sdk")
        error = None if result else FAILURE
        s.add(f"tools/call {name}", span, mcp | execute, error=error, scope="mcp-python-sdk")

    chat({"type": "reasoning", "content": THOUGHT}, call("search", SEARCH, "c1"))
    tool("search", SEARCH, **{"gen_ai.tool.call.result": J(FOUND)})
    chat(call("maps", LOOK_UP, "c2"))
    tool("maps", LOOK_UP)
    chat(text(ANSWER))
    return s.ended()


def decorated() -> list[SpanRecord]:
    """Tools that the framework and our decorator record, one inside the other."""
    s = Spans("")
    s.records = layers()
    for record in [r for r in s.records if r.get("name", "").startswith("execute_tool ")]:
        name, failed = record.get("attributes", {})["gen_ai.tool.name"], "maps" in record["name"]
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.arguments": J(LOOK_UP if failed else SEARCH),
        }
        if failed:
            attributes |= {"autotrace.tool.status": "timeout", "error.type": "TimeoutError"}
        else:
            attributes["gen_ai.tool.call.result"] = J(FOUND)
        s.add(record["name"], int(record["id"], 16), attributes, error=FAILURE if failed else None)
        del s.records[-1]["scope"]
    return s.ended()


RUNS: dict[str, Callable[[], list[SpanRecord]]] = {
    made.__name__: made
    for made in (
        *(genai, by_hand, openinference, traceloop, pydantic_ai, google_adk),
        *(langsmith, vercel_ai, strands, layers),
    )
}
