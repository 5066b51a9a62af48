"""Append to slot lists, which many processes share.

A slot list is a chain (numbered_records.py) of slots, the documents `{"writer", "batch",
"entries"}`. Of several writers that add slot n, one wins; the others retry with the next number. A
list may hold an entry twice after a batch was stored again; readers skip repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from autotrace.errors import StoreUnavailableError
from autotrace.store import schema
from autotrace.store.numbered_records import lost_ids, read_chains
from autotrace.store.numbered_records import record_id as slot_id
from autotrace.store.schema import MAX_IDS, Collection, documents, groups

_FIRST_LOOK: Final = (0, 7, 63, 511, 4095, 32_767, 262_143, 2_097_151)
"""Numbers of the slots to request first; most lists are short."""
_SHORT: Final = 8
_MAX_ATTEMPTS: Final = 20


@dataclass(frozen=True)
class Appender:
    """Append to slot lists for one batch of a writer."""

    writer: str
    batch: int
    exclusive: bool
    """Whether a lock excludes other writers."""
    max_batch: int
    """Number of records that Chroma accepts in one call."""

    def add(
        self,
        collection: Collection,
        entries: Mapping[str, Iterable[tuple[Any, ...]]],
        also: Mapping[str, Any] | None = None,
    ) -> None:
        """Append entries to lists by name; add the records in `also` by id.

        Raises:
            StoreUnavailableError: Other writers came first at each attempt.
        """
        pending: dict[str, list[Any]] = {
            name: [list(entry) for entry in of_list] for name, of_list in entries.items()
        }
        slot = {"writer": self.writer, "batch": self.batch}
        for _ in range(_MAX_ATTEMPTS):
            if not pending:
                return
            ends = lengths(collection, list(pending))
            slots = {slot_id(n, ends[n]): slot | {"entries": e} for n, e in pending.items()}
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
    """Add a slot unless it exists; the slot before it must exist."""
    slot = {"writer": writer, "batch": 0, "entries": [list(entry)]}
    schema.add(collection, {slot_id(name, number): slot})


def remove(
    collection: Collection, name: str, key: Any, alive: Callable[[Sequence[Any]], set[Any]]
) -> None:
    """Remove the entries of a list that end with a key; keep their slots.

    Two processes that change one slot concurrently might each restore an entry that the other has
    removed. So a changed slot is read again, and entries whose keys `alive` does not return are
    removed.
    """
    ids = [slot_id(name, number) for number in range(lengths(collection, [name])[name])]
    slots = documents(collection, ids)
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
        found = documents(collection, list(changed))


def lengths(collection: Collection, names: Sequence[str]) -> dict[str, int]:
    """Return the number of slots of each list."""
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
    """Return about `width` numbers of a range, including its first and last."""
    step = max(1, (end - start) // width)
    return sorted({*range(start, end, step), end - 1})


def _present(collection: Collection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for group in groups(ids, MAX_IDS):
        found.update(collection.get(ids=group, include=[])["ids"])
    return found


def read(collection: Collection, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the entries of each list, oldest first."""
    chains = read_chains(lambda ids: documents(collection, ids), names, _SHORT)
    return {
        n: [entry for slot in slots for entry in slot["entries"]] for n, slots in chains.items()
    }


def read_newest(
    collection: Collection, names: Sequence[str], at_least: int
) -> dict[str, list[Any]]:
    """Return the last entries of each list: at least `at_least`, or all."""
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
        slots = documents(collection, ids)
        for name, numbers in wanted.items():
            entries = [entry for n in numbers for entry in slots[slot_id(name, n)]["entries"]]
            newest[name] = entries + newest[name]
            starts[name] = numbers.start
        width *= 4
