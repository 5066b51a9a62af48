"""The spool: what is appended is on disk, whatever happens to the file or the process."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotrace.export import spool as spool_module
from autotrace.export.records import SpanRecord
from autotrace.export.spool import (
    SpoolWriter,
    decode_line,
    encode_line,
    is_of_newer_version,
    owner_is_alive,
    processes_in,
    read_chunk,
    segments_of,
)


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


@pytest.fixture
def writer(tmp_path: Path, dropped: list[str]) -> SpoolWriter:
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

    assert all(writer.append(r) for r in expected)

    assert len(segments_of(writer.directory)) > 5
    assert read_all(writer) == (expected, 0)
    assert dropped == []


def test_files_are_for_their_owner_alone(writer: SpoolWriter) -> None:
    writer.append(record(1))

    modes = {p: p.stat().st_mode & 0o777 for p in [writer.directory, *writer.directory.iterdir()]}
    assert set(modes.values()) <= {0o700, 0o600}, modes


def test_many_threads_write_whole_records(writer: SpoolWriter) -> None:
    def write(first: int) -> None:
        for n in range(first, first + 250):
            writer.append(record(n))

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
    writer.append(record(1))
    path = segments_of(writer.directory)[0]
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(encode_line(record(2))[:-5])

    chunk = read_chunk(path, 0, max_bytes=1 << 20, complete=False)

    assert (chunk.records, chunk.end_offset, chunk.bad_lines) == ([record(1)], whole, [])


def test_a_record_larger_than_the_read_is_read_whole(writer: SpoolWriter) -> None:
    large = record(1, name="x" * 100_000)
    writer.append(large)
    writer.append(record(2))

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


def test_a_write_cut_short_by_a_full_disk_costs_one_record(
    writer: SpoolWriter, dropped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append(record(1))
    real_write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 20:
            return real_write(fd, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    def very_full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    calls = iter([full, very_full])
    monkeypatch.setattr(os, "write", lambda fd, data: next(calls)(fd, data))
    assert writer.append(record(2)) is False
    monkeypatch.setattr(os, "write", real_write)
    assert writer.append(record(3)) is True

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
    kept = sum(writer.append(record(n)) for n in range(100))

    assert 0 < kept < 100
    assert dropped == ["dropped_spool_full"] * (100 - kept)

    for path in segments_of(writer.directory)[:-1]:
        path.unlink()
    now_ns[0] += 2_000_000_000
    assert writer.append(record(200)) is True


def test_an_unwritable_directory_drops_and_counts(tmp_path: Path, dropped: list[str]) -> None:
    (tmp_path / "spool").write_text("a file where the directory should be")
    errors: list[OSError] = []
    writer = SpoolWriter(tmp_path / "spool", count=dropped.append, on_error=errors.append)

    assert writer.append(record(1)) is False

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
            writer.append(record(1))

    assert writer.append(record(2)) is True
    assert read_all(writer) == ([record(2)], 0)
    assert owner_is_alive(writer.directory) is True


def test_an_owner_is_alive_until_it_closes(writer: SpoolWriter) -> None:
    writer.append(record(1))
    assert processes_in(writer.directory.parent) == [writer.process]
    assert owner_is_alive(writer.directory) is True

    writer.close()

    assert owner_is_alive(writer.directory) is False


def test_what_comes_after_the_close_is_kept_in_a_complete_directory_of_its_own(
    writer: SpoolWriter,
) -> None:
    spool = writer.directory.parent
    writer.append(record(1))
    writer.close()

    assert writer.append(record(2)) is True

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
        writer.append(record(1))
        os.write(done, b"x")
        while True:
            signal.pause()  # until killed
    os.read(ready, 1)
    assert owner_is_alive(writer.directory) is True

    os.kill(child, 9)
    os.waitpid(child, 0)

    assert owner_is_alive(writer.directory) is False
    assert read_all(writer) == ([record(1)], 0)


def test_a_signal_handler_or_finaliser_may_record_while_the_thread_is_writing(
    writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write
    nested = iter([record(2)])

    def interrupting_write(fd: int, data: bytes) -> int:
        written = real_write(fd, data)
        for inner in nested:
            writer.append(inner)
        return written

    writer.append(record(0))
    monkeypatch.setattr(os, "write", interrupting_write)
    writer.append(record(1))
    monkeypatch.setattr(os, "write", real_write)

    assert read_all(writer) == ([record(0), record(1), record(2)], 0)
