"""The size and depth of JSON, known from its text before anything is made of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

_CHUNK_BYTES: Final = 64 * 1024
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{},"))


def is_too_deep(body: bytes, max_depth: int) -> bool:
    """Tell whether JSON is nested deeper than allowed; what is no JSON may be told to be."""
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
    """Tell whether JSON holds more values than a limit: lists, objects and what they hold.

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
