"""Count and retry quarantined records.

The drainer moves records that the store refuses for their content to `bad/unstored.log`, so that it
can store the others. The retry stores them as the drainer does (traces/batch_groups.py). If a part
of a refused batch is in the log, it counts as a repeat; `rebuild`, run before, has made its
projections.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from autotrace.base.plural import counted
from autotrace.spool.cursor import Group
from autotrace.spool.drain_lock import DRAIN_LOCK_TIMEOUT_S, exclusive_drain_lock
from autotrace.spool.files import BAD_DIRECTORY
from autotrace.spool.record_fields import conformed
from autotrace.spool.span_records import SpanRecord
from autotrace.traces import batch_groups
from autotrace.traces.ingest import Ingestor
from autotrace.worker.spool_reader import UNSTORED

_READ_BYTES: Final = 1024 * 1024


class Retried(NamedTuple):
    """Report the result of a retry."""

    stored: int
    """Number of records that are in the store now."""
    refused: int
    """Number of records that were refused again and are kept."""
    reason: str | None
    """Reason of the last refusal."""


def set_aside_path(spool: Path) -> Path:
    """Return the file of the records that the store refused."""
    return spool / BAD_DIRECTORY / f"{UNSTORED}.log"


def count_set_aside(spool: Path) -> int:
    """Return the number of refused records of a spool directory."""
    try:
        with set_aside_path(spool).open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_READ_BYTES), b""))
    except OSError:
        return 0


def set_aside_problem(number: int, store: str) -> str:
    """Return a message about refused records, with the command to run."""
    return f"the store refused {set_aside_records(number)} set aside: {set_aside_fix(store)}"


def set_aside_records(number: int) -> str:
    """Return the subject of a message about refused records."""
    return f"{counted(number, 'record')}, which {'is' if number == 1 else 'are'}"


def set_aside_fix(store: str) -> str:
    """Return the command that retries refused records."""
    return f"autotrace rebuild --store {store}"


def retry_set_aside(spool: Path, ingestor: Ingestor) -> Retried:
    """Retry the quarantined records; safe to repeat after an interruption.

    Args:
        spool: The spool directory.
        ingestor: Stores batches.

    Raises:
        StoreError: The store is not available, or another process holds `drain.lock` and does
            not release it. Records stored before the error stay stored.
    """
    if not count_set_aside(spool):
        return Retried(0, 0, None)
    with exclusive_drain_lock(spool, DRAIN_LOCK_TIMEOUT_S):
        return _retry(set_aside_path(spool), ingestor)


@dataclass
class _Progress:
    writer: str
    batch: int = 0
    groups: list[Group] | None = None


def _retry(path: Path, ingestor: Ingestor) -> Retried:
    lines, kept = list[bytes](), list[bytes]()
    records: list[SpanRecord] = []
    reason: str | None = None
    all_lines = path.read_bytes().splitlines(keepends=True)
    for line in all_lines:
        try:
            records.append(conformed(orjson.loads(line)))
            lines.append(line)
        except (ValueError, AttributeError) as error:  # not a record, or cut by a full disk
            kept.append(line)
            reason = f"{type(error).__name__}: {error}"

    def refuse(places: Sequence[int], error: Exception) -> None:
        nonlocal reason
        kept.extend(lines[place] for place in places)
        reason = f"{type(error).__name__}: {error}"

    if records:
        progress = _Progress(secrets.token_hex(8))
        batch_groups.store(ingestor, records, progress, refuse=refuse, save=lambda: None)
    if kept:
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_bytes(b"".join(kept))
        temporary.replace(path)
    else:
        path.unlink()
    return Retried(len(all_lines) - len(kept), len(kept), reason)
