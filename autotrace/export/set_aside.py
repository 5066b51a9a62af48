"""What the store refused for what it holds: how much there is, and trying it again.

The drainer puts a batch that is refused again and again into `bad/unstored.log`, so that what comes
after it is stored. Often one record is to blame, so the retry stores each OpenTelemetry trace by
itself. A part of a batch may have been stored before it was refused: that is in the log, and counts
as a repeat here; `rebuild`, run before, has made its projections from there.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from autotrace.errors import StoreError
from autotrace.export.drain import DRAIN_LOCK_TIMEOUT_S, UNSTORED, no_drainer
from autotrace.export.ingest import Ingestor
from autotrace.export.shares import partition_of
from autotrace.export.spool import BAD_DIRECTORY

_READ_BYTES: Final = 1024 * 1024


class Retried(NamedTuple):
    """What came of a retry."""

    stored: int
    """Records that are in the store now."""
    refused: int
    """Records that were refused again, and are kept."""
    reason: str | None
    """Why the last of them was."""


def set_aside_path(spool: Path) -> Path:
    """Return where the records lie that the store refused."""
    return spool / BAD_DIRECTORY / f"{UNSTORED}.log"


def count_set_aside(spool: Path) -> int:
    """Return how many records of this spool directory the store has refused."""
    try:
        with set_aside_path(spool).open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_READ_BYTES), b""))
    except OSError:
        return 0


def set_aside_problem(number: int, store: str) -> str:
    """Say how many records were refused, and what to do."""
    return f"the store refused {number} records, which are set aside: {set_aside_fix(store)}"


def set_aside_fix(store: str) -> str:
    """Return the command that tries them again."""
    return f"autotrace rebuild --store {store}"


def retry_set_aside(spool: Path, ingestor: Ingestor) -> Retried:
    """Store again what was refused; interrupted, it is simply run again.

    Args:
        spool: The spool directory.
        ingestor: Stores batches.

    Raises:
        StoreError: The store is not there, or another process drains and does not give way.
            Nothing is changed beyond what is stored by then.
    """
    if not count_set_aside(spool):
        return Retried(0, 0, None)
    with no_drainer(spool, DRAIN_LOCK_TIMEOUT_S):
        return _retry(set_aside_path(spool), ingestor)


def _retry(path: Path, ingestor: Ingestor) -> Retried:
    by_trace: dict[str, list[bytes]] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        by_trace.setdefault(_trace_of(line), []).append(line)
    writer = secrets.token_hex(8)
    stored, kept, reason = 0, list[bytes](), None
    for batch, lines in enumerate(by_trace.values(), start=1):
        try:
            ingestor.ingest([orjson.loads(line) for line in lines], writer=writer, batch=batch)
            stored += len(lines)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the refusal is called, the rest goes on
            kept += lines
            reason = f"{type(error).__name__}: {error}"
    if kept:
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_bytes(b"".join(kept))
        temporary.replace(path)
    else:
        path.unlink()
    return Retried(stored, len(kept), reason)


def _trace_of(line: bytes) -> str:
    try:
        record: Any = orjson.loads(line)
        return partition_of(record)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""  # a line cut short by a full disk: refused with others of its kind, and kept
