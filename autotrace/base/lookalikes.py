"""Names of people and agents: which of them look alike on a screen (pure).

`skeleton` maps a name to a key; names with one key count as one person. The key ignores case,
compatibility forms, characters and marks that show nothing or little, and the confusables of
UTS 39, whose data comes from the package confusable-homoglyphs. See docs/guides/approve.md.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

_BLANK: Final = frozenset(
    chr(code)
    for first, last in (
        # Default_Ignorable_Code_Point, where the category does not show it (letters and marks).
        *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
        *((0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0000, 0xE0FFF)),
        # Braille blank, Khitan filler, null notehead, Egyptian blanks, object replacement.
        *((0x2800, 0x2800), (0x16FE4, 0x16FE4), (0x1D159, 0x1D159)),
        *((0x13441, 0x13442), (0xFFFC, 0xFFFC)),
    )
    for code in range(first, last + 1)
)
_MAX_MARKS: Final = 4
"""Marks kept on one letter; normalization sorts them, in quadratic time."""
_DIRECTION: Final = "\u200e"
"""Stands around characters of right-to-left scripts in the data."""


def same_person(one: str, other: str) -> bool:
    """Return whether two names count as one person: whether they look alike."""
    return skeleton(one) == skeleton(other)


def skeleton(name: str) -> str:
    """Return the key that names which look alike have in common.

    An equivalence relation follows from it, and `skeleton(skeleton(name)) == skeleton(name)`.
    """
    alike = _alike()
    text = _visible(name)
    if any(c.isascii() and c.isalpha() for c in unicodedata.normalize("NFKC", text)):
        # In a Latin name the shape as written counts: capital Nu looks like N, small nu like v.
        text = unicodedata.normalize("NFKC", text.translate(alike.written))
        text = text.translate(alike.written)
    return _without_ends(_visible(_folded(text).translate(alike.letters)))


def invisible_in(name: str) -> list[str]:
    """Return the characters of a name that show nothing or reorder others; spaces are allowed."""
    return [c for c in name if c != " " and (c in _BLANK or unicodedata.category(c)[0] in "CZ")]


def imitations_in(name: str) -> list[str]:
    """Return the letters of other scripts that look like Latin ones, in a name of mixed scripts.

    A name in one script is not mixed, although it may look like a Latin one.
    """
    letters = {c for c in unicodedata.normalize("NFKD", name) if c.isalpha()}
    scripts = {c: unicodedata.name(c, "?").partition(" ")[0] for c in letters}
    if len(set(scripts.values())) < 2:
        return []
    return sorted(
        c
        for c in letters
        if scripts[c] != "LATIN" and skeleton(c).isascii() and skeleton(c).isalnum()
    )


def _visible(text: str) -> str:
    """Drop the characters that show nothing, white space, and accents."""
    kept: list[str] = []
    marks = 0
    for c in text:
        if c.isascii() and c.isprintable():
            marks = 0
            if c != " ":
                kept.append(c)
            continue
        if c in _BLANK or c.isspace() or _is_dropped(c):
            continue
        marks = marks + 1 if unicodedata.combining(c) else 0
        if marks <= _MAX_MARKS:
            kept.append(c)
    return "".join(kept)


def _is_dropped(c: str) -> bool:
    category = unicodedata.category(c)
    if category[0] in "CZ" or category == "Me":
        return True
    # Accents, and the points of Hebrew, Arabic and Syriac. Other classes are letters: the voicing
    # of kana, and the vowels of Indic scripts and Thai.
    order = unicodedata.combining(c)
    return order == 1 or 10 <= order <= 36 or order >= 200


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _visible(unicodedata.normalize("NFKD", folded))


def _without_ends(text: str) -> str:
    """Drop punctuation around a name, unless there is nothing else."""
    shown = [i for i, c in enumerate(text) if unicodedata.category(c)[0] != "P"]
    return text[shown[0] : shown[-1] + 1] if shown else text


@dataclass(frozen=True)
class _Alike:
    """What stands in for characters: tables of `str.translate`."""

    letters: Mapping[int, str]
    """Of a folded name."""
    written: Mapping[int, str]
    """Of a name as written: characters that look like another letter than their folded form."""


@functools.cache
def _alike() -> _Alike:
    """Make the classes of characters that look alike, or are one letter in two cases.

    Two ASCII characters are in one class only if UTS 39 joins them: Nu looks like N and its
    small letter like v, and still n and v are two letters.
    """
    # Takes some time, and is needed only where somebody answers or a key is made.
    from confusable_homoglyphs.confusables import confusables_data

    data = cast("Mapping[str, list[dict[str, str]]]", confusables_data)
    pairs: set[tuple[int, str, str]] = set()
    for one, others in data.items():
        for other in others:
            pair = one.strip(_DIRECTION), other["c"].strip(_DIRECTION)
            source, text = pair if len(pair[0]) == 1 else pair[::-1]
            if len(source) == 1:
                pairs.add((_rank(source, text), source, text))
    classes = _Classes()
    written: dict[int, str] = {}
    for _, one, other in sorted(pairs):
        folded = _folded(one)
        if len(folded) != 1 or folded.isascii() is not one.isascii():
            continue  # NFKC resolves it
        is_joined = unicodedata.is_normalized("NFKC", one) and classes.join(
            folded, _folded(other), is_ascii=one.isascii() and other.isascii()
        )
        if not is_joined and len(other) == 1 and other.isascii() and other.isalpha():
            written[ord(one)] = other
    return _Alike(classes.table(), written)


def _rank(one: str, other: str) -> int:
    """Order pairs: small letters before capitals, where the two contradict each other."""
    if one.isascii() and other.isascii():
        return 0
    is_small = one.casefold() == one and other.casefold() == other
    return (1 if is_small else 2) + (2 if len(other) > 1 else 0)


class _Classes:
    """Sets of characters that are joined (union-find), each with what stands in for it."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._ascii: dict[str, str] = {}
        """The ASCII character of a class, by its root."""
        self._spelled: dict[str, str] = {}
        """Several characters that a class looks like, such as `rn` of m, by its root."""

    def join(self, one: str, other: str, *, is_ascii: bool) -> bool:
        """Join a folded character with a text that it looks like.

        Return False if that would join ASCII characters, unless both are written so (`is_ascii`).
        """
        if not other or one == other:
            return True
        root = self._root(one)
        if len(other) > 1:
            if is_ascii or root not in self._ascii:
                self._spelled.setdefault(root, other)
            return True
        first, second = sorted((root, self._root(other)))
        if first == second:
            return True
        letters = {self._ascii[r] for r in (first, second) if r in self._ascii}
        if len(letters) > 1 and not is_ascii:
            return False
        # A class with an ASCII character is spelled otherwise only if that character is.
        spelled = [
            self._spelled.pop(r)
            for r in (first, second)
            if r in self._spelled and (r in self._ascii or not letters)
        ]
        self._parents[second] = first
        if letters:
            self._ascii[first] = min(letters)
        if spelled:
            self._spelled[first] = spelled[0]
        return True

    def _root(self, c: str) -> str:
        if c not in self._parents:
            self._parents[c] = c
            if c.isascii():
                self._ascii[c] = c
        while self._parents[c] != c:
            c = self._parents[c]
        return c

    def table(self) -> dict[int, str]:
        """Return what stands in for each character that does not stand for itself."""

        def text_of(c: str, outside: frozenset[str] = frozenset()) -> str:
            if c not in self._parents:
                return c
            root = self._root(c)
            spelled = self._spelled.get(root, "")
            outside |= {root}
            # Two forms of an Arabic letter are spelled with each other: such a class stays one.
            if not spelled or any(d in self._parents and self._root(d) in outside for d in spelled):
                return self._ascii.get(root, root)
            return "".join(text_of(d, outside) for d in spelled)

        return {ord(c): text for c in self._parents if (text := text_of(c)) != c}
