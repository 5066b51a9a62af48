"""The ledger: count and head of each decision that this machine wrote, outside of Chroma.

The log of a decision must still hold each event that the ledger names, so removed events show. The
ledger is a folder next to the key that signs receipts, of 256 append-only files; the hash of a
decision's id selects its file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from autotrace.base.private_folder import private_directory
from autotrace.decisions.hash_chain import StoredEvent

_HASH_DIGITS: Final = 64


class Mark(NamedTuple):
    """Count and head of a log at some time."""

    events: int
    head: str


def gap(marks: Iterable[Mark], events: Sequence[StoredEvent], source: str) -> str | None:
    """Return what a log lacks of its marks; None if nothing.

    Args:
        marks: Marks of the log, in order.
        events: Events of the log.
        source: Name of the source of the marks, for the result.
    """
    for count, head in marks:
        if not events:
            return f"it is gone: {source} names {count} events"
        if len(events) < count:
            return (
                f"its end was cut off: {source} names {count} events, and there are {len(events)}"
            )
        if events[count - 1].get("hash") != head:
            return f"it was written again: {source} names another head of {count} events"
    return None


class Ledger:
    """Appends and reads marks. Any thread and process may use it.

    Each method raises OSError if the ledger cannot be read or written.

    Args:
        folder: Folder of the files; created at the first append.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, decision_id: str, events: Sequence[StoredEvent]) -> None:
        """Append the count and the head of a decision."""
        private_directory(self._folder)
        # Readers skip a line that a crash cut short; it ends at the next line feed.
        line = f"\n{decision_id} {len(events)} {events[-1]['hash']}\n"
        path = self._path(decision_id)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def vouches(self, decision_id: str, events: Sequence[StoredEvent]) -> bool:
        """Return whether the ledger names exactly this count and head."""
        return (len(events), events[-1]["hash"]) in self.marks(decision_id)

    def decision_ids(self) -> list[str]:
        """Return the id of every decision in the ledger."""
        paths = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        return list(dict.fromkeys(name for path in paths for name, _, _ in _lines(path)))

    def marks(self, decision_id: str) -> list[Mark]:
        """Return the marks of a decision, in order."""
        path = self._path(decision_id)
        return [Mark(count, head) for name, count, head in _lines(path) if name == decision_id]

    def _path(self, decision_id: str) -> Path:
        return self._folder / hashlib.blake2b(decision_id.encode(), digest_size=1).hexdigest()


def _lines(path: Path) -> Iterator[tuple[str, int, str]]:
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) == 3 and fields[1].isdecimal() and len(fields[2]) == _HASH_DIGITS:
            yield fields[0], int(fields[1]), fields[2]
