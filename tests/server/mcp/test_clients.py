"""The official Python client, with the server as a process, over both transports."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from autotrace.server.mcp.server import TOOLS
from tests.server.mcp.conftest import Running
from tests.server.serving import REPOSITORY, environment

Opened = AbstractAsyncContextManager[Client]

MODES: Final = ("legacy", "auto")
"""With the handshake that all clients know, and whatever the client and the server agree on."""


def over_http(server: Running, mode: str, path: str = "/mcp") -> Callable[[], Opened]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Client]:
        headers = {"Authorization": f"Bearer {server.keys['bot']}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=500) as http,
            Client(
                streamable_http_client(server.url + path, http_client=http), mode=mode
            ) as client,
        ):
            yield client

    return opened


def over_stdio(store: Path, mode: str) -> Callable[[], Opened]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Client]:
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "autotrace.cli", "mcp", "--store", str(store), "--agent", "bot"],
            env=environment(AUTOTRACE_POLICIES=json.dumps(["tests.server.mcp.policies"])),
            cwd=REPOSITORY,
        )
        async with Client(command, mode=mode) as client:
            yield client

    return opened


async def refusal(client: Client, tool: str, **arguments: Any) -> tuple[int, str, Any]:
    with pytest.raises(MCPError) as raised:
        await client.call_tool(tool, arguments)
    return raised.value.code, raised.value.message, raised.value.data


async def use(client: Client) -> None:
    """Do with a client what an agent does, and see that every answer is as its schema says."""
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert listed.keys() == TOOLS.keys()
    for name, tool in listed.items():
        assert tool.input_schema == TOOLS[name].input_schema
        assert tool.output_schema == TOOLS[name].output_schema

    async def call(tool: str, **arguments: Any) -> Any:
        # The client checks what is answered against the schema.
        result = await client.call_tool(tool, arguments)
        [content] = result.content
        assert content.type == "text"
        assert json.loads(content.text) == result.structured_content
        return result.structured_content

    created = await call("decision_create", intent="a.b", automation_mode="propose")
    one = {"decision_id": created["decision_id"]}
    await call("decision_add_context", **one, context={"risk": 1})
    said = await call(
        "decision_evaluate", **one, policy_id="test_discount_cap", inputs={"discount": 0.3}
    )
    assert (said["outcome"], said["rationale"]) == (
        "requires_exception",
        {"reason": "more than 20 %"},
    )
    await call("decision_request_approval", **one, title="May I?")
    assert (await call("decision_get", **one))["status"] == "needs_approval"
    await call("decision_close", **one, action="abort", reason="not needed")
    trace = await call("decision_trace", **one)
    assert (trace["agent"], trace["actor"]) == ("bot", "bot")
    await call("decision_receipt", **one)
    recorded: dict[str, str] = {"title": "t", "context": "c", "decision": "d", "rationale": "r"}
    await call("decision_record", category="other", **recorded)
    assert (await call("decision_search"))["count"] >= 2

    task = {"trace_id": (await call("trace_start", task="t u v", session_id="s"))["trace_id"]}
    await call("trace_step", **task, thought="t", action="a")
    await call(
        "trace_tool_call",
        **task,
        tool_name="x",
        arguments={},
        result=None,
        duration_ms=1,
        status="success",
    )
    await call("trace_complete", **task, outcome="done", success=True)
    assert (await call("trace_get", **task))["steps"][0]["tool_calls"][0]["tool_name"] == "x"
    assert (await call("trace_recall", query="t u v"))["count"] >= 1
    assert (await call("tool_stats"))["count"] == 1

    assert await refusal(client, "decision_get", decision_id="no") == (
        -32603,
        "Internal error",
        "Decision not found",
    )
    assert await refusal(client, "decision_get") == (
        -32600,
        "Invalid Request",
        "decision_id is required",
    )
    code, message, data = await refusal(client, "decision_close", **one, action="maybe")
    assert (code, message) == (-32602, "Invalid params")
    assert "'commit', 'abort' or 'rollback'" in data
    assert (await refusal(client, "no_such_tool"))[0] == -32601


def run(opened: Callable[[], Opened], work: Callable[[Client], Any] = use) -> None:
    async def running() -> None:
        async with opened() as client:
            await work(client)

    anyio.run(running)


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_uses_every_tool_over_http(server: Running, mode: str) -> None:
    run(over_http(server, mode))


def test_the_official_client_is_served_at_the_root_too(server: Running) -> None:
    async def ping(client: Client) -> None:
        assert (await client.list_tools()).tools

    run(over_http(server, "legacy", path="/"), ping)


@pytest.mark.parametrize("mode", MODES)
def test_the_official_client_uses_every_tool_over_stdio_without_a_key(
    tmp_path: Path, mode: str
) -> None:
    run(over_stdio(tmp_path / "store", mode))


def test_the_official_client_is_told_that_a_decision_is_another_agents(server: Running) -> None:
    async def try_to_close(client: Client) -> None:
        created = await client.call_tool(
            "decision_create", {"intent": "a.b", "automation_mode": "propose"}
        )
        assert created.structured_content is not None
        decision_id = created.structured_content["decision_id"]
        others = Running(server.url, server.keys | {"bot": server.keys["other"]})
        async with over_http(others, "legacy")() as other:
            code, _, data = await refusal(
                other, "decision_close", decision_id=decision_id, action="abort"
            )
        assert code == -32603
        assert "another agent" in data

    run(over_http(server, "legacy"), try_to_close)
