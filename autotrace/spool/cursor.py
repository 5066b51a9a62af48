"""The cursor: how far the spool of each process is stored; a file in the spool directory.

::

    {"writer": "…", "batch": 7,
     "processes": {"<process>": {"at": [segment, offset], "open": {"<span>": ["<trace>", ns]},
                                   "set_aside": 0}},
     "pending": {"<process>": {"to": [segment, offset], "ended": false}},
     "groups": [{"records": [0, 1], "attempts": [8]}]}

It is replaced in one move, before a batch is stored (what the batch takes is `pending`, so that
after a crash the same batch is stored again, under the same number) and after it. While a batch is
stored in groups, `groups` has the groups left (traces/batch_groups.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

CURSOR_FILE: Final = "cursor.json"

SpoolPosition = tuple[int, int]
"""(segment number, offset in bytes)."""
START: Final[SpoolPosition] = (0, 0)


@dataclass
class Process:
    """How far one process's spool has been stored."""

    at: SpoolPosition = START
    open: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Tasks that started and have not ended: span id to (OpenTelemetry trace, last time seen)."""
    set_aside: int = 0
    """How many of its records the store has refused."""


@dataclass
class Range:
    """What a batch takes of one process's spool: from where it stands to here."""

    to: SpoolPosition
    ended: bool
    """Whether the process is dead and this is all it left."""


@dataclass
class Cursor:
    """How far every spool has been stored, by whom, and the batch under way."""

    writer: str = field(default_factory=lambda: secrets.token_hex(8))
    batch: int = 0
    processes: dict[str, Process] = field(default_factory=dict[str, Process])
    pending: dict[str, Range] | None = None
    groups: list[Group] | None = None
    """Groups left of the pending batch, where it is not stored whole; the next one last."""


class Stored:
    """Snapshot of a cursor: how far the spools of a directory were stored."""

    def __init__(self, spool: Path, cursor: Cursor) -> None:
        self._spool = spool
        self._processes = dict(list(cursor.processes.items()))
        self._places = {name: known.at for name, known in self._processes.items()}
        self.batch = cursor.batch
        """Number of the last batch: it changes with every batch."""

    def up_to(self, process: str) -> SpoolPosition | None:
        """Return how far a process's spool is stored; None when all of it is and it is gone."""
        place = self._places.get(process)
        if place is not None:
            return place
        return START if (self._spool / process).is_dir() else None

    def holds(self, places: Mapping[str, SpoolPosition]) -> bool:
        """Return whether everything up to some places, by process, is stored."""
        return all(
            (stored := self.up_to(process)) is None or stored >= place
            for process, place in places.items()
        )

    def set_aside_of(self, process: str) -> int:
        """Return how many records of a live process the store has refused."""
        known = self._processes.get(process)
        return 0 if known is None else known.set_aside


def load_cursor(spool: Path) -> Cursor:
    """Read the cursor of a spool directory; a missing or damaged one starts from zero."""
    try:
        value: dict[str, Any] = orjson.loads((spool / CURSOR_FILE).read_bytes())
        pending = value["pending"]
        return Cursor(
            writer=value["writer"],
            batch=value["batch"],
            processes={
                name: Process(
                    at=(process["at"][0], process["at"][1]),
                    open={span: (seen[0], seen[1]) for span, seen in process["open"].items()},
                    set_aside=process.get("set_aside", 0),
                )
                for name, process in value["processes"].items()
            },
            pending=None
            if pending is None
            else {
                name: Range(to=(taken["to"][0], taken["to"][1]), ended=taken["ended"])
                for name, taken in pending.items()
            },
            groups=None
            if pending is None or value.get("groups") is None
            else [Group(group["records"], group["attempts"]) for group in value["groups"]],
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return Cursor()


def save_cursor(spool: Path, cursor: Cursor) -> None:
    """Replace the cursor of a spool directory in one move."""
    temporary = spool / (CURSOR_FILE + ".new")
    temporary.write_bytes(orjson.dumps(cursor))
    temporary.replace(spool / CURSOR_FILE)


@dataclass
class Group:
    """Records that are stored together, and not with the others of their batch."""

    records: list[int]
    """Their places in the batch."""
    attempts: list[int] = field(default_factory=list[int])
    """Numbers of failed attempts that may have stored some of them."""
