"""Read messages to and from a model, in any shape. Pure.

There are a dozen shapes, and they nest: parts of the GenAI conventions, OpenAI's chat and
responses, Anthropic's blocks, Gemini's contents, LangChain's constructors, the AI SDK's parts,
Bedrock's. A field has the same meaning in every shape that has it, so one lenient reader serves
all, without knowing the dialect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from autotrace.dialects.wrapped_values import arguments_of, find, items, loads, mapping


@dataclass(frozen=True)
class RequestedToolCall:
    """A model's request for a tool call."""

    name: str
    arguments: Any
    call_id: str | None = None


@dataclass(frozen=True)
class ModelAnswer:
    """The answer of a tool, as the model receives it."""

    content: Any
    call_id: str | None = None
    name: str | None = None
    failed: bool = False


class _Lines:
    """Lines of a text, joined at its first use, as there may be many."""

    def __init__(self, text: str) -> None:
        self._parts = [text] if text else []
        self._joined: str | None = text

    def add(self, text: str) -> None:
        """Append a text, on a line of its own."""
        if text or self._parts:
            self._parts.append(text)
            self._joined = None

    def joined(self) -> str:
        """Return the whole text."""
        if self._joined is None:
            self._joined = "\n".join(self._parts)
        return self._joined

    def is_one(self, text: str) -> bool:
        """Return whether the whole text is this one line."""
        return self._parts == [text]

    def __bool__(self) -> bool:
        return bool(self._parts)


class Message:
    """One message of a conversation."""

    def __init__(
        self, role: str, text: str = "", thought: str = "", calls: Iterable[RequestedToolCall] = ()
    ) -> None:
        self.role = role
        self.said = _Lines(text)
        self.thoughts = _Lines(thought)
        self.calls = list(calls)
        self.answers: list[ModelAnswer] = []

    @property
    def text(self) -> str:
        """Text of the message."""
        return self.said.joined()

    @property
    def thought(self) -> str:
        """Reasoning of its author before the text."""
        return self.thoughts.joined()

    def __bool__(self) -> bool:
        return bool(self.said or self.thoughts or self.calls or self.answers)


_ROLES: Final = {
    "human": "user",
    "HumanMessage": "user",
    "ai": "assistant",
    "AIMessage": "assistant",
    "AIMessageChunk": "assistant",
    "model": "assistant",
    "ToolMessage": "tool",
    "function": "tool",
    "SystemMessage": "system",
    "developer": "system",
}
_TEXT_TYPES: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_THOUGHT_TYPES: Final = frozenset(
    {"reasoning", "thinking", "reasoningContent", "reasoning_content"}
)
_CALL_TYPES: Final = frozenset({"tool_call", "tool-call", "tool_use", "function_call", "toolCall"})
_ANSWER_TYPES: Final = frozenset(
    {
        "tool_call_response",
        "tool_result",
        "tool-result",
        "function_call_output",
        "tool_response",
        "function_response",
    }
)
_PART_TYPES: Final = _CALL_TYPES | _ANSWER_TYPES
MAX_DEPTH: Final = 12
_SUMMARY_REPR: Final = re.compile(r"Summary\(text=(['\"])(.*?)(?:(?P<end>\1, type=)|\Z)", re.DOTALL)
"""Without its end it matches to the end of the text, as `run_texts._MANAGED_TASK` does."""
_LISTS: Final = ("messages", "contents", "choices", "generations")
_HOLDERS: Final = ("inputs", "outputs", "output", "input", "new_message", "update", "response")


def conversation(value: Any, role: str) -> list[Message]:
    """Return the messages with content, oldest first.

    Args:
        value: Messages in any of the shapes, or JSON of them.
        role: Role of a message that does not name one.
    """
    return [message for message in _conversation(value, role, 0) if message]


def _conversation(value: Any, role: str, depth: int) -> Iterator[Message]:
    read = loads(value)
    if depth > MAX_DEPTH or read is None:
        return
    if isinstance(read, str):
        yield Message(role, read)
        return
    listed = items(read)
    if _is_pair(listed):
        said = str(listed[0])
        yield Message(_ROLES.get(said, said), str(listed[1]))
        return
    for item in listed:
        yield from _conversation(item, role, depth + 1)
    held = mapping(read)
    if held is not None:
        yield from _of_object(held, role, depth)


def _is_pair(listed: list[Any]) -> bool:
    """Return whether this is LangChain's short form: a role and a text."""
    return (
        len(listed) == 2
        and all(isinstance(item, str) for item in listed)
        and (listed[0] in _ROLES or listed[0] in ("user", "assistant", "system"))
    )


def _of_object(held: dict[str, Any], role: str, depth: int) -> Iterator[Message]:
    if depth > MAX_DEPTH:
        return
    if _type_of(held) in _ROLES and mapping(held.get("data")) is not None:
        inner = {"type": _type_of(held), **held["data"]}
        yield from _of_object(inner, role, depth + 1)
        return
    if "lc" in held and mapping(held.get("kwargs")) is not None:
        names = items(held.get("id"))
        said = _ROLES.get(str(names[-1]), role) if names else role
        yield from _of_object({"role": said, **held["kwargs"]}, role, depth + 1)
        return
    if mapping(held.get("message")) is not None:  # a choice, a generation, an indexed message
        yield from _conversation(held["message"], role, depth + 1)
        return
    content = mapping(held.get("content"))
    if content is not None and "parts" in content:  # Gemini's response
        yield from _conversation(content, role, depth + 1)
        return
    for name in () if "role" in held else _LISTS:
        if items(held.get(name)):
            yield from _conversation(held[name], role, depth + 1)
            return
    if "content" not in held and "parts" not in held and "tool_calls" not in held:
        for name in _HOLDERS:
            if isinstance(held.get(name), dict | list) and _type_of(held) not in _PART_TYPES:
                yield from _conversation(held[name], role, depth + 1)
                return
        if isinstance(held.get("prompt"), str):
            yield Message("user", held["prompt"])
            return
    yield _message(held, role)


def _message(held: dict[str, Any], role: str) -> Message:
    said = find(held, ("role", "type"))
    name = str(said)
    if name in _ROLES:
        role = _ROLES[name]
    elif "role" in held:
        role = name
    message = Message(role)
    if message.role == "tool" and "parts" not in held:
        content = held.get("content")
        call_id = find(held, ("tool_call_id", "id"))
        parts = [part for part in items(loads(content)) if _type_of(part) in _ANSWER_TYPES]
        if not parts and "toolResult" not in str(content)[:200]:
            failed = held.get("status") == "error"
            message.answers.append(
                ModelAnswer(
                    content, _text_or_none(call_id), _text_or_none(held.get("name")), failed
                )
            )
            return message
    if _type_of(held) in _CALL_TYPES | _ANSWER_TYPES | _THOUGHT_TYPES and "role" not in held:
        _add_part(message, held)
        return message
    if not held.keys() & {"role", "content", "parts"}:
        _add_part(message, held)  # Bedrock's content, without the message around it
    content = held.get("parts", held.get("content"))
    parts = loads(content) if isinstance(content, str) and content.startswith("[{") else content
    if isinstance(parts, str):
        _add_text(message, parts)
    for part in items(parts):
        _add_part(message, part)
    _add_part(message, held.get("tool_call"))
    for part in items(loads(held.get("contents"))):
        _add_part(message, part)
    known = {call.call_id for call in message.calls if call.call_id}
    for part in items(loads(held.get("tool_calls"))):
        message.calls += [call for call in requested_calls(part) if call.call_id not in known]
    extra = mapping(held.get("additional_kwargs")) or held
    reasoning = find(held, ("reasoning_content", "reasoning")) or extra.get("reasoning_content")
    if isinstance(reasoning, str) and not message.thoughts:
        message.thoughts.add(reasoning)
    return message


def _type_of(part: Any) -> str | None:
    found = find(mapping(part) or {}, ("type", "kind", "part_kind"))
    return found if isinstance(found, str) else None


def _add_text(message: Message, text: str) -> None:
    if text.startswith("ResponseReasoningItem("):
        found = None if message.thoughts else _SUMMARY_REPR.search(text)
        if found and found["end"]:
            message.thoughts.add(found[2])
    elif not text.startswith("ResponseFunctionToolCall(") and not message.said.is_one(text):
        message.said.add(text)


def _add_part(message: Message, part: Any) -> None:
    """Add one part of the content to a message."""
    if isinstance(part, str):
        _add_text(message, part)
        return
    inside = mapping(part)
    if inside is None:
        return
    wrapped = mapping(inside.get("message_content"))
    if wrapped is not None:
        inside = {**wrapped, **{k: v for k, v in inside.items() if k != "message_content"}}
    kind = _type_of(inside)
    calls = list(requested_calls(inside))
    if calls:
        message.calls += calls
    elif (answer := _answer(inside)) is not None:
        message.answers.append(answer)
    elif kind in _THOUGHT_TYPES or inside.get("thought") is True or "reasoningContent" in inside:
        message.thoughts.add(_plain_text(inside))
    elif kind in _TEXT_TYPES or kind is None:
        text = find(inside, ("text", "content"))
        if isinstance(text, str):
            _add_text(message, text)


def _plain_text(value: Any, depth: int = 0) -> str:
    """Return the text inside a part about reasoning, at any depth."""
    read = loads(value)
    if depth > MAX_DEPTH:
        return ""
    if isinstance(read, str):
        return read
    if items(read):
        return "\n".join(filter(None, (_plain_text(item, depth + 1) for item in items(read))))
    inside = mapping(read) or {}
    names = ("text", "thinking", "content", "summary", "reasoningContent", "reasoningText")
    found = find(inside, names)
    return "" if found is None else _plain_text(found, depth + 1)


def requested_calls(part: Any, depth: int = 0) -> Iterator[RequestedToolCall]:
    """Yield the requested call if a part is one."""
    inside = mapping(part)
    if inside is None or depth > MAX_DEPTH:
        return
    for name in ("tool_call", "function_call", "functionCall", "toolUse"):
        wrapped = mapping(inside.get(name))
        if wrapped is not None:
            yield from requested_calls({"type": "tool_call", **wrapped}, depth + 1)
            return
    function = mapping(inside.get("function")) or {}
    name = find(function, ("name",)) or find(inside, ("name", "toolName", "tool_name"))
    if not isinstance(name, str):
        return
    named_arguments = ("arguments", "args", "input", "tool_call_arguments")
    arguments = find(function, named_arguments)
    if arguments is None:
        arguments = find(inside, named_arguments)
    is_call = _type_of(inside) in {*_CALL_TYPES, "function"} or function or "toolName" in inside
    if (is_call or arguments is not None) and _type_of(inside) not in _ANSWER_TYPES:
        call_id = find(inside, ("call_id", "id", "toolCallId", "toolUseId", "tool_call_id"))
        yield RequestedToolCall(name, arguments_of(arguments), _text_or_none(call_id))


def _answer(inside: dict[str, Any], depth: int = 0) -> ModelAnswer | None:
    if depth > MAX_DEPTH:
        return None
    for name in ("toolResult", "function_response", "functionResponse"):
        wrapped = mapping(inside.get(name))
        if wrapped is not None:
            return _answer({"type": "tool_result", **wrapped}, depth + 1)
    if _type_of(inside) not in _ANSWER_TYPES:
        return None
    call_id = find(
        inside, ("call_id", "tool_use_id", "toolUseId", "toolCallId", "tool_call_id", "id")
    )
    content = find(inside, ("response", "result", "output", "content"))
    failed = inside.get("is_error") is True or inside.get("status") == "error"
    name = find(inside, ("name", "toolName"))
    return ModelAnswer(content, _text_or_none(call_id), _text_or_none(name), failed)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)
