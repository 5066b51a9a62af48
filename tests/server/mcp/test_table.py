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

from autotrace.server.auth.principal import Principal
from autotrace.server.mcp.server import INSTRUCTIONS, TOOLS, make_server
from autotrace.server.tenants import Tenant

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
    "decision_trace": ({"decision_id"}, {"after", "max_bytes"}),
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
    "decision_search": (
        set[str](),
        {"query", "category", "tags", "status", "limit", "max_bytes"},
    ),
    "trace_start": ({"task", "session_id"}, {"triggered_by_memory_id"}),
    "trace_step": ({"trace_id", "thought", "action"}, {"observations"}),
    "trace_tool_call": (
        {"trace_id", "tool_name", "arguments", "result", "duration_ms", "status"},
        {"memory_id", "step_id"},
    ),
    "trace_complete": ({"trace_id", "outcome", "success"}, set[str]()),
    "trace_get": ({"trace_id"}, {"after", "max_bytes"}),
    "trace_recall": ({"query"}, {"success_only", "limit", "agents", "max_bytes"}),
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


def untyped(schema: Any, path: str) -> list[str]:
    """Return the paths of properties, items and choices that have no type."""
    found = [] if isinstance(schema, dict) and schema.keys() & {"type", "anyOf"} else [path]
    if not isinstance(schema, dict):
        return found
    for name, each in schema.get("properties", {}).items():
        found += untyped(each, f"{path}.{name}")
    for number, each in enumerate(schema.get("anyOf", ())):
        found += untyped(each, f"{path}|{number}")
    if schema.get("type") == "array":
        found += untyped(schema.get("items"), f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        found += untyped(schema["additionalProperties"], f"{path}.*")
    return found


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_everything_that_a_tool_takes_and_returns_has_a_type(name: str) -> None:
    tool = TOOLS[name]
    assert untyped(tool.input_schema, "takes") == []
    assert untyped(tool.output_schema, "returns") == []
    # Of what is taken one type at a time: lists of types make some hosts refuse every request.
    assert '"type": [' not in json.dumps(tool.input_schema)


def test_any_json_value_may_be_a_result() -> None:
    schema = TOOLS["trace_tool_call"].input_schema["properties"]["result"]
    for value in (1, 0.5, "x", True, {"a": {"b": None}}, [], [[1, "x"], [2, {}]], [{"a": [1]}]):
        Draft202012Validator(schema).validate(value)


def test_the_table_of_tools_is_small_enough_for_a_prompt() -> None:
    listed = [tool.model_dump(by_alias=True, exclude_none=True) for tool in _listed()]
    for tool in listed:
        tool.pop("outputSchema")
    assert len(json.dumps(listed, separators=(",", ":"))) < 16_500
    whole = [tool.model_dump(by_alias=True, exclude_none=True) for tool in _listed()]
    assert len(json.dumps(whole, separators=(",", ":"))) < 32_000


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
    server = make_server(lambda _: by, lambda _: nullcontext(Tenant("default", broken, broken)))

    async def calling() -> Any:
        async with Client(server) as client:
            with pytest.raises(Exception, match="Internal error") as raised:
                await client.call_tool("tool_stats", {})
            return raised.value

    error = asyncio.run(calling())
    assert (error.code, error.data) == (-32603, "the server failed; its log says why")
    assert "secret of the server" in caplog.text
