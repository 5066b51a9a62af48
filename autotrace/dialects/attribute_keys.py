"""Attribute keys, span names and scopes of other instrumentations.

Their own constants are not imported: they are spread over packages that a program with one
instrumentation has not installed, and those of the GenAI semantic conventions are deprecated.
"""

from __future__ import annotations

from typing import Final

# --- keys that name the kind of a span
OPENINFERENCE_KIND: Final = "openinference.span.kind"
TRACELOOP_KIND: Final = "traceloop.span.kind"
LANGSMITH_KIND: Final = "langsmith.span.kind"
AI_OPERATION: Final = "ai.operationId"
MCP_METHOD: Final = "mcp.method.name"
MCP_TOOLS_CALL: Final = "tools/call"
LLM_REQUEST_TYPE: Final = "llm.request.type"

# --- scopes whose spans name their kind in the span name alone
ADK_SCOPE: Final = "gcp.vertex.agent"
PYDANTIC_AI_SCOPE: Final = "pydantic-ai"
SMOLAGENTS_SCOPE: Final = "openinference.instrumentation.smolagents"

# --- agent and conversation; the first key that is present counts
AGENT_NAMES: Final = (
    "gen_ai.agent.name",
    "agent_name",
    "agent.name",
    "graph.node.id",
    "crewai.agent.role",
    "ai.telemetry.functionId",
)
DEFAULT_AGENT_NAMES: Final = frozenset({"OpenAI Agent"})
"""Names that an instrumentation writes when it does not know the name."""
WORKFLOW_NAMES: Final = ("gen_ai.workflow.name", "traceloop.workflow.name", "traceloop.entity.name")
SESSIONS: Final = (
    "gen_ai.conversation.id",
    "session.id",
    "gcp.vertex.agent.session_id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.thread_id",
    "langsmith.metadata.session_id",
    "langsmith.metadata.thread_id",
    "langsmith.metadata.conversation_id",
    "langsmith.trace.session_id",
    "ai.telemetry.metadata.sessionId",
    "ai.telemetry.metadata.session_id",
    "ai.telemetry.metadata.conversationId",
    "ai.telemetry.metadata.threadId",
)

# --- tool calls
TOOL_NAMES: Final = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name", "traceloop.entity.name")
TOOL_CALL_IDS: Final = ("gen_ai.tool.call.id", "ai.toolCall.id", "tool_call.id", "tool.id")
TOOL_ARGUMENTS: Final = (
    "gen_ai.tool.call.arguments",
    "tool_arguments",
    "gcp.vertex.agent.tool_call_args",
    "ai.toolCall.args",
    "ai.toolCall.input",
    "gen_ai.prompt",
    "traceloop.entity.input",
    "input.value",
)
TOOL_RESULTS: Final = (
    "gen_ai.tool.call.result",
    "anthropic.tool_result.content",
    "tool_response",
    "gcp.vertex.agent.tool_response",
    "ai.toolCall.result",
    "ai.toolCall.output",
    "gen_ai.completion",
    "traceloop.entity.output",
    "output.value",
)
STRANDS_TOOL_STATUS: Final = "gen_ai.tool.status"
TOOL_MESSAGE_EVENT: Final = "gen_ai.tool.message"

# --- input and output of a model; each holds messages in one of the shapes of messages.py
INPUT_MESSAGES: Final = (
    "gen_ai.input.messages",
    "gcp.vertex.agent.llm_request",
    "ai.prompt.messages",
    "ai.prompt",
    "gen_ai.prompt",
    "events",
)
OUTPUT_MESSAGES: Final = (
    "gen_ai.output.messages",
    "gcp.vertex.agent.llm_response",
    "gen_ai.completion",
    "events",
)
INDEXED_INPUTS: Final = ("llm.input_messages.", "gen_ai.prompt.")
INDEXED_OUTPUTS: Final = ("llm.output_messages.", "gen_ai.completion.")
AI_TEXT: Final = "ai.response.text"
AI_REASONING: Final = "ai.response.reasoning"
AI_CALLS: Final = "ai.response.toolCalls"
DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
CHOICE_EVENT: Final = "gen_ai.choice"
MESSAGE_EVENTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
EVENT_NAME: Final = "event.name"

# --- task and answer of a whole run
CREW_DESCRIPTION: Final = "crewai.task.description"
CREW_TASKS: Final = "crew_tasks"
RUN_MESSAGES: Final = ("pydantic_ai.all_messages", "all_messages_events")
"""The whole conversation, with the messages before this run."""
NEW_MESSAGE_INDEX: Final = "pydantic_ai.new_message_index"
RUN_INPUTS: Final = (
    "gen_ai.input.messages",
    "ai.prompt",
    "gen_ai.prompt",
    "gen_ai.task.input",
    "traceloop.entity.input",
    "input.value",
)
RUN_OUTPUTS: Final = (
    "final_result",
    "gen_ai.output.messages",
    "ai.response.text",
    "ai.response.object",
    "gen_ai.completion",
    "crewai.crew.result",
    "gen_ai.task.output",
    "traceloop.entity.output",
    "output.value",
)

# --- names of tools that stand for a handoff to another agent, or for the final answer
FINAL_ANSWER: Final = "final_answer"
MERGED_TOOLS: Final = "(merged tools)"
HANDOFF_TOOLS: Final = ("transfer_to_", "handoff_to_", "transfer_back_to_")
