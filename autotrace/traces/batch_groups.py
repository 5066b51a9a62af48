"""Store a batch in groups, so that a refused record costs that record alone.

A batch is stored whole. If the store refuses its content, the batch is divided: first by partition
(spool/shares.py), then within one. A record that is refused by itself is quarantined. If the store
does not answer, its error is raised, and the same group is tried again later under the same number.
Each attempt that may have written something has its own number. Groups keep the numbers of attempts
they come from, by which ingest.py finds the records that are stored and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from autotrace import semconv
from autotrace.errors import AutotraceError, StoreError
from autotrace.spool import record_fields
from autotrace.spool.cursor import Group
from autotrace.spool.shares import partition_of
from autotrace.spool.span_records import SpanRecord

if TYPE_CHECKING:
    from autotrace.traces.ingest import Ingestor

_MAX_DIVISIONS: Final = 200
"""Number of divisions of one batch; after them, a refused group is quarantined whole."""
NOT_REFUSED: Final = (StoreError, OSError, MemoryError)
"""Errors of the store or of the machine, which no content of records causes."""


class RefusedError(AutotraceError):
    """Records whose content cannot be stored."""

    def __init__(self, errors: Mapping[str, Exception]) -> None:
        first = next(iter(errors.values()))
        super().__init__(f"{type(first).__name__}: {first}")
        self.errors = errors


class RefusalCollector:
    """Collects errors of partitions whose records cannot be read."""

    def __init__(self) -> None:
        self._errors: dict[str, Exception] = {}

    @contextmanager
    def reading(self, partition: str) -> Generator[None]:
        """Keep an error of the block for `check`."""
        try:
            yield
        except NOT_REFUSED:
            raise
        except Exception as error:  # noqa: BLE001 - content of a record may raise any error
            self._errors.setdefault(partition, error)

    def check(self) -> None:
        """Raise RefusedError unless every partition could be read."""
        if self._errors:
            raise RefusedError(self._errors)


class Progress(Protocol):
    """The progress of storing a batch."""

    writer: str
    batch: int
    """The number of the last finished attempt."""
    groups: list[Group] | None
    """The groups left to store, the next one last; None: the whole batch."""


Refuse = Callable[[Sequence[int], Exception], None]
"""Quarantines records, given by their indexes in the batch."""


def store(
    ingestor: Ingestor,
    records: Sequence[SpanRecord],
    progress: Progress,
    *,
    refuse: Refuse,
    save: Callable[[], None],
) -> None:
    """Store a batch, in as many groups as necessary.

    Args:
        ingestor: Stores groups.
        records: The batch.
        progress: The progress to continue and update. The caller adds the number of the last group.
        refuse: Called with refused records.
        save: Called when the progress has changed.

    Raises:
        StoreError: The store does not answer; continue later with the same progress.
        OSError: The progress or the quarantine cannot be written; continue later.
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
        except Exception as error:  # noqa: BLE001 - any refusal costs its records alone
            attempts = [*group.attempts, number] if ingestor.wrote else group.attempts
            ingestor.check()
            divisions += 1
            known = set(error.errors) if isinstance(error, RefusedError) else set[str]()
            groups, refused = _divided(
                Group(group.records, attempts), chosen, known, may_divide=divisions < _MAX_DIVISIONS
            )
            if refused and tried != group.records:  # a second attempt may succeed
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
    group: Group, chosen: Sequence[SpanRecord], known: Container[str], *, may_divide: bool
) -> tuple[list[Group], list[int]]:
    """Return the groups to store in place of a refused one, and the records to quarantine.

    `known` are the partitions that are known to be refused, if any.
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
        # A task first: records of a refused task must not be stored before it.
        first = sorted(places, key=lambda place: _order(by_place[place]))
        middle = len(first) // 2
        groups += [Group(first[middle:], attempts), Group(first[:middle], attempts)]
    return groups, refused


def _joined(partitions: Iterable[list[int]]) -> list[int]:
    return [place for places in partitions for place in places]


def _order(record: SpanRecord) -> tuple[bool, int]:
    is_task = record_fields.value(record, semconv.KIND) == semconv.KIND_TASK
    return not is_task, record.get("start_ns", 0)
