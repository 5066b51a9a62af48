"""Remove every byte of deleted content from the files of the store folder.

A deletion leaves a mark; the storekeeper purges when it is idle, and so does `autotrace doctor`.
store/file_purge.py purges the files of Chroma. This module overwrites stored records with spaces in
spool segments of live processes, which append behind them; deletes lines of deleted traces and all
unreadable lines in `spool/bad`; and deletes deleted traces in the registry of open traces, `open/`.
Over a Chroma server a deletion leaves no mark, so nothing is purged.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import orjson

from autotrace.errors import StoreUnavailableError
from autotrace.settings import Settings
from autotrace.spool.cursor import load_cursor
from autotrace.spool.files import (
    BAD_DIRECTORY,
    SEGMENT_SUFFIX,
    decode_line,
    is_of_newer_version,
    processes_in,
    segments_of,
)
from autotrace.spool.shares import partition_of
from autotrace.spool.span_records import SpanRecord
from autotrace.store.connection import UNLIMITED, Connection, PurgeLimits, ServerOptions
from autotrace.store.decision_log import DecisionCollections, connect_decisions
from autotrace.store.file_purge import VECTORS
from autotrace.store.open_traces import open_traces
from autotrace.store.schema import groups
from autotrace.store.trace_log import read_parts
from autotrace.traces.tree import Tree
from autotrace.worker.quarantine import set_aside_path
from autotrace.worker.spool_reader import DAMAGED

IDLE_LIMITS: Final = PurgeLimits(vectors=2_000, bytes=256 * 1024 * 1024)
"""Limits of a purge in the background, which blocks writes to the store for some seconds."""
_TRACES_AT_ONCE: Final = 64
_MANY: Final = 100_000
_ATTEMPTS: Final = 3
_PAUSE_S: Final = 1.0
_STALE_S: Final = 60.0
_BLOCK: Final = b" " * 4095 + b"\n"
"""A line of spaces, which readers skip."""
_LOOK_BYTES: Final = 4096


class Purger:
    """Purge one store.

    The caller must hold `drain.lock`, and should have stored all waiting records.

    Args:
        settings: Name the store.
        connection: Connection to its traces.
        count: Called with the name of a counter and a number.
    """

    def __init__(
        self, settings: Settings, connection: Connection, count: Callable[[str, int], None]
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._count = count

    def due(self) -> bool:
        """Return whether content is due to be purged."""
        return any(connection.purge_due() for connection in self._connections())

    def _connections(self) -> tuple[Connection[Any], ...]:
        return self._connection, decisions_of(self._settings, self._connection.space)

    def purge(self, limits: PurgeLimits = UNLIMITED) -> bool:
        """Purge the content that is due; return whether all is purged.

        Raises:
            StoreError: The store cannot be read, or cannot be purged now.
            OSError: A file of the spool cannot be written.
        """
        due = frozenset[str]().union(*(each.purge_due() for each in self._connections()))
        if not due:
            return True
        if limits != UNLIMITED and due == frozenset({VECTORS}):
            return False  # an earlier purge left them: there were too many
        self._purge_spool()
        self._purge_registry()
        left = frozenset[str]()
        # Purge both: free places of index files hold memory of the process that wrote them. The
        # marked one comes last, so that a killed purge is repeated.
        for connection in sorted(self._connections(), key=lambda each: bool(each.purge_due())):
            left |= _persistently(lambda each=connection: each.purge(limits, also=True))
        return not left

    def _purge_spool(self) -> None:
        spool = self._settings.spool_path
        known = load_cursor(spool).processes
        for process in processes_in(spool):
            if process in known and not is_of_newer_version(spool / process):
                segment, offset = known[process].at
                overwrite_stored(spool / process, segment, offset)
        self._purge_unstored(set_aside_path(spool))
        damaged = spool / BAD_DIRECTORY / f"{DAMAGED}.log"
        if damaged.is_file():
            # An unreadable line may belong to a deleted trace.
            self._count("purged_records", damaged.read_bytes().count(b"\n"))
            damaged.unlink()

    def _purge_unstored(self, path: Path) -> None:
        path.with_suffix(".new").unlink(missing_ok=True)  # of a retry that was killed
        if not path.is_file():
            return
        by_share: dict[str, list[bytes]] = {}
        for line in path.read_bytes().splitlines(keepends=True):
            record = _record_of(line)
            by_share.setdefault("" if record is None else partition_of(record), []).append(line)
        erased = self._erased(by_share)
        kept: list[bytes] = []
        for share, lines in by_share.items():
            if share in erased:
                kept += _without_erased(lines, erased[share])
            elif share:
                kept += lines
        lost = sum(map(len, by_share.values())) - len(kept)
        if not lost:
            return
        self._count("purged_records", lost)
        if kept:
            temporary = path.with_suffix(".new")
            temporary.touch(mode=0o600)
            temporary.write_bytes(b"".join(kept))
            temporary.replace(path)
        else:
            path.unlink()

    def _erased(self, shares: Iterable[str]) -> dict[str, list[SpanRecord]]:
        """Return the logged records of the shares that have a deleted trace."""
        found: dict[str, list[SpanRecord]] = {}
        for group in groups(filter(None, shares), _TRACES_AT_ONCE):
            logs = self._connection.read(lambda c, group=group: read_parts(c.log, group))
            for share, parts in logs.items():
                records = [record for part in parts for record in part["records"]]
                if any("erased" in record for record in records):
                    found[share] = records
        return found

    def _purge_registry(self) -> None:
        """Remove deleted traces from the registry of an embedded store."""
        folder = Path(self._settings.store).expanduser() / "open"
        if not self._settings.is_embedded or not folder.is_dir():
            return
        registry = open_traces(self._settings.store, ServerOptions.of(self._settings))
        now_ns = time.time_ns() + 1_000_000_000
        ids = {*registry.begun(now_ns, _MANY), *registry.completed(now_ns, _MANY)}
        begun = {i: opening["begun"] for i, opening in registry.openings(list(ids)).items()}
        erased = self._erased({partition_of(record) for record in begun.values()})
        gone = [
            trace_id
            for trace_id, task in begun.items()
            if any(
                record["id"] == task["id"] and "erased" in record
                for record in erased.get(partition_of(task), ())
            )
        ]
        registry.remove(gone)
        for path in folder.glob("new-*"):  # of a process that was killed while it wrote one
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()


def _persistently(purge: Callable[[], frozenset[str]]) -> frozenset[str]:
    """Run a purge; retry it while a reader has the database locked."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return purge()
        except StoreUnavailableError as error:
            if error.__cause__ is None:
                raise
            time.sleep(_PAUSE_S)
    return purge()


def decisions_of(settings: Settings, space: str | None) -> Connection[DecisionCollections]:
    """Return the connection to the decisions of a store."""
    return connect_decisions(settings.store, space=space, server=ServerOptions.of(settings))


def overwrite_stored(directory: Path, segment: int, offset: int) -> None:
    """Delete stored segments of a process, and overwrite the stored part.

    The process may append to the last segment meanwhile.

    Args:
        directory: Spool of the process.
        segment: Number of the segment that is stored in part.
        offset: Size of its stored part, in bytes.
    """
    for path in segments_of(directory):
        if int(path.stem) < segment:
            path.unlink(missing_ok=True)
    path = directory / f"{segment:08d}{SEGMENT_SUFFIX}"
    with contextlib.suppress(FileNotFoundError), path.open("r+b", buffering=0) as file:
        head = file.readline(_LOOK_BYTES)
        header = decode_line(head[:-1])
        start = len(head) if header is not None and "autotrace_spool" in header else 0
        file.seek(start)
        left = offset - start
        while left > 0:
            block = _BLOCK if left >= len(_BLOCK) else _BLOCK[-left:]
            left -= file.write(block)


def _without_erased(lines: Sequence[bytes], logged: Sequence[SpanRecord]) -> list[bytes]:
    """Return the readable lines that do not belong to a deleted trace."""
    records = [_record_of(line) for line in lines]
    whole = [record for record in records if record is not None]
    tree = Tree([*logged, *whole])
    return [
        line
        for line, record in zip(lines, records, strict=True)
        if record is not None and tree.erased_task_of(record) is None
    ]


def _record_of(line: bytes) -> SpanRecord | None:
    try:
        value: Any = orjson.loads(line)
    except ValueError:
        return None
    is_record = isinstance(value, dict) and {"trace", "id", "start_ns"} <= value.keys()
    return cast("SpanRecord", value) if is_record else None
