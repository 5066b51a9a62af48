"""Which traces are open that no process owns: those that are told of from elsewhere, call by call.

| collection | id | holds |
|---|---|---|
| open | `o/{trace id}` | how the trace began, and whose it is |
| open | `c/{trace id}` | how it was completed: whoever adds this first has completed it |

Chroma's `add` leaves an id that exists as it is, so of any number of processes that complete a
trace at once one does, and all see which. In an embedded store this lies in a folder of its own,
with a lock of its own, so that a turn at writing costs little; on a Chroma server it is a
collection beside those of traces.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import orjson

from autotrace.store import schema
from autotrace.store.connection import Connection, ServerOptions, connect_to
from autotrace.store.schema import JSON_KEY, NO_VECTOR, Collection

FOLDER: Final = "open"
"""Of an embedded store."""
_OPENED: Final = "o/"
_CLOSED: Final = "c/"
_OWNER: Final = "owner"
"""The metadata key of whom a trace counts for."""
_CLOSED_AT: Final = "closed_at_s"
"""The metadata key of when it was completed, in seconds since the epoch."""
_NS_PER_S: Final = 10**9


@dataclass(frozen=True)
class OpenCollections:
    """The one collection, opened."""

    indexes: ClassVar[Mapping[str, str]] = {}

    log: Collection
    state: Collection


@dataclass(frozen=True)
class Entry:
    """What is known of a trace."""

    opening: Any
    """How it began."""
    closing: Any = None
    """How it was completed; None while it is open."""


def _open(client: Any, store: str, space: str | None) -> OpenCollections:
    collection = cast(
        "Collection",
        client.get_or_create_collection(
            "autotrace-open", configuration=schema.LOOKUP, embedding_function=None
        ),
    )
    return OpenCollections(collection, collection)


class OpenTraces:
    """The open traces of one store. Any thread may use it.

    Args:
        store: A path, or the URL of a Chroma server.
        server: How to reach the server.

    Raises:
        InvalidArgumentError: The store is neither.

    Every method raises StoreUnavailableError if the store does not answer.
    """

    def __init__(self, store: str, server: ServerOptions | None = None) -> None:
        place = store if "://" in store else f"{store}/{FOLDER}"
        self._connection: Connection[OpenCollections] = connect_to(
            place, _open, space=None, server=server
        )

    def begin(self, trace_id: str, owner: str, opening: Any) -> None:
        """Enter a trace.

        Args:
            trace_id: Its id, which no other has.
            owner: Whom it counts for.
            opening: How it began, as JSON.
        """
        self._add(_OPENED + trace_id, owner, opening)

    def close(self, trace_id: str, owner: str, closing: Any) -> Any:
        """Complete a trace, unless it is.

        Returns:
            How it was completed: the same if this did it, else what was given by who came first.
        """
        self._add(_CLOSED + trace_id, owner, closing)
        return self._documents([_CLOSED + trace_id])[_CLOSED + trace_id]

    def find(self, trace_id: str) -> Entry | None:
        """Return what is known of a trace; None if it was never entered, or was removed."""
        opened, closed = _OPENED + trace_id, _CLOSED + trace_id
        found = self._documents([opened, closed])
        return Entry(found[opened], found.get(closed)) if opened in found else None

    def openings(self, trace_ids: Sequence[str]) -> dict[str, Any]:
        """Return how those of some traces began that are known."""
        found = self._documents([_OPENED + trace_id for trace_id in trace_ids])
        return {record_id.removeprefix(_OPENED): opening for record_id, opening in found.items()}

    def is_open(self, trace_id: str) -> bool | None:
        """Tell whether a trace may be added to; None if it is not known."""
        opened, closed = _OPENED + trace_id, _CLOSED + trace_id
        ids = self._connection.read(lambda c: c.log.get([opened, closed], include=[])["ids"])
        return closed not in ids if opened in ids else None

    def open_count(self, owner: str) -> int:
        """Return how many traces are open that count for somebody."""
        where = {_OWNER: owner}
        ids = self._connection.read(lambda c: c.log.get(where=where, include=[])["ids"])
        closed = sum(record_id.startswith(_CLOSED) for record_id in ids)
        return len(ids) - 2 * closed

    def closed(self, before_ns: int, limit: int) -> list[str]:
        """Return the ids of traces that were completed before a time, in any order."""
        where = {_CLOSED_AT: {"$lt": before_ns // _NS_PER_S}}
        ids = self._connection.read(
            lambda c: c.log.get(where=where, limit=limit, include=[])["ids"]
        )
        return [record_id.removeprefix(_CLOSED) for record_id in ids]

    def remove(self, trace_ids: Sequence[str]) -> None:
        """Forget traces; unknown ids are ignored."""
        ids = [prefix + trace_id for trace_id in trace_ids for prefix in (_CLOSED, _OPENED)]
        if ids:
            with self._connection.writing() as collections:
                collections.log.delete(ids)

    def stop(self) -> None:
        """Let go of the store; a later use opens it again."""
        self._connection.close()

    def _add(self, record_id: str, owner: str, document: Any) -> None:
        metadata: dict[str, Any] = {JSON_KEY: orjson.dumps(document).decode(), _OWNER: owner}
        if record_id.startswith(_CLOSED):
            metadata[_CLOSED_AT] = time.time_ns() // _NS_PER_S
        with self._connection.writing() as collections:
            collections.log.add([record_id], embeddings=[NO_VECTOR], metadatas=[metadata])

    def _documents(self, ids: Sequence[str]) -> dict[str, Any]:
        return self._connection.read(lambda c: schema.documents(c.log, ids))
