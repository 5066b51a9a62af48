"""What a store is made of: its collections, its version, its embedding space.

| collection | id | vector | holds |
|---|---|---|---|
| log | `{otel trace id}/{n}` | none | span records, appended; the truth |
| state | `store` | none | schema version and embedding space |
| state | `stats/…` | none | statistics of each tool |
| summaries | trace id | none | traces without their steps |
| lists | `t…` | none | the timeline: which traces started when (see timeline.py) |
| lists | `s/…`, `f/…` | none | which traces share a task text (see task_index.py) |
| succeeded, failed | key of a text | of the text | task texts of completed traces |

Everything but the log is a projection of it. Succeeded and failed traces are
apart because nearly every query filters on success, and a filter that matches most of a collection
makes a Chroma query a hundred times slower. A record without a vector has a constant one of two
dimensions, as Chroma asks for one.
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
"""The version that is kept as it is; see `Collections.by_tokens`."""
STORE_RECORD_ID: Final = "store"
NO_VECTOR: Final = [0.0, 0.0]
JSON_KEY: Final = "json"
"""The one metadata key under which a record's document lies.

Not Chroma's `document` field: that one is indexed for full-text search, which doubles the cost of
a write and is never asked.
"""
COMPRESSED_KEY: Final = "zlib"
"""The metadata key of a large document: base64 of its deflated JSON.

Chroma keeps a metadata string three times over (in its queue, its table and an index), so that
large documents cost twice the time and three times the disk uncompressed.
"""
_COMPRESS_FROM_BYTES: Final = 1000
MAX_REQUEST_BYTES: Final = 8 * 1024 * 1024
"""About how much goes to Chroma in one call; its server refuses more than 40 MB."""
PERSIST_AFTER: Final = 200
"""How many records Chroma lets come together before it persists; more in a large collection: see
persist_interval.py."""
LOOKUP: Final = {
    "hnsw": {
        "space": "l2",
        "max_neighbors": 4,
        "ef_construction": 8,
        # Chroma reads all that it has not persisted yet again at every write, and parts are large.
        "batch_size": 100,
        "sync_threshold": PERSIST_AFTER,
    }
}
SEARCH: Final = {"hnsw": {"space": "cosine"}}
MAX_IDS: Final = 512
"""How many ids to look up in one call."""
_PREFIX: Final = "autotrace-"


class Collection(Protocol):
    """The part of a Chroma collection that the store uses."""

    def add(
        self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add records; one whose id exists is ignored in silence."""
        ...

    def upsert(
        self, ids: list[str], *, embeddings: Any, metadatas: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add or replace records."""
        ...

    def update(self, ids: list[str], *, metadatas: Sequence[Mapping[str, Any]]) -> None:
        """Replace metadata of records that exist; their vectors stay."""
        ...

    def get(
        self,
        ids: list[str] | None = None,
        *,
        where: Any = None,
        limit: int | None = None,
        offset: int | None = None,
        include: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Look records up."""
        ...

    def query(
        self,
        *,
        query_embeddings: Any,
        n_results: int,
        include: Sequence[str] = (),
        where: Any = None,
    ) -> dict[str, Any]:
        """Find the nearest records; with `where`, of those that it matches."""
        ...

    def delete(self, ids: list[str]) -> Any:
        """Delete records; ids that do not exist are ignored."""
        ...

    def count(self) -> int:
        """Count the records."""
        ...

    def modify(self, *, configuration: Any) -> Any:
        """Change how the collection is kept, from when it is opened next."""
        ...


class OpenedCollections(Protocol):
    """What every kind of store has when it is open."""

    indexes: ClassVar[Mapping[str, str]]
    """The collections that are searched by meaning, each with its letter in the journal."""

    @property
    def log(self) -> Collection:
        """The truth of which all else is a projection."""
        ...

    @property
    def state(self) -> Collection:
        """What is known of the store itself."""
        ...


@dataclass(frozen=True)
class Collections:
    """The collections of one open store."""

    indexes: ClassVar[Mapping[str, str]] = {"succeeded": "s", "failed": "f"}

    log: Collection
    state: Collection
    summaries: Collection
    lists: Collection
    succeeded: Collection
    failed: Collection
    max_batch: int
    """How many records Chroma takes in one call."""
    client: Any
    """Chroma's client, for the repair that makes collections anew."""
    by_tokens: bool = True
    """Whether the keys of texts are of tokens, as from schema 3 on; see `text_keys.TextKeys`."""


def open_collections(client: Any, store: str, space: str | None) -> Collections:
    """Open, or make, the collections of a store, and check that this library may use them.

    Raises:
        StoreVersionError: A newer autotrace wrote the store, or an older one (it says the fix).
        EmbeddingSpaceError: The store holds vectors of another space.
        StoreError: The store is being rebuilt, or a rebuild was interrupted.
    """
    state = open_collection(client, f"{_PREFIX}state", LOOKUP)
    found = check(state, store, space, SCHEMA_VERSION, oldest=_OLDEST_VERSION)
    return Collections(
        log=open_collection(client, f"{_PREFIX}log", LOOKUP),
        state=state,
        summaries=open_collection(client, f"{_PREFIX}summaries", LOOKUP),
        lists=open_collection(client, f"{_PREFIX}lists", LOOKUP),
        succeeded=open_collection(client, f"{_PREFIX}succeeded", SEARCH),
        failed=open_collection(client, f"{_PREFIX}failed", SEARCH),
        max_batch=max_batch_of(client),
        client=client,
        by_tokens=found > _OLDEST_VERSION,
    )


def open_collection(client: Any, name: str, configuration: Mapping[str, Any]) -> Collection:
    """Open a collection; one that is not there yet is made."""
    collection = client.get_or_create_collection(
        name, configuration=configuration, embedding_function=None
    )
    return cast("Collection", collection)


def max_batch_of(client: Any) -> int:
    """Return how many records to give Chroma in one call."""
    return min(client.get_max_batch_size(), 5000)


def check(
    state: Collection, store: str, space: str | None, version: int, *, oldest: int | None = None
) -> int:
    """Check that this library may use a store; a new one is marked as of this library.

    Args:
        state: Where the store says what it is.
        store: Its name, for errors.
        space: The embedding space that its vectors must be of; None accepts any.
        version: The schema version that this library keeps.
        oldest: An older version that it keeps, too; None: there is none.

    Returns:
        The store's version; that of this library if it has none yet.

    Raises:
        StoreVersionError: It is of another version.
        EmbeddingSpaceError: It holds vectors of another space.
        StoreError: It is being rebuilt, or a rebuild was interrupted.
    """
    known = documents(state, [STORE_RECORD_ID]).get(STORE_RECORD_ID)
    if known is None:
        if space is None:
            return version
        known = {"schema_version": version, "space": space}
        add(state, {STORE_RECORD_ID: known})
        # Whoever was first has decided.
        known = documents(state, [STORE_RECORD_ID])[STORE_RECORD_ID]
    found = known["schema_version"]
    if found > version:
        msg = (
            f"the store {store} has schema version {found}, and this autotrace knows versions up "
            f"to {version}: upgrade with pip install -U autotrace-agents"
        )
        raise StoreVersionError(msg)
    if space is not None and found < (oldest or version):
        msg = (
            f"the store {store} has schema version {found}, and this autotrace keeps version "
            f"{version}: nothing is lost; bring it up to date with "
            f"`autotrace rebuild --store {store}`"
        )
        raise StoreVersionError(msg)
    if space is not None and known.get("rebuilding"):
        msg = (
            f"the store {store} is being rebuilt, or a rebuild was interrupted: wait for it, or "
            f"run `autotrace rebuild --store {store}` again"
        )
        raise StoreError(msg)
    if space is not None and known["space"] != space:
        msg = (
            f"the store {store} holds vectors of the embedding space {known['space']!r}, and the "
            f"configured embedder makes vectors of {space!r}: configure the embedder of the store, "
            f"or embed the store anew with `autotrace rebuild --store {store}`"
        )
        raise EmbeddingSpaceError(msg)
    return found


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into what goes into one call of Chroma."""
    remaining = iter(items)
    while group := list(islice(remaining, size)):
        yield group


def documents(collection: Collection, ids: Sequence[str]) -> dict[str, Any]:
    """Return the JSON documents of those ids that exist."""
    if not ids:
        return {}
    found = collection.get(ids=list(ids), include=["metadatas"])
    return {
        record_id: document_of(metadata)
        for record_id, metadata in zip(found["ids"], found["metadatas"], strict=True)
    }


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
    """Add JSON documents without a vector; those whose id exists are left as they are."""
    for ids, metadatas in _batches(records, max_batch):
        collection.add(ids, embeddings=[NO_VECTOR] * len(ids), metadatas=metadatas)


def upsert(collection: Collection, records: Mapping[str, Any], max_batch: int = 1000) -> None:
    """Add or replace JSON documents without a vector."""
    for ids, metadatas in _batches(records, max_batch):
        # Chroma keeps a key that a later record does not name; None takes it away.
        whole = [dict.fromkeys((JSON_KEY, COMPRESSED_KEY)) | metadata for metadata in metadatas]
        collection.upsert(ids, embeddings=[NO_VECTOR] * len(ids), metadatas=whole)


def _batches(
    records: Mapping[str, Any], max_batch: int
) -> Iterator[tuple[list[str], list[dict[str, str]]]]:
    """Cut records into calls that stay below Chroma's limits of number and of request size."""
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
