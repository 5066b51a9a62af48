"""Index texts: one vector per text, and the traces that share the text.

With about a thousand equal vectors, the graph of Chroma's index has edges only between them, and
other records are never found. So a text has one vector, under its key, whose metadata names its
first trace (or decision). Later traces are entries (start, trace id) of a slot list named by the
key, and the metadata marks the text as repeated. Chroma's `add` ignores an id that exists, so a
batch that is stored again finds the same first trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from autotrace.store import paged_lists
from autotrace.store.paged_lists import Appender
from autotrace.store.schema import Collection, Collections, groups
from autotrace.store.timeline import TimelineEntry
from autotrace.store.trace_summaries import get_summaries

_FIRST: Final = "first"
_REPEATED: Final = "repeated"
_SENDER: Final = "sender"
"""Digest of the first trace's sender; absent for programs on the store's machine."""
_NEWEST_OF: Final = "by_"
"""Prefix of the metadata key of the newest trace of each other sender: copies of one sender hide no
trace of another."""
_SHARED: Final = "shared"
"""Marks a text that several senders recorded."""
_LOOKED_AT: Final = 8
_VECTORS_PER_CALL: Final = 2000
"""Each call has a fixed cost. A vector is 8 kB of JSON, and Chroma's server refuses 40 MB."""


@dataclass(frozen=True)
class TextIndex:
    """One index of texts."""

    collection: Collection
    """The vectors."""
    lists: Collection
    prefix: str
    """Prefix of the names of its lists."""
    alive: Callable[[Sequence[str], str], set[str]]
    """Returns those of some trace ids that still have the text of a key."""

    def list_of(self, key: str) -> str:
        """Return the name of a text's list."""
        return f"{self.prefix}/{key}"


def of_tasks(collections: Collections, *, success: bool) -> TextIndex:
    """Return the index of task texts of succeeded or failed traces."""

    def alive(trace_ids: Sequence[str], _: str) -> set[str]:
        return set(get_summaries(collections, trace_ids))

    collection = collections.succeeded if success else collections.failed
    return TextIndex(collection, collections.lists, "s" if success else "f", alive)


class Text(NamedTuple):
    """A text that traces share."""

    key: str
    similarity: float
    """Cosine similarity to the query, 0 to 1; opposite vectors count as unrelated."""
    first: TimelineEntry
    repeated: bool
    of_others: tuple[TimelineEntry, ...] = ()
    """The newest trace of each sender but the first trace's."""
    sender: str | None = None
    """Digest of the first trace's sender; None: a program on the store's machine."""

    def is_only_of(self, agent: str) -> bool:
        """Return whether keys of one agent have sent every trace of the text."""
        return self.sender == _digest(agent) and not self.of_others


def add_task(
    index: TextIndex,
    traces: Mapping[TimelineEntry, str],
    vectors: Mapping[str, Any],
    *,
    appender: Appender,
    senders: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add traces, given with the keys of their texts, to an index.

    `senders` names the agents whose keys sent traces.

    Raises:
        StoreUnavailableError: Other writers came first at each attempt.
    """
    collection = index.collection
    firsts: dict[str, TimelineEntry] = {}
    for entry in sorted(traces):
        firsts.setdefault(traces[entry], entry)
    known = _known(collection, list(firsts))
    new = {key: entry for key, entry in firsts.items() if key not in known}
    _add(collection, new, vectors, senders)
    if new and not appender.exclusive:
        known |= _known(collection, list(new))
    else:
        known |= {key: _metadata(entry, senders) for key, entry in new.items()}
    repeats: dict[str, list[TimelineEntry]] = {}
    for entry, key in traces.items():
        if known[key][_FIRST] != _format(entry):
            repeats.setdefault(key, []).append(entry)
    if not repeats:
        return
    appender.add(index.lists, {index.list_of(key): sorted(e) for key, e in repeats.items()})
    if not appender.exclusive:
        # Another process may have deleted a text whose last trace went before ours was added.
        known = _known(collection, list(repeats))
        again = {k: e[0] for k, e in repeats.items() if k not in known}
        _add(collection, again, vectors, senders)
    unmarked = [key for key in repeats if _REPEATED not in known.get(key, ())]
    marks: dict[str, dict[str, Any]] = {key: {_REPEATED: True} for key in unmarked}
    for key, entries in repeats.items():
        for entry in sorted(entries):
            sender = _digest(senders.get(entry.trace_id))
            if sender != known.get(key, {}).get(_SENDER):
                mark = {_SHARED: True, f"{_NEWEST_OF}{sender}": _format(entry)}
                marks.setdefault(key, {}).update(mark)
    for keys in groups(marks, _VECTORS_PER_CALL):
        collection.update(keys, metadatas=[marks[key] for key in keys])


def remove(index: TextIndex, key: str, trace_id: str, *, exclusive: bool) -> None:
    """Remove a dead trace from an index, and its text if it is unused."""
    name = index.list_of(key)
    paged_lists.remove(index.lists, name, trace_id, lambda ids: index.alive(ids, key))
    remove_unused(index, key, exclusive=exclusive)


def remove_unused(index: TextIndex, key: str, *, exclusive: bool) -> None:
    """Remove a text from an index unless a trace has it."""
    got = index.collection.get([key], include=["metadatas", "embeddings"])
    if not got["ids"]:
        return
    first = _parsed(got["metadatas"][0][_FIRST]).trace_id
    if index.alive([first], key) or _newest_alive(index, key) is not None:
        return
    index.collection.delete([key])
    name = index.list_of(key)
    if exclusive:
        for ids in groups(range(paged_lists.lengths(index.lists, [name])[name]), _VECTORS_PER_CALL):
            index.lists.delete([paged_lists.slot_id(name, number) for number in ids])
    elif (entry := _newest_alive(index, key)) is not None:
        # Another process has added a trace of this text meanwhile.
        index.collection.add(
            [key],
            embeddings=got["embeddings"],
            metadatas=[{_FIRST: _format(entry), _REPEATED: True}],
        )


def _newest_alive(index: TextIndex, key: str) -> TimelineEntry | None:
    """Return the last entry of a text's list whose trace still has the text."""
    name, wanted, seen = index.list_of(key), _LOOKED_AT, 0
    while True:
        entries = paged_lists.read_newest(index.lists, [name], wanted)[name]
        fresh = entries[: len(entries) - seen]
        alive = index.alive([trace_id for _, trace_id in fresh], key) if fresh else set[str]()
        for entry in reversed(fresh):
            if entry[-1] in alive:
                return TimelineEntry(*entry)
        if len(entries) < wanted:
            return None
        wanted, seen = wanted * 8, len(entries)


def _digest(agent: str | None) -> str | None:
    if agent is None:
        return None
    name = agent.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=8).hexdigest()


def _metadata(first: TimelineEntry, senders: Mapping[str, str]) -> dict[str, Any]:
    sender = _digest(senders.get(first.trace_id))
    return {_FIRST: _format(first)} | ({} if sender is None else {_SENDER: sender})


def _add(
    collection: Collection,
    firsts: Mapping[str, TimelineEntry],
    vectors: Mapping[str, Any],
    senders: Mapping[str, str],
) -> None:
    """Add texts, each with its first trace."""
    for keys in groups(firsts, _VECTORS_PER_CALL):
        collection.add(
            keys,
            embeddings=[vectors[key] for key in keys],
            metadatas=[_metadata(firsts[key], senders) for key in keys],
        )


def _known(collection: Collection, keys: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    if not keys:
        return {}
    got = collection.get(ids=list(keys), include=["metadatas"])
    return dict(zip(got["ids"], got["metadatas"], strict=True))


def nearest(index: TextIndex, vector: Any, *, limit: int, without: str | None = None) -> list[Text]:
    """Return the texts nearest to a vector, nearest first.

    Texts that only keys of the agent `without` have sent are left out; the time of that grows with
    the number of texts in the index.
    """
    where = None if without is None else _not_only_of(without)
    result = index.collection.query(
        query_embeddings=[vector], n_results=limit, include=["metadatas", "distances"], where=where
    )
    return [
        _text(key, 1.0 - distance, metadata)
        for key, metadata, distance in zip(
            result["ids"][0], result["metadatas"][0], result["distances"][0], strict=True
        )
    ]


def _not_only_of(agent: str) -> dict[str, Any]:
    return {"$or": [{_SENDER: {"$ne": _digest(agent)}}, {_SHARED: True}]}


def exactly(index: TextIndex, key: str) -> Text | None:
    """Return the text with a key, with the similarity of a text to itself."""
    metadata = _known(index.collection, [key]).get(key)
    return None if metadata is None else _text(key, 1.0, metadata)


def compare(index: TextIndex, vector: Any, keys: Sequence[str]) -> dict[str, float]:
    """Return the cosine similarity of texts to a vector, by key.

    The vectors are compared directly, without the index.
    """
    import numpy as np

    if not keys:
        return {}
    got = index.collection.get(ids=list(keys), include=["embeddings"])
    if not got["ids"]:
        return {}
    rows = np.asarray(got["embeddings"], dtype=np.float64)
    query = np.asarray(vector, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    cosines = rows @ query / np.where(lengths == 0, 1, lengths)
    return {k: _clipped(float(c)) for k, c in zip(got["ids"], cosines, strict=True)}


def traces_of(
    index: TextIndex, texts: Sequence[Text], at_least: int
) -> dict[Text, list[TimelineEntry]]:
    """Return the newest traces of each text: at least `at_least`, or all."""
    lists = {text: index.list_of(text.key) for text in texts if text.repeated}
    newest = paged_lists.read_newest(index.lists, list(lists.values()), at_least)
    found: dict[Text, list[TimelineEntry]] = {}
    for text in texts:
        repeats = newest[lists[text]] if text in lists else []
        entries = {text.first, *text.of_others, *(TimelineEntry(*each) for each in repeats)}
        found[text] = sorted(entries, reverse=True)
    return found


def _text(key: str, similarity: float, metadata: Mapping[str, Any]) -> Text:
    of_others = (v for name, v in metadata.items() if name.startswith(_NEWEST_OF) and v)
    return Text(
        key,
        _clipped(similarity),
        _parsed(metadata[_FIRST]),
        bool(metadata.get(_REPEATED)),
        tuple(map(_parsed, of_others)),
        metadata.get(_SENDER),
    )


def _parsed(text: Any) -> TimelineEntry:
    start_ns, _, trace_id = str(text).partition(" ")
    return TimelineEntry(int(start_ns), trace_id)


def _format(entry: TimelineEntry) -> str:
    return f"{entry.start_ns} {entry.trace_id}"


def _clipped(similarity: float) -> float:
    return min(1.0, max(0.0, similarity))
