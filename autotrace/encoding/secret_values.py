"""Collect the texts of redacted values, to take them out of the text of errors."""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.encoding.introspect import kind_of
from autotrace.encoding.opened_shapes import (
    Again,
    Binary,
    Hidden,
    Items,
    Members,
    Opaque,
    ReadLimits,
)
from autotrace.encoding.secret_patterns import MIN_SECRET_CHARS
from autotrace.encoding.type_handlers import unfold

_MAX_TEXTS: Final = 256
_MAX_DEPTH: Final = 4
_MAX_INT_BITS: Final = 2048
_TAKE: Final = ReadLimits(whole=_MAX_TEXTS, head=_MAX_TEXTS, size_bytes=4096)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def keep_text(found: list[str], secret: str) -> None:
    """Add a redacted text to those found, if it is long enough to differ from other text."""
    if len(secret) >= MIN_SECRET_CHARS and len(found) < _MAX_TEXTS and secret not in found:
        found.append(secret)


def keep_texts(found: list[str], secret: Any, depth: int = _MAX_DEPTH) -> int:
    """Add every text in a redacted value, `depth` containers deep, to those found.

    Return the number of objects that raised.
    """
    kind = kind_of(secret)
    if kind is str:
        keep_text(found, secret)
    elif kind is int:
        keep_text(found, str(secret) if secret.bit_length() <= _MAX_INT_BITS else "")
    elif secret is not None and kind is not bool and kind is not float and depth:
        try:
            inside = _inside(secret, kind)
        except Exception as error:  # noqa: BLE001 user code may raise anything; the caller counts it
            reraise_if_from_signal_handler(error)
            return 1
        return sum(keep_texts(found, inner, depth - 1) for inner in inside)
    return 0


def _inside(secret: Any, kind: type[Any]) -> list[Any]:
    shape = unfold(secret, kind, _TAKE)
    if isinstance(shape, Items):
        return shape.head
    if isinstance(shape, Members):
        return [item for _, item in shape.head]
    if isinstance(shape, Opaque):
        return list(shape.attributes.values())
    if isinstance(shape, Binary):
        return [readable_text(shape.head, whole=True)]
    return [shape.value] if isinstance(shape, Again | Hidden) else []


def readable_text(data: bytes, *, whole: bool) -> str | None:
    """Decode bytes of UTF-8 without control characters; return None for others.

    If not `whole`, the bytes may end inside a character.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text
