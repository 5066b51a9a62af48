"""Every string that leaves the process: span names, attribute keys, ids, environment variables.

`gen_ai.*` and `error.*` follow the OpenTelemetry semantic conventions for generative AI (spelled
out here because the constants of `opentelemetry-semantic-conventions` are deprecated there);
`autotrace.*` is ours.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "autotrace"
"""Name of the instrumentation scope of every span that capture makes."""

ENV_PREFIX: Final = "AUTOTRACE_"
"""Every setting `name` is also read from `AUTOTRACE_NAME`."""
SERVER_ENV_PREFIX: Final = "AUTOTRACE_SERVER_"
"""The same for those of a server."""
KEY_VARIABLE: Final = "AUTOTRACE_KEY"
"""The environment variable that holds a client's key in commands that we print."""

# --- operations: the value of gen_ai.operation.name, and the first word of the span's name
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"
STEP_SPAN_NAME: Final = "step"
DEFAULT_ACTOR: Final = "agent"
"""Who asks for a decision where no agent is named."""

# --- OpenTelemetry keys
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
"""A JSON object as a string: the arguments by parameter name."""
GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
"""JSON as a string."""
ERROR_TYPE: Final = "error.type"
"""Qualified name of the exception's class; absent when the operation succeeded."""
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# --- our keys
KIND: Final = "autotrace.kind"
"""`task`, `step` or `decision`. A tool call is known by gen_ai.operation.name alone."""
KIND_TASK: Final = "task"
KIND_STEP: Final = "step"
TASK: Final = "autotrace.task"
"""What the agent was asked to do, as text."""
TRIGGERED_BY_MEMORY_ID: Final = "autotrace.triggered_by_memory_id"
OUTCOME: Final = "autotrace.outcome"
SUCCESS: Final = "autotrace.success"
THOUGHT: Final = "autotrace.step.thought"
ACTION: Final = "autotrace.step.action"
OBSERVATIONS: Final = "autotrace.step.observations"
"""Array of strings."""
UNNAMED_TOOL: Final = "(unnamed)"
"""The name of a tool whose span does not name it."""
TOOL_STATUS: Final = "autotrace.tool.status"
"""`error`, `timeout`, `cancelled` or `paused`; absent on success."""
ENDED_BY: Final = "autotrace.ended_by"
"""What ended a call without failing: class and message of the exception that cancelled or paused
it. Such a span has no error status and no `error.type`."""
TOOL_MEMORY_ID: Final = "autotrace.tool.memory_id"
TOOL_YIELDED: Final = "autotrace.tool.yielded"
"""JSON as a string: what a generator has yielded that returned a result of its own."""
TOOL_EXHAUSTED: Final = "autotrace.tool.exhausted"
"""False on the span of a generator that was closed or abandoned before its end."""
TOLD_NS: Final = "autotrace.told_ns"
"""On a span of what happened elsewhere: when it was told here, in nanoseconds since the epoch."""
TRUNCATED: Final = "autotrace.truncated"
"""Key of the marker object in place of a value cut by a limit: see `docs/guides/record.md`."""
REDACTED: Final = "[REDACTED]"
"""What stands in for a redacted value."""

# --- decisions: one short span for each event
KIND_DECISION: Final = "decision"
DECISION_ID: Final = "autotrace.decision.id"
"""On a decision's own spans, and on the tool calls made inside it."""
DECISION_INTENT: Final = "autotrace.decision.intent"
DECISION_STATUS: Final = "autotrace.decision.status"
"""The status after the event."""
DECISION_EVENT: Final = "autotrace.decision.event"
"""Type of the event."""
APPROVAL_REJECTED: Final = "approval_rejected"
"""The type of event by which a person says no."""
DECISION_EVENT_ID: Final = "autotrace.decision.event_id"
DECISION_OWNER: Final = "autotrace.decision.owner"
"""On a span of this machine: the agent in whose share of a trace the decision was opened."""
DECISION_OUTCOME: Final = "autotrace.decision.outcome"
"""Of a policy: `allow`, `deny` or `requires_exception`."""

# --- ids: opaque to users; they carry the OpenTelemetry ids
TRACE_ID_PREFIX: Final = "trace-"
STEP_ID_PREFIX: Final = "step-"
TOOL_CALL_ID_PREFIX: Final = "call-"
DECISION_ID_PREFIX: Final = "decision-"
EVENT_ID_PREFIX: Final = "event-"
APPROVAL_ID_PREFIX: Final = "approval-"
CHECKPOINT_KIND: Final = "autotrace-checkpoint/1"
VOTE_KIND: Final = "autotrace-vote/1"
"""What the signed data of a checkpoint says that it is, so that no receipt passes for one."""

# --- notices of approvals that are wanted
APPROVAL_REQUESTED: Final = "approval.requested"
"""The `type` of a notice."""
WEBHOOK_ID: Final = "webhook-id"
"""Id of the delivery: the same however often it is tried. As Standard Webhooks 1.0 has it."""
WEBHOOK_TIMESTAMP: Final = "webhook-timestamp"
"""When the request was made, in whole seconds since 1970."""
WEBHOOK_SIGNATURE: Final = "webhook-signature"
"""`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}` in base64."""
WEBHOOK_KEY_PREFIX: Final = "whsec_"
"""Begins a secret whose rest is the key in base64."""
OLD_WEBHOOK_DELIVERY: Final = "X-Autotrace-Delivery"
"""The same as `webhook-id`, for receivers of earlier releases."""
OLD_WEBHOOK_TIMESTAMP: Final = "X-Autotrace-Timestamp"
"""The same as `webhook-timestamp`."""
OLD_WEBHOOK_SIGNATURE: Final = "X-Autotrace-Signature"
"""`sha256=` and the HMAC-SHA256 of `{timestamp}.{body}` in hex; the key is the secret's text."""
