"""Copy values of plain builtins, which nearly every argument and result of a tool is.

Other values (with a secret, a rarer type, too long) raise here and take the full walk in
`reduce.py`, which is several times slower. The record does not depend on where this path gives up.
"""

from __future__ import annotations

from typing import Any, Final

from autotrace.encoding.introspect import kind_of
from autotrace.encoding.secret_names import MEMO_KEY_CHARS, KeyRule
from autotrace.encoding.secret_tokens import MIN_CHARS, may_hold_secret
from autotrace.semconv import REDACTED

_ITEM_COST: Final = 8
"""Room taken by an item: more than its least JSON, so that the copy is bounded."""


# Indexes of the state that both functions share: the room left, the limit, the texts to search for
# secrets, and from `_HIDDEN` on the redacted texts.
_ROOM: Final = 0
_MAX_ITEMS: Final = 1
_TEXTS: Final = 2
_HIDDEN: Final = 3


class NotPlainError(Exception):
    """The value needs the full walk."""


def plain(
    value: Any, rule: KeyRule, room: int, depth: int, max_items: int
) -> tuple[Any, list[str], list[str]]:
    """Copy a value of plain builtins, of about `room` bytes of JSON.

    Returns:
        A copy that `orjson` can dump, in which no other thread can change a container; its texts
        that are not searched for secrets yet; and the redacted texts.

    Raises:
        NotPlainError: The value needs the full walk.
        RuntimeError: A dict changed while it was read.
    """
    kind = kind_of(value)
    texts: list[str] = []
    state: list[Any] = [room, max_items, texts]
    if kind is dict:
        copy: Any = _object(value, rule.clean, rule, state, depth)
    elif kind is str:
        copy = value
        texts.append(value)
    else:
        copy = _array((value,), rule.clean, rule, state, depth + 1)[0]
    if (len(texts[0]) if len(texts) == 1 else sum(map(len, texts))) > state[_ROOM]:
        raise NotPlainError
    return copy, texts, state[_HIDDEN:]


# The two loops are written out, since a call for each item would double the cost.


def _object(
    value: dict[Any, Any],
    clean: set[str],
    rule: KeyRule,
    state: list[Any],
    depth: int,
) -> dict[str, Any]:
    length = len(value)
    state[_ROOM] = room = state[_ROOM] - _ITEM_COST * (length + 1)
    if room < 0 or depth == 0 or length > state[_MAX_ITEMS]:
        raise NotPlainError
    texts = state[_TEXTS]
    out: dict[str, Any] = {}
    for key, item in value.items():
        if key not in clean:
            item = _unmet(key, item, rule, state)
        kind = kind_of(item)
        if kind is str:
            if len(item) >= MIN_CHARS:
                texts.append(item)
            out[key] = item
        elif kind is int or kind is bool or item is None or (kind is float and item - item == 0.0):
            out[key] = item
        elif kind is dict:
            out[key] = _object(item, clean, rule, state, depth - 1)
        elif kind is list or kind is tuple:
            out[key] = _array(item, clean, rule, state, depth - 1)
        else:
            raise NotPlainError
    return out


def _array(
    value: list[Any] | tuple[Any, ...],
    clean: set[str],
    rule: KeyRule,
    state: list[Any],
    depth: int,
) -> list[Any]:
    length = len(value)
    state[_ROOM] = room = state[_ROOM] - _ITEM_COST * (length + 1)
    if room < 0 or depth == 0 or length > state[_MAX_ITEMS]:
        raise NotPlainError
    texts = state[_TEXTS]
    out: list[Any] = []
    for item in value[:length]:
        kind = kind_of(item)
        if kind is str:
            if len(item) >= MIN_CHARS:
                texts.append(item)
            if "--" in item and rule.is_secret_option(item):
                raise NotPlainError  # the item behind it may be a secret
            out.append(item)
        elif kind is int or kind is bool or item is None or (kind is float and item - item == 0.0):
            out.append(item)
        elif kind is dict:
            out.append(_object(item, clean, rule, state, depth - 1))
        elif kind is list or kind is tuple:
            out.append(_array(item, clean, rule, state, depth - 1))
        else:
            raise NotPlainError
    return out


def _unmet(key: Any, item: Any, rule: KeyRule, state: list[Any]) -> Any:
    """Return the item of a key met for the first time, or its replacement."""
    if type(key) is not str or len(key) > MEMO_KEY_CHARS:
        raise NotPlainError
    if may_hold_secret(key):
        raise NotPlainError
    if not rule.is_secret(key):
        rule.add_clean(key)
        return item
    if item is None or type(item) is bool:
        return item
    if type(item) is not str:
        raise NotPlainError
    state.append(item)
    return REDACTED
