"""A backup holds what was recorded before it, and restores nothing but what a backup holds."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import autotrace
from autotrace import decisions, task, tool
from autotrace.errors import InvalidArgumentError, StoreError
from autotrace.server.auth.api_keys import KeyRing
from autotrace.settings import Settings, load_settings
from autotrace.worker.backup import back_up, restore
from tests.embedders import HashEmbedder

REPOSITORY = Path(__file__).parents[2]
RECORDING = """
import sys, autotrace

autotrace.configure(
    sys.argv[1], embedder="tests.embedders:HashEmbedder", storing=sys.argv[2], flush_interval_ms=0
)
number = 0
while True:
    with autotrace.task(f"count to {number}") as t:
        t.complete(str(number))
    print(f"{number:200}", flush=True)  # wide, as it goes on until the pipe is full
    number += 1
"""


@tool
def look(place: str) -> str:
    return f"nothing in the {place}"


def of(store: Path) -> Settings:
    return load_settings(store=str(store))


def configure(store: Path) -> None:
    autotrace.configure(store, embedder=HashEmbedder(), flush_interval_ms=0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    configure(store)
    with task("find the key") as t:
        look("drawer")
        t.complete("found")
        decisions.record(
            title="stay inside",
            category="architecture",
            context="it rains",
            decision="wait",
            rationale="no coat",
        )
    assert autotrace.flush()
    autotrace.shutdown()
    ring = KeyRing.of(of(store))
    ring.create("bot", "default", "agent")
    ring.close()
    return store


def agents_of_keys(store: Path) -> list[str]:
    ring = KeyRing.of(of(store))
    try:
        return [key.agent for key in ring.list()]
    finally:
        ring.close()


def everything(store: Path) -> dict[str, object]:
    configure(store)
    try:
        traces = autotrace.list_traces()
        return {
            "traces": [autotrace.get_trace(trace.trace_id) for trace in traces],
            "recalled": autotrace.recall("find the key"),
            "statistics": autotrace.tool_stats(),
            "decisions": decisions.list(),
        }
    finally:
        autotrace.shutdown()


def test_a_restored_store_answers_as_the_one_that_was_backed_up(
    store: Path, tmp_path: Path
) -> None:
    archive, restored = tmp_path / "backup.tar.gz", tmp_path / "restored"
    before = everything(store)

    size_bytes = back_up(of(store), archive)
    restore(of(restored), archive)

    assert everything(restored) == before
    assert archive.stat().st_size == size_bytes
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert agents_of_keys(restored) == ["bot"]
    assert everything(store) == before


@pytest.mark.parametrize("storing", ["process", "thread"])
def test_a_backup_of_a_program_that_records_holds_what_it_had_recorded(
    tmp_path: Path, storing: str
) -> None:
    store, archive, restored = tmp_path / "store", tmp_path / "b.tar.gz", tmp_path / "restored"
    program = subprocess.Popen(
        [sys.executable, "-c", RECORDING, str(store), storing],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        while int(program.stdout.readline()) < 100:
            pass
        before = int(program.stdout.readline())
        back_up(of(store), archive)
        after = int(program.stdout.readline())  # it has gone on
    finally:
        program.kill()
        program.communicate()

    restore(of(restored), archive)
    configure(restored)
    assert autotrace.flush(timeout=500)
    found: dict[str, str] = {}
    page = autotrace.list_traces(limit=1000)
    while page:
        found |= {trace.task: trace.status for trace in page}
        page = autotrace.list_traces(limit=1000, after=page[-1].trace_id)
    autotrace.shutdown()

    assert after > before
    assert {found.get(f"count to {number}") for number in range(before + 1)} == {"completed"}


def packed(**members: bytes | tarfile.TarInfo) -> bytes:
    to = io.BytesIO()
    with tarfile.open(fileobj=to, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                archive.addfile(content)
    return to.getvalue()


def link(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("chroma")
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


HEADER = {"autotrace-backup.json": b'{"format": 1}'}


BROKEN = {
    "empty": (b"", "."),
    "no gzip": (b"no archive", "Not a gzipped file"),
    "no tar": (gzip.compress(b"no tar"), "."),
    "another archive": (packed(x=b"1"), "not a backup of autotrace"),
    "newer": (packed(**{"autotrace-backup.json": b'{"format": 2}'}), "format 2"),
    "leaves the folder": (packed(**HEADER, **{"../outside": b"1"}), "which no backup holds"),
    "names a root": (packed(**HEADER, **{"/tmp/outside": b"1"}), "which no backup holds"),
    "holds a link": (packed(**HEADER, link=link("/etc")), "which no backup holds"),
    "cut": (packed(**HEADER, x=b"1" * 100_000)[:-20], "."),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_whole_backup_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    archive, reason = BROKEN[name]
    (tmp_path / "file").write_bytes(archive)

    with pytest.raises(StoreError, match=reason):
        restore(of(tmp_path / "restored"), tmp_path / "file")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_cut_backup_is_refused(store: Path, tmp_path: Path) -> None:
    back_up(of(store), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()

    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(StoreError, match="cannot be restored"):
            restore(of(tmp_path / "restored"), tmp_path / "cut")

    assert not (tmp_path / "restored").exists()


def test_nothing_is_overwritten(store: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"mine")

    with pytest.raises(InvalidArgumentError, match="a file that does not exist yet"):
        back_up(of(store), there)
    with pytest.raises(InvalidArgumentError, match="outside of the store"):
        back_up(of(store), store / "backup.tar.gz")
    back_up(of(store), tmp_path / "backup")
    with pytest.raises(InvalidArgumentError, match="a folder that does not exist yet"):
        restore(of(store), tmp_path / "backup")

    assert there.read_bytes() == b"mine"


def test_a_chroma_server_is_backed_up_where_it_runs(tmp_path: Path) -> None:
    server = load_settings(store="http://127.0.0.1:8000", spool=str(tmp_path))

    with pytest.raises(InvalidArgumentError, match="where the server runs"):
        back_up(server, tmp_path / "backup")


def test_a_missing_folder_is_named_and_not_an_unfinished_file(
    tmp_path: Path,
) -> None:
    (tmp_path / "store").mkdir()
    file = tmp_path / "missing" / "backup.tar.gz"

    with pytest.raises(StoreError) as raised:
        back_up(load_settings(store=str(tmp_path / "store")), file)

    expected = f"the backup {file} cannot be written: create the folder {file.parent} first"
    assert str(raised.value) == expected
