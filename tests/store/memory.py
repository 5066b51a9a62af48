"""A store in memory, so quick that a property can be tried on hundreds of histories of it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from typing_extensions import override

from autotrace.store.connection import Connection
from autotrace.store.schema import Collections


class Stopped(Exception):
    """Stands for the death of the process that writes."""


class MemoryCollection:
    """What the store uses of a Chroma collection, but for queries.

    Args:
        written: Called before and after each write.
    """

    def __init__(self, written: Callable[[], None]) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.vectors: dict[str, Any] = {}
        self._written = written

    def add(self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Any]) -> None:
        new = list(zip(ids, embeddings, metadatas, strict=True))
        self._put([item for item in new if item[0] not in self.records])

    def upsert(self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Any]) -> None:
        self._put(list(zip(ids, embeddings, metadatas, strict=True)))

    def update(self, ids: list[str], *, metadatas: Sequence[Any]) -> None:
        self._put([(i, self.vectors[i], m) for i, m in zip(ids, metadatas, strict=True)])

    def _put(self, items: list[tuple[str, Any, Mapping[str, Any]]]) -> None:
        self._written()
        for record_id, vector, metadata in items:
            merged = self.records.get(record_id, {}) | dict(metadata)
            self.records[record_id] = {k: v for k, v in merged.items() if v is not None}
            self.vectors[record_id] = vector
        self._written()

    def delete(self, ids: list[str]) -> None:
        self._written()
        for record_id in ids:
            self.records.pop(record_id, None)
            self.vectors.pop(record_id, None)
        self._written()

    def count(self) -> int:
        return len(self.records)

    def get(
        self,
        ids: list[str] | None = None,
        *,
        where: Any = None,
        limit: int | None = None,
        offset: int | None = None,
        include: Sequence[str] = (),
    ) -> dict[str, Any]:
        assert where is None
        wanted = set(ids) if ids is not None else None
        found = [i for i in self.records if wanted is None or i in wanted]
        found = found[offset or 0 :][: len(found) if limit is None else limit]
        return {
            "ids": found,
            "metadatas": copy.deepcopy([self.records[i] for i in found]),
            "embeddings": [self.vectors[i] for i in found],
        }


class MemoryConnection(Connection[Collections]):
    """A store of one process.

    Args:
        exclusive: Whether it is as an embedded store, or as one on a server.
    """

    def __init__(self, *, exclusive: bool) -> None:
        super().__init__("memory", "test-small")
        self.exclusive = exclusive
        self.stop_after = -1
        """With so many more writes the process dies; before or after one, so there are two each."""
        self._generation = 0
        made = {name: MemoryCollection(self._write) for name in _NAMES}
        self.collections = Collections(**made, max_batch=1000, client=None)  # type: ignore[arg-type] - a dict of all its fields

    def _write(self) -> None:
        self.stop_after -= 1
        if self.stop_after == 0:
            raise Stopped

    @override
    @contextlib.contextmanager
    def reading(self, *, fresh: bool = False) -> Generator[Collections]:
        yield self.collections

    @override
    @contextlib.contextmanager
    def writing(self) -> Generator[Collections]:
        self._generation += 1
        try:
            yield self.collections
        finally:
            self._generation += 1

    @override
    def generation(self) -> str:
        return f"{self._generation} me" if self.exclusive else ""

    @property
    @override
    def is_open(self) -> bool:
        return True

    @override
    def invalidate(self) -> None: ...

    @override
    def refresh(self) -> None: ...

    @override
    def drop_broken_indexes(self) -> None: ...

    @override
    def close(self) -> None: ...


_NAMES = ("log", "state", "summaries", "lists", "succeeded", "failed")
