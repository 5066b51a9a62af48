"""Copies of a call's arguments, so that the body runs on the hashed and approved ones.

No other thread has the copies. When the body has ended, its changes of a copy are written back to
the caller's object, so that a tool may fill a list that it was given.
"""

from __future__ import annotations

import collections
import operator
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.capture.approvals import exact_types as exact
from autotrace.capture.approvals.arguments_hash import is_showable
from autotrace.capture.approvals.exact_types import DICT, LIST, SET
from autotrace.encoding.introspect import instance_dict, kind_of

_ATOMS: Final = frozenset((str, int, float, bool, bytes, complex, types.NoneType))
_FIXED: Final[tuple[Any, ...]] = (tuple, frozenset)
_deque, _ordered, _defaulting = cast(
    "tuple[Any, ...]", (collections.deque, collections.OrderedDict, collections.defaultdict)
)
_MAX_DEPTH: Final = 66
"""More than the deepest value that can be shown."""


@dataclass(frozen=True)
class _Changeable:
    """Functions that read, copy and set the content of a kind of container."""

    items: Callable[[Any], list[Any]]
    """Returns the content, in order."""
    empty: Callable[[Any], Any]
    """Returns a container of the same kind without content."""
    fill: Callable[[Any, list[Any]], None]
    """Replaces the content."""
    same: Callable[[list[Any], list[Any]], bool] = lambda one, other: _is_same(one, other)
    """Returns whether two contents are equal."""


def _fill_dict(target: Any, items: list[Any]) -> None:
    DICT.clear(target)
    DICT.update(target, zip(items[::2], items[1::2], strict=True))


def _fill_ordered(target: Any, items: list[Any]) -> None:
    target.clear()
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key] = value


def _fill_set(target: Any, items: list[Any]) -> None:
    SET.clear(target)
    SET.update(target, items)


def _fill_deque(target: Any, items: list[Any]) -> None:
    target.clear()
    target.extend(items)


def _flat(value: Any) -> list[Any]:
    """Return keys and values in turns; the copy is atomic for other threads."""
    return [part for pair in DICT.copy(value).items() for part in pair]


def _is_same(one: list[Any], other: list[Any]) -> bool:
    """Return whether two contents are of the same objects."""
    return len(one) == len(other) and all(
        left is right for left, right in zip(one, other, strict=True)
    )


_LIST: Final = _Changeable(
    LIST.copy,
    lambda value: LIST.__new__(kind_of(value)),
    lambda target, items: LIST.__setitem__(target, slice(None), items),
)
_DICT: Final = _Changeable(_flat, lambda value: DICT.__new__(kind_of(value)), _fill_dict)
_SET: Final = _Changeable(
    lambda value: list(SET.copy(value)), lambda value: SET.__new__(kind_of(value)), _fill_set
)
_EXTENDED: Final[dict[type[Any], _Changeable]] = {list: _LIST, dict: _DICT, set: _SET}
_EXACT: Final[dict[type[Any], _Changeable]] = {
    **_EXTENDED,
    collections.deque: _Changeable(list, lambda value: _deque(maxlen=value.maxlen), _fill_deque),
    collections.OrderedDict: _Changeable(
        lambda value: [part for pair in value.copy().items() for part in pair],
        lambda value: _ordered(),
        _fill_ordered,
    ),
    collections.defaultdict: _Changeable(
        _flat, lambda value: _defaulting(value.default_factory), _fill_dict
    ),
    bytearray: _Changeable(
        lambda value: [bytes(value)],
        lambda value: bytearray(),
        lambda target, items: target.__setitem__(slice(None), items[0]),
        operator.eq,
    ),
    memoryview: _Changeable(
        lambda value: [value.tobytes()],
        lambda value: _empty_view(value),
        lambda target, items: _fill_view(target, items[0]),
        operator.eq,
    ),
}
_ARRAY: Final = _Changeable(
    lambda value: [value.tobytes()],
    lambda value: value.copy("K"),
    lambda target, items: _fill_array(target, items[0]),
    operator.eq,
)
_OBJECTS: Final = _Changeable(
    lambda value: value.reshape(-1).tolist(),
    lambda value: value.copy("K"),
    lambda target, items: _fill_objects(target, items),
)


def _empty_view(value: memoryview) -> memoryview:
    view: Any = memoryview(bytearray(value.tobytes()))
    if value.format != "B" or value.ndim != 1:
        view = view.cast(cast("Any", value.format), list(value.shape or ()))
    return view.toreadonly() if value.readonly else view


def _fill_view(target: memoryview, content: bytes) -> None:
    if not target.readonly:
        target.cast("B")[:] = content


def _fill_array(target: Any, content: bytes) -> None:
    import numpy as np

    if target.flags.writeable:
        target[...] = np.frombuffer(content, target.dtype).reshape(target.shape)


def _fill_objects(target: Any, items: list[Any]) -> None:
    import numpy as np

    if target.flags.writeable:
        for index, item in zip(np.ndindex(target.shape), items, strict=True):
            target[index] = item


@dataclass
class _Copied:
    original: Any
    copy: Any
    before: list[Any]
    """Content of the copy when it was made."""
    how: _Changeable


class Snapshot:
    """Copies of the arguments of one call.

    A value that cannot be shown to an approver is passed as it is: such a call runs only if no
    approval is required.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    __slots__ = ("_copied", "_copies", "_originals", "args", "kwargs", "shared")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._copied: list[_Copied] = []
        self._copies: dict[int, Any] = {}
        self._originals: dict[int, Any] = {}
        self.shared: list[Any] = []
        """Arguments that could not be copied or shown."""
        self.args = tuple([self._argument(value) for value in args])
        self.kwargs = {name: self._argument(value) for name, value in kwargs.items()}

    def __bool__(self) -> bool:
        """Return whether anything was copied."""
        return bool(self._copies)

    def _argument(self, value: Any) -> Any:
        if kind_of(value) in _ATOMS:
            return value
        if not is_showable(value):
            self.shared.append(value)
            return value
        try:
            return self._copy(value, 0)
        except Exception as error:  # noqa: BLE001 - a class of the program may refuse to be copied
            reraise_if_from_signal_handler(error)
            self.shared.append(value)
            return value

    def _copy(self, value: Any, depth: int) -> Any:
        kind = kind_of(value)
        if kind in _ATOMS or depth > _MAX_DEPTH:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        if kind is types.MappingProxyType:
            return self._note(value, types.MappingProxyType(self._copy(value.copy(), depth + 1)))
        if exact.is_record(kind) or exact.is_secret(kind):
            copy = self._note(value, object.__new__(kind))
            return self._copy_state(value, copy, depth)
        if (how := _changeable(value, kind)) is not None:
            copy = self._changeable(value, how, depth)
        elif kind in _FIXED or exact.extended_builtin(kind) is not None:
            copy = self._fixed(value, kind, depth)
        else:
            return value
        is_exact = kind in _EXACT or kind in _FIXED or kind.__module__ == "numpy"
        if is_exact and kind is not collections.OrderedDict:
            return copy
        return self._copy_state(value, copy, depth)

    def _changeable(self, value: Any, how: _Changeable, depth: int) -> Any:
        copy = self._note(value, how.empty(value))
        before = [self._copy(item, depth + 1) for item in how.items(value)]
        how.fill(copy, before)
        self._copied.append(_Copied(value, copy, before, how))
        return copy

    def _fixed(self, value: Any, kind: Any, depth: int) -> Any:
        """Copy an immutable value if it holds a mutable one."""
        base: Any = kind if kind in _FIXED else exact.extended_builtin(kind)
        if base not in _FIXED:  # a text or a number that may have attributes
            has_state = bool(exact.state_of(value, kind))
            return self._note(value, base.__new__(kind, value)) if has_state else value
        items: list[Any] = list(base.__iter__(value))
        copies = [self._copy(item, depth + 1) for item in items]
        if kind in _FIXED and _is_same(copies, items):
            return value
        return self._note(value, base.__new__(kind, copies))

    def _copy_state(self, value: Any, copy: Any, depth: int) -> Any:
        items = _record_items(value)
        if copy is value or not items:
            return copy
        before = [self._copy(item, depth + 1) for item in items]
        _fill_record(copy, before)
        self._copied.append(_Copied(value, copy, before, _RECORD))
        return copy

    def _note(self, original: Any, copy: Any) -> Any:
        self._copies[id(original)] = copy
        self._originals[id(copy)] = original
        return copy

    def original_of(self, value: Any) -> Any:
        """Return the caller's object of a copy; any other value as it is."""
        return self._originals.get(id(value), value)

    def write_back(self) -> None:
        """Write the body's changes of the copies back to the caller's objects.

        Raises:
            Exception: An object does not accept its new content.
        """
        for each in self._copied:
            now = each.how.items(each.copy)
            if each.how.same(now, each.before):
                continue
            each.how.fill(each.original, [self.original_of(item) for item in now])
            each.before = now


def _changeable(value: Any, kind: type[Any]) -> _Changeable | None:
    if (how := _EXACT.get(kind)) is not None:
        return how
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return _OBJECTS if value.dtype.hasobject else _ARRAY
    base = exact.extended_builtin(kind)
    return None if base is None else _EXTENDED.get(base)


def _record_items(value: Any) -> list[Any]:
    return [part for pair in exact.state_of(value, kind_of(value)).items() for part in pair]


def _fill_record(target: Any, items: list[Any]) -> None:
    kind = kind_of(target)
    slots, held = exact.slots_of(kind), instance_dict(target, kind)
    state = dict(zip(items[::2], items[1::2], strict=True))
    for name, descriptor in slots.items():
        if name in state:
            descriptor.__set__(target, state.pop(name))
        else:
            try:
                descriptor.__delete__(target)
            except AttributeError:  # it was not set
                continue
    if held is not None:
        held.clear()
        held.update(state)


_RECORD: Final = _Changeable(
    _record_items, lambda value: object.__new__(kind_of(value)), _fill_record
)
