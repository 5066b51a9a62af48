"""Vectors of texts, from an embedder that may be down or may refuse a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from autotrace.errors import StoreError, StoreUnavailableError
from autotrace.store.embedder import Embedder, text_key

_PROBE: Final = "Is the embedder there?"
"""Tells an embedder that refuses a text from one that is down: for the second we wait."""


class TextVectors:
    """The vectors that storing one batch needs.

    Args:
        embedder: Makes them.
        refused: Called for each text that is left out.
    """

    def __init__(self, embedder: Embedder, refused: Callable[[], None]) -> None:
        self._embedder = embedder
        self._refused = refused
        self._keys: dict[str, str | None] = {}
        self.by_key: dict[str, Any] = {}
        """A vector per key of a text."""

    def add(self, texts: Iterable[str]) -> None:
        """Embed texts, each once.

        Raises:
            StoreUnavailableError: The embedder does not answer.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._keys]
        if not missing:
            return
        for text, vector in zip(missing, self._embed(missing), strict=True):
            key = self._keys[text] = None if vector is None else text_key(self._embedder, text)
            if key is not None:
                self.by_key[key] = vector

    def key(self, text: str) -> str | None:
        """Return the key of a text that was added; None if the embedder refused it."""
        return self._keys[text]

    def _embed(self, texts: list[str]) -> Iterable[Any]:
        """Embed texts; one that the embedder refuses, while it takes others, has None."""
        try:
            return self._embedder.embed(texts)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - an application's embedder may raise anything
            try:
                self._embedder.embed([_PROBE])
            except Exception:  # noqa: BLE001 - so it does not answer at all
                msg = f"the embedder does not answer: {error!r}"
                raise StoreUnavailableError(msg) from error
        return [self._vector_or_none(text) for text in texts]

    def _vector_or_none(self, text: str) -> Any:
        try:
            return self._embedder.embed([text])[0]
        except Exception:  # noqa: BLE001 - an application's embedder may raise anything
            self._refused()
            return None
