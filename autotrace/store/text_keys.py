"""Keys of task texts: texts that an embedder cannot tell apart have one key, and so one vector.

Past a thousand or so equal vectors under different keys Chroma's index loses other texts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from autotrace.embedding.embedder import Embedder

UNKNOWN_WORD: Final = "[UNK]"
"""Stands for a word that an embedder does not know."""
_MAX_WHOLE_CHARS: Final = 10_000
"""A longer text is not compared with what is read of it."""


class TextKey(NamedTuple):
    """Under what a task text is kept."""

    key: str
    """Of what the embedder reads of it."""
    words: str | None
    """Of its very words, where other words may have the same key."""
    is_known: bool
    """Whether the embedder knows every word that it reads of it."""


@dataclass(frozen=True)
class TextKeys:
    """The keys of task texts in a store. Texts that the embedder cannot tell apart have one key.

    An embedder may have two methods for this. `reads(text)` returns the part of a text that it
    reads; `tokens(text)` returns the words that it knows in that part, and `[UNK]` for each other.

    Args:
        embedder: Embeds the texts.
        by_tokens: Whether the store's keys are of tokens. Stores of schema 2 know only `reads`.
    """

    embedder: Embedder
    by_tokens: bool = True

    def of(self, text: str) -> TextKey:
        """Return the key of a text."""
        tokens = self._ask("tokens", text) if self.by_tokens else None
        reads = self._ask("reads", text) if tokens is None else None
        seen = next(each for each in (tokens, reads, text) if each is not None)
        is_whole = len(text) <= _MAX_WHOLE_CHARS and letters(seen) == letters(text)
        return TextKey(
            key_of(seen),
            None if is_whole else key_of(text),
            tokens is None or UNKNOWN_WORD not in tokens.split(" "),
        )

    def _ask(self, method: str, text: str) -> str | None:
        """Return what a method of the embedder makes of a text; None if it has no such method."""
        ask: Any = getattr(self.embedder, method, None)
        answer = ask(text) if callable(ask) else None
        return answer if isinstance(answer, str) else None  # else it is another method


def letters(text: str) -> str:
    """Return the letters and digits of a text, without case and accents."""
    # Marks are dropped first: to put a long run of them in order takes quadratic time.
    return _alphanumeric(unicodedata.normalize("NFKD", _alphanumeric(text)).casefold())


def _alphanumeric(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def key_of(text: str) -> str:
    """Return the key of what is read of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
