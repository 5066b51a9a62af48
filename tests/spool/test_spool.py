"""The spool: what is appended is on disk, whatever happens to the file or the process."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autotrace.spool import segment
from autotrace.spool import writer as spool_module
from autotrace.spool.files import (
    begun_segments_of,
    decode_line,
    encode_line,
    is_of_newer_version,
    owner_is_alive,
    processes_in,
    read_chunk,
    segments_of,
    written_bytes,
)
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.writer import SpoolWriter


def record(number: int, **fields: Any) -> SpanRecord:
    return SpanRecord(trace="0" * 32, id=f"{number:016x}", start_ns=number, **fields)


def read_all(writer: SpoolWriter, *, complete: bool = True) -> tuple[list[SpanRecord], int]:
    """Read every segment whole; return the records and the number of bad lines."""
    records: list[SpanRecord] = []
    bad = 0
    for path in segments_of(writer.directory):
        offset = 0
        while True:
            chunk = read_chunk(path, offset, max_bytes=4096, complete=complete)
            records += chunk.records
            bad += len(chunk.bad_lines)
            if chunk.end_offset == offset:
                break
            offset = chunk.end_offset
    return records, bad


@pytest.fixture
def dropped() -> list[str]:
    return []


@pytest.fixture(params=["mapped", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How segments are written; the second is for file systems that cannot be trusted with maps."""
    if request.param == "plain":
        monkeypatch.setattr(segment, "is_mappable", lambda _: False)
    elif not segment.is_mappable(Path(tempfile.gettempdir())):
        pytest.skip("the temporary folder is on a file system whose files are not mapped")
    return request.param


@pytest.fixture
def writer(tmp_path: Path, dropped: list[str], way: str) -> SpoolWriter:
    return SpoolWriter(tmp_path / "spool", count=dropped.append)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(attributes=st.dictionaries(st.text(), json_values, max_size=5))
def test_a_line_is_read_back_or_was_replaced_readably(attributes: dict[str, Any]) -> None:
    line = encode_line(record(1, attributes=attributes))

    assert line.count(b"\n") == 1
    decoded = decode_line(line[:-1])
    assert decoded is not None
    assert decoded["id"] == record(1)["id"]


@given(data=st.data())
def test_a_changed_byte_never_yields_another_record(data: st.DataObject) -> None:
    line = bytearray(encode_line(record(1, name="execute_tool x"))[:-1])
    original = decode_line(bytes(line))
    position = data.draw(st.integers(0, len(line) - 1))
    line[position] ^= 1 << data.draw(st.integers(0, 7))

    assert decode_line(bytes(line)) in (None, original)


def test_nothing_is_made_on_disk_before_the_first_record(
    writer: SpoolWriter, tmp_path: Path
) -> None:
    assert list(tmp_path.iterdir()) == []
    assert writer.position() == (0, 0)


def test_records_are_read_back_in_order_over_many_segments(
    tmp_path: Path, dropped: list[str]
) -> None:
    writer = SpoolWriter(tmp_path / "spool", count=dropped.append, max_segment_bytes=2000)
    expected = [record(n, name="x" * (n % 300)) for n in range(200)]

    assert all(writer.write(r) for r in expected)

    assert len(segments_of(writer.directory)) > 5
    assert read_all(writer) == (expected, 0)
    assert dropped == []


def test_files_are_for_their_owner_alone(writer: SpoolWriter) -> None:
    writer.write(record(1))

    modes = {p: p.stat().st_mode & 0o777 for p in [writer.directory, *writer.directory.iterdir()]}
    assert set(modes.values()) <= {0o700, 0o600}, modes


def test_many_threads_write_whole_records(writer: SpoolWriter) -> None:
    def write(first: int) -> None:
        for n in range(first, first + 250):
            writer.write(record(n))

    threads = [threading.Thread(target=write, args=(n * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    records, bad = read_all(writer)
    assert bad == 0
    assert sorted(r["start_ns"] for r in records) == sorted(
        n * 1000 + i for n in range(8) for i in range(250)
    )


@settings(max_examples=60)
@given(cut=st.integers(min_value=0, max_value=400), chunk_bytes=st.integers(10, 500))
def test_a_file_cut_anywhere_yields_the_whole_records_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int, chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "00000001.log"
    lines = [encode_line(record(n, name="x" * n)) for n in range(5)]
    content = b"".join(lines)[: cut + 1]
    path.write_bytes(content)

    records: list[SpanRecord] = []
    bad: list[bytes] = []
    offset = 0
    while True:
        chunk = read_chunk(path, offset, max_bytes=chunk_bytes, complete=True)
        records += chunk.records
        bad += chunk.bad_lines
        if chunk.end_offset == offset:
            break
        offset = chunk.end_offset

    whole = content.count(b"\n")
    assert records == [record(n, name="x" * n) for n in range(whole)]
    assert len(bad) == (0 if content.endswith(b"\n") else 1)
    assert offset == len(content)


def test_an_unfinished_last_line_is_left_while_its_process_lives(writer: SpoolWriter) -> None:
    writer.write(record(1))
    path = segments_of(writer.directory)[0]
    whole = written_bytes(path)
    with path.open("r+b") as file:
        file.seek(whole)
        file.write(encode_line(record(2))[:-5])

    chunk = read_chunk(path, 0, max_bytes=1 << 20, complete=False)

    assert (chunk.records, chunk.end_offset, chunk.bad_lines) == ([record(1)], whole, [])


def test_a_record_larger_than_the_read_is_read_whole(writer: SpoolWriter) -> None:
    large = record(1, name="x" * 100_000)
    writer.write(large)
    writer.write(record(2))

    assert read_all(writer) == ([large, record(2)], 0)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "00000001.log"
    header: Any = {"autotrace_spool": spool_module.SPOOL_VERSION + 1}
    path.write_bytes(encode_line(header) + encode_line(record(1)))

    chunk = read_chunk(path, 0, max_bytes=1 << 20, complete=True)

    assert (chunk.newer_version, chunk.records, chunk.end_offset) == (True, [], 0)


def test_a_file_that_is_stored_and_removed_while_it_is_looked_at_is_of_no_version(
    tmp_path: Path,
) -> None:
    (tmp_path / "00000001.log").symlink_to(tmp_path / "removed")  # listed, but not to be opened

    assert is_of_newer_version(tmp_path) is False


@pytest.mark.parametrize("way", ["plain"], indirect=True)
def test_a_write_cut_short_by_a_full_disk_costs_one_record(
    writer: SpoolWriter, dropped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(record(1))
    real_write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 20:
            return real_write(fd, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    def very_full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    calls = iter([full, very_full])
    monkeypatch.setattr(os, "write", lambda fd, data: next(calls)(fd, data))
    assert writer.write(record(2)) is False
    monkeypatch.setattr(os, "write", real_write)
    assert writer.write(record(3)) is True

    records, bad = read_all(writer)
    assert records == [record(1), record(3)]
    assert bad == 1
    assert dropped == ["dropped_spool_error"]


def test_a_spool_over_its_limit_drops_and_counts_and_goes_on_when_there_is_room(
    tmp_path: Path, dropped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = [1]
    monkeypatch.setattr(spool_module.time, "monotonic_ns", lambda: now_ns[0])
    writer = SpoolWriter(
        tmp_path / "spool", count=dropped.append, max_segment_bytes=1000, max_total_bytes=3000
    )
    kept = sum(writer.write(record(n)) for n in range(100))

    assert 0 < kept < 100
    assert dropped == ["dropped_spool_full"] * (100 - kept)

    for path in segments_of(writer.directory)[:-1]:
        path.unlink()
    now_ns[0] += 2_000_000_000
    assert writer.write(record(200)) is True


def test_an_unwritable_directory_drops_and_counts(tmp_path: Path, dropped: list[str]) -> None:
    (tmp_path / "spool").write_text("a file where the directory should be")
    errors: list[OSError] = []
    writer = SpoolWriter(tmp_path / "spool", count=dropped.append, on_error=errors.append)

    assert writer.write(record(1)) is False

    assert dropped == ["dropped_spool_error"]
    assert len(errors) == 1


@pytest.mark.parametrize("name", ["private_directory", "lock_descriptor", "encode_line"])
def test_an_interrupt_while_the_directory_is_made_costs_one_record(
    writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spool_module, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.write(record(1))

    assert writer.write(record(2)) is True
    assert read_all(writer) == ([record(2)], 0)
    assert owner_is_alive(writer.directory) is True


def test_an_owner_is_alive_until_it_closes(writer: SpoolWriter) -> None:
    writer.write(record(1))
    assert processes_in(writer.directory.parent) == [writer.process]
    assert owner_is_alive(writer.directory) is True

    writer.close()

    assert owner_is_alive(writer.directory) is False


def test_what_comes_after_the_close_is_kept_in_a_complete_directory_of_its_own(
    writer: SpoolWriter,
) -> None:
    spool = writer.directory.parent
    writer.write(record(1))
    writer.close()

    assert writer.write(record(2)) is True

    assert read_all(writer) == ([record(1)], 0)
    (late,) = set(processes_in(spool)) - {writer.process}
    (segment,) = segments_of(spool / late)
    assert read_chunk(segment, 0, max_bytes=2**20, complete=True).records == [record(2)]
    assert owner_is_alive(spool / late) is False


def test_an_owner_killed_by_force_is_dead(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool", count=lambda name: None)
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        writer.write(record(1))
        os.write(done, b"x")
        while True:
            signal.pause()  # until killed
    os.read(ready, 1)
    assert owner_is_alive(writer.directory) is True

    os.kill(child, 9)
    os.waitpid(child, 0)

    assert owner_is_alive(writer.directory) is False
    assert read_all(writer) == ([record(1)], 0)


@pytest.mark.parametrize("way", ["plain"], indirect=True)
def test_a_signal_handler_or_finaliser_may_record_while_the_thread_is_writing(
    writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    nested = iter([record(2)])

    def interrupting_write(fd: int, data: bytes) -> int:
        written = real_write(fd, data)
        for inner in nested:
            writer.write(inner)
        return written

    writer.write(record(0))
    monkeypatch.setattr(os, "write", interrupting_write)
    writer.write(record(1))
    monkeypatch.setattr(os, "write", real_write)

    assert read_all(writer) == ([record(0), record(1), record(2)], 0)


def test_a_signal_handler_or_finaliser_may_record_while_a_segment_is_made(
    writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = segment.open_segment
    nested = iter([record(1), record(2)])

    def interrupted_open(path: Path, number: int, size_bytes: int) -> segment.Segment:
        made = real_open(path, number, size_bytes)
        assert all(writer.write(inner) for inner in nested)
        return made

    monkeypatch.setattr(spool_module, "open_segment", interrupted_open)
    writer.write(record(0))

    assert read_all(writer) == ([record(0), record(1), record(2)], 0)


def test_a_live_segment_is_read_up_to_what_is_written_however_far_it_is_allocated(
    writer: SpoolWriter,
) -> None:
    lines = [encode_line(record(n)) for n in range(3)]
    for n in range(3):
        writer.write(record(n))
    (path,) = segments_of(writer.directory)
    header_bytes = writer.position()[1] - len(b"".join(lines))
    content = path.read_bytes()

    for cut in range(len(lines[2])):  # as another process sees it while the last one is copied
        seen = content[: written_bytes(path) - cut].ljust(len(content), b"\0")
        path.with_name("seen").write_bytes(seen)
        chunk = read_chunk(path.with_name("seen"), 0, max_bytes=1 << 20, complete=False)
        whole = 3 if cut == 0 else 2
        assert chunk.records == [record(n) for n in range(whole)]
        assert chunk.end_offset == header_bytes + len(b"".join(lines[:whole]))
        assert chunk.bad_lines == []


@settings(max_examples=60)
@given(hole=st.tuples(st.integers(0, 400), st.integers(1, 400)), chunk_bytes=st.integers(10, 500))
@example(hole=(1, 305), chunk_bytes=10)  # it takes the newline before the fourth record with it
def test_a_hole_left_by_a_power_cut_costs_the_records_it_lies_in(
    tmp_path_factory: pytest.TempPathFactory, hole: tuple[int, int], chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("hole") / "00000001.log"
    lines = [encode_line(record(n, name="x" * n)) for n in range(5)]
    start, size = hole
    content = bytearray(b"".join(lines))
    content[start : start + size] = bytes(len(content[start : start + size]))
    path.write_bytes(content.ljust(2000, b"\0"))

    records: list[SpanRecord] = []
    offset = 0
    while (
        chunk := read_chunk(path, offset, max_bytes=chunk_bytes, complete=True)
    ).end_offset != offset:
        records += chunk.records
        offset = chunk.end_offset

    ends = [len(b"".join(lines[: n + 1])) for n in range(5)]
    untouched = [
        record(n, name="x" * n)
        for n in range(5)
        if ends[n] <= start or ends[n] - len(lines[n]) >= start + size
    ]
    assert [r for r in untouched if r not in records] == []
    assert [r for r in records if r not in [record(n, name="x" * n) for n in range(5)]] == []


@given(size=st.integers(0, 300), written=st.integers(0, 300))
def test_how_far_a_segment_is_written_is_found(
    tmp_path_factory: pytest.TempPathFactory, size: int, written: int
) -> None:
    path = tmp_path_factory.mktemp("written") / "00000001.log"
    path.write_bytes((b"x" * min(written, size)).ljust(size, b"\0"))

    assert written_bytes(path) == min(written, size)


def test_a_segment_that_is_only_prepared_does_not_end_the_one_before(
    tmp_path: Path, dropped: list[str], way: str
) -> None:
    writer = SpoolWriter(tmp_path / "spool", count=dropped.append, max_segment_bytes=2000)

    async def fill() -> None:
        while writer.position()[0] < 2:
            writer.write(record(1, name="x" * 100))

    asyncio.run(fill())
    writer._take_ahead()  # the third has been made by now

    assert [path.name for path in segments_of(writer.directory)] == [
        *("00000001.log", "00000002.log", "00000003.log"),
    ]
    assert [path.name for path in begun_segments_of(writer.directory)] == [
        *("00000001.log", "00000002.log"),
    ]


def test_what_is_prepared_and_not_used_is_removed_and_made_again_when_it_is_needed(
    writer: SpoolWriter,
) -> None:
    writer.prepare()
    assert processes_in(writer.directory.parent) == [writer.process]
    assert writer.position() == (0, 0)

    writer.discard_unused()
    assert processes_in(writer.directory.parent) == []

    writer.write(record(1))
    assert read_all(writer) == ([record(1)], 0)
    writer.discard_unused()  # it is in use now
    assert read_all(writer) == ([record(1)], 0)


def test_a_spool_that_was_deleted_before_its_first_record_is_made_again(
    writer: SpoolWriter, dropped: list[str]
) -> None:
    writer.prepare()
    shutil.rmtree(writer.directory.parent)

    assert writer.write(record(1)) is True

    assert (read_all(writer), dropped) == (([record(1)], 0), [])
    assert owner_is_alive(writer.directory) is True


def test_a_closed_segment_takes_no_more_room_than_its_records(writer: SpoolWriter) -> None:
    writer.write(record(1))
    written = writer.position()[1]

    writer.close()

    (path,) = segments_of(writer.directory)
    assert path.stat().st_size == written


def test_a_record_larger_than_a_segment_gets_one_of_its_size(
    tmp_path: Path, dropped: list[str], way: str
) -> None:
    writer = SpoolWriter(tmp_path / "spool", count=dropped.append, max_segment_bytes=2000)
    expected = [record(1), record(2, name="x" * 100_000), record(3)]

    assert all(writer.write(r) for r in expected)

    assert (read_all(writer), dropped) == ((expected, 0), [])


def test_a_disk_without_room_for_a_whole_segment_takes_a_small_one(
    tmp_path: Path, dropped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real_allocate = os.posix_fallocate

    def nearly_full(fd: int, offset: int, length: int) -> None:
        if length > 64 * 1024:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_allocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", nearly_full)
    writer = SpoolWriter(tmp_path / "spool", count=dropped.append)
    expected = [record(n, name="x" * 1000) for n in range(200)]

    assert all(writer.write(r) for r in expected)

    assert (read_all(writer), dropped) == ((expected, 0), [])
    sizes = {path.stat().st_size for path in segments_of(writer.directory)[:-1]}
    assert max(sizes) <= 64 * 1024
    assert expected[0]["name"] in segments_of(writer.directory)[0].read_text()


def test_a_spool_of_the_version_before_is_read_while_it_grows_and_when_it_is_complete(
    tmp_path: Path,
) -> None:
    header: Any = {"autotrace_spool": 1}
    path = tmp_path / "00000001.log"
    path.write_bytes(encode_line(header) + encode_line(record(1)) + encode_line(record(2))[:-3])

    growing = read_chunk(path, 0, max_bytes=1 << 20, complete=False)
    left = growing.end_offset
    at_the_end = read_chunk(path, left, max_bytes=1 << 20, complete=True)

    assert (growing.records, growing.bad_lines) == ([record(1)], [])
    assert (at_the_end.records, len(at_the_end.bad_lines)) == ([], 1)
    assert written_bytes(path) == path.stat().st_size


def test_no_more_records_are_read_at_once_than_asked_for(writer: SpoolWriter) -> None:
    for n in range(10):
        writer.write(record(n))
    (path,) = segments_of(writer.directory)

    first = read_chunk(path, 0, max_bytes=1 << 20, complete=False, max_records=4)
    rest = read_chunk(path, first.end_offset, max_bytes=1 << 20, complete=False, max_records=100)

    assert first.records == [record(n) for n in range(4)]
    assert rest.records == [record(n) for n in range(4, 10)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ext4", True), ("tmpfs", True), ("btrfs", False), ("nfs4", False), ("fuse.sshfs", False)],
)
def test_files_are_mapped_where_allocated_room_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: bool
) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:21 / /proc rw shared:12 - proc proc rw\n"
        f"36 22 {os.major(device)}:{os.minor(device)} / /a\\040-\\040b rw - {kind} x rw\n"
    )
    monkeypatch.setattr(segment, "_MOUNTS", mounts)
    segment.file_system_of.cache_clear()
    try:
        assert segment.is_mappable(tmp_path) is expected
    finally:
        segment.file_system_of.cache_clear()
