"""Spool files that are cut, flipped, too new or very long: what is good in them is kept."""

from __future__ import annotations

import json
import os
import random
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import autotrace
from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Counted, Figure
from tests.faults.processes import LINUX, MARK, run

RECORDS_OF_A_TASK: Final = 5
"""Its start, three calls, its end."""

DIES: Final = """
import os, sys
from autotrace import task, tool
from tests.faults.agents import configure

@tool
def work(number, size=1):
    return str(number) * size

configure(sys.argv[1], flush_interval_ms=600_000)
for number in range(int(sys.argv[2])):
    with task(f"task {number}"):
        for call in range(3):
            work(call, int(sys.argv[3]))
os._exit(0)
"""


def left_by_a_dead_process(store: Path, tasks: int = 20, size: int = 1) -> Path:
    """Return the spool file of a process that has died, with everything it wrote."""
    done = run(DIES, store, tasks, size)
    assert done.returncode == 0, done.stderr
    segments = sorted((store / "spool").glob("*/*.log"))
    written = [path.read_bytes().rstrip(b"\0") for path in segments]
    for path in segments[1:]:
        path.unlink()
    segments[0].write_bytes(b"".join(written))
    return segments[0]


def cut_in_the_middle(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) // 2, len(data) - 1)]


def one_bit_flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(10):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwritten_with_noise(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) // 2)
    return data[:at] + chance.randbytes(3000) + data[at + 3000 :]


def holes_of_zeros(data: bytes, chance: random.Random) -> bytes:
    """What some file systems leave after a power cut."""
    at = chance.randrange(len(data) // 2)
    return data[:at] + bytes(2000) + data[at + 2000 :] + bytes(5000)


@pytest.mark.parametrize(
    "damage", [cut_in_the_middle, one_bit_flipped, overwritten_with_noise, holes_of_zeros]
)
def test_damaged_lines_are_counted_and_set_aside_and_the_others_are_stored(
    store: Path,
    damage: Callable[[bytes, random.Random], bytes],
    counted: Counted,
    figure: Figure,
) -> None:
    segment = left_by_a_dead_process(store)
    whole = segment.read_bytes()
    data = damage(whole, random.Random(os.environ.get("FAULTS_SEED", damage.__name__)))
    segment.write_bytes(data)
    intact = {line for line in data.split(b"\n") if line in whole.split(b"\n")[1:] and line}
    records = [json.loads(line[9:]) for line in intact]
    bad = len([line for line in data.split(b"\n")[1:] if line.strip(b"\0") and line not in intact])
    open_store(store)

    calls = {r["id"] for r in records if r["name"] == "execute_tool work"}
    tasks = {r["id"] for r in records if r["name"] == "invoke_agent"}
    ended = {r["id"] for r in records if r["name"] == "invoke_agent" and "end_ns" in r}
    traces = stored_traces()
    assert {t.trace_id.rpartition("-")[2] for t in traces.values()} == tasks
    assert {
        t.trace_id.rpartition("-")[2] for t in traces.values() if t.status == "completed"
    } == ended
    assert {t.status for t in traces.values()} <= {"completed", "interrupted"}
    stored = {c.tool_call_id.rpartition("-")[2] for t in traces.values() for c in t.tool_calls}
    assert stored <= calls
    kept_alone = calls - stored  # of a task of which nothing is left
    assert len(kept_alone) <= 3 * (20 - len(tasks))
    damaged = counted()["damaged_records"]
    assert damaged >= bad >= 1  # noise may hold line ends of other kinds
    set_aside = (store / "spool" / "bad" / "damaged.log").read_bytes()
    assert set_aside
    figure(
        f"{damage.__name__.replace('_', ' ')}: {len(records)} of {20 * RECORDS_OF_A_TASK} records "
        f"good and stored, {damaged} lines counted and set aside"
    )


def test_a_spool_of_a_newer_version_waits_untouched_while_others_are_stored(
    store: Path, counted: Counted
) -> None:
    segment = left_by_a_dead_process(store)
    header, _, rest = segment.read_bytes().partition(b"\n")
    body = re.sub(rb'"autotrace_spool":(\d+)', rb'"autotrace_spool":99', header[9:])
    newer = b"%08x %b\n" % (zlib.crc32(body), body) + rest
    segment.write_bytes(newer)

    open_store(store)
    with autotrace.task("of this version"):
        pass
    assert autotrace.flush(timeout=500)

    assert [s.task for s in autotrace.list_traces()] == ["of this version"]
    assert segment.read_bytes() == newer
    assert counted()["newer_spools"] == 1


STORES: Final = """
import sys
from pathlib import Path
import autotrace
from tests.faults.checks import open_store, stored_traces
from tests.faults.processes import peak_memory_bytes
open_store(sys.argv[1])
traces = stored_traces()
print(len(traces), sum(len(t.tool_calls) for t in traces.values()),
      {t.status for t in traces.values()}, autotrace.health().counters.get("damaged_records", 0),
      peak_memory_bytes(sys.argv[2]), sep="|")
"""


def stored_by_a_new_process(store: Path) -> tuple[int, int, str, int, int]:
    """Return traces, calls, statuses, damaged lines, and the peak memory of all who took part."""
    done = run(STORES, store, store, env={MARK: str(store)}, timeout_s=110)
    assert (done.returncode, done.stderr) == (0, "")
    traces, calls, statuses, damaged, peak_bytes = done.stdout.strip().split("|")
    return int(traces), int(calls), statuses, int(damaged), int(peak_bytes)


GIGABYTE: Final = 1_000_000_000
AT_MOST_BYTES: Final = 450_000_000
"""The process with chromadb, its batches, and the longest line that is read at once, 64 MiB."""


@pytest.mark.skipif(not LINUX, reason="memory is read from /proc")
@pytest.mark.parametrize("content", ["records again and again", "a hole"])
@pytest.mark.parametrize(
    "size", [GIGABYTE // 8, pytest.param(GIGABYTE, marks=pytest.mark.full_size)]
)
def test_a_spool_of_a_gigabyte_is_read_in_bounded_memory(
    store: Path, content: str, size: int, figure: Figure
) -> None:
    segment = left_by_a_dead_process(store, tasks=20, size=200_000)
    header, _, body = segment.read_bytes().partition(b"\n")
    middle = body.index(b"\n", len(body) // 2) + 1
    with segment.open("wb") as file:
        file.write(header + b"\n")
        if content == "a hole":
            file.write(body[:middle])
            file.truncate(file.tell() + size)
            file.seek(0, os.SEEK_END)
            file.write(b"\n" + body[middle:])
        while file.tell() < size:
            file.write(body)

    traces, calls, statuses, damaged, peak_bytes = stored_by_a_new_process(store)

    assert (traces, calls, statuses) == (20, 60, "{'completed'}")
    assert bool(damaged) == (content == "a hole")
    assert peak_bytes < AT_MOST_BYTES
    figure(
        f"{size / 1e6:,.0f} MB, {content}: every good record stored, peak {peak_bytes / 1e6:.0f} MB"
    )
