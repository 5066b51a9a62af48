"""Read and append chains of records.

The ids of a chain are `{name}/0`, `{name}/1`, … without gaps. Chroma's `add` ignores an id that
exists, so the first process to add number n has appended, and the others read its record: a
compare-and-append.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from autotrace.store.schema import MAX_IDS, Collection, documents, groups

R = TypeVar("R")
_MAX_WIDTH: Final = MAX_IDS // 2


def record_id(name: str, number: int) -> str:
    """Return the id of a record of a chain."""
    return f"{name}/{number}"


def read_chains(
    read: Callable[[Sequence[str]], Mapping[str, R]], names: Iterable[str], first_look: int
) -> dict[str, list[R]]:
    """Return the records of each chain, in order; none for an unknown one.

    Args:
        read: Returns the existing records of some ids, by id.
        names: Names of the chains.
        first_look: Number of records of each chain to read first; longer chains need more reads.
    """
    chains: dict[str, list[R]] = {name: [] for name in names}
    pending, width = list(chains), first_look
    while pending:
        unfinished: list[str] = []
        for group in groups(pending, max(1, MAX_IDS // width)):
            numbers = {n: range(len(chains[n]), len(chains[n]) + width) for n in group}
            found = read([record_id(n, number) for n in group for number in numbers[n]])
            for name in group:
                ids = [record_id(name, number) for number in numbers[name]]
                present = [found[i] for i in ids if i in found]
                chains[name] += present
                if len(present) == width:
                    unfinished.append(name)
        pending, width = unfinished, min(width * 4, _MAX_WIDTH)
    return chains


def lost_ids(collection: Collection, ids: Sequence[str], writer: str, batch: int) -> set[str]:
    """Return those of the ids just added that another writer added first."""
    found = documents(collection, ids)
    return {i for i in ids if (found[i]["writer"], found[i]["batch"]) != (writer, batch)}
