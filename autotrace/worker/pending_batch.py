"""What of the log belongs to a batch that a drainer has begun, and the next one will go on with.

A batch that is stored in groups (traces/batch_groups.py) may have records in the log that an
attempt wrote, and that are not counted before their group is stored.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from autotrace.spool.cursor import Group, load_cursor
from autotrace.spool.shares import partition_of
from autotrace.spool.span_records import record_key
from autotrace.store.trace_log import LogPart
from autotrace.worker.batch_selection import BatchReader


class UnderWay:
    """The pending batch of a spool directory, if there is one.

    Args:
        spool: The spool directory; nobody stores from it.
    """

    def __init__(self, spool: Path) -> None:
        cursor = load_cursor(spool)
        self._writer = cursor.writer
        self._left: dict[tuple[str, str], set[int]] = defaultdict(set)
        """By share and record, in parts of which batches it lies if it is still to be counted."""
        self._attempts: set[int] = set()
        if cursor.pending is None:
            return
        batch = BatchReader(spool, lambda name, number: None).collect(cursor)
        records = [record for records in batch.records.values() for record in records]
        whole = [Group(list(range(len(records))))]
        groups = whole if cursor.groups is None else cursor.groups
        for group in groups:
            self._attempts.update(group.attempts)
            for place in group.records:
                if place < len(records):
                    record = records[place]
                    left = self._left[partition_of(record), record_key(record)]
                    left.update((cursor.batch + 1, *group.attempts))

    def has(self, part: LogPart, record: Any) -> bool:
        """Tell whether a record of a part of the log is counted when its group is stored."""
        if part["writer"] != self._writer or not self._left:
            return False
        return part["batch"] in self._left.get((partition_of(record), record_key(record)), ())

    def batch_of(self, part: LogPart) -> int:
        """Return in which batch the records of a part that are counted were counted.

        Those that an attempt wrote were counted later, with their group. A counter must not name
        the attempt: what is left of it would be taken for counted.
        """
        is_attempt = part["writer"] == self._writer and part["batch"] in self._attempts
        return 0 if is_attempt else part["batch"]
