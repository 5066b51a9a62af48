"""What stands in a reduced value beside plain JSON: long texts, bytes, and cut containers.

A value is reduced to a tree of plain JSON and these, and only then fitted into its limit: what a
marker says of the whole (length, digest) is worked out for the parts that are cut, and no others.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final, TypeAlias

from autotrace.encoding.introspect import kind_of
from autotrace.semconv import TRUNCATED

BYTES: Final = "autotrace.bytes"
"""Key of the object that stands in for bytes that are not text: see `docs/capture.md`."""

CYCLE: Final = "autotrace.cycle"
"""Key of the object that stands in for a container inside itself: see `docs/capture.md`."""

MARKER_BYTES: Final = 192
"""No container's marker takes more in JSON, the member's key and the comma before it included."""

_BUFFERS: Final[tuple[Any, ...]] = (bytes, bytearray, memoryview)
_CHUNK: Final = 1 << 20
_DIGEST_BYTES: Final = 256 << 20
"""How much is hashed for one value, in bytes: beyond it a marker says null for the digest."""


class Leaf:
    """Text, or bytes, of which what is shown differs from what was given.

    Args:
        source: The `str`, `bytes`, `bytearray` or byte `memoryview` that was given.
        shown: What is recorded of it, redacted: all of it, or the head. Base64 for bytes that are
            not text.
        whole: Whether `shown` stands for all of `source`.
        length: Length of the source, in characters or bytes.
        encoding: For bytes: `utf-8` or `base64`.
    """

    __slots__ = ("encoding", "length", "shown", "source", "whole")

    def __init__(
        self, source: Any, shown: str, *, whole: bool, length: int, encoding: str | None = None
    ) -> None:
        self.source = source
        self.shown = shown
        self.whole = whole
        self.length = length
        self.encoding = encoding

    def render(self) -> Json:
        """Returns the JSON of the whole."""
        if self.encoding != "base64":
            return self.shown
        return {BYTES: {"length": self.length, "encoding": "base64"}, "value": self.shown}

    def marker(self, digests: Digests) -> dict[str, Json]:
        """Returns what a cut says of the whole."""
        size, sha256 = digests.of(self.source, self.length)
        if self.encoding is None:
            return {"kind": "string", "length": self.length, "bytes": size, "sha256": sha256}
        return {
            "kind": "bytes",
            "length": self.length,
            "encoding": self.encoding,
            "sha256": sha256,
        }


class TruncatedContainer:
    """A container of which only the head was taken.

    Args:
        items: The head, a list or a dict.
        length: How many items the container has.
        limit: The setting that cut it: `max_items`, `max_depth` or `max_value_bytes`.
        whole: The whole container where all of it was reduced, for its digest.
    """

    __slots__ = ("items", "length", "limit", "whole")

    def __init__(
        self,
        items: list[Json] | dict[str, Json],
        length: int,
        limit: str,
        whole: list[Json] | dict[str, Json] | None = None,
    ) -> None:
        self.items = items
        self.length = length
        self.limit = limit
        self.whole = whole


_Scalar: TypeAlias = bool | int | float | str | None
Json: TypeAlias = (
    "_Scalar | list[Json] | dict[str, Json] | dict[str, Any] | Leaf | TruncatedContainer"
)
"""A reduced value: plain JSON, with leaves and parts in it."""


def container_marker(kind: type, length: int, limit: str, sha256: str | None) -> dict[str, Json]:
    """Returns what a cut container says of the whole: the value of `autotrace.truncated`."""
    name = "object" if kind is dict else "array"
    return {"kind": name, "length": length, "limit": limit, "sha256": sha256}


def with_marker(
    items: list[Json] | dict[str, Json], marker: dict[str, Json]
) -> list[Json] | dict[str, Json]:
    """Puts the marker behind the items that were kept: the last element, or a member."""
    if isinstance(items, dict):
        kept = {key: item for key, item in items.items() if key != TRUNCATED}
        kept[TRUNCATED] = marker
        return kept
    return [*items, {TRUNCATED: marker}]


def encoded(text: str) -> bytes:
    """Encodes text as UTF-8; a lone surrogate, which UTF-8 cannot hold, is spelled out instead."""
    return text.encode("utf-8", "backslashreplace")


def base64_text(data: bytes) -> str:
    """Returns bytes in base64."""
    return base64.b64encode(data).decode("ascii")


class Digests:
    """SHA-256 of what was cut, within a budget of work for one value."""

    __slots__ = ("_done", "_left_bytes")

    def __init__(self) -> None:
        self._left_bytes = _DIGEST_BYTES
        self._done: dict[int, tuple[int | None, str | None]] = {}

    def allows(self, size_bytes: int) -> bool:
        """Takes that much work from the budget; False when it is not there."""
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True

    def of(self, source: Any, length: int) -> tuple[int | None, str | None]:
        """Hashes a text or bytes, in chunks: memory stays bounded.

        Args:
            source: A `str`, `bytes`, `bytearray` or byte `memoryview`.
            length: Its length.

        Returns:
            Its size in bytes (of the UTF-8, for text) and its digest in hex; None for each where
            the budget does not allow it. The same object is hashed once.
        """
        done = self._done.get(id(source))
        if done is None:
            done = self._done[id(source)] = self._hashed(source, length)
        return done

    def _hashed(self, source: Any, length: int) -> tuple[int | None, str | None]:
        known = not issubclass(type(source), str) or str.isascii(source)
        if not self.allows(length):
            return (length if known else None), None
        digest = hashlib.sha256(usedforsecurity=False)
        size = 0
        for start in range(0, length, _CHUNK):
            chunk = _chunk(source, slice(start, start + _CHUNK))
            size += len(chunk)
            digest.update(chunk)
        return size, digest.hexdigest()


def _chunk(source: Any, span: slice) -> bytes:
    """Copies a chunk, by the code of the builtin type.

    A buffer is never held while hashing: a bytearray would refuse to grow in another thread.
    """
    kind = kind_of(source)  # isinstance would ask a subclass for its __class__
    if issubclass(kind, str):
        return encoded(str.__getitem__(source, span))
    for base in _BUFFERS:
        if issubclass(kind, base):
            return bytes(base.__getitem__(source, span))
    raise TypeError(kind)
