"""Arguments as the JSON that an approver is shown and to which an approval is bound.

Different arguments have different JSON: types, time zones, the shape of an array or the order of an
OrderedDict, which JSON would lose, stand next to the value under the key `autotrace.type`, which
no dict of the program can have. Other values are refused. docs/guides/approve.md lists all types.
"""

from __future__ import annotations

import enum
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from autotrace.base.canonical_json import canonical
from autotrace.base.visible_text import escaped, is_visible
from autotrace.capture.approvals import exact_types as exact
from autotrace.capture.approvals.exact_types import (
    CONTENT,
    DICT,
    EXACT,
    NonFiniteError,
    UnshowableError,
    check_finite,
)
from autotrace.encoding.introspect import attributes, kind_of, mro, type_name

TYPE: Final = "autotrace.type"
_OURS: Final = "autotrace."
MAX_DEPTH: Final = 64
MAX_CHARS: Final = 1_048_576
"""Limit of a call that is shown: a person would not read more."""
MAX_INPUT_CHARS: Final = 4 * MAX_CHARS
"""Limit of the inputs of a policy."""
_NODE_CHARS: Final = 4
_MAX_INT: Final = 2**53 - 1
_MAX_INT_BITS: Final = 8_192
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Hiding(Protocol):
    """Decides which places an approver does not see: see `hidden_arguments.py`."""

    def hides(self, path: str, key: str | None, value: Any) -> bool:
        """Return whether a whole value is hidden."""
        ...

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Return the hidden parts of a text."""
        ...

    def mark(self, path: str, json_value: Any, secret: Any) -> dict[str, Any]:
        """Record a hidden place; return its stand-in."""
        ...


class Speller:
    """Makes the JSON of the arguments of one call. Methods raise UnshowableError.

    Args:
        tagged: Whether types stand next to values; policies get only values.
        hiding: Hides places from an approver; None shows all.
        finite: Whether NaN and infinity are refused, as comparisons with them are false.
        lenient: Whether unknown objects are skipped, and only non-finite numbers refused.
        once: Whether each object is walked only once, for a check without JSON.
        max_chars: Limit of characters; None: no limit.
    """

    def __init__(
        self,
        *,
        tagged: bool = True,
        hiding: Hiding | None = None,
        finite: bool = False,
        lenient: bool = False,
        once: bool = False,
        max_chars: int | None = MAX_CHARS,
    ) -> None:
        self.tagged = tagged
        self._finite = finite
        self._hiding = hiding
        self._lenient = lenient
        self._room = self._limit = max_chars
        self._inside: list[int] = []
        self._once = once
        self._seen: dict[int, Any] = {}
        """Walked objects, kept alive so that no other object gets the same id."""

    def place(self, value: Any, path: str, key: str | None = None) -> Any:
        """Return the JSON of a value under a name, unless it is hidden there.

        Args:
            value: The value.
            path: Its path, such as `job.items[0]`.
            key: Its name.
        """
        hiding = self._hiding
        if hiding is None or not hiding.hides(path, key, value):
            return self.spell(value, path)
        return hiding.mark(path, self._unhidden(value, path), value)

    def _unhidden(self, value: Any, path: str) -> Any:
        self._hiding, hiding = None, self._hiding
        try:
            return self.spell(value, path)
        finally:
            self._hiding = hiding

    def spell(self, value: Any, path: str = "") -> Any:
        """Return the JSON of a value."""
        try:
            return self._spelled(value, path)
        except NonFiniteError:
            raise
        except UnshowableError:
            if self._lenient:
                return None
            raise

    def _spelled(self, value: Any, path: str) -> Any:
        kind = kind_of(value)
        self._spend(_NODE_CHARS)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self.text(value, path)
        if kind is int:
            return self._int(value)
        if kind is float:
            return self._float(value)
        if id(value) in self._inside or len(self._inside) >= MAX_DEPTH:
            msg = f"{path} contains itself, or is nested deeper than {MAX_DEPTH} levels"
            raise UnshowableError(msg)
        if self._once:
            if id(value) in self._seen:
                return None
            self._seen[id(value)] = value
        self._inside.append(id(value))
        try:
            return self._composed(value, kind, path)
        finally:
            self._inside.pop()

    def _spend(self, chars: int) -> None:
        if self._room is not None:
            self._room -= chars
            if self._room < 0:
                msg = (
                    f"the call has more than {self._limit:,} characters, and cannot be approved "
                    "in part: pass a reference, such as a path or an id and its SHA-256"
                )
                raise UnshowableError(msg)

    def check_room(self, values: int) -> None:
        """Raise UnshowableError if that many values exceed the limit, before they are made."""
        self._spend(values * _NODE_CHARS)
        if self._room is not None:
            self._room += values * _NODE_CHARS

    # --- text and numbers

    def text(self, value: str, path: str) -> Any:
        """Return a text with invisible characters written out."""
        self._spend(len(value))
        try:
            value.encode()
        except UnicodeEncodeError:
            msg = f"{path} holds text that is not Unicode (a lone surrogate)"
            raise UnshowableError(msg) from None
        if not self.tagged:
            return value
        if self._hiding is not None and (spans := self._hiding.spans(value)):
            return self._partly_hidden(value, path, spans)
        return value if is_visible(value) else {TYPE: "text", "escaped": escaped(value)}

    def _partly_hidden(self, value: str, path: str, spans: Sequence[tuple[int, int]]) -> Any:
        parts: list[Any] = []
        end = 0
        hiding, self._hiding = self._hiding, None
        try:
            for start, stop in spans:
                secret = value[start:stop]
                if end < start:
                    parts.append(self.text(value[end:start], path))
                if hiding is not None:
                    parts.append(hiding.mark(path, secret, secret))
                end = stop
            if end < len(value):
                parts.append(self.text(value[end:], path))
        finally:
            self._hiding = hiding
        return {TYPE: "text", "parts": parts}

    def _int(self, value: int) -> Any:
        if not self.tagged or abs(value) <= _MAX_INT:
            return value
        if value.bit_length() > _MAX_INT_BITS:
            msg = f"an integer of {value.bit_length():,} bits is too large to be read"
            raise UnshowableError(msg)
        return self.tag("int", str(value))

    def _float(self, value: float) -> Any:
        self.check(value)
        # JSON has one number, 1.0 would be 1 and -0.0 would be 0; and it has no NaN or infinity.
        is_number = math.isfinite(value) and not value.is_integer()
        return value if is_number or not self.tagged else self.tag("float", repr(value))

    def check(self, value: Any) -> None:
        """Raise NonFiniteError if a float or Decimal must be finite and is not."""
        if self._finite:
            check_finite(value)

    # --- containers

    def tag(self, name: str, value: Any, **more: Any) -> Any:
        """Return a value with its type next to it; for a policy, the value."""
        if not self.tagged:
            return value
        self._spend(len(name))
        return {TYPE: name, "value": value, **more}

    def items(self, values: Iterable[Any], path: str) -> list[Any]:
        """Return the JSON of items in their order."""
        return [self.place(item, f"{path}[{n}]") for n, item in enumerate(values)]

    def unordered(self, values: Iterable[Any], path: str) -> list[Any]:
        """Return the JSON of items that have no order, sorted."""
        return sorted((self.place(item, f"{path}[]") for item in values), key=canonical)

    def pairs(self, items: Sequence[tuple[Any, Any]], path: str, *, ordered: bool = False) -> Any:
        """Return the JSON of a mapping: an object if its keys allow that, else a list of pairs."""
        keys = [key for key, _ in items]
        if not self.tagged:
            if len(named := {str(key): item for key, item in items}) < len(keys):
                msg = f"{path} has keys that are the same as text"
                raise UnshowableError(msg)
            return {self.text(k, path): self.spell(item, path) for k, item in named.items()}
        if not ordered and all(self._is_plain(key, path) for key in keys):
            return {key: self.place(item, below(path, key), key) for key, item in items}
        spelled = [
            [self.spell(key, f"{path}{{key}}"), self.place(item, below(path, key), _named(key))]
            for key, item in items
        ]
        return spelled if ordered else sorted(spelled, key=canonical)

    def _is_plain(self, key: Any, path: str) -> bool:
        if kind_of(key) is not str or key.startswith(_OURS):
            return False
        return self.text(key, path) is key

    def mapping(self, value: Any, path: str) -> Any:
        """Return the JSON of a dict."""
        spelled = self.pairs(list(DICT.items(value)), path)
        # A tagged list of pairs differs from each list and dict of the program.
        return spelled if kind_of(spelled) is dict else self.tag("dict", spelled)

    # --- the rest

    def _composed(self, value: Any, kind: type[Any], path: str) -> Any:
        if kind is list:
            return self.items(list(value), path)
        if kind is dict:
            return self.mapping(value, path)
        if (spell_exact := EXACT.get(kind)) is not None:
            return spell_exact(self, value, path)
        if issubclass(kind, enum.Enum):
            return self._member(value, kind, path)
        if mro(kind)[0].__module__ == "numpy" and "numpy" in sys.modules:
            from autotrace.capture.approvals import arrays

            return arrays.spell(self, value, kind, path)
        if exact.is_secret(kind):
            return self._secret(value, kind, path)
        if exact.is_record(kind):
            return self._record(value, kind, path)
        if (base := exact.extended_builtin(kind)) is not None:
            return self._extended(value, kind, base, path)
        if self._lenient:
            held = attributes(value, kind) if exact.is_python_class(kind) else {}
            return [self.spell(item, path) for item in held.values()]
        msg = f"{path} is a {type_name(kind)}, which cannot be shown whole"
        raise UnshowableError(msg)

    def _member(self, value: Any, kind: type[Any], path: str) -> Any:
        own = {n: v for n, v in attributes(value, kind).items() if not _is_of_enum(n)}
        plain = self.spell(value._value_, path)
        if not self.tagged:
            return plain
        more = {"attributes": self.mapping(own, path)} if own else {}
        if (base := next((each for each in mro(kind) if each in CONTENT), None)) is not None:
            content = CONTENT[base](value)
            if kind_of(content) is not kind_of(value._value_) or content != value._value_:
                more["content"] = self.spell(content, path)
        name = None if value._name_ is None else self.text(value._name_, path)
        return self.tag(self._class(kind), plain, member=name, **more)

    def _secret(self, value: Any, kind: type[Any], path: str) -> Any:
        if not self.tagged:
            return self.spell(value.get_secret_value(), path)
        # The whole state, as two instances may return the same secret.
        return self.tag(type_name(kind), self.mapping(exact.state_of(value, kind), path))

    def _class(self, kind: type[Any]) -> str:
        return type_name(kind) if self._lenient or not self.tagged else exact.name_of_class(kind)

    def _record(self, value: Any, kind: type[Any], path: str) -> Any:
        held = exact.state_of(value, kind)
        left = exact.left_to_class(value, kind, held)
        if not self.tagged:
            hidden = {name for name in held if name.startswith("__pydantic_")}
            shown = {name: item for name, item in (held | left).items() if name not in hidden}
            for name in sorted(hidden - {"__pydantic_fields_set__"}):
                shown.update(held[name] or {})
            return self.mapping(shown, path)
        held = {n: v for n, v in held.items() if v is not None or not n.startswith("__pydantic_")}
        more = {"from_class": self.mapping(left, path)} if left else {}
        return self.tag(self._class(kind), self.mapping(held, path), **more)

    def _extended(self, value: Any, kind: type[Any], base: type[Any], path: str) -> Any:
        """Return the JSON of an instance of a class that extends a builtin type."""
        held = exact.state_of(value, kind)
        content = CONTENT[base](value)
        names: Any = getattr(kind, "_fields", None) if base is tuple else None
        if kind_of(names) is tuple and len(names) == len(content) and not held:
            fields: dict[str, Any] = dict(zip(names, content, strict=True))
            plain = self.mapping(fields, path) if self.tagged else self.items(content, path)
        else:
            plain = self.spell(content, path)
        if not self.tagged:
            return {"value": plain, "attributes": self.mapping(held, path)} if held else plain
        more = {"attributes": self.mapping(held, path)} if held else {}
        return self.tag(self._class(kind), plain, **more)


def below(path: str, key: Any) -> str:
    """Return the path of the value under a key."""
    if kind_of(key) is str and _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    shown = json.dumps(escaped(key)[:64]) if kind_of(key) is str else type_name(kind_of(key))
    return f"{path}[{shown}]"


def _is_of_enum(name: str) -> bool:
    """Return whether the enum module gives a member the attribute: `_value_`, `__objclass__`."""
    return name.startswith("_") and name.endswith("_")


def _named(key: Any) -> str | None:
    return key if kind_of(key) is str else None
