"""Find the kind of a span of another instrumentation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from autotrace import semconv
from autotrace.dialects import attribute_keys
from autotrace.dialects.wrapped_values import find, loads, mapping
from autotrace.spool import record_fields
from autotrace.spool.span_records import SpanRecord

Kind = Literal["agent", "workflow", "llm", "tool", "handoff", "nothing", "other"]
"""`workflow` holds agents or calls and may be a run; `nothing` only looks like one of the kinds;
`other` is a part of a run without information of its own."""

_OPENINFERENCE: Final[dict[str, Kind]] = {
    "AGENT": "agent",
    "CHAIN": "workflow",
    "LLM": "llm",
    "TOOL": "tool",
}
_TRACELOOP: Final[dict[str, Kind]] = {
    "agent": "agent",
    "workflow": "workflow",
    "tool": "tool",
    "handoff": "handoff",
    "task": "other",
}
_LANGSMITH: Final[dict[str, Kind]] = {"llm": "llm", "tool": "tool", "chain": "workflow"}
_OPERATIONS: Final[dict[str, Kind]] = {
    "invoke_agent": "agent",
    "create_agent": "nothing",
    "invoke_workflow": "workflow",
    "invoke_swarm": "workflow",
    "execute_tool": "tool",
    "chat": "llm",
    "generate_content": "llm",
    "text_completion": "llm",
    "response": "llm",
    "handoff": "handoff",
    "agent_handoff": "handoff",
}
_ADK_NAMES: Final[dict[str, Kind]] = {
    "invocation": "workflow",
    "agent_run": "agent",
    "call_llm": "llm",
    "execute_tool": "tool",
}
_TOOL_PREFIXES: Final = ("execute_tool ", "MCP send tools/call ", "tools/call ")
_TOOL_SUFFIXES: Final = (".tool", ".run")


def span_kind(record: SpanRecord) -> Kind:
    """Return the kind of a span, from the span alone."""
    attributes = record_fields.attributes(record)
    kind = _by_attributes(attributes) or _by_name(record, attributes)
    if kind == "agent" and _is_graph_node(record, attributes):
        return "workflow"
    if kind == "tool":
        return _kind_of_tool(record, attributes)
    if kind == "other" and attribute_keys.CREW_DESCRIPTION in attributes:
        return "workflow"
    return kind


def _by_attributes(attributes: Mapping[str, Any]) -> Kind | None:
    kind = (
        _OPENINFERENCE.get(str(attributes.get(attribute_keys.OPENINFERENCE_KIND)).upper())
        or _TRACELOOP.get(str(attributes.get(attribute_keys.TRACELOOP_KIND)))
        or _LANGSMITH.get(str(attributes.get(attribute_keys.LANGSMITH_KIND)))
    )
    if kind is not None:
        return kind
    operation = attributes.get(attribute_keys.AI_OPERATION)
    if isinstance(operation, str):
        return _ai_kind(operation)
    kind = _OPERATIONS.get(str(attributes.get(semconv.GEN_AI_OPERATION_NAME)))
    if kind is not None:
        return kind
    method = attributes.get(attribute_keys.MCP_METHOD)
    if method is not None:
        return "tool" if method == attribute_keys.MCP_TOOLS_CALL else "nothing"
    return None


def _ai_kind(operation: str) -> Kind:
    if operation == "ai.toolCall":
        return "tool"
    if not operation.startswith(("ai.generate", "ai.stream")):
        return "other"
    return "agent" if operation.count(".") == 1 else "llm"


def _by_name(record: SpanRecord, attributes: Mapping[str, Any]) -> Kind:
    name = record.get("name", "")
    scope = record.get("scope")
    if scope == attribute_keys.ADK_SCOPE:
        return _ADK_NAMES.get(name.partition(" ")[0], "other")
    if scope == attribute_keys.PYDANTIC_AI_SCOPE:
        if name == "running tool":
            return "tool"
        return "agent" if name == "agent run" else "other"
    if attribute_keys.LLM_REQUEST_TYPE in attributes:
        return "llm"
    return "other"


def _is_graph_node(record: SpanRecord, attributes: Mapping[str, Any]) -> bool:
    """Return whether an "agent" is a node of that name in the graph of one."""
    metadata = mapping(loads(attributes.get("metadata"))) or {}
    node = metadata.get("langgraph_node")
    return node is not None and node == record.get("name")


def _kind_of_tool(record: SpanRecord, attributes: Mapping[str, Any]) -> Kind:
    name = tool_name(record)
    if name in (attribute_keys.FINAL_ANSWER, attribute_keys.MERGED_TOOLS):
        return "nothing"
    if is_handoff(name):
        return "handoff"
    if name.startswith("handoff to ") and find(attributes, attribute_keys.TOOL_NAMES) is None:
        return "handoff"
    return "tool"


def is_handoff(tool: str) -> bool:
    """Return whether a tool of this name hands off to another agent."""
    return tool.startswith(attribute_keys.HANDOFF_TOOLS)


def tool_name(record: SpanRecord) -> str:
    """Return the name of the tool that a tool span is about."""
    name = record_fields.as_text(find(record_fields.attributes(record), attribute_keys.TOOL_NAMES))
    if name is not None:
        return name
    text = record.get("name", "")
    for prefix in _TOOL_PREFIXES:
        text = text.removeprefix(prefix)
    for suffix in _TOOL_SUFFIXES:
        text = text.removesuffix(suffix)
    return text
