"""Embed texts with an embedder that may be down or may refuse a text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from autotrace.embedding.embedder import Embedder
from autotrace.errors import StoreError, StoreUnavailableError
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import role_of, task_of
from autotrace.store.schema import Collections
from autotrace.store.text_keys import TextKey, TextKeys
from autotrace.store.trace_summaries import Summary
from autotrace.traces.tree import Tree

_PROBE: Final = "Is the embedder there?"
"""A text to embed after an error: if this fails, too, the embedder is down, and we retry later."""


class TextVectors:
    """The vectors of one batch; `refused` is called for each text that the embedder refuses."""

    def __init__(self, embedder: Embedder, refused: Callable[[], None]) -> None:
        self._embedder = embedder
        self._refused = refused
        self._vectors: dict[str, Any] = {}

    def add(self, texts: Iterable[str]) -> None:
        """Embed texts, each once.

        Raises:
            StoreUnavailableError: The embedder does not answer.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if missing:
            self._vectors.update(zip(missing, self._embed(missing), strict=True))

    def of(self, text: str) -> Any:
        """Return the vector of an added text; None if the embedder refused it."""
        return self._vectors[text]

    def keys(self, collections: Collections) -> TextKeys:
        """Return the keys of texts in a store."""
        return TextKeys(self._embedder, collections.by_tokens)

    def keys_of(
        self, collections: Collections, summaries: Mapping[str, Summary]
    ) -> dict[str, TextKey]:
        """Return the keys of the tasks of some traces in a store, by trace id."""
        of = functools.cache(self.keys(collections).of)
        return {trace_id: of(summary["task"]) for trace_id, summary in summaries.items()}

    def _embed(self, texts: list[str]) -> Iterable[Any]:
        """Embed texts; None for each that the embedder refuses while it takes others."""
        try:
            return self._embedder.embed(texts)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - an application's embedder may raise anything
            try:
                self._embedder.embed([_PROBE])
            except Exception:  # noqa: BLE001 - it does not answer
                msg = f"the embedder does not answer: {error!r}"
                raise StoreUnavailableError(msg) from error
        return [self._vector_or_none(text) for text in texts]

    def _vector_or_none(self, text: str) -> Any:
        try:
            return self._embedder.embed([text])[0]
        except Exception:  # noqa: BLE001 - an application's embedder may raise anything
            self._refused()
            return None


def texts_of_ended_tasks(records: Iterable[SpanRecord]) -> Iterator[str]:
    """Yield the task texts of the traces that these records of one share may complete."""
    translated: list[SpanRecord] = []
    for record in records:
        if "scope" in record:
            translated.append(record)
        if role_of(record) == "task" and "end_ns" in record:
            yield task_of(record)
    if translated:
        yield from map(task_of, Tree(translated).tasks)
