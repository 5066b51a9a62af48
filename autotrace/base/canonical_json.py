"""Canonical JSON of values, for hashes.

Source of the format: RFC 8785 (JSON Canonicalization Scheme), by the `rfc8785` package. JSON cannot
hold every Python number; the others are written as tagged objects, so that no two values have the
same JSON.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final, cast

import rfc8785

_MAX_INT: Final = 2**53 - 1
_TAG: Final = "autotrace.number"


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of a value.

    Raises:
        ValueError: It is not JSON, has a key that is not a string, or text that is not Unicode.
    """
    return rfc8785.dumps(_to_plain_json(value))


def sha256_of(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of a value, as 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _to_plain_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MAX_INT else {_TAG: str(int(value))}
    if isinstance(value, float):
        return value if math.isfinite(value) else {_TAG: repr(float(value))}
    if isinstance(value, list | tuple):
        return [_to_plain_json(item) for item in cast("list[Any]", value)]
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        for key, _ in items:
            if not isinstance(key, str):
                msg = f"the key {key!r} is not a string"
                raise ValueError(msg)
        plain = {key: _to_plain_json(item) for key, item in items}
        # An object that looks like a tagged number is tagged as well.
        return {_TAG: plain} if _TAG in plain else plain
    msg = f"a value of type {type(value).__qualname__} has no canonical JSON"
    raise ValueError(msg)
