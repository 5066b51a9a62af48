"""Finding past traces by meaning.

The index knows texts; each stands for the traces whose task it was. So a recall asks for the texts
nearest to the query, and takes their traces in order: the most similar first, of equally similar
ones the newest. The index is approximate, so a text in the very words of the query is looked up.

A filter that matches most traces makes a Chroma query slow, and one that matches few makes an
unfiltered query miss them. So a filtered recall looks at a few times as many texts as were asked
for, and filters their traces. When too few match, which shows the filter to be selective, the
traces of that agent or session are looked up, if they are few enough, and compared one by one; and
for tools, which no index knows, the circle of texts is drawn wider until enough match or all have
been seen.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from autotrace.models import RecallResult
from autotrace.store import texts, traces
from autotrace.store.schema import Collections
from autotrace.store.text_keys import TextKeys
from autotrace.store.texts import Text
from autotrace.store.times import utc
from autotrace.store.traces import Summary

_WIDENING: Final = 4
_SELECTIVE_AFTER: Final = 16
"""A filter that so many times the texts asked for do not satisfy is selective."""
_MAX_COMPARED: Final = 2000
"""How many traces of an agent or session are compared one by one."""
_MAX_TIED: Final = 1000
"""How many texts are looked at that are all as similar as the last one wanted."""
_MAX_REPEATS: Final = 1000
"""How many of the newest traces of one text a filter is tried on."""
_SUMMARIES_AT_ONCE: Final = 64
_MAX_ALIKE: Final = 2
"""How many results one sender gets for one text."""
_MAX_WIDENING: Final = 16
"""How many times the texts asked for are looked at for ones that are no copies."""
_NUMBER: Final = re.compile(r"\d+")
_MAX_SAID_CHARS: Final = 10_000
"""Texts that begin with the same so many characters say the same."""
_TIE: Final = 1e-6
"""Two similarities closer than this are the same, computed in single precision."""


class Found(NamedTuple):
    """A trace that a search found."""

    trace_id: str
    summary: Summary
    similarity: float
    """Cosine similarity, 0 to 1; opposite vectors count as unrelated."""


@dataclass(frozen=True)
class Filter:
    """What a trace must be, beside similar. None, or nothing, leaves it open."""

    agent: str | None = None
    session_id: str | None = None
    tools: Sequence[str] = ()
    """It called every one of these."""
    agents: Sequence[str] = ()
    """One of these recorded it; see `traces.author_of`."""

    def __bool__(self) -> bool:
        return bool(self.agent or self.session_id or self.tools or self.agents)

    def matches(self, summary: Summary) -> bool:
        """Tell whether a trace passes."""
        return (
            (self.agent is None or summary["agent"] == self.agent)
            and (self.session_id is None or summary["session_id"] == self.session_id)
            and (not self.agents or traces.author_of(summary) in self.agents)
            and set(self.tools) <= set(summary["tool_names"] or summary["tool_sequence"])
        )


def find(
    collections: Collections,
    query: str,
    vector: Any,
    keys: TextKeys,
    *,
    success_only: bool,
    limit: int,
    where: Filter,
) -> list[Found]:
    """Return the completed traces whose tasks are nearest to a vector, nearest first.

    Args:
        collections: The open store.
        query: What is asked for, in words.
        vector: Its embedding.
        keys: The keys under which the store keeps task texts.
        success_only: Whether to leave out traces that failed.
        limit: How many to return at most.
        where: What the traces must be beside similar.
    """
    found: list[Found] = []
    for success in (True,) if success_only else (True, False):
        found += _Search(collections, query, vector, keys, success, limit, where).run()
    return varied(ranked(found, query))[:limit]


def varied(found: Iterable[Found]) -> list[Found]:
    """Leave out copies: of each key's agent and text, all but the best two.

    Else copies of one trace, which every key can record, take every place. Programs on the store's
    machine are trusted with the store: theirs all stay.
    """
    places: Counter[tuple[str, str]] = Counter()
    kept: list[Found] = []
    for each in found:
        sender = each.summary["recorded_by"]
        if sender is not None:
            said = sender, _said(each.summary["task"])
            places[said] += 1
            if places[said] > _MAX_ALIKE:
                continue
        kept.append(each)
    return kept


def _said(text: str) -> str:
    """Return the words of a text: "Pay (run 17)" and "pay, run 18" say the same."""
    # Marks are dropped first: to put a long run of them in order takes quadratic time.
    letters = _letters(text[:_MAX_SAID_CHARS])
    words = _letters(unicodedata.normalize("NFKD", letters).casefold())
    return _NUMBER.sub("0", words) or text


def _letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


def ranked(found: Sequence[Found], query: str) -> list[Found]:
    """Order candidates: most similar first.

    Of equally similar ones those in the very words of the query come first, then the newest.
    """

    def rank(each: Found) -> tuple[int, bool, int, str]:
        summary = each.summary
        return _rank(
            each.similarity, summary["task"] == query, summary["created_ns"], each.trace_id
        )

    return sorted(found, key=rank)


def _rank(
    similarity: float, is_worded_so: bool, start_ns: int, trace_id: str
) -> tuple[int, bool, int, str]:
    return -round(similarity / _TIE), not is_worded_so, -start_ns, trace_id


@dataclass
class _Search:
    """One search among the traces of one outcome."""

    collections: Collections
    query: str
    vector: Any
    keys: TextKeys
    success: bool
    limit: int
    where: Filter

    def __post_init__(self) -> None:
        self._summaries: dict[str, Summary | None] = {}
        self._matched = 0
        """How many traces passed the filter, copies too, when they were last looked at."""
        key = self.keys.of(self.query)
        self._exactly = texts.exactly(self.collections, key.key, success=self.success)
        self._worded_so: dict[str, Summary] = {}
        """Traces in the very words of the query, which their text's key does not tell."""
        if key.words is not None and self._exactly is not None:
            self._worded_so = traces.find(self.collections, words=key.words, limit=_MAX_COMPARED)
            self._summaries.update(self._worded_so)

    def run(self) -> list[Found]:
        wanted = self.limit * _WIDENING if self.where else self.limit
        selective = False
        while True:
            # One more than wanted shows whether there are more.
            near = texts.nearest(
                self.collections, self.vector, success=self.success, limit=wanted + 1
            )
            found = self._matching(near, min(wanted, _MAX_REPEATS))
            if len(found) < self.limit <= self._matched and wanted >= self.limit * _MAX_WIDENING:
                return found  # most of what is near are copies
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
        candidates: list[tuple[int, bool, int, str]] = []
        if self._exactly is not None and all(t.key != self._exactly.key for t in near):
            near = [self._exactly, *near]
        for trace_id, summary in self._worded_so.items():
            similarity[trace_id] = 1.0
            candidates.append(_rank(1.0, True, summary["created_ns"], trace_id))
        at_least = max(repeats, _SUMMARIES_AT_ONCE) if self._exactly is not None else repeats
        for text, entries in texts.traces_of(self.collections, near, at_least).items():
            for start_ns, trace_id in entries:
                if similarity.setdefault(trace_id, text.similarity) == text.similarity:
                    worded_so = trace_id in self._worded_so
                    candidates.append(_rank(text.similarity, worded_so, start_ns, trace_id))
        candidates = sorted(set(candidates))
        found: list[Found] = []
        self._matched = 0
        for start in range(0, len(candidates), _SUMMARIES_AT_ONCE):
            group = [trace_id for *_, trace_id in candidates[start : start + _SUMMARIES_AT_ONCE]]
            for trace_id, summary in self._read(group).items():
                if summary is not None and self._passes(summary):
                    self._matched += 1
                    found.append(Found(trace_id, summary, similarity[trace_id]))
            found = varied(ranked(found, self.query))
            if len(found) >= self.limit:
                break
        return found[: self.limit]

    def _read(self, trace_ids: Sequence[str]) -> dict[str, Summary | None]:
        unread = [trace_id for trace_id in trace_ids if trace_id not in self._summaries]
        if unread:
            got = traces.get_summaries(self.collections, unread)
            self._summaries.update((trace_id, got.get(trace_id)) for trace_id in unread)
        return {trace_id: self._summaries[trace_id] for trace_id in trace_ids}

    def _passes(self, summary: Summary) -> bool:
        return (
            summary["status"] == "completed"
            and bool(summary["success"]) is self.success
            and self.where.matches(summary)
        )

    def _compared(self) -> list[Found] | None:
        """Compare every trace of the agent and session; None if that is open, or they are many."""
        agent, session_id, agents = self.where.agent, self.where.session_id, self.where.agents
        if agent is None and session_id is None and not agents:
            return None
        theirs = traces.find(
            self.collections,
            session_id=session_id,
            agent=agent,
            agents=agents,
            limit=_MAX_COMPARED + 1,
        )
        if len(theirs) > _MAX_COMPARED:
            return None
        passing = {
            trace_id: (self.keys.of(summary["task"]).key, summary)
            for trace_id, summary in theirs.items()
            if self._passes(summary)
        }
        keys = list({key for key, _ in passing.values()})
        similarity = texts.compare(self.collections, self.vector, keys, success=self.success)
        found = [
            Found(trace_id, summary, similarity[key])
            for trace_id, (key, summary) in passing.items()
            if key in similarity
        ]
        return varied(ranked(found, self.query))[: self.limit]


def to_model(trace_id: str, found: Found) -> RecallResult:
    """Return what users see of a found trace, under the id that it is shown under."""
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
