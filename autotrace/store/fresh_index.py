"""Query records that other processes stored after the index was loaded.

Chroma's `query` does not see these records; `get` does. Reloading the index takes seconds in a
large store. So a query is also compared with each later record in the journal (vector_journal.py),
and its result is the nearest of both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, cast

from autotrace.store.chroma_errors import StaleIndexError, is_failure_of_chroma
from autotrace.store.schema import Collection, OpenedCollections
from autotrace.store.vector_journal import Journal, Record

if TYPE_CHECKING:
    from autotrace.store.vector_journal import Rows

C = TypeVar("C", bound=OpenedCollections)

_TINY: Final = 1e-30
"""Avoids a division by zero for a vector of zeros; the index of Chroma adds the same."""


class _Tail(NamedTuple):
    """Hold the records later than an index; immutable, for concurrent readers."""

    keys: tuple[str, ...]
    rows: Rows
    """Vectors of length 1, as in the index."""


class FreshCollection:
    """Query a collection of vectors together with later records.

    Args:
        inner: Collection of Chroma.
        letter: Letter of the collection in the journal.
        journal: Receives each stored vector.
        on_delete: Called before vectors are deleted.
        catch_up: Applies records that others have stored; returns whether they are all.
    """

    def __init__(
        self,
        inner: Collection,
        letter: str,
        journal: Journal,
        on_delete: Callable[[], None],
        catch_up: Callable[[], bool],
    ) -> None:
        self._on_delete = on_delete
        self._catch_up = catch_up
        self._inner = inner
        self._letter = letter
        self._journal = journal
        self._has_index = True
        self._tail: _Tail | None = None

    def load(self) -> None:
        """Load the index of Chroma if it has records; under the lock.

        The first query of an index reads its files, and may write them. An empty index is not
        queried: Chroma would fail once another process has added a record.
        """
        try:
            got = self._inner.get(limit=1, include=["embeddings"])
            self._has_index = bool(got["ids"])
            if self._has_index:
                self._inner.query(query_embeddings=got["embeddings"], n_results=1)
        except Exception as error:
            if not is_failure_of_chroma(error):
                raise
            # The index is damaged: only a query of this collection must fail.

    def add_rows(self, records: Sequence[Record]) -> None:
        """Add records that others have stored; for one thread at a time."""
        import numpy as np

        mine = [record for record in records if record.collection == self._letter]
        if mine:
            keys = tuple(record.key for record in mine)
            rows = _normalised(np.stack([record.vector for record in mine]))
            tail = self._tail
            if tail is not None:
                keys, rows = tail.keys + keys, np.concatenate([tail.rows, rows])
            self._tail = _Tail(keys, rows)

    def add(
        self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add records; ignore those whose id exists."""
        self._journal.add(self._letter, ids, embeddings)
        self._inner.add(ids, embeddings=embeddings, metadatas=metadatas)
        self._has_index = True

    def upsert(
        self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add or replace records; close the epoch, so that others reload.

        Their index may hold a vector that was replaced.
        """
        self._journal.close_epoch()
        self._inner.upsert(ids, embeddings=embeddings, metadatas=metadatas)
        self._has_index = True

    def delete(self, ids: list[str]) -> Any:
        """Delete records, and begin another epoch, so that others reload."""
        self._on_delete()
        self._journal.rotate()
        return self._inner.delete(ids)

    def update(self, ids: list[str], *, metadatas: Sequence[Mapping[str, Any]]) -> None:
        """Replace metadata of existing records; keep their vectors."""
        self._inner.update(ids, metadatas=metadatas)

    def count(self) -> int:
        """Count the records."""
        return self._inner.count()

    def get(
        self,
        ids: list[str] | None = None,
        *,
        where: Any = None,
        limit: int | None = None,
        offset: int | None = None,
        include: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Look up records, with the vectors of later ones from the journal.

        Chroma reads vectors from its index, and fails for later records.
        """
        tail = self._tail
        if tail is None or ids is None or "embeddings" not in include:
            return self._inner.get(
                ids, where=where, limit=limit, offset=offset, include=list(include)
            )
        wanted = set(ids)
        later = {key: row for key, row in zip(*tail, strict=True) if key in wanted}
        others = [key for key in ids if key not in later]
        without = [field for field in include if field != "embeddings"]
        got = self._inner.get(list(later), include=without) if later else _nothing(include)
        got = dict(got) | {"embeddings": [later[key] for key in got["ids"]]}
        if others and self._has_index:
            rest = self._inner.get(others, include=list(include))
            got |= {field: [*got[field], *rest[field]] for field in ("ids", *include)}
        return got

    def query(
        self,
        *,
        query_embeddings: Any,
        n_results: int,
        include: Sequence[str] = (),
        where: Any = None,
    ) -> dict[str, Any]:
        """Find the nearest records, of those that `where` matches.

        Raises:
            StaleIndexError: The index must be reloaded before `where` can be applied to it.
        """
        among: dict[str, Any] = {}
        tail, has_index = self._tail, self._has_index
        if where is not None:
            keys = self._matching(where)
            tail = None if self._tail is None else _among(self._tail, keys)
            indexed = keys if tail is None else keys.difference(tail.keys)
            among, has_index = {"ids": list(indexed)}, has_index and bool(indexed)
        if tail is None and has_index:
            return self._inner.query(
                query_embeddings=query_embeddings,
                n_results=n_results,
                include=list(include),
                **among,
            )
        fields = ["metadatas", "distances"]
        found: dict[str, Any] = _nothing(fields)
        for vector in query_embeddings:
            nearest: list[tuple[float, str, Any]] = []
            if has_index:
                got = self._inner.query(
                    query_embeddings=[vector], n_results=n_results, include=fields, **among
                )
                nearest = list(
                    zip(got["distances"][0], got["ids"][0], got["metadatas"][0], strict=True)
                )
            if tail is not None:
                nearest = self._merged(nearest, tail, vector, n_results)
            for field, index in (("distances", 0), ("ids", 1), ("metadatas", 2)):
                found[field].append([each[index] for each in nearest])
        return found

    def _matching(self, where: Any) -> set[str]:
        """Return the keys of matching records, all in the index or the tail."""
        keys = set(self._inner.get(where=where, include=[])["ids"])
        # Chroma fails if it must search among records that are not in its index. Records of other
        # processes are in the journal before `get` returns them.
        if not self._catch_up():
            msg = "the index of the store is older than its records"
            raise StaleIndexError(msg)
        return keys

    def _merged(
        self, nearest: list[tuple[float, str, Any]], tail: _Tail, vector: Any, n_results: int
    ) -> list[tuple[float, str, Any]]:
        """Return the nearest of the records of the index and of the tail."""
        import numpy as np

        query = _normalised(np.asarray([vector], dtype=np.float32))[0]
        if tail.rows.shape[1] != len(query):
            return nearest  # in the journal, but refused by Chroma for its dimensions
        distances = 1.0 - tail.rows @ query
        farthest = nearest[-1][0] if len(nearest) >= n_results else np.inf
        near = np.flatnonzero(distances <= farthest)
        order = near[np.argsort(distances[near], kind="stable")]
        known = {key for _, key, _ in nearest}
        candidates: dict[str, float] = {}
        for place in map(int, order):
            if tail.keys[place] not in known:
                candidates.setdefault(tail.keys[place], float(distances[place]))
        keys = list(candidates)
        later: list[tuple[float, str, Any]] = []
        while keys and len(later) < n_results:
            group, keys = keys[:n_results], keys[n_results:]
            got = self._inner.get(group, include=["metadatas"])
            later += [
                (candidates[key], key, metadata)
                for key, metadata in zip(got["ids"], got["metadatas"], strict=True)
            ]
        return sorted([*nearest, *later], key=lambda each: each[0])[:n_results]


class View(Generic[C]):
    """Hold the collections of one open client, with later records.

    Any thread may use it.

    Args:
        collections: Dataclass with the collections of Chroma.
        journal: Journal of the epoch in which the client was opened.
        on_delete: Called before vectors are deleted.
        catch_up: Applies records that others have stored; returns whether they are all.
    """

    def __init__(
        self,
        collections: C,
        journal: Journal,
        on_delete: Callable[[], None],
        catch_up: Callable[[], bool],
    ) -> None:
        self.journal = journal
        searched = {
            name: FreshCollection(getattr(collections, name), letter, journal, on_delete, catch_up)
            for name, letter in collections.indexes.items()
        }
        self.collections: C = replace(cast("Any", collections), **searched)
        self.is_loaded = False
        self._searched = tuple(searched.values())
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the indexes that queries need; under the lock."""
        if not self.is_loaded:
            for collection in self._searched:
                collection.load()
            self.is_loaded = True

    def apply_journal(self, epoch: str) -> bool:
        """Add the records in the journal; return whether it has all of them.

        Args:
            epoch: Epoch of the generation mark, read just before.
        """
        with self._lock:
            records = self.journal.read_since(epoch)
            if records is None:
                return False
            for collection in self._searched:
                collection.add_rows(records)
        return True


def _among(tail: _Tail, keys: Set[str]) -> _Tail:
    """Return the part of a tail that belongs to some records."""
    places = [place for place, key in enumerate(tail.keys) if key in keys]
    return _Tail(tuple(tail.keys[place] for place in places), tail.rows[places])


def _nothing(include: Sequence[str]) -> dict[str, Any]:
    return {field: [] for field in ("ids", *include)}


def _normalised(rows: Rows) -> Rows:
    import numpy as np

    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + np.float32(_TINY))
