"""Where decisions lie: a store of their own, beside that of traces.

| collection | id | vector | holds |
|---|---|---|---|
| log | `{decision id}/{n}` | none | the events of one change of a decision; the truth |
| log | `superseded/{decision id}` | none | which decision has superseded it |
| log | `receipt/{decision id}/{event id}` | none | the receipt of its end by that event |
| log | `key/hidden` | none | the key of the digests that stand for hidden arguments |
| state | `store` | none | schema version and embedding space |
| lists | `t…` | none | the timeline: which decision was opened when (see timeline.py) |
| waiting | decision id | none | whether a request may be waiting for its answer |
| search | key of a text | of the text | texts of decisions (see task_index.py) |
| texts | `of/{decision id}` | none | the key of its text, and those of former ones to remove |
| texts | `x/…` | none | which decisions share a text |

An event is written at once, by whoever makes it, and not by the process that stores traces. In an
embedded store they have a folder of their own, with a lock of its own, so that a person's answer
does not wait for a large batch of traces, and opening it after another process has written stays
cheap; on a Chroma server they are collections beside those of traces.

Schema 1 had a vector per decision in `search`, under its id. Its stores stay so until a rebuild.

`waiting` is written before a request is appended, and taken back after it is answered, so that it
names every decision that waits, and now and then one that does not; the log says which.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, cast

from autotrace.ids import is_decision_id
from autotrace.store import schema, timeline
from autotrace.store import task_index as texts
from autotrace.store.chroma_embedded import CHROMA_DIRECTORY
from autotrace.store.connection import Connection, ServerOptions, connect_to
from autotrace.store.paged_lists import Appender
from autotrace.store.schema import (
    MAX_IDS,
    NO_VECTOR,
    Collection,
    documents,
    groups,
    max_batch_of,
    open_collection,
)
from autotrace.store.task_index import Text, TextIndex
from autotrace.store.timeline import TimelineEntry

FOLDER: Final = "decisions"
"""Of an embedded store."""
SCHEMA_VERSION: Final = 2
_OLDEST_VERSION: Final = 1
"""The version that is kept as it is; see `DecisionCollections.by_texts`."""
HIDING_KEY_ID: Final = "key/hidden"
"""Record id of the key of the digests that stand for hidden arguments."""
_FIRST_LOOK: Final = 8
_PAGE: Final = 5_000
_WAITING: Final = "waiting"
_RECEIPT: Final = "receipt"
_PREFIX: Final = "autotrace-decision-"
_TEXTS_AT_ONCE: Final = 64
_TIE: Final = 1e-6
"""Two similarities closer than this are the same, computed in single precision."""


@dataclass(frozen=True)
class DecisionCollections:
    """The collections of decisions of one open store."""

    indexes: ClassVar[Mapping[str, str]] = {"search": "d"}

    log: Collection
    state: Collection
    lists: Collection
    waiting: Collection
    search: Collection
    texts: Collection
    max_batch: int
    """How many records Chroma takes in one call."""
    client: Any
    """Chroma's client, for the repair that makes collections anew."""
    by_texts: bool = True
    """Whether decisions of one text share a vector, as from schema 2 on."""


class IndexedText(NamedTuple):
    """The text by which a decision is found."""

    key: str
    """See `text_keys.TextKey`."""
    created_ns: int
    """When the decision was opened."""
    vector: Any


def exist(store: str) -> bool:
    """Tell whether there may be decisions: of an embedded store whether any was ever opened."""
    database = Path(store).expanduser() / FOLDER / CHROMA_DIRECTORY / "chroma.sqlite3"
    return "://" in store or database.is_file()


def connect_decisions(
    store: str, *, space: str | None, server: ServerOptions | None = None
) -> Connection[DecisionCollections]:
    """Make the connection to the decisions of a store; nothing is opened yet.

    Raises:
        InvalidArgumentError: The store is neither a path nor a URL.
    """
    place = store if "://" in store else f"{store}/{FOLDER}"
    return connect_to(place, open_decisions, space=space, server=server)


def open_decisions(client: Any, store: str, space: str | None) -> DecisionCollections:
    """Open, or make, the collections.

    Raises:
        StoreVersionError: A newer autotrace wrote them.
        EmbeddingSpaceError: They hold vectors of another space.
    """
    state = open_collection(client, f"{_PREFIX}state", schema.LOOKUP)
    found = schema.check(state, store, space, SCHEMA_VERSION, oldest=_OLDEST_VERSION)
    return DecisionCollections(
        log=open_collection(client, f"{_PREFIX}log", schema.LOOKUP),
        state=state,
        lists=open_collection(client, f"{_PREFIX}lists", schema.LOOKUP),
        waiting=open_collection(client, f"{_PREFIX}waiting", schema.LOOKUP),
        search=open_collection(client, f"{_PREFIX}search", schema.SEARCH),
        texts=open_collection(client, f"{_PREFIX}texts", schema.LOOKUP),
        max_batch=max_batch_of(client),
        client=client,
        by_texts=found > _OLDEST_VERSION,
    )


def delete_search(collections: DecisionCollections) -> None:
    """Delete what finds decisions by meaning, to make it anew: in another dimension, or whole."""
    client = collections.client
    existing = {collection.name for collection in client.list_collections()}
    for name in {f"{_PREFIX}search", f"{_PREFIX}texts"} & existing:
        client.delete_collection(name)


def read_logs(log: Collection, decision_ids: Sequence[str]) -> dict[str, list[list[Any]]]:
    """Return the changes of decisions, in order, each a list of events; none for an unknown one.

    In place of what is no event, because somebody changed it, stands an empty object.
    """
    changes: dict[str, list[list[Any]]] = {decision_id: [] for decision_id in decision_ids}
    pending, width = list(changes), _FIRST_LOOK
    while pending:
        unfinished: list[str] = []
        for group in groups(pending, max(1, MAX_IDS // width)):
            wanted = {
                decision_id: [
                    _change_id(decision_id, len(changes[decision_id]) + n) for n in range(width)
                ]
                for decision_id in group
            }
            found = _changes(log, [record_id for ids in wanted.values() for record_id in ids])
            for decision_id, ids in wanted.items():
                present = [found[record_id] for record_id in ids if record_id in found]
                changes[decision_id] += present
                if len(present) == width:
                    unfinished.append(decision_id)
        pending, width = unfinished, width * 4
    return changes


def _changes(log: Collection, record_ids: Sequence[str]) -> dict[str, list[Any]]:
    found = log.get(ids=list(record_ids), include=["metadatas"])
    return {
        record_id: _events(metadata)
        for record_id, metadata in zip(found["ids"], found["metadatas"], strict=True)
    }


def _events(metadata: Any) -> list[Any]:
    try:
        events = schema.document_of(metadata)
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error):
        events = None
    if not isinstance(events, list) or not events:
        return [{}]
    return [event if isinstance(event, dict) else {} for event in cast("list[Any]", events)]


def logged(log: Collection) -> list[str]:
    """Return the id of every decision of which the log holds anything, in any order."""
    found: dict[str, None] = {}
    seen = 0
    while ids := log.get(limit=_PAGE, offset=seen, include=[])["ids"]:
        seen += len(ids)
        names = (record_id.partition("/")[0] for record_id in ids)
        found.update((name, None) for name in names if is_decision_id(name))
    return list(found)


def receipts(log: Collection) -> dict[str, set[str]]:
    """Return the ids of the events that receipts are of, by decision."""
    found: dict[str, set[str]] = {}
    seen = 0
    while ids := log.get(limit=_PAGE, offset=seen, include=[])["ids"]:
        seen += len(ids)
        for record_id in ids:
            kind, _, rest = record_id.partition("/")
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
    """Append a change to a decision's log, unless somebody else has appended in its place.

    Args:
        collections: The open store.
        decision_id: The decision.
        number: How many changes there were before.
        events: The events of this one, as they are to be stored.
        also: Other records of the log to add in the same call, by id.

    Returns:
        Whether it was appended.
    """
    record_id = _change_id(decision_id, number)
    schema.add(collections.log, {record_id: list(events)} | dict(also or {}))
    return (
        documents(collections.log, [record_id])[record_id][0]["event_id"] == events[0]["event_id"]
    )


def replace(
    collections: DecisionCollections, decision_id: str, changes: Mapping[int, Sequence[Any]]
) -> None:
    """Replace changes, by their numbers, by themselves without some content."""
    records = {_change_id(decision_id, number): list(e) for number, e in changes.items()}
    schema.upsert(collections.log, records)


def add_decision_entry(
    collections: DecisionCollections,
    created_ns: int,
    decision_id: str,
    writer: str,
    exclusive: bool,
) -> None:
    """Enter a new decision on the timeline.

    Raises:
        StoreUnavailableError: Other writers always came first.
    """
    appender = Appender(writer, 0, exclusive, collections.max_batch)
    timeline.add_timeline_entry(
        collections.lists, [TimelineEntry(created_ns, decision_id)], appender
    )


def set_waiting(collections: DecisionCollections, decision_id: str, *, waits: bool) -> None:
    """Say whether a request of a decision may be waiting for its answer."""
    collections.waiting.upsert([decision_id], embeddings=[NO_VECTOR], metadatas=[{_WAITING: waits}])


def waiting(collections: DecisionCollections) -> list[str]:
    """Return the ids of all decisions that may be waiting for an answer."""
    return list(collections.waiting.get(where={_WAITING: True}, include=[])["ids"])


def superseded_id(decision_id: str) -> str:
    """Return the record id of what says which decision has superseded one."""
    return f"superseded/{decision_id}"


def receipt_id(decision_id: str, event_id: str) -> str:
    """Return the record id of the receipt of an end."""
    return f"{_RECEIPT}/{decision_id}/{event_id}"


def put_summary(log: Collection, record_id: str, document: Any, *, over: bool = False) -> None:
    """Add a document to the log unless its id exists; with `over`, replace it."""
    (schema.upsert if over else schema.add)(log, {record_id: document})


def get(log: Collection, record_ids: Sequence[str]) -> dict[str, Any]:
    """Return the documents of those records of the log that exist."""
    found: dict[str, Any] = {}
    for group in groups(record_ids, MAX_IDS):
        found |= documents(log, group)
    return found


def text_index(collections: DecisionCollections) -> TextIndex:
    """Return the texts of decisions."""

    def alive(decision_ids: Sequence[str], key: str) -> set[str]:
        states = _text_states(collections, decision_ids)
        return {i for i, state in states.items() if state.key == key}

    return TextIndex(collections.search, collections.texts, "x", alive)


class _TextState(NamedTuple):
    """Under which text a decision is found."""

    key: str | None
    stale: frozenset[str]
    """Keys under which it may be found, too, and is to be no more."""


def _text_states(
    collections: DecisionCollections, decision_ids: Iterable[str]
) -> dict[str, _TextState]:
    found = get(collections.texts, [f"of/{i}" for i in decision_ids])
    return {
        record_id.partition("/")[2]: _TextState(state["key"], frozenset(state["stale"]))
        for record_id, state in found.items()
    }


def _put_text_states(collections: DecisionCollections, states: Mapping[str, _TextState]) -> None:
    records = {f"of/{i}": {"key": s.key, "stale": sorted(s.stale)} for i, s in states.items()}
    schema.upsert(collections.texts, records, collections.max_batch)


def put_search(
    collections: DecisionCollections, found: Mapping[str, IndexedText], *, exclusive: bool
) -> None:
    """Have decisions found by the meaning of their texts, and not by their former ones.

    A writer that dies between the steps has the next one remove what it entered.

    Args:
        collections: The open store.
        found: Their texts, by decision id.
        exclusive: Whether every other writer is kept out.

    Raises:
        StoreUnavailableError: Other writers always came first.
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
    """Return decisions nearest to a vector, with their cosine similarity, nearest first.

    Of equally similar ones the newest come first.

    Returns:
        As many decisions as asked for, or fewer; and whether there are no more.
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
    """Return what to order the decisions by that have a text now."""
    at = {entry.trace_id: entry.start_ns for entry in entries}
    tie = -round(text.similarity / _TIE)
    return [(tie, -at[i], i, text.similarity) for i in index.alive(list(at), text.key)]


def _change_id(decision_id: str, number: int) -> str:
    return f"{decision_id}/{number}"
