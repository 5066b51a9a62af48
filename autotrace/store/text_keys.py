"""Make the keys of task texts: texts with equal vectors have one key.

With about a thousand equal vectors under different keys, Chroma's index loses other texts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from autotrace.embedding.embedder import Embedder

UNKNOWN_WORD: Final = "[UNK]"
"""The token of a word that an embedder does not know."""
_MAX_WHOLE_CHARS: Final = 10_000
"""A longer text counts as one that the embedder reads in part."""


class TextKey(NamedTuple):
    """The keys of a task text."""

    key: str
    """Digest of the part that the embedder reads."""
    words: str | None
    """Digest of the whole text, if other texts may have the same key."""
    is_known: bool
    """Whether the embedder knows every word that it reads."""


@dataclass(frozen=True)
class TextKeys:
    """Make the keys of task texts in a store.

    An embedder may have two methods for this. `reads(text)` returns the part of a text that it
    reads; `tokens(text)` returns the words that it knows in that part, and `[UNK]` for each other.

    Args:
        embedder: Embeds the texts.
        by_tokens: Whether keys are made of tokens. Stores of schema 2 use only `reads`.
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
        """Return the result of an optional method of the embedder, else None."""
        ask: Any = getattr(self.embedder, method, None)
        answer = ask(text) if callable(ask) else None
        return answer if isinstance(answer, str) else None  # else not this method


def letters(text: str) -> str:
    """Return the letters and digits of a text, without case and accents."""
    # Marks are dropped first: ordering a long run of them takes quadratic time.
    return _alphanumeric(unicodedata.normalize("NFKD", _alphanumeric(text)).casefold())


def _alphanumeric(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def key_of(text: str) -> str:
    """Return the digest of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
