"""Bound the size of answers; name the call that returns the rest. Pure.

Hosts refuse an answer that is too large, and a model pays for each token. So lists come in pages,
and long values in an item are cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

DEFAULT_MAX_BYTES: Final = 100_000
"""Size of an answer by default: hosts read as much."""
SMALLEST_BYTES: Final = 20_000
LARGEST_BYTES: Final = 10_000_000
CUT: Final = "...[cut]"
_FRAME_BYTES: Final = 1_000
"""Size of the JSON-RPC message around an answer, and of the hint on the rest."""
_SHARE: Final = 4
"""A single item may take a quarter of an answer."""
_SHORT_BYTES: Final = 300
"""Shorter values are not cut: ids, times, statuses."""
_MEMBER_BYTES: Final = 8
"""Size of the marks and spaces around each member of an object and item of a list."""


def size_bytes(value: Any) -> int:
    """Return the bytes of a value in an answer: as an object and as text."""
    text = json.dumps(value, ensure_ascii=False)
    return len(text.encode()) + len(json.dumps(text, ensure_ascii=False).encode())


@dataclass
class Fitter:
    """Fits the parts of an answer into its size.

    Args:
        max_bytes: Limit on the size of the answer.
    """

    max_bytes: int
    cut: int = 0
    """Number of values that were cut."""
    room: int = field(init=False)
    """Number of bytes that are left."""

    def __post_init__(self) -> None:
        self.room = self.max_bytes - _FRAME_BYTES

    def take(self, item: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
        """Return an object of at most so many bytes, even if no room is left."""
        fitting = self.fields(item, max_bytes)
        self.room -= size_bytes(fitting)
        return fitting

    def page(self, items: Iterable[Mapping[str, Any]], max_bytes: int) -> list[dict[str, Any]]:
        """Return the first items that fit, and take the room for them."""
        taken: list[dict[str, Any]] = []
        room = min(self.room, max_bytes)
        for item in items:
            cut_before = self.cut
            fitting = self.fields(item, self.max_bytes // _SHARE)
            size = size_bytes(fitting) + _MEMBER_BYTES
            if size > room:
                self.cut = cut_before
                break
            room -= size
            self.room -= size
            taken.append(fitting)
        return taken

    def fields(self, item: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
        """Return an object of at most so many bytes; its longest values are cut."""
        sizes = {name: size_bytes(value) for name, value in item.items()}
        room = max_bytes - sum(size_bytes(name) + _MEMBER_BYTES for name in item)
        if sum(sizes.values()) <= room:
            return dict(item)
        shares: dict[str, int] = {}
        for left, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
            share = max(_SHORT_BYTES, room // (len(sizes) - left))
            shares[name] = min(sizes[name], share)
            room -= shares[name]
        return {
            name: value if sizes[name] <= shares[name] else self._cut(value, shares[name])
            for name, value in item.items()
        }

    def _cut(self, value: Any, max_bytes: int) -> Any:
        self.cut += 1
        return _Cutting(max_bytes).value(value)

    def words_of_cut(self) -> list[str]:
        """Return the hint on cut values."""
        if not self.cut:
            return []
        larger = f"a larger max_bytes than {self.max_bytes}, up to {LARGEST_BYTES}"
        return [f"{self.cut} long values are cut: ask with {larger}"]


@dataclass
class _Cutting:
    """Copies the beginning of a value, of any depth, while there is room."""

    room: int

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return self._members(cast("dict[str, Any]", value))
        if isinstance(value, list):
            return self._items(cast("list[Any]", value))
        self.room -= size_bytes(value)
        return value

    def _text(self, text: str) -> str:
        size = size_bytes(text) if len(text) <= self.room else self.room + 1
        if size <= self.room:
            self.room -= size
            return text
        kept = text[: _fitting(text, self.room - size_bytes(CUT))] + CUT
        self.room = 0
        return kept

    def _members(self, members: Mapping[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, member in members.items():
            self.room -= size_bytes(name) + _MEMBER_BYTES
            if self.room <= 0:
                break
            kept[name] = self.value(member)
        return kept

    def _items(self, items: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for item in items:
            self.room -= _MEMBER_BYTES
            if self.room <= 0:
                break
            kept.append(self.value(item))
        return kept


def _fitting(text: str, max_bytes: int) -> int:
    """Return how many characters of a text take at most so many bytes."""
    low, high = 0, min(len(text), max(0, max_bytes) // 2)  # a character takes two, at least
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size_bytes(text[:middle]) <= max_bytes else (low, middle - 1)
    return low


def bounded_whole(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer that is not a list, with its longest values cut."""
    if size_bytes(answer) <= DEFAULT_MAX_BYTES:
        return answer
    return Fitter(DEFAULT_MAX_BYTES).fields(answer, DEFAULT_MAX_BYTES - _FRAME_BYTES)


def bounded(
    answer: dict[str, Any], name: str, max_bytes: int, rest: Callable[[int], str]
) -> dict[str, Any]:
    """Return an answer that is a list with a few members, as it fits.

    Args:
        answer: Answer with the list under a name.
        name: Name of the list; its length is `count`, if that is there.
        max_bytes: Limit on its size.
        rest: Returns how to ask for the items from an index on.
    """
    if size_bytes(answer) <= max_bytes - _FRAME_BYTES:
        return answer
    fitter = Fitter(max_bytes)
    items: list[dict[str, Any]] = answer[name]
    others = {key: value for key, value in answer.items() if key != name}
    fitting = fitter.take(others, max_bytes // _SHARE)
    kept = fitter.page(items, fitter.room)
    if "count" in fitting:
        fitting["count"] = len(kept)
    left = len(items) - len(kept)
    words = [f"{left} of the {name} follow: {rest(len(kept))}"] if left else []
    return {**fitting, name: kept} | _more(fitter, left, words)


def bounded_trace(trace: dict[str, Any], after: str | None, max_bytes: int) -> dict[str, Any]:
    """Return a trace, or a page of its steps and their tool calls, as it fits.

    Args:
        trace: The trace.
        after: Id of the step or tool call after which the page begins.
        max_bytes: Limit on its size.

    Raises:
        KeyError: The trace has no such step or tool call.
    """
    if after is None and size_bytes(trace) <= max_bytes - _FRAME_BYTES:
        return trace
    rows = [row for step in trace["steps"] for row in _rows_of(step)]
    decisions: list[dict[str, Any]] = []
    if after is None:
        decisions = trace["decisions"]
    else:
        rows = rows[{row.id: place for place, row in enumerate(rows)}[after] + 1 :]
    fitter = Fitter(max_bytes)
    around = {key: trace[key] for key in trace if key not in ("steps", "decisions")}
    page = fitter.take(around, max_bytes // _SHARE)
    page["decisions"] = fitter.page(decisions, max_bytes // _SHARE)
    page["steps"], shown = _steps_of(rows, fitter)
    words: list[str] = []
    if (left := len(rows) - shown) > 0:
        last = rows[shown - 1].id
        words.append(f"{left} steps and tool calls follow: call trace_get with after={last!r}")
    if (missing := len(decisions) - len(page["decisions"])) > 0:
        words.append(f"{missing} decisions are left out: decision_search finds them")
    return page | _more(fitter, left, words)


class _Row(NamedTuple):
    """A step without its tool calls, or one of its tool calls."""

    id: str
    step: dict[str, Any]
    call: dict[str, Any] | None


def _rows_of(step: dict[str, Any]) -> Iterator[_Row]:
    alone = {name: value for name, value in step.items() if name != "tool_calls"}
    yield _Row(step["step_id"], alone, None)
    for call in step["tool_calls"]:
        yield _Row(call["tool_call_id"], alone, call)


def _steps_of(rows: list[_Row], fitter: Fitter) -> tuple[list[dict[str, Any]], int]:
    """Return the steps of the first rows that fit, and the number of rows."""
    steps: list[dict[str, Any]] = []
    item: dict[str, Any]
    for number, row in enumerate(rows):
        if row.call is not None and not steps:  # the step was on the page before
            steps.append(fitter.take(row.step, fitter.max_bytes // (2 * _SHARE)))
            steps[-1]["tool_calls"] = []
        item = row.call if row.call is not None else {**row.step, "tool_calls": []}
        shown = fitter.page([item], fitter.room)
        if not shown and number:
            return steps, number
        # The first row is always shown, so that every page makes progress.
        fitting = shown[0] if shown else fitter.take(item, fitter.max_bytes // _SHARE)
        if row.call is None:
            steps.append(fitting)
        else:
            cast("list[Any]", steps[-1]["tool_calls"]).append(fitting)
    return steps, len(rows)


def _more(fitter: Fitter, left: int, words: list[str]) -> dict[str, Any]:
    words += fitter.words_of_cut()
    return {"left_out": left, "more": ". ".join(words) + "."} if words else {}
