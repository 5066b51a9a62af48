"""Find past traces by meaning.

The index holds texts (store/task_index.py): a recall reads the texts nearest to the query, then
their traces, of equally similar ones the newest first. Chroma is slow with a filter that matches
most traces, so a filtered recall reads a few times as many texts, and filters their traces. If too
few pass, the traces of the agent or session are compared one by one, if they are few; else the
number of texts grows. Of one sender's traces at most half of a page is shown while others have
related ones, for which the index is queried without that sender.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from autotrace.models import RecallResult
from autotrace.store import task_index, trace_summaries
from autotrace.store.schema import Collections
from autotrace.store.task_index import Text
from autotrace.store.text_keys import TextKeys
from autotrace.store.times import utc
from autotrace.store.trace_summaries import Summary, TraceFilter

_WIDENING: Final = 4
_SELECTIVE_AFTER: Final = 16
"""A filter is selective if so many times the wanted texts do not satisfy it."""
_MAX_COMPARED: Final = 2000
"""Number of traces of an agent or session that are compared one by one."""
_MAX_TIED: Final = 1000
"""Number of texts to read that are as similar as the last result."""
_MAX_REPEATS: Final = 1000
"""Number of traces of one text, the newest, to filter."""
_SUMMARIES_AT_ONCE: Final = 64
_MAX_ALIKE: Final = 2
"""Number of results of one sender for one text."""
_MAX_WIDENING: Final = 16
"""Multiple of the wanted texts that is read to find results other than copies."""
_RELATED: Final = 0.5
"""Similarity, relative to the best result, from which on traces are related."""
_PUNCTUATION: Final = ".,;:!?\u2026\"'()[]{}\u2018\u2019\u201c\u201d"
_TIE: Final = 1e-6
"""Two similarities closer than this are the same, computed in single precision."""


class Found(NamedTuple):
    """A trace with its similarity."""

    trace_id: str
    summary: Summary
    similarity: float
    """Cosine similarity, 0 to 1; opposite vectors count as unrelated."""


def find(
    collections: Collections,
    query: str,
    vector: Any,
    keys: TextKeys,
    *,
    outcomes: Sequence[bool],
    limit: int,
    where: TraceFilter,
) -> list[Found]:
    """Return the completed traces whose tasks are nearest to the vector of a query, nearest first.

    `outcomes` has True for succeeded traces, and False for failed ones.
    """
    found: list[Found] = []
    for success in outcomes:
        found += _Search(collections, query, vector, keys, success, limit, where).run()
    return page_of(varied(ranked(found, query), limit), query, limit)


def page_of(found: Sequence[Found], query: str, limit: int) -> list[Found]:
    """Return the first ranked traces, at most half of them by one sender with a key.

    Related traces of others take the other places; without any, nothing changes. The limit does not
    apply to programs on the store's machine, which are trusted.
    """
    page = found[:limit]
    sender = _crowding(Counter(_senders(page)), limit)
    if sender is None or len(page) < limit:
        return list(page)
    at_least = min(page[0].similarity * _RELATED, page[-1].similarity)
    others = [f for f in found if _is_by_others(f, sender) and f.similarity >= at_least]
    others = others[: max(limit // 2, sum(_is_by_others(f, sender) for f in page))]
    own = [f for f in found if not _is_by_others(f, sender)]
    return ranked([*own[: limit - len(others)], *others], query)


def _crowding(places: Counter[str], limit: int) -> str | None:
    """Return the sender with more than half of the places of a page, if any."""
    for sender, count in places.most_common(1):
        if count > limit - limit // 2:
            return sender
    return None


def _senders(found: Iterable[Found]) -> list[str]:
    return [s for each in found if (s := each.summary["recorded_by"]) is not None]


def _is_by_others(found: Found, sender: str) -> bool:
    return found.summary["recorded_by"] != sender


def varied(found: Sequence[Found], limit: int) -> list[Found]:
    """Leave out copies: of each sender and text, all but the best two.

    Without this, a task that runs every night, or copies that a key has sent, take every place.
    More copies of programs on the store's machine fill the places that related traces do not.
    """
    places: Counter[tuple[str | None, str]] = Counter()
    related = 0
    spare: list[str] = []
    dropped: set[str] = set()
    for each in found:
        sender = each.summary["recorded_by"]
        said = sender, _said(each.summary["task"])
        places[said] += 1
        if places[said] <= _MAX_ALIKE:
            related += each.similarity >= found[0].similarity * _RELATED
        elif sender is None:
            spare.append(each.trace_id)
        else:
            dropped.add(each.trace_id)
    dropped.update(spare[max(0, limit - related) :])
    return [each for each in found if each.trace_id not in dropped]


def _said(text: str) -> str:
    """Return the words of a text without case, spaces and punctuation.

    Numbers and symbols stay: order 17 is not order 18, and C++ is not C#.
    """
    words = (word.strip(_PUNCTUATION) for word in text.casefold().split())
    return " ".join(word for word in words if word) or text


def ranked(found: Sequence[Found], query: str) -> list[Found]:
    """Sort traces: most similar first, then those in the words of the query, then the newest."""

    def rank(each: Found) -> tuple[int, bool, int, str]:
        task, start_ns = each.summary["task"], each.summary["created_ns"]
        return _rank(each.similarity, task == query, start_ns, each.trace_id)

    return sorted(found, key=rank)


def _rank(
    similarity: float, is_worded_so: bool, start_ns: int, trace_id: str
) -> tuple[int, bool, int, str]:
    return -round(similarity / _TIE), not is_worded_so, -start_ns, trace_id


@dataclass
class _Search:
    """A search among the traces of one outcome."""

    collections: Collections
    query: str
    vector: Any
    keys: TextKeys
    success: bool
    limit: int
    where: TraceFilter
    without: str | None = None
    """An agent: leave out traces that its key has sent."""

    def __post_init__(self) -> None:
        self._summaries: dict[str, Summary | None] = {}
        self._matched = 0
        """Number of traces, with copies, that passed the filter in the last step."""
        self._matched_by: Counter[str] = Counter()
        """The same for each sender with a key."""
        key = self.keys.of(self.query)
        self._index = task_index.of_tasks(self.collections, success=self.success)
        self._exactly = task_index.exactly(self._index, key.key)
        self._worded_so: dict[str, Summary] = {}
        """Traces in the words of the query, if its key stands for other texts, too."""
        if key.words is not None and self._exactly is not None:
            self._worded_so = trace_summaries.find(
                self.collections, words=key.words, without=self.without, limit=_MAX_COMPARED
            )
            self._summaries.update(self._worded_so)

    def run(self) -> list[Found]:
        """Return the nearest traces; if one sender has most of them, also the nearest of others."""
        page = self._nearest()
        is_full = len(page) == self.limit
        places = Counter(_senders(page)) if is_full else self._matched_by
        sender = _crowding(places, self.limit)
        if sender is None:
            return page
        at_least = page[0].similarity * _RELATED if is_full else 0.0
        known = {each.trace_id for each in page}
        others = replace(self, without=sender)._related(at_least)
        return ranked([*page, *(each for each in others if each.trace_id not in known)], self.query)

    def _related(self, at_least: float) -> list[Found]:
        """Return the nearest traces of other senders that are at least so similar."""
        wanted = self.limit * _MAX_WIDENING
        near = self._texts(wanted + 1, without=None)
        found = self._matching(near, self.limit)
        if len(near) > wanted and near[-1].similarity >= at_least:
            is_full = len(found) == self.limit
            if not is_full or near[-1].similarity >= found[-1].similarity - _TIE:
                found = self._nearest()
        return [each for each in found if each.similarity >= at_least]

    def _texts(self, limit: int, *, without: str | None) -> list[Text]:
        return task_index.nearest(self._index, self.vector, limit=limit, without=without)

    def _nearest(self) -> list[Found]:
        wanted = self.limit if self.where == TraceFilter() else self.limit * _WIDENING
        selective = False
        while True:
            # One more than wanted, to see whether more exist.
            near = self._texts(wanted + 1, without=self.without)
            found = self._matching(near, min(wanted, _MAX_REPEATS))
            if len(found) < self.limit <= self._matched and wanted >= self.limit * _MAX_WIDENING:
                return found  # most near traces are copies
            full = len(found) == self.limit
            tied = full and near[-1].similarity >= found[-1].similarity - _TIE
            if len(near) <= wanted or (full and (not tied or wanted >= _MAX_TIED)):
                return found
            if not full and not selective and wanted >= self.limit * _SELECTIVE_AFTER:
                selective = True
                compared = self._compared()
                if compared is not None:
                    return compared
            wanted *= _WIDENING

    def _matching(self, near: Sequence[Text], repeats: int) -> list[Found]:
        """Return the best traces of some texts that pass the filter."""
        similarity: dict[str, float] = {}
        candidates: list[tuple[int, int, bool, int, str]] = []
        if self._exactly is not None and all(t.key != self._exactly.key for t in near):
            near = [self._exactly, *near]
        if self.without is not None:
            near = [text for text in near if not text.is_only_of(self.without)]
        for trace_id, summary in self._worded_so.items():
            similarity[trace_id] = 1.0
            candidates.append((0, *_rank(1.0, True, summary["created_ns"], trace_id)))
        at_least = max(repeats, _SUMMARIES_AT_ONCE) if self._exactly is not None else repeats
        for text, entries in task_index.traces_of(self._index, near, at_least).items():
            # Copies are read after the traces that may take their places: see `varied`.
            turn = 2 if text.similarity < near[0].similarity * _RELATED else 0
            newest = {*entries[:_MAX_ALIKE], text.first, *text.of_others}
            for entry in entries:
                if similarity.setdefault(entry.trace_id, text.similarity) == text.similarity:
                    worded_so = entry.trace_id in self._worded_so
                    rank = _rank(text.similarity, worded_so, entry.start_ns, entry.trace_id)
                    candidates.append((turn if entry in newest else max(turn, 1), *rank))
        candidates = sorted(set(candidates))
        found: list[Found] = []
        self._matched = 0
        self._matched_by.clear()
        for start in range(0, len(candidates), _SUMMARIES_AT_ONCE):
            group = [trace_id for *_, trace_id in candidates[start : start + _SUMMARIES_AT_ONCE]]
            for trace_id, summary in self._read(group).items():
                if summary is not None and self._passes(summary):
                    self._matched += 1
                    found.append(Found(trace_id, summary, similarity[trace_id]))
                    if (sender := summary["recorded_by"]) is not None:
                        self._matched_by[sender] += 1
            found = varied(ranked(found, self.query), self.limit)
            if len(found) >= self.limit:
                break
        return found[: self.limit]

    def _read(self, trace_ids: Sequence[str]) -> dict[str, Summary | None]:
        unread = [trace_id for trace_id in trace_ids if trace_id not in self._summaries]
        if unread:
            got = trace_summaries.get_summaries(self.collections, unread)
            self._summaries.update((trace_id, got.get(trace_id)) for trace_id in unread)
        return {trace_id: self._summaries[trace_id] for trace_id in trace_ids}

    def _passes(self, summary: Summary) -> bool:
        return (
            summary["status"] == "completed"
            and bool(summary["success"]) is self.success
            and (self.without is None or summary["recorded_by"] != self.without)
            and self.where.matches(summary)
        )

    def _compared(self) -> list[Found] | None:
        """Compare all traces of the agent and session; None without either, or if they are many."""
        if not self.where.names_senders():
            return None
        theirs = trace_summaries.find(
            self.collections, self.where, without=self.without, limit=_MAX_COMPARED + 1
        )
        if len(theirs) > _MAX_COMPARED:
            return None
        passing = {
            trace_id: (self.keys.of(summary["task"]).key, summary)
            for trace_id, summary in theirs.items()
            if self._passes(summary)
        }
        keys = list({key for key, _ in passing.values()})
        similarity = task_index.compare(self._index, self.vector, keys)
        found = [
            Found(trace_id, summary, similarity[key])
            for trace_id, (key, summary) in passing.items()
            if key in similarity
        ]
        return varied(ranked(found, self.query), self.limit)[: self.limit]


def to_model(trace_id: str, found: Found) -> RecallResult:
    """Return a found trace as users see it, under its public id."""
    summary = found.summary
    return RecallResult(
        trace_id=trace_id,
        task=summary["task"],
        outcome=summary["outcome"],
        similarity=round(found.similarity, 6),
        tool_sequence=summary["tool_sequence"],
        success=bool(summary["success"]),
        created_at=utc(summary["created_ns"]),
        session_id=summary["session_id"],
        agent=summary["agent"],
        recorded_by=summary["recorded_by"],
        rejected_decisions=summary["rejected_decisions"],
    )
