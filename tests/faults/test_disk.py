"""A disk that is full or cannot be written: the program goes on, and every loss is counted."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Counted, Figure, by_a_thread
from tests.faults.processes import LINUX, run

IN_A_SMALL_FILE_SYSTEM: Final = """
set -e
mount -t tmpfs -o size="$SIZE" tmpfs "$DISK"
exec "$@"
"""


def on_a_small_disk(disk: Path, size: str, code: str, *arguments: object) -> dict[str, Any]:
    """Run a program that sees a small file system mounted on a folder, which nobody else sees."""
    if not LINUX:
        pytest.skip("mount namespaces are Linux's")
    disk.mkdir()
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a file system here")
    done = run(
        code,
        disk,
        *arguments,
        prefix=[*apart, "sh", "-c", IN_A_SMALL_FILE_SYSTEM, "sh"],
        env={"SIZE": size, "DISK": str(disk)},
    )
    return answer_of(done)


def answer_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what a program printed, once it has ended well and logged each failure once."""
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    logged = done.stderr.splitlines()
    kinds = [line.partition(":")[0] for line in logged]
    assert len(kinds) == len(set(kinds)) <= 2, logged
    return answer | {"logged": [line for line in logged if "records are lost" in line]}


SETUP: Final = """
import faulthandler, json, logging, os, resource, subprocess, sys
import autotrace
from autotrace import task, tool
from pathlib import Path
from tests.faults.agents import configure
from tests.faults.checks import stored_traces
logging.basicConfig(format="%(name)s %(message)s")

made = 0

@tool
def fetch(number):
    return str(number) * 500

def record(tasks):
    global made
    for n in range(tasks):
        with task(f"fetch {made}"):
            for number in range(10):
                assert fetch(number) == str(number) * 500
        made += 1

def lost():
    return sum(n for name, n in autotrace.health().counters.items() if name.startswith("dropped"))

def answer(**what):
    print(json.dumps(what | {"counters": autotrace.health().counters, "made": made}))
"""

FULL_SPOOL: Final = (
    SETUP
    + """
disk, store = sys.argv[1:]
configure(store, spool=f"{disk}/spool")
record(1)
assert autotrace.flush(timeout=500)
ballast = Path(disk, "ballast")
with ballast.open("wb", buffering=0) as file:
    while True:
        try:
            file.write(b"x" * 65536)
        except OSError:
            break
record(60)
during = lost()
ballast.unlink()
record(20)
first, flushed = autotrace.flush(timeout=500), autotrace.flush(timeout=500)
traces = stored_traces()
answer(during=during, after=lost(), first=first, flushed=flushed,
       last_error=autotrace.health().last_error,
       complete=[t.task for t in traces.values()
                 if t.status == "completed" and len(t.tool_calls) == 10],
       calls=sum(len(t.tool_calls) for t in traces.values()))
"""
)


@by_a_thread
def test_a_spool_on_a_full_disk_counts_what_it_loses_and_goes_on_when_there_is_room(
    store: Path, tmp_path: Path, figure: Figure, storing: str
) -> None:
    told = on_a_small_disk(tmp_path / "disk", "2m", FULL_SPOOL, store)

    assert told["during"] > 0
    assert told["after"] == told["during"]
    assert (told["first"], told["flushed"]) == (False, True)  # the first says that some are lost
    assert set(told["complete"]) >= {f"fetch {n}" for n in (0, *range(61, 81))}
    # Each task makes twelve records: its start, ten calls, its end. None is lost uncounted.
    assert told["calls"] + told["during"] >= 81 * 10
    assert told["calls"] <= 81 * 10
    assert len(told["logged"]) == 1
    assert "No space left on device" in told["logged"][0]
    assert "No space left on device" in told["last_error"]
    figure(
        f"tmpfs of 2 MB, full: {told['during']} records lost and counted, logged once; "
        f"{len(told['complete'])} traces whole before and after"
    )


FULL_STORE: Final = (
    SETUP
    + """
(disk,) = sys.argv[1:]
faulthandler.dump_traceback_later(500, exit=True)
configure(f"{disk}/store")
record(1)
assert autotrace.flush(timeout=500)
usage = os.statvfs(disk)
ballast = Path(disk, "ballast")
# Room for the spool, not for Chroma as well.
ballast.write_bytes(b"x" * (usage.f_bavail * usage.f_frsize - 600_000))
record(40)
during = autotrace.flush(timeout=9)
waiting = autotrace.health().backlog_bytes
ballast.unlink()
flushed = autotrace.flush(timeout=500)
record(1)
again = autotrace.flush(timeout=500)
traces = stored_traces()
answer(during=during, waiting=waiting, flushed=flushed, again=again,
       calls=sum(len(t.tool_calls) for t in traces.values()), traces=len(traces))
"""
)


def test_a_store_on_a_full_disk_takes_everything_when_there_is_room(
    tmp_path: Path, figure: Figure, storing: str
) -> None:
    told = on_a_small_disk(tmp_path / "disk", "8m", FULL_STORE)

    assert told["during"] is False
    assert told["waiting"] > 0
    assert told["flushed"] is True
    assert told["again"] is True
    assert (told["traces"], told["calls"]) == (42, 420)
    assert told["counters"].keys() == {"export_failures"}
    figure(
        f"embedded store on a full tmpfs: {told['waiting']:,} bytes waited, all 42 traces stored"
    )


LIMITED: Final = (
    SETUP
    + """
configure(sys.argv[1], flush_interval_ms=600_000)
record(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
record(60)
during = lost()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
record(20)
answer(during=during, after=lost(), last_error=autotrace.health().last_error)
sys.stdout.flush()
os._exit(0)  # as a kill would end it: what is on disk is all there is
"""
)


@pytest.mark.skipif(os.name == "nt", reason="limits of file sizes are POSIX's")
def test_a_file_that_may_not_grow_is_like_a_full_disk(store: Path, counted: Counted) -> None:
    told = answer_of(run(LIMITED, store))

    assert told["during"] == told["after"] > 0
    assert told["counters"] == {"dropped_spool_error": told["during"]}
    assert len(told["logged"]) == 1
    assert "File too large" in told["logged"][0]
    open_store(store)
    traces = stored_traces()
    whole = {t.task for t in traces.values() if len(t.tool_calls) == 10}
    assert whole >= {f"fetch {n}" for n in (0, *range(61, 81))}
    assert counted()["damaged_records"] <= 1


READ_ONLY: Final = (
    SETUP
    + """
disk, store = sys.argv[1:]
record_at = f"{disk}/spool"
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
configure(store, spool=record_at)
record(20)
during = lost()
flushed = autotrace.flush(timeout=1)
subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
record(5)
again = autotrace.flush(timeout=500)
answer(during=during, after=lost(), flushed=flushed, again=again, traces=len(stored_traces()))
"""
)


@by_a_thread
def test_a_read_only_spool_loses_everything_counted_until_it_is_writable(
    store: Path, tmp_path: Path, figure: Figure, storing: str
) -> None:
    told = on_a_small_disk(tmp_path / "disk", "8m", READ_ONLY, store)

    assert told["during"] == told["after"] == 20 * 12
    assert told["counters"] == {"dropped_spool_error": 20 * 12}
    assert told["again"] is True
    assert told["traces"] == 5
    assert len(told["logged"]) == 1
    assert "Read-only file system" in told["logged"][0]
    figure(f"mounted read-only: {told['during']} of {told['during']} records counted, logged once")
