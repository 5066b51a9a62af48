"""How often Chroma persists a collection, by its size.

Chroma writes the whole list of a collection's ids anew each time that it persists, and reads what
it has not persisted yet again at every write. So a fixed number of records between two times makes
one of both grow with the store: to persist 300,000 ids every 200 records costs 0.3 ms a record.
A number that grows with the collection keeps both small.

Only collections that are looked up by id need this. What is searched by meaning is written one
record a text, and its index costs more than its list.
"""

from __future__ import annotations

from typing import Final

from autotrace.store.schema import PERSIST_AFTER, Collection, Collections

_RECORDS_PER_STEP: Final = 300
"""How many records a collection has, at least, for each that may wait to be persisted."""
_LOOK_EVERY: Final = 100_000
"""Span records from one look at the sizes to the next."""


def records_between(count: int) -> int:
    """Return after how many records to persist a collection of so many; it doubles, step by step.

    A step is a change of the collection, which needs it to be opened anew.
    """
    number = PERSIST_AFTER
    while count >= 2 * number * _RECORDS_PER_STEP:
        number *= 2
    return number


class Tuner:
    """Fits the collections of one embedded store to their sizes. For one thread at a time."""

    def __init__(self) -> None:
        self._unseen = _LOOK_EVERY
        self._between: list[int] = []

    def stored(self, collections: Collections, number: int) -> bool:
        """Take note that so many span records were stored, and tune now and then.

        Returns:
            Whether to open the collections anew, for a change to take effect. The first look asks
            for none: what it finds is mostly what an earlier process has set.
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
    """Set after how many records Chroma persists a collection, from when it is opened next."""
    try:
        collection.modify(configuration={"hnsw": {"sync_threshold": number}})
    except ValueError as error:
        # Once it is changed, Chroma warns of its own record: an error only where warnings are.
        if not isinstance(error.__context__, DeprecationWarning):
            raise
