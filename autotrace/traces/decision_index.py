"""Index decisions by the meaning of their texts.

The process that changes a decision has no embedder. Its events are also spans, and the process that
stores these embeds the decision as it stands then. If an event and its span are stored between the
read and the write here, the span is still to come, and the decision is indexed again.
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
_DAMAGED: Final = (KeyError, TypeError, ValueError, AttributeError)
"""Errors of reading damaged events, which `decisions verify` reports."""


class DecisionIndex:
    """The index of the decisions of one store. Any thread may use it.

    Args:
        connection: The decisions.
        embedder: Makes the vectors of their texts.
        count: Called with a counter's name when a decision is left out.
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
        """Embed decisions as they are now. Without ids, open nothing.

        Raises:
            StoreError: The store or the embedder does not answer; update them again.
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
        """Embed every decision again, in the space of this embedder; return their number.

        The lock is held only for the write at the end, as agents wait for it.

        Raises:
            StoreError: The store or the embedder does not answer; run it again.
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
        """Return the texts of decisions now, and whether content of one was erased."""
        # Most programs have no decisions, so these are loaded when needed.
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
            except _DAMAGED:
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
        """Let the next search see decisions that another process has indexed."""
        self._connection.refresh()

    def close(self) -> None:
        """Close the store; a later use opens it again."""
        self._connection.close()
