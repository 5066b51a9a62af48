"""Slot lists: lists that any number of writers append to, without a counter to fight over.

Chroma has no ORDER BY and no counters. So the list `name` is kept in records whose ids can be
computed: the slots `{name}/0`, `{name}/1`, …, each the document `{"writer", "batch", "entries"}`.
Slot n is only ever added by a writer that has seen slot n - 1, hence there are no gaps, and the end
is found by a few look-ups however long the list. Chroma's `add` leaves an id that exists as it is:
of several writers that add slot n one wins, and the others see so and go on to the next.

A list may name the same entry twice, after a batch was stored again; readers leave out repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from autotrace.errors import StoreUnavailableError
from autotrace.store import schema
from autotrace.store.schema import MAX_IDS, Collection, documents, groups
from autotrace.store.trace_log import lost_ids

_FIRST_LOOK: Final = (0, 7, 63, 511, 4095, 32_767, 262_143, 2_097_151)
"""Where the end is looked for at first; most lists are short."""
_SHORT: Final = 8
_MAX_ATTEMPTS: Final = 20


@dataclass(frozen=True)
class Appender:
    """Appends to slot lists for one writer's batch."""

    writer: str
    batch: int
    exclusive: bool
    """Whether every other writer is kept out."""
    max_batch: int
    """How many records Chroma takes in one call."""

    def add(
        self,
        collection: Collection,
        entries: Mapping[str, Iterable[tuple[Any, ...]]],
        also: Mapping[str, Any] | None = None,
    ) -> None:
        """Append to each of some lists.

        Args:
            collection: Where the lists are kept.
            entries: What to append to each list, by the list's name.
            also: Other records to add in the same call, by id.

        Raises:
            StoreUnavailableError: Other writers always came first.
        """
        pending: dict[str, list[Any]] = {
            name: [list(entry) for entry in of_list] for name, of_list in entries.items()
        }
        for _ in range(_MAX_ATTEMPTS):
            if not pending:
                return
            ends = lengths(collection, list(pending))
            slots = {
                slot_id(name, ends[name]): {
                    "writer": self.writer,
                    "batch": self.batch,
                    "entries": pending[name],
                }
                for name in pending
            }
            schema.add(collection, slots | dict(also or {}), self.max_batch)
            if self.exclusive:
                return
            lost = lost_ids(collection, list(slots), self.writer, self.batch)
            pending = {n: e for n, e in pending.items() if slot_id(n, ends[n]) in lost}
        msg = f"{len(pending)} lists of the store are contended; trying later"
        raise StoreUnavailableError(msg)


def add(
    collection: Collection, name: str, number: int, entry: tuple[Any, ...], writer: str
) -> None:
    """Add one slot, unless it is there; the one before it must be."""
    slot = {"writer": writer, "batch": 0, "entries": [list(entry)]}
    schema.add(collection, {slot_id(name, number): slot})


def remove(
    collection: Collection, name: str, key: Any, alive: Callable[[Sequence[Any]], set[Any]]
) -> None:
    """Remove the entries that end with a key; their slots stay, as others are counted from them.

    Two who remove at once from one slot might each put back what the other has removed. So a slot
    is looked at again, and entries go that are gone elsewhere.

    Args:
        collection: Where the list is kept.
        name: The list.
        key: What the entries to remove end with.
        alive: Tells of such keys which are to stay.
    """
    ids = [slot_id(name, number) for number in range(lengths(collection, [name])[name])]
    slots = _documents(collection, ids)
    found = {i: slot for i, slot in slots.items() if any(e[-1] == key for e in slot["entries"])}
    while found:
        keys = {entry[-1] for slot in found.values() for entry in slot["entries"]} - {key}
        left = alive(list(keys))
        changed = {
            i: slot | {"entries": entries}
            for i, slot in found.items()
            if len(entries := [e for e in slot["entries"] if e[-1] in left]) < len(slot["entries"])
        }
        schema.upsert(collection, changed)
        found = _documents(collection, list(changed))


def slot_id(name: str, number: int) -> str:
    """Return the record id of a slot."""
    return f"{name}/{number}"


def lengths(collection: Collection, names: Sequence[str]) -> dict[str, int]:
    """Return how many slots each list has."""
    known = dict.fromkeys(names, 0)
    ends: dict[str, int] = {}
    looks: dict[str, Sequence[int]] = dict.fromkeys(names, _FIRST_LOOK)
    while looks:
        wanted = [slot_id(name, number) for name, look in looks.items() for number in look]
        present = _present(collection, wanted)
        unfinished: dict[str, tuple[int, int]] = {}
        for name, look in looks.items():
            for number in look:
                if slot_id(name, number) in present:
                    known[name] = number + 1
                else:
                    ends[name] = number
                    break
            else:
                ends.setdefault(name, look[-1] * 8)
            if known[name] < ends[name]:
                unfinished[name] = (known[name], ends[name])
        width = max(8, MAX_IDS // max(1, len(unfinished)))
        looks = {name: _spread(start, end, width) for name, (start, end) in unfinished.items()}
    return known


def _spread(start: int, end: int, width: int) -> Sequence[int]:
    """Return at most about `width` numbers all over a range, its first and last among them."""
    step = max(1, (end - start) // width)
    return sorted({*range(start, end, step), end - 1})


def _present(collection: Collection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for group in groups(ids, MAX_IDS):
        found.update(collection.get(ids=group, include=[])["ids"])
    return found


def read(collection: Collection, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the entries of each list, oldest first."""
    # Most lists are short, and are read without asking first how long they are.
    head = _documents(collection, (slot_id(name, n) for name in names for n in range(_SHORT)))
    long = [name for name in names if slot_id(name, _SHORT - 1) in head]
    ends = lengths(collection, long) if long else {}
    rest = (slot_id(name, n) for name in long for n in range(_SHORT, ends[name]))
    slots = head | _documents(collection, rest)
    return {
        name: [
            entry
            for n in range(ends.get(name, _SHORT))
            if (slot := slots.get(slot_id(name, n))) is not None
            for entry in slot["entries"]
        ]
        for name in names
    }


def read_newest(
    collection: Collection, names: Sequence[str], at_least: int
) -> dict[str, list[Any]]:
    """Return the last entries of each list: as many as asked for, or all, and perhaps some more."""
    starts = lengths(collection, names)
    newest: dict[str, list[Any]] = {name: [] for name in names}
    width = 8
    while True:
        wanted = {
            name: range(max(0, starts[name] - width), starts[name])
            for name in names
            if starts[name] and len(newest[name]) < at_least
        }
        if not wanted:
            return newest
        ids = (slot_id(name, n) for name, numbers in wanted.items() for n in numbers)
        slots = _documents(collection, ids)
        for name, numbers in wanted.items():
            entries = [entry for n in numbers for entry in slots[slot_id(name, n)]["entries"]]
            newest[name] = entries + newest[name]
            starts[name] = numbers.start
        width *= 4


def _documents(collection: Collection, ids: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for group in groups(ids, MAX_IDS):
        found |= documents(collection, group)
    return found
