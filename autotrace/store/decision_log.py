"""Store decisions in their own collections.

The process that changes a decision writes the event itself. So an embedded store has a folder with
its own lock for them: an answer does not wait for a batch of traces, and reopening stays cheap.
docs/explanation/storage.md lists the collections and record ids. `waiting` is set before a request
is appended and cleared after its answer, so it may name a decision that does not wait any more; the
log is authoritative.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, cast

from autotrace.ids import is_decision_id
from autotrace.store import schema, timeline
from autotrace.store import task_index as texts
from autotrace.store.chroma_embedded import may_exist
from autotrace.store.connection import Connection, ServerOptions, connect_to
from autotrace.store.numbered_records import read_chains, record_id
from autotrace.store.paged_lists import Appender
from autotrace.store.schema import (
    NO_VECTOR,
    Collection,
    all_ids,
    documents,
    groups,
    max_batch_of,
    open_collection,
)
from autotrace.store.task_index import Text, TextIndex
from autotrace.store.timeline import TimelineEntry

FOLDER: Final = "decisions"
"""Folder in an embedded store."""
SCHEMA_VERSION: Final = 2
_OLDEST_VERSION: Final = 1
"""The oldest version that is opened without a rebuild: one vector per decision, under its id."""
HIDING_KEY_ID: Final = "key/hidden"
"""Record id of the key of the digests that replace hidden arguments."""
_FIRST_LOOK: Final = 8
_WAITING: Final = "waiting"
_RECEIPT: Final = "receipt"
_PREFIX: Final = "autotrace-decision-"
_TEXTS_AT_ONCE: Final = 64
_TIE: Final = 1e-6
"""Similarities, computed in single precision, that differ by less are equal."""


@dataclass(frozen=True)
class DecisionCollections:
    """Hold the collections of decisions of one open store."""

    indexes: ClassVar[Mapping[str, str]] = {"search": "d"}

    log: Collection
    state: Collection
    lists: Collection
    waiting: Collection
    search: Collection
    texts: Collection
    max_batch: int
    """Number of records that Chroma accepts in one call."""
    client: Any
    """Client of Chroma; a rebuild deletes and makes collections with it."""
    by_texts: bool = True
    """Whether decisions of one text share a vector, as from schema 2 on."""


class IndexedText(NamedTuple):
    """Hold the text by which a decision is found."""

    key: str
    """See `text_keys.TextKey`."""
    created_ns: int
    """Time at which the decision was opened."""
    vector: Any


def exist(store: str) -> bool:
    """Return whether decisions may exist; see `may_exist`."""
    return may_exist(store, FOLDER)


def connect_decisions(
    store: str, *, space: str | None, server: ServerOptions | None = None
) -> Connection[DecisionCollections]:
    """Make the connection to the decisions of a store without opening it.

    Raises:
        InvalidArgumentError: The store is neither a path nor a URL.
    """
    place = store if "://" in store else f"{store}/{FOLDER}"
    return connect_to(place, open_decisions, space=space, server=server)


def open_decisions(client: Any, store: str, space: str | None) -> DecisionCollections:
    """Open or make the collections.

    Raises:
        StoreVersionError: The store has a version that this library does not open.
        EmbeddingSpaceError: The store holds vectors of another space.
        StoreError: A rebuild is running, or was interrupted.
    """
    state = open_collection(client, f"{_PREFIX}state", schema.LOOKUP)
    found = schema.check(state, store, space, SCHEMA_VERSION, oldest=_OLDEST_VERSION)
    names = ("log", "lists", "waiting", "texts")
    return DecisionCollections(
        **{name: open_collection(client, _PREFIX + name, schema.LOOKUP) for name in names},
        state=state,
        search=open_collection(client, f"{_PREFIX}search", schema.SEARCH),
        max_batch=max_batch_of(client),
        client=client,
        by_texts=found > _OLDEST_VERSION,
    )


def delete_search(collections: DecisionCollections) -> None:
    """Delete the index of texts; opening the store makes an empty one."""
    client = collections.client
    existing = {collection.name for collection in client.list_collections()}
    for name in {f"{_PREFIX}search", f"{_PREFIX}texts"} & existing:
        client.delete_collection(name)


def read_logs(log: Collection, decision_ids: Sequence[str]) -> dict[str, list[list[Any]]]:
    """Return the changes of decisions, in order, each a list of events.

    An unknown decision has none. A damaged event is an empty object.
    """

    def read(ids: Sequence[str]) -> dict[str, list[Any]]:
        got = log.get(ids=list(ids), include=["metadatas"])
        return {i: _events(m) for i, m in zip(got["ids"], got["metadatas"], strict=True)}

    return read_chains(read, decision_ids, _FIRST_LOOK)


def _events(metadata: Any) -> list[Any]:
    try:
        events = schema.document_of(metadata)
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error):
        events = None
    if not isinstance(events, list) or not events:
        return [{}]
    return [event if isinstance(event, dict) else {} for event in cast("list[Any]", events)]


def logged(log: Collection) -> list[str]:
    """Return the id of every decision in the log, in any order."""
    return list(dict.fromkeys(n for i in all_ids(log) if is_decision_id(n := i.partition("/")[0])))


def receipts(log: Collection) -> dict[str, set[str]]:
    """Return the ids of the events that have receipts, by decision."""
    found: dict[str, set[str]] = {}
    for receipt in all_ids(log):
        kind, _, rest = receipt.partition("/")
        if kind == _RECEIPT:
            decision_id, _, event_id = rest.partition("/")
            found.setdefault(decision_id, set()).add(event_id)
    return found


def append_event(
    collections: DecisionCollections,
    decision_id: str,
    number: int,
    events: Sequence[Any],
    *,
    also: Mapping[str, Any] | None = None,
) -> bool:
    """Append a change to the log of a decision; return whether it was first.

    Args:
        collections: The collections.
        decision_id: Id of the decision.
        number: Number of changes before.
        events: Events of the change.
        also: Other records to add in the same call.

    Returns:
        False if another process has appended a change with this number.
    """
    change_id = record_id(decision_id, number)
    schema.add(collections.log, {change_id: list(events)} | dict(also or {}))
    (stored,) = documents(collections.log, [change_id]).values()
    return stored[0]["event_id"] == events[0]["event_id"]


def replace(
    collections: DecisionCollections, decision_id: str, changes: Mapping[int, Sequence[Any]]
) -> None:
    """Replace changes, given by number."""
    records = {record_id(decision_id, number): list(e) for number, e in changes.items()}
    schema.upsert(collections.log, records)


def add_decision_entry(
    collections: DecisionCollections,
    created_ns: int,
    decision_id: str,
    writer: str,
    exclusive: bool,
) -> None:
    """Add a new decision to the timeline.

    Raises:
        StoreUnavailableError: Other writers came first at each attempt.
    """
    appender = Appender(writer, 0, exclusive, collections.max_batch)
    entries = [TimelineEntry(created_ns, decision_id)]
    timeline.add_timeline_entry(collections.lists, entries, appender)


def set_waiting(collections: DecisionCollections, decision_id: str, *, waits: bool) -> None:
    """Set whether a request of a decision may be waiting for its answer."""
    collections.waiting.upsert([decision_id], embeddings=[NO_VECTOR], metadatas=[{_WAITING: waits}])


def waiting(collections: DecisionCollections) -> list[str]:
    """Return the ids of all decisions that may be waiting for an answer."""
    return list(collections.waiting.get(where={_WAITING: True}, include=[])["ids"])


def superseded_id(decision_id: str) -> str:
    """Return the record id of the decision that superseded this one."""
    return f"superseded/{decision_id}"


def receipt_id(decision_id: str, event_id: str) -> str:
    """Return the record id of the receipt of an end."""
    return f"{_RECEIPT}/{decision_id}/{event_id}"


def text_index(collections: DecisionCollections) -> TextIndex:
    """Return the index of the texts of decisions."""

    def alive(decision_ids: Sequence[str], key: str) -> set[str]:
        states = _text_states(collections, decision_ids)
        return {i for i, state in states.items() if state.key == key}

    return TextIndex(collections.search, collections.texts, "x", alive)


class _TextState(NamedTuple):
    """Hold the text under which a decision is found."""

    key: str | None
    stale: frozenset[str]
    """Keys under which the index may still hold the decision, to be removed."""


def _text_states(
    collections: DecisionCollections, decision_ids: Iterable[str]
) -> dict[str, _TextState]:
    found = documents(collections.texts, (f"of/{i}" for i in decision_ids))
    return {
        state_id.partition("/")[2]: _TextState(state["key"], frozenset(state["stale"]))
        for state_id, state in found.items()
    }


def _put_text_states(collections: DecisionCollections, states: Mapping[str, _TextState]) -> None:
    records = {f"of/{i}": {"key": s.key, "stale": sorted(s.stale)} for i, s in states.items()}
    schema.upsert(collections.texts, records, collections.max_batch)


def put_search(
    collections: DecisionCollections, found: Mapping[str, IndexedText], *, exclusive: bool
) -> None:
    """Index decisions by their texts, and remove them from former texts.

    If a writer dies between the steps, the next writer removes its entries.

    Raises:
        StoreUnavailableError: Other writers came first at each attempt.
    """
    if not collections.by_texts:
        ids, vectors = list(found), [text.vector for text in found.values()]
        collections.search.upsert(ids, embeddings=vectors, metadatas=[{"indexed": True}] * len(ids))
        return
    states = _text_states(collections, found)
    begun: dict[str, _TextState] = {}
    entered: dict[str, _TextState] = {}
    for decision_id, text in found.items():
        state = states.get(decision_id, _TextState(None, frozenset()))
        if state.key == text.key and not state.stale:
            continue
        former = state.stale | ({state.key} if state.key is not None else set[str]())
        begun[decision_id] = _TextState(state.key, former | {text.key})
        entered[decision_id] = _TextState(text.key, former - {text.key})
    if not begun:
        return
    _put_text_states(collections, begun)
    index = text_index(collections)
    entries = {TimelineEntry(found[i].created_ns, i): found[i].key for i in begun}
    vectors = {found[i].key: found[i].vector for i in begun}
    appender = Appender(secrets.token_hex(8), 0, exclusive, collections.max_batch)
    texts.add_task(index, entries, vectors, appender=appender)
    _put_text_states(collections, entered)
    changed = {i: state for i, state in entered.items() if state.stale}
    for key in {key for state in changed.values() for key in state.stale}:
        texts.remove_unused(index, key, exclusive=exclusive)
    if changed:
        none = frozenset[str]()
        _put_text_states(collections, {i: _TextState(s.key, none) for i, s in changed.items()})


def nearest(
    collections: DecisionCollections, vector: Any, limit: int
) -> tuple[list[tuple[str, float]], bool]:
    """Return the nearest decisions with their cosine similarity.

    Returns:
        The decisions, nearest first, of equally near ones the newest first; and whether these are
        all decisions.
    """
    if not collections.by_texts:
        result = collections.search.query(
            query_embeddings=[vector], n_results=limit, include=["distances"]
        )
        found = [
            (decision_id, min(1.0, max(0.0, 1.0 - distance)))
            for decision_id, distance in zip(result["ids"][0], result["distances"][0], strict=True)
        ]
        return found, len(found) < limit
    index = text_index(collections)
    near = texts.nearest(index, vector, limit=limit)
    ranked: list[tuple[int, int, str, float]] = []
    for group in groups(near, _TEXTS_AT_ONCE):
        for text, entries in texts.traces_of(index, group, limit).items():
            ranked += _ranked(index, text, entries)
        if len(ranked) >= limit:
            break
    ranked.sort()
    found = [(decision_id, similarity) for _, _, decision_id, similarity in ranked]
    return found[:limit], len(near) < limit and len(found) < limit


def _ranked(
    index: TextIndex, text: Text, entries: Iterable[TimelineEntry]
) -> list[tuple[int, int, str, float]]:
    """Return the sort keys of the decisions that still have a text."""
    at = {entry.trace_id: entry.start_ns for entry in entries}
    tie = -round(text.similarity / _TIE)
    return [(tie, -at[i], i, text.similarity) for i in index.alive(list(at), text.key)]
