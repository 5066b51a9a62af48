"""The table of tools, as clients see it."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import nullcontext
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from mcp.client import Client
from mcp.server.lowlevel import Server

from autotrace.access.principal import Principal
from autotrace.server.mcp_server import INSTRUCTIONS, TOOLS, make_server
from autotrace.server.mcp_tool import Desk

CONTRACT = {
    "decision_create": (
        {"intent", "automation_mode"},
        {"actor", "instance", "version", "metadata", "trace_id"},
    ),
    "decision_get": ({"decision_id"}, set[str]()),
    "decision_add_context": ({"decision_id", "context"}, {"summary"}),
    "decision_evaluate": ({"decision_id", "policy_id"}, {"inputs", "inputs_ref"}),
    "decision_request_approval": (
        {"decision_id"},
        {"title", "message", "approval_route_id", "require_rationale", "expires_in_seconds"},
    ),
    "decision_close": ({"decision_id", "action"}, {"summary", "reason"}),
    "decision_trace": ({"decision_id"}, set[str]()),
    "decision_receipt": ({"decision_id"}, set[str]()),
    "decision_record": (
        {"title", "category", "context", "decision", "rationale"},
        {
            "alternatives_considered",
            "tags",
            "constraints",
            "consequences",
            "supersedes",
            "trace_id",
        },
    ),
    "decision_search": (set[str](), {"query", "category", "tags", "status", "limit"}),
    "trace_start": ({"task", "session_id"}, {"triggered_by_memory_id"}),
    "trace_step": ({"trace_id", "thought", "action"}, {"observations"}),
    "trace_tool_call": (
        {"trace_id", "tool_name", "arguments", "result", "duration_ms", "status"},
        {"memory_id", "step_id"},
    ),
    "trace_complete": ({"trace_id", "outcome", "success"}, set[str]()),
    "trace_get": ({"trace_id"}, set[str]()),
    "trace_recall": ({"query"}, {"success_only", "limit", "agents"}),
    "tool_stats": (set[str](), {"limit", "after"}),
}
"""What each tool requires, and what it takes beside that."""


def test_there_are_the_tools_of_the_contract_with_its_parameters() -> None:
    found: dict[str, Any] = {}
    for name, tool in TOOLS.items():
        schema = tool.input_schema
        required = set(schema.get("required", []))
        found[name] = (required, set(schema["properties"]) - required)

    assert found == CONTRACT


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_tool_tells_an_agent_what_it_does_and_what_it_takes(name: str) -> None:
    tool = TOOLS[name]
    assert re.fullmatch(r"[A-Z].{60,}\.", tool.description, re.DOTALL)
    for parameter, schema in tool.input_schema["properties"].items():
        assert schema.get("description"), parameter


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_schemas_are_whole_and_hold_nothing_that_clients_stumble_over(name: str) -> None:
    for schema in (TOOLS[name].input_schema, TOOLS[name].output_schema):
        assert schema["type"] == "object"
        Draft202012Validator.check_schema(schema)
        text = json.dumps(schema)
        assert "$ref" not in text
        assert "$defs" not in text
    assert "null" not in json.dumps(TOOLS[name].input_schema)


def test_other_tools_that_a_description_names_exist() -> None:
    for text in [INSTRUCTIONS, *(tool.description for tool in TOOLS.values())]:
        named = set(re.findall(r"\b(?:decision|trace|tool)_[a-z_]+\b", text))
        assert named - {"decision_id", "trace_id"} <= TOOLS.keys(), text


def test_what_only_reads_says_so() -> None:
    listed = {tool.name: tool.annotations for tool in _listed()}

    reading = {name for name, hints in listed.items() if hints.read_only_hint}
    assert reading == {
        "decision_get",
        "decision_trace",
        "decision_receipt",
        "decision_search",
        "trace_get",
        "trace_recall",
        "tool_stats",
    }
    assert all(hints.idempotent_hint for name, hints in listed.items() if name in reading)


def _listed() -> list[Any]:
    def nobody(_: Any) -> Any:
        raise AssertionError("no tool is called")

    server: Server[Any] = make_server(nobody, nobody)

    async def listing() -> list[Any]:
        async with Client(server) as client:
            return (await client.list_tools()).tools

    return asyncio.run(listing())


def test_a_failure_of_ours_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("secret of the server")

    by = Principal("k", "bot", "default", "agent")
    broken: Any = Broken()
    server = make_server(lambda _: by, lambda _: nullcontext(Desk(broken, broken)))

    async def calling() -> Any:
        async with Client(server) as client:
            with pytest.raises(Exception, match="Internal error") as raised:
                await client.call_tool("tool_stats", {})
            return raised.value

    error = asyncio.run(calling())
    assert (error.code, error.data) == (-32603, "the server failed; its log says why")
    assert "secret of the server" in caplog.text
