"""Set how often Chroma persists a collection, by its size.

Chroma rewrites the list of all ids of a collection when it persists, and rereads unpersisted
records at every write. With a fixed interval the cost grows with the store: persisting 300,000 ids
every 200 records costs 0.3 ms per record. An interval that grows with the collection keeps both
small. Only collections looked up by id need this: one searched by meaning has one record per text,
and its index costs more than its list.
"""

from __future__ import annotations

from typing import Final

from autotrace.store.schema import PERSIST_AFTER, Collection, Collections

_RECORDS_PER_STEP: Final = 300
"""Minimum number of records of a collection per record that may wait to be persisted."""
_LOOK_EVERY: Final = 100_000
"""Number of span records between two checks of the sizes."""


def records_between(count: int) -> int:
    """Return the number of records between two persists of a collection.

    The number doubles with the size `count`, because each change needs the collection to be
    reopened.
    """
    number = PERSIST_AFTER
    while count >= 2 * number * _RECORDS_PER_STEP:
        number *= 2
    return number


class Tuner:
    """Tune the collections of one embedded store; one thread at a time."""

    def __init__(self) -> None:
        self._unseen = _LOOK_EVERY
        self._between: list[int] = []

    def stored(self, collections: Collections, number: int) -> bool:
        """Count stored span records, and tune after every 100,000.

        Returns:
            Whether the collections must be reopened for a change to take effect. False after the
            first check, because an earlier process has usually set the same values.
        """
        self._unseen += number
        if self._unseen < _LOOK_EVERY:
            return False
        self._unseen = 0
        lookups = collections.log, collections.summaries, collections.lists
        before, self._between = self._between, [records_between(c.count()) for c in lookups]
        if self._between == before:
            return False
        for collection, wanted in zip(lookups, self._between, strict=True):
            if wanted > PERSIST_AFTER:
                persist_after(collection, wanted)
        return bool(before)


def persist_after(collection: Collection, number: int) -> None:
    """Set the number of records after which Chroma persists a collection.

    It applies from the next opening.
    """
    try:
        collection.modify(configuration={"hnsw": {"sync_threshold": number}})
    except ValueError as error:
        # After the change Chroma raises its own deprecation warning if warnings are errors.
        if not isinstance(error.__context__, DeprecationWarning):
            raise
