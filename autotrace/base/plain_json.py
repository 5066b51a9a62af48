"""Values from user code to JSON that is ours: exact types, and nothing shared with the caller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, cast

MAX_DEPTH: Final = 200
"""How deep lists and objects may be nested: far below where the interpreter would give up."""


def plain_object(value: Any, name: str) -> dict[str, Any]:
    """Copy a JSON object; tuples become lists.

    Raises:
        ValueError: It is not a JSON object; the message has `name` and the path, never content.
    """
    if not isinstance(value, Mapping):
        msg = f"{name} is not a JSON object but of type {type(value).__qualname__}"
        raise ValueError(msg)
    return cast("dict[str, Any]", _to_plain_json(cast("object", value), name, 0))


def _to_plain_json(value: Any, path: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__float__(value)
    if isinstance(value, str):
        return _text(value, path)
    if depth < MAX_DEPTH:
        if isinstance(value, list | tuple):
            items = enumerate(cast("list[Any]", value))
            return [_to_plain_json(item, f"{path}[{index}]", depth + 1) for index, item in items]
        if isinstance(value, Mapping):
            pairs = cast("Mapping[Any, Any]", value).items()
            return {
                _key(key, path): _to_plain_json(item, f"{path}.{key}", depth + 1)
                for key, item in pairs
            }
        what = f"of type {type(value).__qualname__}, which is not JSON"
    else:
        what = f"nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, float):
        what = f"{value!r}, which is not JSON"
    msg = f"{path} is {what}"
    raise ValueError(msg)


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        msg = f"{path} has a key of type {type(key).__qualname__}; keys are strings in JSON"
        raise ValueError(msg)
    return _text(key, path)


def _text(text: str, path: str) -> str:
    plain = str.__str__(text)
    try:
        plain.encode()
    except UnicodeEncodeError:
        msg = f"{path} holds text that is not Unicode (a lone surrogate)"
        raise ValueError(msg) from None
    return plain
