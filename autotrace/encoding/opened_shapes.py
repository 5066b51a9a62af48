"""The few shapes into which `unfold` opens an object of a rarer type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias


class Again(NamedTuple):
    """Stands for another value, such as an enum member for its value."""

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
        """Returns how many of `length` items are taken."""
        return length if length <= self.whole else min(length, self.head)


TypeOpener: TypeAlias = Callable[[Any, "type[Any]", ReadLimits], ValueShape]
"""Opens an object of a given type."""
