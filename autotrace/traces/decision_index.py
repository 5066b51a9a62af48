"""Decisions by meaning: their vectors, made anew whenever anything has happened to them.

A decision is written by whoever decides, at once and without an embedder. Its events are also
spans, and who stores those embeds the decision as it stands by then. So what is found by meaning
follows what happened, as far as it is flushed; and when an event and its span are stored between
the look and the write here, the span is still to come, and has it done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from autotrace.embedding.embedder import Embedder
from autotrace.errors import AutotraceError, StoreUnavailableError
from autotrace.store import decision_log as store
from autotrace.store import reset as repair
from autotrace.store.connection import Connection
from autotrace.store.decision_log import DecisionCollections, IndexedText
from autotrace.store.schema import groups
from autotrace.store.text_keys import TextKeys
from autotrace.traces.embed_batch import TextVectors

_AT_ONCE: Final = 512


class DecisionIndex:
    """Makes the decisions of one store found by meaning. Any thread may use it.

    Args:
        connection: Where they lie.
        embedder: Makes the vectors of their texts.
        count: Called with a counter's name when one is left out.
    """

    def __init__(
        self,
        connection: Connection[DecisionCollections],
        embedder: Embedder,
        count: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._embedder = embedder
        self._count = count

    def update(self, decision_ids: Sequence[str]) -> None:
        """Embed decisions as they stand; nothing is opened for none.

        Raises:
            StoreError: Their store, or the embedder, does not answer; update them again.
        """
        for ids in groups(decision_ids, _AT_ONCE):
            found, erased = self._indexed(ids)
            if found:
                with self._connection.writing() as collections:
                    if erased:
                        self._connection.purge_later(vectors=True)
                    exclusive = self._connection.exclusive
                    store.put_search(collections, found, exclusive=exclusive)

    def rebuild(self) -> int:
        """Embed every decision anew, in the embedding space of this embedder.

        The store is held only for the write at the end, as agents wait for it.

        Returns:
            How many decisions are found by meaning.

        Raises:
            StoreError: The store or the embedder does not answer. Run it again.
        """
        self._connection.drop_broken_indexes()
        with self._connection.reading() as collections:
            logged = store.logged(collections.log)
        found = {
            i: text for ids in groups(logged, _AT_ONCE) for i, text in self._indexed(ids)[0].items()
        }
        with self._connection.writing() as collections:
            space = self._embedder.space
            emptied = repair.begin_decisions(collections, self._connection.name, space)
            exclusive = self._connection.exclusive
            for ids in groups(found, _AT_ONCE):
                store.put_search(emptied, {i: found[i] for i in ids}, exclusive=exclusive)
            repair.finish_decisions(emptied, space)
        return len(found)

    def _indexed(self, decision_ids: Sequence[str]) -> tuple[dict[str, IndexedText], bool]:
        """Return the texts of decisions as they stand, and whether one of them was erased."""
        # Not needed before anything is decided, so not loaded.
        from autotrace.decisions.state_machine import CONTENT_ERASED
        from autotrace.decisions.to_models import search_text

        texts: dict[str, str] = {}
        created_ns: dict[str, int] = {}
        erased = False
        for decision_id, changes in self._read(decision_ids).items():
            events = [event for change in changes for event in change]
            try:
                text = search_text(events)
                at_ns = int(events[0]["at_ns"]) if text else 0
            except (
                KeyError,
                TypeError,
                ValueError,
                AttributeError,
            ):  # damaged: `decisions verify` says how
                self._count("unindexed_decisions")
                continue
            erased = erased or any(event["type"] == CONTENT_ERASED for event in events)
            if text:
                texts[decision_id], created_ns[decision_id] = text, at_ns
        vectors = TextVectors(self._embedder, lambda: self._count("unindexed_decisions"))
        vectors.add(texts.values())
        keys = TextKeys(self._embedder)
        found = {
            i: IndexedText(keys.of(text).key, created_ns[i], vector)
            for i, text in texts.items()
            if (vector := vectors.of(text)) is not None
        }
        return found, erased

    def _read(self, decision_ids: Sequence[str]) -> dict[str, list[list[Any]]]:
        try:
            return self._connection.read(lambda c: store.read_logs(c.log, decision_ids))
        except AutotraceError:
            raise
        except Exception as error:
            msg = f"the decisions of {self._connection.name} cannot be read: {error}"
            raise StoreUnavailableError(msg) from error

    def catch_up(self) -> None:
        """Have the next search see what another process has made of what this one flushed."""
        self._connection.refresh()

    def close(self) -> None:
        """Let go of the store. A later use opens it again."""
        self._connection.close()
