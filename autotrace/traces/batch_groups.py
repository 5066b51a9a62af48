"""Store a batch in groups, so that a record that is refused costs that record alone.

A batch is stored whole. If it is refused for what it holds, it is divided and the groups are
stored one by one: first partitions are told apart (spool/shares.py), then records of one partition.
A record that is refused by itself is quarantined. A store that does not answer is another matter:
its error is raised, and the same group is tried again later under the same number.

Every attempt that may have written something has a number of its own, which the groups that come
of it remember: what an attempt has stored and counted is known again by them (ingest.py).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from autotrace import semconv
from autotrace.errors import AutotraceError, StoreError
from autotrace.spool import record_fields
from autotrace.spool.cursor import Group
from autotrace.spool.shares import partition_of
from autotrace.spool.span_records import SpanRecord

_MAX_DIVISIONS: Final = 200
"""How often one batch is divided; beyond that, a group that is refused is quarantined whole."""
NOT_REFUSED: Final = (StoreError, OSError, MemoryError)
"""Errors of the store or of the machine, whatever the records hold."""


class RefusedError(AutotraceError):
    """Records that cannot be stored for what they hold.

    Args:
        errors: What is wrong, by partition.
    """

    def __init__(self, errors: Mapping[str, Exception]) -> None:
        first = next(iter(errors.values()))
        super().__init__(f"{type(first).__name__}: {first}")
        self.errors = errors


class RefusalCollector:
    """Collects the partitions whose records cannot be read."""

    def __init__(self) -> None:
        self._errors: dict[str, Exception] = {}

    @contextmanager
    def reading(self, partition: str) -> Generator[None]:
        """Read records of a partition; an error is kept for `check`."""
        try:
            yield
        except NOT_REFUSED:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a record does to its reader
            self._errors.setdefault(partition, error)

    def check(self) -> None:
        """Raise RefusedError unless every partition could be read."""
        if self._errors:
            raise RefusedError(self._errors)


class Progress(Protocol):
    """How far a batch is stored."""

    writer: str
    batch: int
    """The number of the last attempt that is over."""
    groups: list[Group] | None
    """What is left to store, the next one last; None: the whole batch."""


class Stores(Protocol):
    """What stores a group of records."""

    wrote: bool
    """Whether the log may hold anything of the group."""

    def ingest(
        self,
        records: Sequence[Any],
        *,
        writer: str,
        batch: int,
        attempts: Sequence[int] = (),
    ) -> None:
        """Store a group."""
        ...

    def check(self) -> None:
        """Raise StoreError unless the store takes a write."""
        ...


Refuse = Callable[[Sequence[int], Exception], None]
"""Quarantines records, given by their places in the batch."""


def store(
    ingestor: Stores,
    records: Sequence[SpanRecord],
    progress: Progress,
    *,
    refuse: Refuse,
    save: Callable[[], None],
) -> None:
    """Store a batch, in as many groups as it takes.

    Args:
        ingestor: Stores groups.
        records: The batch.
        progress: Where to go on; kept up to date. The number of the last group is left to
            the caller to take over.
        refuse: Called with records that are refused.
        save: Called when the progress has changed, to keep it.

    Raises:
        StoreError: The store does not answer; go on later with the same progress.
        OSError: The disk does not take what is to be kept; go on later.
    """
    if progress.groups is None or not _fits(progress.groups, len(records)):
        progress.groups = [Group(list(range(len(records))))]
    divisions, tried = 0, list[int]()
    while progress.groups:
        group = progress.groups[-1]
        chosen = [records[place] for place in group.records]
        number = progress.batch + 1
        ingestor.wrote = False
        try:
            ingestor.ingest(chosen, writer=progress.writer, batch=number, attempts=group.attempts)
        except NOT_REFUSED:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the refusal is called, the rest goes on
            attempts = [*group.attempts, number] if ingestor.wrote else group.attempts
            ingestor.check()
            divisions += 1
            known = set(error.errors) if isinstance(error, RefusedError) else set[str]()
            groups, refused = _divided(
                Group(group.records, attempts), chosen, known, may_divide=divisions < _MAX_DIVISIONS
            )
            if refused and tried != group.records:  # an error may pass by itself
                groups, tried = [Group(group.records, attempts)], group.records
            elif refused:
                refuse(refused, error)
            progress.groups[-1:] = groups
            progress.batch = number
            save()
        else:
            progress.groups.pop()
            if progress.groups:
                progress.batch = number
                save()


def _fits(groups: Iterable[Group], number: int) -> bool:
    return all(0 <= place < number for group in groups for place in group.records)


def _divided(
    group: Group,
    chosen: Sequence[SpanRecord],
    known: Container[str],
    *,
    may_divide: bool,
) -> tuple[list[Group], list[int]]:
    """Return the groups to store instead of one that was refused, and what is refused for good.

    Args:
        group: The group, with all attempts at it.
        chosen: Its records.
        known: The partitions that are known to be at fault, if any is.
        may_divide: Whether there is time to look closer.
    """
    by_partition: dict[str, list[int]] = {}
    by_place = dict(zip(group.records, chosen, strict=True))
    for place, record in by_place.items():
        by_partition.setdefault(partition_of(record), []).append(place)
    attempts = group.attempts
    good = [places for partition, places in by_partition.items() if partition not in known]
    bad = [places for partition, places in by_partition.items() if partition in known]
    if not known and len(good) == 1:
        good, bad = [], good
    if bad and good:  # the last one is stored first
        return [Group(_joined(bad), attempts), Group(_joined(good), attempts)], []
    if not may_divide:
        return [], group.records
    if good:
        middle = len(good) // 2
        return [Group(_joined(half), attempts) for half in (good[middle:], good[:middle])], []
    groups: list[Group] = []
    refused: list[int] = []
    for places in bad:
        if len(places) == 1:
            refused += places
            continue
        # A task first: what fails with it must not be stored before it, and it be refused.
        first = sorted(places, key=lambda place: _order(by_place[place]))
        middle = len(first) // 2
        groups += [Group(first[middle:], attempts), Group(first[:middle], attempts)]
    return groups, refused


def _joined(partitions: Iterable[list[int]]) -> list[int]:
    return [place for places in partitions for place in places]


def _order(record: SpanRecord) -> tuple[bool, int]:
    is_task = record_fields.value(record, semconv.KIND) == semconv.KIND_TASK
    return not is_task, record.get("start_ns", 0)
