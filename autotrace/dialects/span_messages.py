"""Read the messages of a model's span. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from autotrace.dialects import attribute_keys
from autotrace.dialects.messages import MAX_DEPTH, Message, conversation, requested_calls
from autotrace.dialects.wrapped_values import items, loads, mapping
from autotrace.spool import record_fields
from autotrace.spool.span_records import SpanRecord

_MAX_KEY: Final = 200
"""Characters of the key of a leaf; longer keys are ignored."""


def inputs(record: SpanRecord) -> list[Message]:
    """Return the input of a model, oldest message first."""
    return next((m for m in _all(record, wanted_input=True) if m), list[Message]())


def outputs(record: SpanRecord) -> list[Message]:
    """Return the output of a model.

    One span may carry several families of keys, of which one has the thoughts and another the
    rest.
    """
    found = [messages for messages in _all(record, wanted_input=False) if messages]
    if not found:
        return []
    messages = found[0]
    if not any(m.thought for m in messages):
        thoughts = [m.thought for others in found[1:] for m in others if m.thought]
        if thoughts:
            return [Message("assistant", thought=thoughts[0]), *messages]
    return messages


def _all(record: SpanRecord, *, wanted_input: bool) -> Iterator[list[Message]]:
    attributes = record_fields.attributes(record)
    role = "user" if wanted_input else "assistant"
    for key in attribute_keys.INPUT_MESSAGES if wanted_input else attribute_keys.OUTPUT_MESSAGES:
        if key in attributes:
            yield _of_attribute(key, attributes[key], role, wanted_input=wanted_input)
    for prefix in attribute_keys.INDEXED_INPUTS if wanted_input else attribute_keys.INDEXED_OUTPUTS:
        yield conversation(_nested(attributes, prefix), role)
    if not wanted_input:
        yield _of_ai_sdk(attributes)
    yield _of_events(record, role, wanted_input=wanted_input)


def _of_attribute(key: str, value: Any, role: str, *, wanted_input: bool) -> list[Message]:
    if key != "events":
        return conversation(value, role)
    events = [event for event in items(loads(value)) if mapping(event) is not None]
    chosen = [
        e
        for e in events
        if (e.get(attribute_keys.EVENT_NAME) == attribute_keys.CHOICE_EVENT) is not wanted_input
    ]
    return conversation(chosen, role)


def _of_ai_sdk(attributes: Mapping[str, Any]) -> list[Message]:
    text = record_fields.as_text(attributes.get(attribute_keys.AI_TEXT))
    thought = record_fields.as_text(attributes.get(attribute_keys.AI_REASONING))
    calls = [
        call
        for part in items(loads(attributes.get(attribute_keys.AI_CALLS)))
        for call in requested_calls(part)
    ]
    message = Message("assistant", text or "", thought or "", calls)
    return [message] if message else []


def _of_events(record: SpanRecord, role: str, *, wanted_input: bool) -> list[Message]:
    messages: list[Message] = []
    details = (attribute_keys.INPUT_MESSAGES if wanted_input else attribute_keys.OUTPUT_MESSAGES)[0]
    for event in record.get("events", []):
        name, attributes = event["name"], record_fields.attributes(event)
        if name == attribute_keys.DETAILS_EVENT and details in attributes:
            messages += conversation(attributes[details], role)
        elif name == attribute_keys.CHOICE_EVENT and not wanted_input:
            messages += conversation(attributes.get("message"), "assistant")
        elif name in attribute_keys.MESSAGE_EVENTS and wanted_input:
            said = attribute_keys.MESSAGE_EVENTS[name]
            messages += conversation([{"role": said, **attributes}], said)
    return messages


def _nested(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """Join values written as one attribute per leaf, with gaps in indexes."""
    root: dict[str, Any] = {}
    for key, value in attributes.items():
        if not key.startswith(prefix):
            continue
        *path, leaf = key[len(prefix) :].split(".")
        if not (path and path[0].isdecimal()) or len(path) > MAX_DEPTH or len(key) > _MAX_KEY:
            continue
        node: dict[str, Any] | None = root
        for name in path:
            # A leaf and a branch of one name: the first one stays.
            node = None if node is None else mapping(node.setdefault(name, {}))
        if node is not None:
            node.setdefault(leaf, value)
    return items(_with_lists(root))


def _with_lists(node: Any) -> Any:
    inside = mapping(node)
    if inside is None:
        return node
    if inside and all(key.isdecimal() for key in inside):
        return [_with_lists(inside[key]) for key in sorted(inside, key=int)]
    return {key: _with_lists(value) for key, value in inside.items()}
