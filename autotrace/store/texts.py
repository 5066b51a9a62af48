"""The vectors: one for each distinct task text, with the traces that share it.

Agents run the same task again and again. Chroma's index cannot bear that: past a thousand or so
equal vectors its graph has edges to nothing else, and other records are never found again. So the
collections `succeeded` and `failed` hold one vector per text, under the text's key, whose metadata
names the first trace of the text. Later traces of the text are entries (start, trace id) of a slot
list named by the key, and the text is marked as repeated.

Who was first is settled by Chroma's `add`, which leaves an id that exists as it is; so a batch that
is stored again decides the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from autotrace.store import slots
from autotrace.store.schema import Collection, Collections, groups
from autotrace.store.slots import Appender
from autotrace.store.timeline import Entry
from autotrace.store.traces import get_summaries

_FIRST: Final = "first"
_REPEATED: Final = "repeated"
_SENDER: Final = "sender"
"""Who recorded the first trace: a digest; absent for programs on the store's machine."""
_NEWEST_OF: Final = "by_"
"""Begins the metadata key of the newest trace of each other sender, so that copies of one sender,
however many, hide no trace of another."""
_SHARED: Final = "shared"
"""Marks a text that several senders recorded."""
_VECTORS_PER_CALL: Final = 2000
"""Each call has a fixed cost; as JSON a vector takes 8 kB, and Chroma's server refuses 40 MB."""


class Text(NamedTuple):
    """A task text that traces have in common."""

    key: str
    success: bool
    """Whether it is that of traces that succeeded, or of those that failed."""
    similarity: float
    """Cosine similarity to what was asked for, 0 to 1; opposite vectors count as unrelated."""
    first: Entry
    repeated: bool
    of_others: tuple[Entry, ...] = ()
    """The newest trace of each sender but that of the first."""
    sender: str | None = None
    """A digest of who recorded the first trace; None: a program on the store's machine."""

    def is_only_of(self, agent: str) -> bool:
        """Tell whether every trace of the text came with keys of one agent."""
        return self.sender == _digest(agent) and not self.of_others


def enter(
    collections: Collections,
    traces: Mapping[Entry, str],
    vectors: Mapping[str, Any],
    *,
    success: bool,
    appender: Appender,
    senders: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Have completed traces found by the meaning of their task.

    Args:
        collections: The open store.
        traces: The key of each trace's text.
        vectors: A vector per key.
        success: Whether these traces succeeded.
        appender: Appends for the batch that is being stored.
        senders: The agent of the key with which a trace came, by trace id.

    Raises:
        StoreUnavailableError: Other writers always came first.
    """
    collection = _collection(collections, success)
    firsts: dict[str, Entry] = {}
    for entry in sorted(traces):
        firsts.setdefault(traces[entry], entry)
    known = _known(collection, list(firsts))
    new = {key: entry for key, entry in firsts.items() if key not in known}
    _add(collection, new, vectors, senders)
    if new and not appender.exclusive:
        known |= _known(collection, list(new))
    else:
        known |= {key: _metadata(entry, senders) for key, entry in new.items()}
    repeats: dict[str, list[Entry]] = {}
    for entry, key in traces.items():
        if known[key][_FIRST] != _format(entry):
            repeats.setdefault(key, []).append(entry)
    if not repeats:
        return
    appender.append(
        collections.lists, {_list_of(key, success): sorted(e) for key, e in repeats.items()}
    )
    if not appender.exclusive:
        # Who deletes the last trace of a text may not have seen the one that was just entered.
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


def remove(collections: Collections, key: str, trace_id: str, *, exclusive: bool) -> None:
    """Have a trace found no more by its text, and the text neither if no other trace has it.

    Args:
        collections: The open store. The trace's summary must be removed already.
        key: The key of its text.
        trace_id: The trace.
        exclusive: Whether every writer is kept out.
    """
    for success in (True, False):
        collection = _collection(collections, success)
        name = _list_of(key, success)
        slots.remove(
            collections.lists, name, trace_id, lambda ids: set(get_summaries(collections, ids))
        )
        got = collection.get([key], include=["metadatas", "embeddings"])
        if not got["ids"] or _is_in_use(collections, name, got["metadatas"][0]):
            continue
        collection.delete([key])
        if not exclusive and (entry := _newest(collections, name)) is not None:
            # Another trace of this text was entered meanwhile.
            collection.add(
                [key],
                embeddings=got["embeddings"],
                metadatas=[{_FIRST: _format(entry), _REPEATED: True}],
            )


def _is_in_use(collections: Collections, name: str, metadata: Mapping[str, Any]) -> bool:
    """Tell whether a text has a trace, the first or one of its list."""
    first = _entry(metadata).trace_id
    return bool(get_summaries(collections, [first])) or _newest(collections, name) is not None


def _newest(collections: Collections, name: str) -> Entry | None:
    """Return the last entry of a text's list."""
    entries = slots.read_newest(collections.lists, [name], 1)[name]
    return Entry(*entries[-1]) if entries else None


def _digest(agent: str | None) -> str | None:
    if agent is None:
        return None
    name = agent.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=8).hexdigest()


def _metadata(first: Entry, senders: Mapping[str, str]) -> dict[str, Any]:
    sender = _digest(senders.get(first.trace_id))
    return {_FIRST: _format(first)} | ({} if sender is None else {_SENDER: sender})


def _add(
    collection: Collection,
    firsts: Mapping[str, Entry],
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


def nearest(
    collections: Collections,
    vector: Any,
    *,
    success: bool,
    limit: int,
    without: str | None = None,
) -> list[Text]:
    """Return the texts nearest to a vector, nearest first.

    Args:
        collections: The open store.
        vector: What they are to be near to.
        success: Whether to return texts of traces that succeeded, or of those that failed.
        limit: How many to return at most.
        without: An agent; texts that came with its keys alone are left out, which takes time that
            grows with the number of texts.
    """
    where = None if without is None else _not_only_of(without)
    result = _collection(collections, success).query(
        query_embeddings=[vector], n_results=limit, include=["metadatas", "distances"], where=where
    )
    return [
        _text(key, success, 1.0 - distance, metadata)
        for key, metadata, distance in zip(
            result["ids"][0], result["metadatas"][0], result["distances"][0], strict=True
        )
    ]


def _not_only_of(agent: str) -> dict[str, Any]:
    return {"$or": [{_SENDER: {"$ne": _digest(agent)}}, {_SHARED: True}]}


def exactly(collections: Collections, key: str, *, success: bool) -> Text | None:
    """Return the text with a key, if there is one, as one that was asked for in its own words."""
    metadata = _known(_collection(collections, success), [key]).get(key)
    return None if metadata is None else _text(key, success, 1.0, metadata)


def compare(
    collections: Collections, vector: Any, keys: Sequence[str], *, success: bool
) -> dict[str, float]:
    """Return the similarity to a vector of each of some texts, without the index.

    Source of the formula: cosine similarity, as Chroma's index computes it.
    """
    import numpy as np

    if not keys:
        return {}
    got = _collection(collections, success).get(ids=list(keys), include=["embeddings"])
    if not got["ids"]:
        return {}
    rows = np.asarray(got["embeddings"], dtype=np.float64)
    query = np.asarray(vector, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    cosines = rows @ query / np.where(lengths == 0, 1, lengths)
    return {k: _clipped(float(c)) for k, c in zip(got["ids"], cosines, strict=True)}


def traces_of(
    collections: Collections, texts: Sequence[Text], at_least: int
) -> dict[Text, list[Entry]]:
    """Return the newest traces of each text: as many as asked for, or all, and maybe more."""
    lists = {text: _list_of(text.key, text.success) for text in texts if text.repeated}
    newest = slots.read_newest(collections.lists, list(lists.values()), at_least)
    found: dict[Text, list[Entry]] = {}
    for text in texts:
        repeats = newest[lists[text]] if text in lists else []
        entries = {
            text.first,
            *text.of_others,
            *(Entry(start_ns, trace_id) for start_ns, trace_id in repeats),
        }
        found[text] = sorted(entries, reverse=True)
    return found


def _collection(collections: Collections, success: bool) -> Collection:
    return collections.succeeded if success else collections.failed


def _list_of(key: str, success: bool) -> str:
    return f"{'s' if success else 'f'}/{key}"


def _text(key: str, success: bool, similarity: float, metadata: Mapping[str, Any]) -> Text:
    repeated = bool(metadata.get(_REPEATED))
    of_others = tuple(
        _parsed(entry) for name, entry in metadata.items() if name.startswith(_NEWEST_OF) and entry
    )
    first, sender = _entry(metadata), metadata.get(_SENDER)
    return Text(key, success, _clipped(similarity), first, repeated, of_others, sender)


def _entry(metadata: Mapping[str, Any]) -> Entry:
    """Return the first trace of a text."""
    return _parsed(metadata[_FIRST])


def _parsed(text: Any) -> Entry:
    start_ns, _, trace_id = str(text).partition(" ")
    return Entry(int(start_ns), trace_id)


def _format(entry: Entry) -> str:
    return f"{entry.start_ns} {entry.trace_id}"


def _clipped(similarity: float) -> float:
    return min(1.0, max(0.0, similarity))
