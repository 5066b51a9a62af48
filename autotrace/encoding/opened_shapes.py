"""The shapes into which an object is opened, and the openers of the builtin containers.

A container is read by the code of its builtin type: a subclass may have replaced `__iter__` or
`__len__`. Other threads may be changing it.
"""

from __future__ import annotations

import array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial, wraps
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias, cast

from autotrace.encoding.introspect import (
    attribute,
    class_attribute,
    kind_of,
    root_of,
    type_name,
)

_TRIES: Final = 3
"""How often the head of a container that other threads change is read again."""

# Typed as Any, since their methods are called as functions on values of any type.
_dict: Any = dict
_list: Any = list
_tuple: Any = tuple
_deque: Any = deque
_array: Any = array.array


class Again(NamedTuple):
    """Another value in place of the object, such as the value of an enum member."""

    value: Any


class Items(NamedTuple):
    """The items of an array: the head of them, and how many there are."""

    head: list[Any]
    length: int


class Members(NamedTuple):
    """The members of an object: the head of them, and how many there are."""

    head: list[tuple[Any, Any]]
    length: int


class Prose(NamedTuple):
    """Text that was made for people, such as a repr: secrets may stand anywhere in it."""

    text: str


class Binary(NamedTuple):
    """Bytes: the head of them, how many there are, and where the rest is."""

    head: bytes
    length: int
    source: Any


class Opaque(NamedTuple):
    """An object of which nothing is known but its attributes."""

    name: str
    attributes: dict[str, Any]


class Hidden(NamedTuple):
    """A secret by its type, such as pydantic's `SecretStr`."""

    value: Any


ValueShape: TypeAlias = Again | Items | Members | Prose | Binary | Opaque | Hidden


class ReadLimits(NamedTuple):
    """How much of a container is taken."""

    whole: int
    """Containers of up to this many items are taken whole."""
    head: int
    """Of longer ones, so many items."""
    size_bytes: int
    """Of bytes, so many bytes."""

    def of(self, length: int) -> int:
        """Return how many of `length` items are taken."""
        return length if length <= self.whole else min(length, self.head)


TypeOpener: TypeAlias = Callable[[Any, "type[Any]", ReadLimits], ValueShape]
"""A function that opens an object of a given type."""


def open_by_name(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Show an object by the name of its type alone."""
    return Prose(f"<{type_name(kind)}>")


def only_of(library: str) -> Callable[[TypeOpener], TypeOpener]:
    """Decorate an opener: of an object of a class that others derived, the type alone is shown."""

    def decorate(opener: TypeOpener) -> TypeOpener:
        @wraps(opener)
        def opened(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
            return (
                opener(value, kind, take)
                if root_of(kind) == library
                else open_by_name(value, kind, take)
            )

        return opened

    return decorate


def _read(
    iterate: Callable[[], Iterator[Any]], length: int, take: ReadLimits
) -> tuple[list[Any], int]:
    """Copy the head of a container; return it with the length, which other threads may change.

    The copy is made in C, so no Python code of another thread runs in between.

    Raises:
        RuntimeError: The container changed all the same, in a finaliser or without a global lock.
    """
    count = take.of(length)
    for tries_left in reversed(range(_TRIES)):
        try:
            head = list(islice(iterate(), count))
        except RuntimeError:
            if not tries_left:
                raise
        else:
            return head, length if count < length else len(head)
    raise AssertionError


def open_dict(value: Any, kind: type[Any], take: ReadLimits) -> Members:
    """Open a dict or an instance of a subclass."""
    # An OrderedDict keeps an order of its own.
    items = value.items() if kind is OrderedDict else _dict.items(value)
    return Members(*_read(items.__iter__, _dict.__len__(value), take))


def open_sequence(value: Any, kind: type[Any], take: ReadLimits) -> Items | Members:
    """Open a list, a tuple or an instance of a subclass: a namedtuple has members."""
    base = _tuple if issubclass(kind, tuple) else _list
    length = base.__len__(value)
    count = take.of(length)
    head = list(base.__getitem__(value, slice(count)))
    if base is _tuple and kind is not tuple:
        fields = class_attribute(kind_of(value), "_fields")
        if type(fields) is tuple and _tuple.__len__(fields) == length:
            return Members(list(zip(cast("tuple[Any, ...]", fields), head, strict=False)), length)
    return Items(head, length if count < length else len(head))


def open_set(value: Any, kind: type[Any], take: ReadLimits) -> Items:
    """Open a set or a frozenset; strings are sorted, so that each process records the same."""
    base: Any = set if issubclass(kind, set) else frozenset
    head, length = _read(partial(base.__iter__, value), base.__len__(value), take)
    if all(type(item) is str for item in head):
        head.sort()
    return Items(head, length)


def open_deque(value: Any, kind: type[Any], take: ReadLimits) -> Items:
    """Open a deque."""
    return Items(*_read(partial(_deque.__iter__, value), _deque.__len__(value), take))


def open_view(value: Any, kind: type[Any], take: ReadLimits) -> Items:
    """Open the keys, values or items of a dict."""
    return Items(*_read(value.__iter__, len(value), take))


def open_array(value: Any, kind: type[Any], take: ReadLimits) -> Items:
    """Open an `array.array`."""
    length = _array.__len__(value)
    return Items(_array.__getitem__(value, slice(take.of(length))).tolist(), length)


def open_mapping(value: Any, kind: type[Any], take: ReadLimits) -> Members:
    """Open a mapping of a library that keeps it in memory: its own code runs."""
    head: list[Any] = list(islice(value.items(), take.whole + 1))
    length = max(len(value), len(head))
    return Members(head[: take.of(length)], length)


def open_data(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `UserDict`, `UserList` or `UserString`."""
    return Again(attribute(value, kind, "data"))
