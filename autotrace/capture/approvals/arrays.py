"""NumPy arrays and scalars as JSON with their types, shapes and elements."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from autotrace.capture.approvals.exact_types import UnshowableError
from autotrace.encoding.introspect import type_name

if TYPE_CHECKING:
    from autotrace.capture.approvals.faithful_json import Speller

_ARRAY: Final[type[Any]] = cast("type[Any]", np.ndarray)
_MAX_FLOAT_BYTES: Final = 8
"""Python's own float holds no wider one."""


def spell(speller: Speller, value: Any, kind: Any, path: str) -> Any:
    """Return the JSON of an array or a scalar.

    Raises:
        UnshowableError: It cannot be shown whole.
    """
    is_array = kind is np.ndarray
    if not is_array and (not issubclass(kind, np.generic) or issubclass(kind, np.void)):
        msg = f"{path} is a {type_name(kind)}, which cannot be shown whole: pass a numpy.ndarray"
        raise UnshowableError(msg)
    dtype: Any = value.dtype
    _check_dtype(dtype, path)
    array: Any = value if is_array else cast("Any", np.asarray(value))
    speller.check_room(array.size)
    if not speller.tagged:
        _elements(speller, array, path)  # raises for a number that is not finite
        return speller.spell(value.tolist() if is_array else value.item(), path)
    if dtype.names is not None:
        names: tuple[str, ...] = dtype.names
        content: Any = {
            name: spell(speller, array[name], _ARRAY, f"{path}.{name}") for name in names
        }
        content = speller.mapping(content, path)
    else:
        content = _elements(speller, array, path)
    spelled = repr(dtype) if dtype.names is not None else dtype.str
    if is_array:
        return speller.tag("numpy.ndarray", content, dtype=spelled, shape=list(value.shape))
    return speller.tag(type_name(cast("type[Any]", kind)), content[0], dtype=spelled)


def _check_dtype(dtype: Any, path: str) -> None:
    wide = dtype.kind in "fc" and dtype.itemsize > _MAX_FLOAT_BYTES * (1 + (dtype.kind == "c"))
    fields: dict[str, Any] = dtype.fields or {}
    inner: list[Any] = [field[0] for field in fields.values()]
    mixed = dtype.hasobject and dtype.names is not None
    if (
        dtype.metadata is not None
        or wide
        or mixed
        or type(dtype).__module__.partition(".")[0] != "numpy"
    ):
        msg = f"{path} has the dtype {dtype!r}, whose elements cannot be shown whole"
        raise UnshowableError(msg)
    for each in inner:
        _check_dtype(each.base, path)


def _elements(speller: Speller, array: Any, path: str) -> list[Any]:
    """Return the elements in their order, in one list."""
    kind = array.dtype.kind
    if array.dtype.names is not None:
        return [_elements(speller, array[name], path) for name in array.dtype.names]
    if kind in "mM":
        if bool(np.isnat(array).any()):
            msg = f"{path} holds NaT, which is no time: pass a time"
            raise UnshowableError(msg)
        return [speller.text(str(item), path) for item in array.reshape(-1)]
    if kind == "V":
        raw = [base64.b64encode(item.tobytes()).decode() for item in array.reshape(-1)]
        return [speller.text(item, path) for item in raw]
    items = array.reshape(-1).tolist()
    if kind == "f":  # the dtype is float
        return [_number(speller, item, path) for item in items]
    if kind == "O":
        return speller.items(items, path)
    return [speller.spell(item, path) for item in items]


def _number(speller: Speller, item: float, path: str) -> Any:
    speller.spell(item, path)  # raises for a number that must be finite, and counts
    if not math.isfinite(item):
        return repr(item)
    return int(item) if item.is_integer() and 0 < abs(item) < 2**53 else (item or repr(item))
