"""Reduced values: JSON with markers in place of long text, bytes and cut containers.

`Walk` reduces a value to a tree of plain JSON, `Leaf` and `TruncatedContainer`; `Fit` renders the
tree as valid JSON of at most so many bytes. Digests and lengths are computed only for the parts
that are cut. Room is shared, not assigned in order: small items are kept whole and large ones get
equal parts of the rest, so that a page of HTML does not displace the status code next to it. Items
are dropped, from the end, only if not even the heads of all of them fit.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple, TypeAlias, cast

import orjson

from autotrace.encoding.introspect import kind_of
from autotrace.semconv import TRUNCATED

BYTES: Final = "autotrace.bytes"
"""Key of the object that stands in for bytes that are not text: see `docs/guides/record.md`."""

CYCLE: Final = "autotrace.cycle"
"""Key of the object that stands in for a container inside itself: see `docs/guides/record.md`."""

MARKER_BYTES: Final = 192
"""No container's marker takes more in JSON, the member's key and the comma before it included."""

_BUFFERS: Final[tuple[Any, ...]] = (bytes, bytearray, memoryview)
_CHUNK: Final = 1 << 20
_DIGEST_BYTES: Final = 256 << 20
"""How many bytes are hashed for one value: beyond it the digest of a marker is null."""
FLOOR_BYTES: Final = 256
"""The least room that a cut value gets: its marker, and some of its head."""

_UNLIMITED: Final = 1 << 62
_LIMIT: Final = "max_value_bytes"
_ESCAPE_BYTES: Final = 6
"""The longest escape in JSON, and longer than a character of UTF-8."""


class Leaf(NamedTuple):
    """Text or bytes whose recorded form differs from the source."""

    source: Any
    """The `str`, `bytes`, `bytearray` or byte `memoryview` that was given."""
    shown: str
    """The recorded form, redacted: all of it, or the head. Base64 for bytes that are not text."""
    whole: bool
    """Whether `shown` stands for all of `source`."""
    length: int
    """Length of the source, in characters or bytes."""
    encoding: str | None = None
    """Of bytes: `utf-8` or `base64`."""

    def render(self) -> Json:
        """Return the JSON of the whole."""
        if self.encoding != "base64":
            return self.shown
        return {BYTES: {"length": self.length, "encoding": "base64"}, "value": self.shown}

    def marker(self, digests: Digests) -> dict[str, Json]:
        """Return the marker that describes the whole."""
        size, sha256 = digests.of(self.source, self.length)
        if self.encoding is None:
            return {"kind": "string", "length": self.length, "bytes": size, "sha256": sha256}
        about = {"length": self.length, "encoding": self.encoding, "sha256": sha256}
        return {"kind": "bytes", **about}


class TruncatedContainer(NamedTuple):
    """A container of which only the head was taken."""

    items: list[Json] | dict[str, Json]
    """The head."""
    length: int
    """Number of items in the container."""
    limit: str
    """The limit that cut it: `max_items`, `max_depth`, `max_value_bytes` or `time`."""
    whole: list[Json] | dict[str, Json] | None = None
    """The whole container where all of it was reduced, for its digest."""


_Scalar: TypeAlias = bool | int | float | str | None
Json: TypeAlias = (
    "_Scalar | list[Json] | dict[str, Json] | dict[str, Any] | Leaf | TruncatedContainer"
)
"""A reduced value: plain JSON, with leaves and parts in it."""


def container_marker(kind: type, length: int, limit: str, sha256: str | None) -> dict[str, Json]:
    """Return the marker of a cut container: the value of `autotrace.truncated`."""
    name = "object" if kind is dict else "array"
    return {"kind": name, "length": length, "limit": limit, "sha256": sha256}


def with_marker(
    items: list[Json] | dict[str, Json], marker: dict[str, Json]
) -> list[Json] | dict[str, Json]:
    """Put the marker behind the items that were kept: the last element, or a member."""
    if isinstance(items, dict):
        kept = {key: item for key, item in items.items() if key != TRUNCATED}
        kept[TRUNCATED] = marker
        return kept
    return [*items, {TRUNCATED: marker}]


def encoded(text: str) -> bytes:
    """Encode text as UTF-8; a lone surrogate, which UTF-8 cannot hold, is spelled out instead."""
    return text.encode("utf-8", "backslashreplace")


class Digests:
    """SHA-256 digests of the cut parts, within a budget of work for one value."""

    __slots__ = ("_done", "_left_bytes")

    def __init__(self) -> None:
        self._left_bytes = _DIGEST_BYTES
        self._done: dict[int, tuple[int | None, str | None]] = {}

    def allows(self, size_bytes: int) -> bool:
        """Take that much work from the budget; False when it is not there."""
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True

    def of(self, source: Any, length: int) -> tuple[int | None, str | None]:
        """Return size in bytes of UTF-8 and SHA-256 of a text or bytes; None beyond the budget.

        It is hashed in chunks, and the same object once.
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
    """Copy a chunk, by the code of the builtin type.

    A buffer is never held while hashing: a bytearray would refuse to grow in another thread.
    """
    kind = kind_of(source)  # isinstance would ask a subclass for its __class__
    if issubclass(kind, str):
        return encoded(str.__getitem__(source, span))
    for base in _BUFFERS:
        if issubclass(kind, base):
            return bytes(base.__getitem__(source, span))
    raise TypeError(kind)


class Fit:
    """Renderer of one reduced value, as JSON of at most `max_value_bytes` bytes."""

    __slots__ = ("_digests", "_max_bytes", "_sizes", "cuts")

    def __init__(self, max_value_bytes: int) -> None:
        self._max_bytes = max_value_bytes
        self._digests = Digests()
        self._sizes: dict[int, int] = {}
        self.cuts = 0
        """How many markers the rendered value has."""

    def render(self, tree: Json) -> bytes:
        """Return the JSON of a tree, cut where it must be."""
        try:
            raw = orjson.dumps(tree, default=self._rendered)
        except TypeError:  # a leaf that is not whole: it is longer than everything may be
            raw = b""
        if not raw or len(raw) > self._max_bytes:
            self.cuts = 0
            raw = orjson.dumps(self._shrunk(tree, self._max_bytes), default=self._rendered)
        return raw

    def _rendered(self, node: object) -> Json:
        if type(node) is TruncatedContainer:
            self.cuts += 1
            sha256 = None if node.whole is None else self._digest(node.whole)
            marker = container_marker(type(node.items), node.length, node.limit, sha256)
            return with_marker(node.items, marker)
        return _whole(node)

    # --- sizes

    def _size(self, node: Json) -> int:
        """Return how many bytes the JSON of a node has, or at most has."""
        kind = type(node)
        if kind is str or kind is float:
            return len(orjson.dumps(node))
        if node is None or kind is bool:
            return 5
        if kind is int:
            return 20
        size = self._sizes.get(id(node))
        if size is None:
            size = self._sizes[id(node)] = self._measured(node)
        return size

    def _measured(self, node: Any) -> int:
        if type(node) is Leaf:
            return len(orjson.dumps(node.render())) if node.whole else _UNLIMITED
        if type(node) is TruncatedContainer:
            return self._size(node.items) + MARKER_BYTES
        return 2 + sum(self._overheads(node)) + sum(self._size(item) for item in _items(node))

    def _overheads(self, node: list[Json] | dict[str, Json]) -> list[int]:
        """Return the size of each item without its value: the comma, and its key."""
        if isinstance(node, dict):
            return [len(orjson.dumps(key)) + 2 for key in node]
        return [1] * len(node)

    # --- cutting

    def _shrunk(self, node: Json, room: int) -> Json:
        """Return a node whose JSON has at most `room` bytes, which is at least the floor."""
        if self._size(node) <= room:
            return node
        if type(node) is str:
            node = Leaf(node, node, whole=True, length=len(node))
        if type(node) is Leaf:
            return self._cut_leaf(node, room)
        return self._cut_container(node, room)

    def _cut_leaf(self, leaf: Leaf, room: int) -> Json:
        self.cuts += 1
        cut = {TRUNCATED: leaf.marker(self._digests), "value": ""}
        head = head_of(leaf.shown, room - len(orjson.dumps(cut)))
        if leaf.encoding == "base64":
            head = head[: len(head) // 4 * 4]
        cut["value"] = head
        return cut

    def _cut_container(self, node: Any, room: int) -> Json:
        """Share the room among the items; drops items from the end when they are too many."""
        part: TruncatedContainer | None = None
        inside: list[Json] | dict[str, Json] = node
        if type(node) is TruncatedContainer:
            part, inside = node, node.items
        items = _items(inside)
        sizes = [self._size(item) for item in items]
        overheads = self._overheads(inside)
        room -= 2 + (0 if part is None else MARKER_BYTES)
        level = _level(sizes, room - sum(overheads))
        kept = len(items)
        if level < FLOOR_BYTES:
            if part is None:
                room -= MARKER_BYTES
            kept = _affordable(sizes, overheads, room)
            level = _level(sizes[:kept], room - sum(overheads[:kept]))
        shown = [self._shrunk(item, level) for item in items[:kept]]
        result: list[Json] | dict[str, Json] = shown
        if isinstance(inside, dict):
            result = dict(zip(inside, shown, strict=False))  # without the keys of the dropped items
        if part is None and kept == len(items):
            return result
        self.cuts += 1
        length = len(items) if part is None else part.length
        limit = _LIMIT if part is None or kept < len(items) else part.limit
        whole = inside if part is None else part.whole
        sha256 = None if whole is None else self._digest(whole)
        return with_marker(result, container_marker(type(inside), length, limit, sha256))

    def _digest(self, whole: list[Json] | dict[str, Json]) -> str | None:
        """Hash the canonical JSON of a container, if all of it is there and the budget allows."""
        if not self._digests.allows(self._size(whole)):
            return None
        try:
            canonical = orjson.dumps(whole, default=_whole, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # a part or a head inside: not all of it is there
            return None
        return hashlib.sha256(canonical, usedforsecurity=False).hexdigest()


def _whole(node: object) -> Json:
    """Render a leaf that is whole, as `default` of orjson."""
    if type(node) is Leaf and node.whole:
        return node.render()
    raise TypeError(type(node))


def _items(node: list[Json] | dict[str, Json]) -> list[Json]:
    return list(node.values()) if isinstance(node, dict) else node


def _level(sizes: list[int], room: int) -> int:
    """Return the largest level for which the items, each capped at the level, fit the room."""
    left = len(sizes)
    for size in sorted(sizes):
        level = room // left
        if size > level:
            return level
        room -= size
        left -= 1
    return _UNLIMITED


def _affordable(sizes: list[int], overheads: list[int], room: int) -> int:
    """Return how many items from the head fit when each gets no more than the floor."""
    for count, (size, overhead) in enumerate(zip(sizes, overheads, strict=True)):
        room -= overhead + min(size, FLOOR_BYTES)
        if room < 0:
            return count
    return len(sizes)


def head_of(text: str, room: int) -> str:
    """Return the longest head of a text that fits `room` bytes of JSON, without the quotes."""
    raw = orjson.dumps(text[: max(room, 0)])[1:-1]
    if len(raw) <= room:
        return text[: max(room, 0)]
    for back in range(_ESCAPE_BYTES + 1):  # the cut may have hit an escape or a character
        try:
            return cast("str", orjson.loads(b'"' + raw[: max(room - back, 0)] + b'"'))
        except ValueError:
            continue
    return ""
