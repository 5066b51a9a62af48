"""Define the collections, schema version and embedding space of a store.

Every collection but the log is a projection of it. Succeeded and failed traces have collections of
their own: a Chroma query with a filter that matches most records is a hundred times slower. Chroma
requires vectors, so a record without a text has a constant one of two dimensions. All record ids
are listed in docs/explanation/storage.md.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Final, Protocol, TypeVar, cast

import orjson

from autotrace.errors import EmbeddingSpaceError, StoreError, StoreVersionError

T = TypeVar("T")

SCHEMA_VERSION: Final = 3
_OLDEST_VERSION: Final = 2
"""The oldest version that is opened without a rebuild; see `Collections.by_tokens`."""
STORE_RECORD_ID: Final = "store"
NO_VECTOR: Final = [0.0, 0.0]
JSON_KEY: Final = "json"
"""The metadata key of a record's document. Chroma's `document` field has a full-text index, which
doubles the cost of a write and is never queried."""
COMPRESSED_KEY: Final = "zlib"
"""The metadata key of a large document: base64 of its deflated JSON. Chroma keeps a metadata string
in three places (queue, table and index)."""
_COMPRESS_FROM_BYTES: Final = 1000
MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""Approximate size of one call; Chroma's server refuses more than 40 MB."""
PERSIST_AFTER: Final = 200
"""Number of records after which Chroma persists; see persist_interval.py for large collections."""
LOOKUP: Final = {
    "hnsw": {
        "space": "l2",
        "max_neighbors": 4,
        "ef_construction": 8,
        # Chroma rereads all unpersisted records at every write, and parts of the log are large.
        "batch_size": 100,
        "sync_threshold": PERSIST_AFTER,
    }
}
SEARCH: Final = {"hnsw": {"space": "cosine"}}
MAX_IDS: Final = 512
"""Number of ids in one call."""
_PAGE: Final = 5_000
_PREFIX: Final = "autotrace-"


class Collection(Protocol):
    """The part of a Chroma collection that the store uses."""

    def add(
        self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add records; ignore those whose id exists."""

    def upsert(
        self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add or replace records."""

    def update(self, ids: list[str], *, metadatas: Sequence[Mapping[str, Any]]) -> None:
        """Replace metadata of existing records; keep their vectors."""

    def get(
        self,
        ids: list[str] | None = None,
        *,
        where: Any = None,
        limit: int | None = None,
        offset: int | None = None,
        include: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Look up records."""
        ...

    def query(
        self,
        *,
        query_embeddings: Any,
        n_results: int,
        include: Sequence[str] = (),
        where: Any = None,
    ) -> dict[str, Any]:
        """Find the nearest records, of those that `where` matches."""
        ...

    def delete(self, ids: list[str]) -> Any:
        """Delete records; ignore unknown ids."""

    def count(self) -> int:
        """Count the records."""
        ...

    def modify(self, *, configuration: Any) -> Any:
        """Change the configuration that applies from the next opening."""


class OpenedCollections(Protocol):
    """Define the collections that every kind of store has."""

    indexes: ClassVar[Mapping[str, str]]
    """The collections that are searched by meaning, each with its letter in the journal."""

    @property
    def log(self) -> Collection:
        """The log, of which all other collections are projections."""
        ...

    @property
    def state(self) -> Collection:
        """Records about the store itself."""
        ...


@dataclass(frozen=True)
class Collections:
    """Hold the collections of one open store."""

    indexes: ClassVar[Mapping[str, str]] = {"succeeded": "s", "failed": "f"}

    log: Collection
    state: Collection
    summaries: Collection
    lists: Collection
    succeeded: Collection
    failed: Collection
    max_batch: int
    """Number of records that Chroma accepts in one call."""
    client: Any
    """Client of Chroma; a rebuild deletes and makes collections with it."""
    by_tokens: bool = True
    """Whether keys of texts are made of tokens (schema 3); see `text_keys.TextKeys`."""


def open_collections(client: Any, store: str, space: str | None) -> Collections:
    """Open or make the collections of a store.

    Raises:
        StoreVersionError: The store has a version that this library does not open.
        EmbeddingSpaceError: The store holds vectors of another space.
        StoreError: A rebuild is running, or was interrupted.
    """
    state = open_collection(client, f"{_PREFIX}state", LOOKUP)
    found = check(state, store, space, SCHEMA_VERSION, oldest=_OLDEST_VERSION)
    lookups = {n: open_collection(client, _PREFIX + n, LOOKUP) for n in ("log", *_LOOKED_UP)}
    searches = {n: open_collection(client, _PREFIX + n, SEARCH) for n in Collections.indexes}
    return Collections(
        **lookups,
        **searches,
        state=state,
        max_batch=max_batch_of(client),
        client=client,
        by_tokens=found > _OLDEST_VERSION,
    )


_LOOKED_UP: Final = ("summaries", "lists")
PROJECTIONS: Final = (*_LOOKED_UP, *Collections.indexes)
"""The collections that a rebuild deletes and makes again."""


def open_collection(client: Any, name: str, configuration: Mapping[str, Any]) -> Collection:
    """Open a collection; make it if it does not exist."""
    collection = client.get_or_create_collection(
        name, configuration=configuration, embedding_function=None
    )
    return cast("Collection", collection)


def max_batch_of(client: Any) -> int:
    """Return the number of records for one call of Chroma."""
    return min(client.get_max_batch_size(), 5000)


def check(
    state: Collection, store: str, space: str | None, version: int, *, oldest: int | None = None
) -> int:
    """Check and return the version of a store; set it in a new store.

    Args:
        state: Collection with the record of the store.
        store: Name of the store, for errors.
        space: Required embedding space; None skips all checks except that for a newer version.
        version: Schema version that this library writes.
        oldest: Oldest version that it opens; by default `version`.

    Raises:
        StoreVersionError: The store has a version that this library does not open.
        EmbeddingSpaceError: The store holds vectors of another space.
        StoreError: A rebuild is running, or was interrupted.
    """
    known = documents(state, [STORE_RECORD_ID]).get(STORE_RECORD_ID)
    if known is None:
        if space is None:
            return version
        add(state, {STORE_RECORD_ID: {"schema_version": version, "space": space}})
        # Another process may have added the record first.
        known = documents(state, [STORE_RECORD_ID])[STORE_RECORD_ID]
    found = known["schema_version"]
    if found > version:
        msg = (
            f"the store {store} has schema version {found}, and this autotrace knows versions up "
            f"to {version}: upgrade with pip install -U autotrace-agents"
        )
        raise StoreVersionError(msg)
    if space is None:
        return found
    if found < (oldest or version):
        msg = (
            f"the store {store} has schema version {found}, and this autotrace keeps version "
            f"{version}: nothing is lost; bring it up to date with "
            f"`autotrace rebuild --store {store}`"
        )
        raise StoreVersionError(msg)
    if known.get("rebuilding"):
        msg = (
            f"the store {store} is being rebuilt, or a rebuild was interrupted: wait for it, or "
            f"run `autotrace rebuild --store {store}` again"
        )
        raise StoreError(msg)
    if known["space"] != space:
        msg = (
            f"the store {store} holds vectors of the embedding space {known['space']!r}, and the "
            f"configured embedder makes vectors of {space!r}: configure the embedder of the store, "
            f"or embed the store again with `autotrace rebuild --store {store}`"
        )
        raise EmbeddingSpaceError(msg)
    return found


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into groups of at most this size."""
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group


def pages(collection: Collection, include: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield all records of a collection, page by page."""
    seen = 0
    while (page := collection.get(limit=_PAGE, offset=seen, include=[*include]))["ids"]:
        seen += len(page["ids"])
        yield page


def all_ids(collection: Collection) -> Iterator[str]:
    """Yield the id of every record of a collection."""
    for page in pages(collection):
        yield from page["ids"]


def documents(collection: Collection, ids: Iterable[str]) -> dict[str, Any]:
    """Return the JSON documents of those ids that exist."""
    found: dict[str, Any] = {}
    for group in groups(ids, MAX_IDS):
        found |= documents_in(collection.get(ids=group, include=["metadatas"]))
    return found


def documents_in(got: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON documents in the result of a `get`, by id."""
    return {i: document_of(m) for i, m in zip(got["ids"], got["metadatas"], strict=True)}


def document_of(metadata: Mapping[str, Any]) -> Any:
    """Return the JSON document in a record's metadata."""
    compressed = metadata.get(COMPRESSED_KEY)
    if compressed is None:
        return orjson.loads(metadata[JSON_KEY])
    return orjson.loads(zlib.decompress(base64.b64decode(compressed)))


def _metadata_of(text: bytes) -> dict[str, str]:
    if len(text) < _COMPRESS_FROM_BYTES:
        return {JSON_KEY: text.decode()}
    return {COMPRESSED_KEY: base64.b64encode(zlib.compress(text, 1)).decode()}


def add(collection: Collection, records: Mapping[str, Any], max_batch: int = 1000) -> None:
    """Add JSON documents without a vector; skip those whose id exists."""
    for ids, metadatas in _batches(records, max_batch):
        collection.add(ids, embeddings=[NO_VECTOR] * len(ids), metadatas=metadatas)


def upsert(collection: Collection, records: Mapping[str, Any], max_batch: int = 1000) -> None:
    """Add or replace JSON documents without a vector."""
    for ids, metadatas in _batches(records, max_batch):
        # Chroma keeps a key that a later record does not name; None removes it.
        whole = [dict.fromkeys((JSON_KEY, COMPRESSED_KEY)) | metadata for metadata in metadatas]
        collection.upsert(ids, embeddings=[NO_VECTOR] * len(ids), metadatas=whole)


def _batches(
    records: Mapping[str, Any], max_batch: int
) -> Iterator[tuple[list[str], list[dict[str, str]]]]:
    """Split records by Chroma's limits of number and of request size."""
    ids: list[str] = []
    metadatas: list[dict[str, str]] = []
    size_bytes = 0
    for record_id, document in records.items():
        text = document if isinstance(document, bytes) else orjson.dumps(document)
        metadata = _metadata_of(text)
        length = sum(map(len, metadata.values()))
        if ids and (len(ids) >= max_batch or size_bytes + length > MAX_REQUEST_BYTES):
            yield ids, metadatas
            ids, metadatas, size_bytes = [], [], 0
        ids.append(record_id)
        metadatas.append(metadata)
        size_bytes += length
    if ids:
        yield ids, metadatas
