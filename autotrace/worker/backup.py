"""Back up an embedded store while programs record into it, and restore it.

A backup is a gzip-compressed tar archive of the store's folder: the databases of traces and
decisions, the spool with the records not stored yet, keys, and the folders of tenants. The backup
holds the locks of every spool and database of the folder, so that no process stores meanwhile.
Programs go on recording into their spools.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import secrets
import shutil
import tarfile
import time
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

import orjson
from filelock import FileLock, Timeout

from autotrace.errors import InvalidArgumentError, StoreError, StoreUnavailableError
from autotrace.settings import Settings
from autotrace.spool.drain_lock import DRAIN_LOCK_TIMEOUT_S, exclusive_drain_lock
from autotrace.spool.drain_lock import LOCK_FILE as DRAIN_LOCK_FILE
from autotrace.spool.files import SEGMENT_SUFFIX, written_bytes
from autotrace.store.chroma_embedded import LOCK_FILE, LOCK_TIMEOUT_S

FORMAT: Final = 1
_HEADER: Final = "autotrace-backup.json"
_NOT_KEPT: Final = frozenset({LOCK_FILE, DRAIN_LOCK_FILE})


def back_up(settings: Settings, file: Path) -> int:
    """Write the folder of an embedded store into an archive.

    Args:
        settings: Name the store.
        file: Archive to create, which must not exist. Its mode is 0600 because it holds keys.

    Returns:
        The size of the archive, in bytes.

    Raises:
        InvalidArgumentError: The store is on a Chroma server; the file exists, or is in the store.
        StoreUnavailableError: Another process does not release a lock of the store.
        StoreError: The archive cannot be written.
    """
    folder = _folder_of(settings)
    file = file.expanduser().absolute()
    if file.exists():
        raise InvalidArgumentError("FILE", str(file), "a file that does not exist yet")
    if file.resolve().is_relative_to(folder):
        raise InvalidArgumentError("FILE", str(file), f"outside of the store {folder}")
    if not file.parent.is_dir():
        msg = f"the backup {file} cannot be written: create the folder {file.parent} first"
        raise StoreError(msg)
    unfinished = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as to:
            with _quiet(folder):
                _write(folder, to)
            to.flush()
            os.fsync(to.fileno())
        os.link(unfinished, file)  # fails if another process has made the file
    except OSError as error:
        # Only `strerror`: the whole message names the unfinished file.
        msg = f"the backup {file} cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return file.stat().st_size


def restore(settings: Settings, file: Path) -> None:
    """Make the folder of an embedded store from an archive.

    Args:
        settings: Name the store, whose folder must be absent or empty.
        file: The archive.

    Raises:
        InvalidArgumentError: The store is on a Chroma server, or its folder is not empty.
        StoreError: The archive cannot be read, or is not a complete backup; the store is unchanged.
    """
    folder = _folder_of(settings)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidArgumentError("store", str(folder), "a folder that does not exist yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    try:
        unfinished.mkdir(0o700)
        _read(file.expanduser(), unfinished)
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        msg = f"{file} cannot be restored: {error}"
        raise StoreError(msg) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _folder_of(settings: Settings) -> Path:
    if not settings.is_embedded:
        allowed = "a folder: the data of a Chroma server is backed up where the server runs"
        raise InvalidArgumentError("store", settings.store, allowed)
    return settings.store_path


@contextlib.contextmanager
def _quiet(folder: Path) -> Generator[None]:
    """Hold the locks that every process needs to store into a folder."""
    with contextlib.ExitStack() as held:
        # Processes that store acquire the locks in this order; another order could deadlock.
        for lock in sorted(folder.rglob(DRAIN_LOCK_FILE)):
            held.enter_context(exclusive_drain_lock(lock.parent, DRAIN_LOCK_TIMEOUT_S))
        for path in sorted(folder.rglob(LOCK_FILE)):
            lock = FileLock(path, thread_local=False, mode=0o600)
            try:
                held.enter_context(lock.acquire(timeout=LOCK_TIMEOUT_S))
            except Timeout:
                msg = f"the lock {path} has been held for {LOCK_TIMEOUT_S:.0f} s; try again"
                raise StoreUnavailableError(msg) from None
        yield


def _write(folder: Path, to: IO[bytes]) -> None:
    with (
        gzip.GzipFile(fileobj=to, mode="wb", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        header = orjson.dumps({"format": FORMAT, "created_ns": time.time_ns()})
        _add(archive, _HEADER, io.BytesIO(header), len(header))
        for path in _files(folder):
            # Content appended after this point is left out; a file removed meanwhile is not needed.
            with contextlib.suppress(FileNotFoundError), path.open("rb") as content:
                name = path.relative_to(folder).as_posix()
                size_bytes = os.fstat(content.fileno()).st_size
                if path.suffix == SEGMENT_SUFFIX:  # the allocated rest may be cut off
                    size_bytes = written_bytes(path)
                _add(archive, name, content, size_bytes)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.name not in _NOT_KEPT and path.is_file() and not path.is_symlink():
            yield path


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size_bytes: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size_bytes, 0o600, int(time.time())
    archive.addfile(member, content)


def _read(file: Path, folder: Path) -> None:
    """Unpack an archive.

    Raises:
        ValueError: The archive is not a backup of this format.
    """
    with gzip.open(file) as packed:
        with tarfile.open(fileobj=packed, mode="r|") as archive:
            members = iter(archive)
            _check_header(archive, next(members, None))
            for member in members:
                # The archive is not trusted: accept only members such as `back_up` writes.
                name = PurePosixPath(member.name)
                if not member.isreg() or name.is_absolute() or ".." in name.parts:
                    msg = f"it holds {member.name!r}, which no backup holds"
                    raise ValueError(msg)
                _unpack(archive, member, folder.joinpath(*name.parts))
        while packed.read(1 << 20):
            pass  # gzip checks the checksum at the end of the file


def _check_header(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> None:
    content = archive.extractfile(member) if member is not None else None
    if content is None or member is None or member.name != _HEADER:
        msg = "it is not a backup of autotrace"
        raise ValueError(msg)
    found = orjson.loads(content.read(1 << 20)).get("format")
    if found != FORMAT:
        msg = f"it is a backup of format {found}, and this autotrace knows {FORMAT}: upgrade it"
        raise ValueError(msg)


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    content = archive.extractfile(member)
    with os.fdopen(descriptor, "wb") as to:
        if content is not None:
            shutil.copyfileobj(content, to)
