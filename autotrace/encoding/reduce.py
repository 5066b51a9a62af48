"""Reduce any value to redacted JSON: any type, any size, with the user's hook.

Work is bounded by the number of items and the length of text that are read. Of the value only
references are kept, and the walk ends before anything else runs, so the record holds the value as
it is at this moment.
"""

from __future__ import annotations

import base64
import math
from time import thread_time_ns
from typing import Any, Final

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.encoding.injected_types import is_injected
from autotrace.encoding.introspect import class_name, kind_of, type_name
from autotrace.encoding.opened_shapes import (
    Again,
    Binary,
    Hidden,
    Items,
    Members,
    Opaque,
    Prose,
    ReadLimits,
    ValueShape,
    open_dict,
    open_sequence,
)
from autotrace.encoding.redaction import Redactor
from autotrace.encoding.secret_names import KeyRule
from autotrace.encoding.secret_tokens import may_hold_secret
from autotrace.encoding.secret_values import keep_texts, readable_text
from autotrace.encoding.truncate import CYCLE, Json, Leaf, TruncatedContainer, encoded
from autotrace.encoding.type_handlers import unfold
from autotrace.semconv import REDACTED

_WORK: Final = 4
"""A container is reduced whole, for its digest, up to so many times `max_items`."""
_WORK_TEXT: Final = 8
"""Text is reduced up to so many times `max_value_bytes`."""
MAX_CPU_NS: Final = 250_000_000
"""What comes after so much CPU time of the thread is left out. The bounds above keep nearly every
value far below it; it is for containers of objects that are slow to open, such as tables."""
_OPENED_A_LOOK: Final = 16
"""The clock is looked at once for so many objects."""
SLACK_CHARS: Final = 512
"""How far behind the cut a text is searched for secrets: one across the cut is still found.
Text beyond the cut is never shown."""
_KEY_CHARS: Final = 256
_KEY_ITEMS: Final = 16
_SCALARS: Final = (str, int, float, bool, bytes, type(None))
_MIN_INT: Final = -(1 << 63)
_MAX_INT: Final = (1 << 64) - 1
_DECIMAL_BITS: Final = 2048
"""Longer integers are written in hexadecimal: decimal takes quadratic time, and may be refused."""
_HEX_BITS: Final = 1 << 20


class Walk:
    """Reduces one value, within the limits; `found` collects redacted values."""

    __slots__ = (
        "_above", "_found", "_hooks", "_hops", "_in_opaque", "_injected", "_is_late", "_items_left",
        "_max_bytes", "_max_depth", "_max_items", "_opened", "_redactor", "_rule", "_scans",
        "_text_left", "_until_ns", "cut_keys", "redacted", "unencodable",
    )  # fmt: skip

    def __init__(
        self,
        redactor: Redactor,
        rule: KeyRule,
        *,
        max_value_bytes: int,
        max_depth: int,
        max_items: int,
        found: list[str] | None,
        injected: frozenset[str] = frozenset(),
    ) -> None:
        self._redactor = redactor
        self._rule = rule
        self._hooks = redactor.hook is not None
        self._scans = redactor.enabled
        self._max_bytes = max_value_bytes
        self._max_depth = max_depth
        self._max_items = max_items
        self._found = found
        self._injected = injected
        self._items_left = _WORK * max_items
        self._text_left = _WORK_TEXT * max_value_bytes
        self._above: dict[int, int] = {}
        self._hops = 0
        self._opened = 0
        self._until_ns = thread_time_ns() + MAX_CPU_NS
        self._is_late = False
        self._in_opaque = False
        self.redacted = 0
        """How many values were redacted by their key or type."""
        self.cut_keys = 0
        """How many names of members were cut."""
        self.unencodable = 0
        """How many values raised when they were looked at."""

    def reduce(self, value: Any, path: str) -> Json:
        """Reduce the value to the tree that `Fit` renders; `path` is its name for the hook."""
        return self._node(self._hooked(value, path) if self._hooks else value, 0, path)

    def _node(self, value: Any, depth: int, path: str) -> Json:
        kind = kind_of(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._string(value)
        if kind is int:
            return value if _MIN_INT <= value <= _MAX_INT else _long_int(value)
        if kind is float:
            return value if value - value == 0.0 else _not_finite(value)
        if kind is dict:
            return self._members(value, open_dict(value, kind, self._take()), depth, path)
        return self._rare(value, kind, depth, path)

    def _hooked(self, value: Any, path: str) -> Any:
        shown = self._redactor.hooked(path, value)
        if shown is not value and type(value) is str:
            self._collect(value)
        return shown

    def _rare(self, value: Any, kind: type[Any], depth: int, path: str) -> Json:
        try:
            if kind is list or kind is tuple:
                shape = open_sequence(value, kind, self._take())
            else:
                is_open = kind is Prose or kind is Opaque or kind is Hidden
                if self._injected and not is_open and is_injected(kind, self._injected):
                    return f"<{type_name(kind)}>"
                shape = value if is_open else unfold(value, kind, self._take())
                self._opened += 1
                if self._opened % _OPENED_A_LOOK == 0 and thread_time_ns() > self._until_ns:
                    self._items_left, self._is_late = 0, True
        except Exception as error:  # noqa: BLE001 user code: after any error the rest is recorded
            reraise_if_from_signal_handler(error)
            self.unencodable += 1
            return f"<{type_name(kind)}: {type_name(type(error))} raised when it was read>"
        match shape:
            case Items():
                return self._array(value, shape, depth, path)
            case Members():
                return self._members(value, shape, depth, path)
            case Prose():
                return self._prose(shape.text)
            case Binary():
                return self._binary(shape)
            case Hidden():
                return self._redact(shape.value)
            case Opaque():
                return self._opaque(value, shape, depth, path)
            case _:
                return self._again(shape, kind, depth, path)

    def _again(self, shape: Again, kind: type[Any], depth: int, path: str) -> Json:
        if self._hops > self._max_depth:
            return f"<{type_name(kind)}>"
        self._hops += 1
        shown = self._node(shape.value, depth, path)
        self._hops -= 1
        return shown

    def _take(self) -> ReadLimits:
        return ReadLimits(max(self._items_left, 0), self._max_items, self._max_bytes + SLACK_CHARS)

    def _spent(self) -> bool:
        return self._items_left <= 0 or self._text_left <= 0

    # --- containers

    def _array(self, value: Any, shape: Items, depth: int, path: str) -> Json:
        stop = self._stop(value, list, shape.length, depth)
        if stop is not None:
            return stop
        self._above[id(value)] = depth
        out: list[Json] = []
        before: Any = None
        for item in shape.head:
            if self._spent():
                break
            self._items_left -= 1
            if self._rule.is_option_value(item, before):
                out.append(self._redact(item))
            elif self._hooks:
                inner = f"{path}[{len(out)}]"
                out.append(self._node(self._hooked(item, inner), depth + 1, inner))
            else:
                out.append(self._node(item, depth + 1, path))
            before = item
        del self._above[id(value)]
        return self._part(out, shape.length)

    def _members(self, value: Any, shape: Members, depth: int, path: str) -> Json:
        stop = self._stop(value, dict, shape.length, depth)
        if stop is not None:
            return stop
        self._above[id(value)] = depth
        out: dict[str, Json] = {}
        for key, item in shape.head:
            if self._spent():
                break
            self._items_left -= 1
            name = key if type(key) is str else self._foreign_key(key)
            shown = self._key(name)
            while shown in out:  # 1 and "1" are two keys in Python and one in JSON
                shown = f"{shown} #{len(out) + 1}"
            if self._rule.is_secret(name) and item is not None and type(item) is not bool:
                out[shown] = self._redact(item)
            elif self._hooks:
                inner = f"{path}.{shown}"
                out[shown] = self._node(self._hooked(item, inner), depth + 1, inner)
            else:
                out[shown] = self._node(item, depth + 1, path)
        del self._above[id(value)]
        return self._part(out, shape.length)

    def _stop(self, value: Any, kind: type[Any], length: int, depth: int) -> Json:
        """Return the replacement of a container that is not entered, or None."""
        above = self._above.get(id(value))
        if above is not None:
            return {CYCLE: depth - above}
        if depth >= self._max_depth:
            return self._part({} if kind is dict else [], length, "max_depth")
        return None

    def _part(
        self, items: list[Json] | dict[str, Json], length: int, limit: str | None = None
    ) -> Json:
        taken = len(items)
        if taken == length and taken <= self._max_items:
            return items
        if limit is None:
            limit = "max_value_bytes" if self._text_left <= 0 else "max_items"
            limit = "time" if self._is_late else limit
        if taken <= self._max_items:
            return TruncatedContainer(items, length, limit)
        head = (
            dict(list(items.items())[: self._max_items])
            if isinstance(items, dict)
            else items[: self._max_items]
        )
        return TruncatedContainer(head, length, limit, items if taken == length else None)

    def _opaque(self, value: Any, shape: Opaque, depth: int, path: str) -> Json:
        """Show an object by its attributes, but not the objects in them, which may be many."""
        if self._in_opaque or not shape.attributes:
            return f"<{shape.name}>"
        self._in_opaque = True
        try:
            members = [("type", shape.name), ("attributes", shape.attributes)]
            return self._members(value, Members(members, 2), depth, path)
        finally:
            self._in_opaque = False

    # --- keys

    def _key(self, name: str) -> str:
        shown = name
        if len(name) > _KEY_CHARS:
            self.cut_keys += 1
            shown = f"{name[:_KEY_CHARS]}… ({len(name)} characters)"
        shown = self._clean(shown)
        self._text_left -= len(shown)
        return shown

    def _foreign_key(self, key: Any) -> str:
        """Return the JSON name for a key that is not a string."""
        kind = kind_of(key)
        for _ in range(3):  # an enum's member, its value, the plain form of that
            if key is None or kind is bool:
                return "null" if key is None else str(key).lower()
            if kind is int:
                return str(key) if _MIN_INT <= key <= _MAX_INT else _long_int(key)
            if kind is float:
                return repr(key) if key - key == 0.0 else _not_finite(key)
            if kind is str:
                return key
            try:
                shape = unfold(key, kind, self._take())
                if type(shape) is not Again:
                    return self._redactor.text(_key_text(shape, kind)[: self._max_bytes])
            except Exception as error:  # noqa: BLE001 user code: after any error the rest is recorded
                reraise_if_from_signal_handler(error)
                self.unencodable += 1
                return f"<{type_name(kind)}>"
            key, kind = shape.value, kind_of(shape.value)
        return f"<{type_name(kind)}>"

    # --- text and bytes

    def _clean(self, text: str) -> str:
        """Return text that UTF-8 can hold, without secrets that are known by their looks."""
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                text = encoded(text).decode()
        if self._scans and may_hold_secret(text):
            text = self._redactor.formats(text)
        return text

    def _string(self, value: str) -> Json:
        length = len(value)
        if length > self._max_bytes:
            self._text_left -= self._max_bytes
            head = self._clean(value[: self._max_bytes + SLACK_CHARS])[:-SLACK_CHARS]
            return Leaf(value, head, whole=False, length=length)
        self._text_left -= length
        shown = self._clean(value)
        return value if shown is value else Leaf(value, shown, whole=True, length=length)

    def _prose(self, text: str) -> Json:
        head = text[: self._max_bytes + SLACK_CHARS]
        self._text_left -= len(head)
        shown = self._clean(self._redactor.text(head))
        whole = len(text) <= self._max_bytes
        if whole and shown == text:
            return shown
        return Leaf(text, shown if whole else shown[:-SLACK_CHARS], whole=whole, length=len(text))

    def _binary(self, shape: Binary) -> Json:
        whole = shape.length <= len(shape.head)
        text = readable_text(shape.head, whole=whole)
        if text is None:
            self._text_left -= len(shape.head)
            shown = base64.b64encode(shape.head[: None if whole else self._max_bytes]).decode()
            encoding = "base64"
        elif whole:
            return self._string(text)
        else:
            self._text_left -= len(text)
            shown = self._clean(text)[:-SLACK_CHARS]
            encoding = "utf-8"
        return Leaf(shape.source, shown, whole=whole, length=shape.length, encoding=encoding)

    def _redact(self, secret: Any) -> str:
        self.redacted += 1
        self._collect(secret)
        return REDACTED

    def _collect(self, secret: Any) -> None:
        if self._found is not None:
            self.unencodable += keep_texts(self._found, secret)


def _key_text(shape: ValueShape, kind: type[Any]) -> str:
    """Return the text of a key that is not a scalar; of a tuple or record of scalars, its repr."""
    if isinstance(shape, Prose):
        return shape.text
    if isinstance(shape, Binary):
        text = readable_text(shape.head, whole=True)
        return repr(shape.head) if text is None else text
    if isinstance(shape, Items) and all(type(item) in _SCALARS for item in shape.head):
        inside = ", ".join(map(repr, shape.head[:_KEY_ITEMS]))
        return f"({inside})" if kind is tuple else f"{type_name(kind)}({inside})"
    if isinstance(shape, Members) and all(type(item) in _SCALARS for _, item in shape.head):
        inside = ", ".join(f"{name}={item!r}" for name, item in shape.head[:_KEY_ITEMS])
        return f"{class_name(kind)}({inside})"
    return f"<{type_name(kind)}>"


def _long_int(value: int) -> str:
    bits = value.bit_length()
    if bits <= _DECIMAL_BITS:
        return str(value)
    return hex(value) if bits <= _HEX_BITS else f"<int of {bits} bits>"


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
