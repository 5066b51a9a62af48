"""Read wrapped values: JSON in JSON, reprs, envelopes. Pure.

No value is trusted or evaluated; one that cannot be read stays a text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

import orjson

from autotrace.base import json_text
from autotrace.spool import record_fields

_MAX_REPR_CHARACTERS: Final = 100_000
"""Longer reprs stay text."""
_TOO_DEEP: Final = "[nested too deeply]"
_MAX_DEPTH: Final = 8
"""Limit on nested envelopes that are opened."""
_ENVELOPES: Final = ("data", "kwargs", "output", "outputs", "update", "response", "blocks")


def find(attributes: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first attribute with a value that is not an empty text."""
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            return value
    return None


def loads(value: Any) -> Any:
    """Read JSON or Python's repr of plain data; return others unchanged."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text or (text[0] not in '{["-' and not text[0].isdigit() and text not in _WORDS):
        return value
    read = _read(text)
    return value if read is _UNREAD or record_fields.is_too_deep(text, read) else read


_UNREAD: Final = object()


def _read(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json_text.loads(text)[0]
    if text[0] in "{[" and len(text) <= _MAX_REPR_CHARACTERS:
        # Python's parser takes a hundred times as long, and deep nesting can crash it.
        with contextlib.suppress(ValueError, TypeError):
            return orjson.loads(_REPR_TOKEN.sub(_as_json, text))
    return _UNREAD


_WORDS: Final = frozenset({"true", "false", "null"})
_REPR_WORDS: Final = {"True": "true", "False": "false", "None": "null"}
_REPR_BRACKETS: Final = {"(": "[", ")": "]", ",)": "]"}
_REPR_TOKEN: Final = re.compile(
    # An open string matches to the end, so that no quote in it is tried as a beginning.
    r"'(?P<single>[^'\\]*+(?:\\.[^'\\]*+)*+)(?:'|\\?\Z)"
    r'|"(?P<double>[^"\\]*+(?:\\.[^"\\]*+)*+)(?:"|\\?\Z)'
    r"|(?P<number>-?\d[\d.]*+)(?P<colon>:)?|(?P<word>[A-Za-z_]\w*+)|(?P<bracket>[()]|,\))",
    re.DOTALL | re.ASCII,
)
"""The tokens that Python's repr of plain data spells otherwise than JSON."""
_ESCAPE: Final = re.compile(r"\\(?:x(..)|u(.{4})|U(00.{6})|(.))", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


def _as_json(token: re.Match[str]) -> str:
    """Spell a token of a repr as JSON; raise ValueError for a bad escape."""
    kind = token.lastgroup
    text = token[0]
    if kind in ("single", "double"):
        inside = token[kind]
        return orjson.dumps(_ESCAPE.sub(_unescaped, inside) if "\\" in inside else inside).decode()
    if kind == "colon":  # a number that is a key
        return f'"{token["number"]}":'
    return _REPR_WORDS.get(text) or _REPR_BRACKETS.get(text) or text


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    return _ESCAPED.get(escape[4], escape[4]) if code is None else chr(int(code, 16))


def dumps(value: Any) -> str:
    """Write a value as JSON, as our own attributes hold values."""
    try:
        return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # half a character, a large number, too many levels
        try:
            return json.dumps(value, default=repr, skipkeys=True)
        except (RecursionError, ValueError):
            return json.dumps(_TOO_DEEP)


def mapping(value: Any) -> dict[str, Any] | None:
    """Return a value if it is an object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def items(value: Any) -> list[Any]:
    """Return the items of a list; an empty list for any other value."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def arguments_of(value: Any, depth: int = 0) -> Any:
    """Return the arguments of a tool call without their wrappers.

    Positional arguments, and the one text of a tool with one parameter, stay as they are.
    """
    read = loads(value)
    if isinstance(read, str):
        read = loads(read)  # JSON in JSON
    wrapped = mapping(read)
    if wrapped is None or depth >= _MAX_DEPTH:
        return read
    if "input_str" in wrapped:
        return arguments_of(wrapped["input_str"], depth + 1)
    if "tool_name" in wrapped and "arguments" in wrapped:
        return arguments_of(wrapped["arguments"], depth + 1)
    if "kwargs" in wrapped and not wrapped.keys() - {"args", "kwargs", "sanitize_inputs_outputs"}:
        named = mapping(wrapped["kwargs"]) or {}
        positional = items(wrapped.get("args"))
        if not positional:
            return named
        return {**named, "args": positional} if named else positional
    return wrapped


class Result(NamedTuple):
    """The result of a tool call."""

    value: Any
    failed: bool = False
    """Whether the result itself reports a failure."""


def result_of(value: Any) -> Result:
    """Return the result of a tool call without its wrappers."""
    read, failed = _unwrap(value, 0)
    return Result(read, failed or _says_failed(read))


def _unwrap(value: Any, depth: int) -> tuple[Any, bool]:
    read = loads(value)
    if depth >= _MAX_DEPTH:
        return read, False
    wrapped = mapping(read)
    if wrapped is not None:
        return _unwrap_object(wrapped, depth)
    blocks = items(read)
    if blocks and all(_is_text_block(block) for block in blocks):
        if len(blocks) == 1:
            return _unwrap(blocks[0]["text"], depth + 1)
        return [_unwrap(block["text"], depth + 1)[0] for block in blocks], False
    return read, False


def _unwrap_object(wrapped: dict[str, Any], depth: int) -> tuple[Any, bool]:
    failed = _is_error_envelope(wrapped)
    if _is_message(wrapped):
        inner, deeper = _unwrap(wrapped["content"], depth + 1)
        return inner, failed or deeper
    if "result" in wrapped and wrapped.keys() <= {"result", "is_error", "meta", "isError"}:
        inner, deeper = _unwrap(wrapped["result"], depth + 1)
        return inner, failed or deeper
    for name in _ENVELOPES:
        inside = wrapped.get(name)
        known = inside is not None and (
            len(wrapped) == 1
            or (name == "data" and str(wrapped.get("type")) in _MESSAGE_TYPES)
            or (name == "kwargs" and "lc" in wrapped)
            or (name in ("output", "outputs") and wrapped.keys() <= {name, "kwargs", "tags"})
            or (name == "response" and wrapped.keys() <= {"id", "name", "response"})
            or (name == "blocks" and "tool_name" in wrapped)
        )
        if known and not (name in ("data", "update", "response") and len(wrapped) == 1):
            inner, deeper = _unwrap(inside, depth + 1)
            return inner, failed or deeper
    return wrapped, failed


_MESSAGE_TYPES: Final = frozenset({"tool", "ai", "human", "system", "ToolMessage"})
_MESSAGE_MARKS: Final = frozenset({"tool_call_id", "isError", "is_error", "structuredContent"})


def _is_message(wrapped: dict[str, Any]) -> bool:
    if "content" not in wrapped:
        return False
    return (
        str(wrapped.get("type")) in _MESSAGE_TYPES
        or bool(wrapped.keys() & _MESSAGE_MARKS)
        or (wrapped.keys() <= {"content", "status", "role", "name", "artifact"})
    )


def _is_error_envelope(wrapped: dict[str, Any]) -> bool:
    if wrapped.get("isError") is True or wrapped.get("is_error") is True:
        return True
    return wrapped.get("status") == "error" and "content" in wrapped


def _is_text_block(block: Any) -> bool:
    inside = mapping(block)
    return (
        inside is not None
        and isinstance(inside.get("text"), str)
        and inside.get("type", "text") in ("text", "output_text")
        and inside.keys() <= {"type", "text", "block_type", "annotations", "meta", "_meta"}
    )


def _says_failed(value: Any) -> bool:
    """Return whether a result is the report of an error."""
    if isinstance(value, str):
        return is_error_text(value)
    inside = mapping(value)
    if inside is None:
        return False
    if inside.get("status") == "error":
        return True
    error = inside.get("error")
    return bool(mapping(error) or (isinstance(error, str) and error)) and len(inside) <= 3


def is_error_text(text: str) -> bool:
    """Return whether a text begins as an error does: `TimeoutError: ...`."""
    return _ERROR_TEXT.match(text) is not None


_ERROR_TEXT: Final = re.compile(
    r"(?:[A-Za-z_][\w.]*(?:Error|Exception)|Error(?: [\w .'\"-]{1,60})?)\s*(?:[:(]|$)"
    r"|An error occurred while running the tool"
)


def error_text(value: Any, depth: int = 0) -> str | None:
    """Return the text in the report of an error."""
    inside = mapping(value)
    if inside is None or depth >= _MAX_DEPTH:
        return value if isinstance(value, str) and value else None
    for name in ("error_message", "error", "data", "message"):
        text = error_text(inside.get(name), depth + 1)
        if text:
            return text
    return None


def message_in(text: str) -> str:
    """Return the message in a status text, or in an object's repr there."""
    start = text.find("{")
    inside = mapping(loads(text[start:])) if start >= 0 else None
    said = None if inside is None else error_text(inside)
    return said or text.partition("Traceback (most recent call last)")[0].strip()
