"""JSON as text: its size and depth before it is parsed, and text that is not Unicode. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

import orjson

_LONE_HALVES: Final = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
"""Escapes of one half of a character without the other, which JavaScript's `slice` makes."""
_MAX_HALVES: Final = 100_000
"""JSON with more of them is left as it is: their replacement takes a microsecond each."""
_NOT_UTF8: Final = b"\xff\xff"
_CHUNK_BYTES: Final = 64 * 1024
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{},"))


def decode_text(data: bytes) -> tuple[str, int]:
    """Decode UTF-8, with U+FFFD for other bytes; return the text and the number of replacements.

    Halves of characters that other encoders write one by one (CESU-8) are joined.
    """
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        pass
    try:
        halves = data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass")
        text = halves.decode("utf-16", "replace")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    return text, text.count("\ufffd") - data.count("\ufffd".encode())


def may_have_halves(body: bytes) -> bool:
    """Return whether JSON may hold an escape of half a character."""
    return _LONE_HALVES.search(body) is not None


def repaired(body: bytes) -> tuple[bytes, int]:
    """Return JSON without byte order mark and with U+FFFD for text that is not Unicode.

    Return the number of replacements too.
    """
    text, replaced = decode_text(body)
    # A run of backslashes begins with an escape, so its pairs are escaped backslashes.
    escapes = text.removeprefix("\ufeff").encode().replace(rb"\\", _NOT_UTF8)
    escapes, halves = _LONE_HALVES.subn(rb"\\ufffd", escapes, count=_MAX_HALVES)
    return escapes.replace(_NOT_UTF8, rb"\\"), replaced + halves


def loads(text: bytes | str) -> tuple[Any, int]:
    """Parse JSON, repaired if necessary; return the value and the number of replacements.

    Raises:
        orjson.JSONDecodeError: It is not JSON.
    """
    try:
        return orjson.loads(text), 0
    except orjson.JSONDecodeError:
        body = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        body, replaced = repaired(body)
        return orjson.loads(body), replaced


def is_too_deep(body: bytes, max_depth: int) -> bool:
    """Return whether JSON is nested deeper than allowed; of other text, either may be returned."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return False
    depth = 0
    for marks in _marks(body):
        steps = ((mark in b"[{") - (mark in b"]}") for mark in marks)
        depths = [*accumulate(steps, initial=depth)]
        if max(depths) > max_depth:
            return True
        depth = depths[-1]
    return False


def has_more_values(body: bytes, limit: int) -> bool:
    """Return whether JSON holds more values than a limit: lists, objects and what they hold.

    A comma, or the bracket that opens a list or an object, stands before each of them.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= limit:
        return False
    number = 0
    for marks in _marks(body):
        number += len(marks) - marks.count(b"]") - marks.count(b"}")
        if number > limit:
            return True
    return False


def _marks(body: bytes) -> Iterator[bytes]:
    """Yield the brackets and commas outside of strings, in pieces."""
    body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    is_inside = False
    for start in range(0, len(body), _CHUNK_BYTES):
        pieces = body[start : start + _CHUNK_BYTES].split(b'"')
        yield b"".join(pieces[is_inside::2]).translate(None, _OTHERS)
        is_inside ^= len(pieces) % 2 == 0


def well_formed(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates, which no encoder takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
