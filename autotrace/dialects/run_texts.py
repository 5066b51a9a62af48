"""Find the task, outcome, agent, session and failure of a run. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from autotrace import semconv
from autotrace.dialects import attribute_keys
from autotrace.dialects.messages import Message, conversation
from autotrace.dialects.run_structure import AgentRun
from autotrace.dialects.span_kinds import span_kind
from autotrace.dialects.span_messages import inputs, outputs
from autotrace.dialects.wrapped_values import (
    dumps,
    error_text,
    find,
    is_error_text,
    items,
    loads,
    mapping,
    message_in,
)
from autotrace.spool import record_fields
from autotrace.spool.span_records import STATUS_ERROR, SpanRecord

_ASKED: Final = ("task", "prompt", "query", "question", "input", "user_input", "message", "request")
_ANSWERED: Final = (
    "raw",
    "output",
    "answer",
    "result",
    "final_output",
    "text",
    "response",
    "content",
)
_USELESS_TYPES: Final = frozenset({"_OTHER", "tool_error", "TOOL_ERROR", "error"})
_MANAGED_TASK: Final = re.compile(r"\nTask:\n(.*?)(?:(?P<end>\n---\n)|\Z)", re.DOTALL)
"""Task of an agent that another one manages, in the middle of a prompt.

Without its end it matches to the end of the text, so that the search does not start at each
beginning again.
"""
_REDACTED: Final = "details are redacted"
_NAME_PREFIXES: Final = ("invoke_agent ", "invoke_workflow ", "agent_run [", "invocation [")
_NAME_SUFFIXES: Final = (".run", ".agent", ".workflow", "]", "._execute_core")


def task_of(run: AgentRun, turns: Sequence[list[Message]]) -> str:
    """Return the task of a run.

    Args:
        run: The run.
        turns: Inputs of its models, first call first.
    """
    for record in (run.opener, *run.agents):
        text = _asked(record)
        if text:
            return text
    for messages in turns:
        text = _last_user_text(messages)
        if text:
            return text.strip()
    return run.opener.get("name", "")


def _asked(record: SpanRecord) -> str | None:
    attributes = record_fields.attributes(record)
    for key in attribute_keys.RUN_MESSAGES:
        messages = items(loads(attributes.get(key)))
        new = attributes.get(attribute_keys.NEW_MESSAGE_INDEX)
        text = _last_user_text(conversation(messages[new if isinstance(new, int) else 0 :], "user"))
        if text:
            return text.strip()
    description = attributes.get(attribute_keys.CREW_DESCRIPTION)
    if isinstance(description, str) and description:
        return description.strip()
    crew = [mapping(task) or {} for task in items(loads(attributes.get(attribute_keys.CREW_TASKS)))]
    described = [str(task["description"]) for task in crew if task.get("description")]
    if described:
        return "\n".join(described).strip()
    text = _last_user_text(inputs(record))
    if text:
        return text.strip()
    value = find(attributes, attribute_keys.RUN_INPUTS)
    if value is None:
        return None
    asked = _asked_in(value)
    inner = (
        _MANAGED_TASK.search(asked)
        if record.get("scope") == attribute_keys.SMOLAGENTS_SCOPE
        else None
    )
    return asked if inner is None or inner["end"] is None else inner[1].strip()


def _asked_in(value: Any) -> str:
    read = loads(value)
    if isinstance(read, str):
        return read.strip()
    text = _last_user_text(conversation(read, "user"))
    if text:
        return text.strip()
    wrapped = mapping(read) or {}
    for inner in (wrapped, mapping(wrapped.get("inputs")), mapping(wrapped.get("kwargs"))):
        for name in _ASKED:
            said = (inner or {}).get(name)
            if isinstance(said, str) and said:
                return said.strip()
    texts = [item for item in items(wrapped.get("args")) if isinstance(item, str) and item]
    return texts[0].strip() if texts else dumps(read)


def outcome_of(run: AgentRun, turns: Sequence[list[Message]]) -> str | None:
    """Return the last answer of a run.

    Args:
        run: The run.
        turns: Outputs of its models, first call first.
    """
    for record in (run.opener, *reversed(run.agents)):
        text = _answered(record)
        if text:
            return text
    for messages in reversed(turns):
        text = _last_answer(messages)
        if text:
            return text.strip()
        if any(message.calls for message in messages):
            return None
    return None


def _answered(record: SpanRecord) -> str | None:
    attributes = record_fields.attributes(record)
    for key in attribute_keys.RUN_OUTPUTS:
        value = attributes.get(key)
        if value is not None and value != "":
            text = _answered_in(value)
            if text:
                return text
    text = _last_answer(outputs(record))
    return None if text is None else text.strip()


def _answered_in(value: Any) -> str | None:
    read = loads(value)
    if isinstance(read, str):
        return read.strip()
    messages = conversation(read, "assistant")
    if messages:
        text = _last_answer(messages)
        return None if text is None else text.strip()
    wrapped = mapping(read)
    for name in _ANSWERED:
        said = (wrapped or {}).get(name)
        if isinstance(said, str) and said:
            return said.strip()
    return None if read in (None, {}, []) else dumps(read)


def agent_of(run: AgentRun) -> str | None:
    """Return the name of the agent of a run."""
    records = [run.opener, *run.agents]
    for record in [*records, *(layers[0] for layers in run.models.values())]:
        name = record_fields.as_text(
            find(record_fields.attributes(record), attribute_keys.AGENT_NAMES)
        )
        if name is not None and name not in attribute_keys.DEFAULT_AGENT_NAMES:
            return name
    for record in records:
        if span_kind(record) == "agent" and (name := _name_in(record.get("name", ""))):
            return name
    name = record_fields.as_text(
        find(record_fields.attributes(run.opener), attribute_keys.WORKFLOW_NAMES)
    )
    return _name_in(run.opener.get("name", "")) if name is None else name


def _name_in(span_name: str) -> str | None:
    for prefix in _NAME_PREFIXES:
        span_name = span_name.removeprefix(prefix)
    for suffix in _NAME_SUFFIXES:
        span_name = span_name.removesuffix(suffix)
    bare = (semconv.INVOKE_AGENT, "agent run", "invocation", "ai.generateText", "ai.streamText")
    return None if not span_name or span_name in bare else span_name


def session_of(records: Iterable[SpanRecord]) -> str | None:
    """Return the conversation of some spans, from the first that names one."""
    for record in records:
        session = record_fields.as_text(
            find(record_fields.attributes(record), attribute_keys.SESSIONS)
        )
        if session is not None:
            return session
    return None


class Failure(NamedTuple):
    """The error of a failed span as text, and its type."""

    text: str | None = None
    kind: str | None = None


def failure_of(record: SpanRecord, result: Any = None) -> Failure:
    """Return the failure of a span, for which the result may be needed."""
    kind, said = _exception(record)
    declared = record_fields.text(record, semconv.ERROR_TYPE)
    if declared is not None and declared not in _USELESS_TYPES:
        kind = declared
    message = message_in(record.get("message", ""))
    bare = message.rstrip(": ") == str(kind).rpartition(".")[2]  # the type, and nothing after it
    if not said and message and not bare and _REDACTED not in message:
        said = message
    if not said:
        said = error_text(result)
    text = said or message or kind
    if text and kind is None and is_error_text(text):
        kind = text.replace("(", ":").partition(":")[0].strip()
    return Failure(text, kind or declared or None)


def _exception(record: SpanRecord) -> tuple[str | None, str | None]:
    if record.get("status") != STATUS_ERROR:
        return None, None
    for event in record.get("events", []):
        if event["name"] == semconv.EXCEPTION_EVENT:
            kind = record_fields.text(event, semconv.EXCEPTION_TYPE)
            message = record_fields.text(event, semconv.EXCEPTION_MESSAGE) or ""
            name = (kind or "").rpartition(".")[2]
            if name and message and not is_error_text(message):
                message = f"{name}: {message}"
            return kind, message or None
    return None, None


def _last_user_text(messages: Iterable[Message]) -> str | None:
    """Return the last text of the user."""
    said = [m.text for m in messages if m.role == "user" and m.text]
    return said[-1] if said else None


def _last_answer(messages: Iterable[Message]) -> str | None:
    """Return the last text of the model, unless a tool request follows."""
    text: str | None = None
    for message in messages:
        if message.role not in ("assistant", "model") or not (message.text or message.calls):
            continue
        text = None if message.calls else message.text
    return text
