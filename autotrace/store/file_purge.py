"""Remove every byte of erased content from the files of an embedded store.

Chroma keeps replaced and deleted content in its write-ahead queue, in free pages of SQLite, and in
index files. A deletion leaves a mark. A purge (1) copies collections with deleted vectors, (2)
swaps in the copies in one transaction, (3) persists every index, (4) cleans the queue and vacuums
SQLite, (5) removes folders of former indexes and zeroes free places in the others; then it removes
the mark. After a kill at any point the store opens and the purge is repeated. The caller holds the
lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
import uuid
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Final, cast

from autotrace.errors import StoreUnavailableError
from autotrace.store.connection import PurgeLimits
from autotrace.store.persist_interval import persist_after, records_between
from autotrace.store.schema import SEARCH, groups, upsert

MARK_FILE: Final = "purge-due"
ROWS: Final = "rows"
VECTORS: Final = "vectors"
_DATABASE: Final = "chroma.sqlite3"
_NEXT: Final = "-next"
_OLD: Final = "-old"
_DUMMY: Final = "purge"
"""Id of a record that is written and deleted immediately."""
_AT_ONCE: Final = 2
"""Lowest number of records after which Chroma can be configured to persist."""
_SEARCH_PERSIST_AFTER: Final = 1000
"""Default of Chroma."""
_VECTORS_AT_ONCE: Final = 256
_BUSY_TIMEOUT_S: Final = 30.0
_HEADER: Final = struct.Struct("<i6q")
"""Header of an index: version, offset, capacity, number of vectors, bytes of each, two offsets."""
_HEADER_VERSION: Final = 1
_LENGTH_BYTES: Final = 4
_SPARE_BYTES: Final = 16 * 1024 * 1024


def marks_in(folder: Path) -> frozenset[str]:
    """Return the kinds of content due to be purged in the folder of a store."""
    try:
        return frozenset((folder / MARK_FILE).read_text(encoding="ascii").split())
    except FileNotFoundError:
        return frozenset()


def set_marks(folder: Path, marks: Iterable[str]) -> None:
    """Set the kinds of content due to be purged; none removes the mark.

    The caller must hold the lock of the store.
    """
    path, wanted = folder / MARK_FILE, sorted(marks)
    if not wanted:
        path.unlink(missing_ok=True)
        return
    temporary = folder / f"{MARK_FILE}.new"
    temporary.touch(mode=0o600)
    temporary.write_text(" ".join(wanted), encoding="ascii")
    temporary.replace(path)


def purge(
    chroma: Path,
    due: frozenset[str],
    limits: PurgeLimits,
    opened: Callable[[], contextlib.AbstractContextManager[Any]],
) -> frozenset[str]:
    """Purge the files of Chroma.

    The caller must hold the lock of the store; this process must not have an open client.

    Args:
        chroma: Folder of Chroma.
        due: Kinds of content to purge.
        limits: Size above which content is left.
        opened: Context manager that opens a client and yields the collections of the store.

    Returns:
        The kinds of content left because the store is too large.

    Raises:
        StoreUnavailableError: The disk is too full, or a reader has the database locked too long.
    """
    database = chroma / _DATABASE
    if not database.is_file():
        return frozenset()
    if database.stat().st_size > limits.bytes:
        return due
    _check_room(chroma)
    left = due & {VECTORS}
    if left and _replace_vectors(chroma, limits, opened):
        left = frozenset[str]()
    if left != due:
        _persist(opened)
        clean(chroma)
    return left


def _check_room(chroma: Path) -> None:
    size_bytes = sum(path.stat().st_size for path in chroma.rglob("*") if path.is_file())
    free_bytes = shutil.disk_usage(chroma).free
    if free_bytes < size_bytes + _SPARE_BYTES:
        msg = (
            f"to purge {chroma} takes {size_bytes + _SPARE_BYTES:,} free bytes, and the disk has "
            f"{free_bytes:,}: make room, and run `autotrace doctor`"
        )
        raise StoreUnavailableError(msg)


def _replace_vectors(
    chroma: Path,
    limits: PurgeLimits,
    opened: Callable[[], contextlib.AbstractContextManager[Any]],
) -> bool:
    """Replace the collections of vectors by copies unless they are too large."""
    with opened() as collections:
        searched = [getattr(collections, field) for field in collections.indexes]
        if sum(collection.count() for collection in searched) > limits.vectors:
            return False
        names = [collection.name for collection in searched]
        _drop_leftovers(collections.client, names)
        for name in names:
            _copy(collections.client, name)
    with _database(chroma) as database:
        database.execute("BEGIN IMMEDIATE")
        for name in names:
            for old, new in ((name, name + _OLD), (name + _NEXT, name)):
                database.execute("UPDATE collections SET name = ? WHERE name = ?", (new, old))
        database.execute("COMMIT")
    with opened() as collections:
        _drop_leftovers(collections.client, names)
    return True


def _persist(opened: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
    """Make Chroma persist every index.

    Chroma rebuilds an index that is not persisted each time that it is opened, and then writes
    uninitialised memory of its process into the free places.
    """
    with opened() as collections:
        for collection in _all_of(collections):
            persist_after(collection, _AT_ONCE)
    with opened() as collections:
        searched = {getattr(collections, field).name for field in collections.indexes}
        for collection in _all_of(collections):
            if collection.name in searched:
                first = collection.get(limit=1, include=["metadatas"])
                for _ in range(_AT_ONCE if first["ids"] else 0):
                    collection.update(first["ids"], metadatas=first["metadatas"])
                persist_after(collection, _SEARCH_PERSIST_AFTER)
            else:
                upsert(collection, {_DUMMY: {}})
                collection.delete([_DUMMY])
                persist_after(collection, records_between(collection.count()))


def _all_of(collections: Any) -> list[Any]:
    fields = cast("dict[str, Any]", vars(collections)).values()
    return [each for each in fields if hasattr(each, "modify")]


def _drop_leftovers(client: Any, names: Iterable[str]) -> None:
    """Delete incomplete copies, and collections that a copy has replaced."""
    leftovers = {name + end for name in names for end in (_NEXT, _OLD)}
    for collection in client.list_collections():
        if collection.name in leftovers:
            client.delete_collection(collection.name)


def _copy(client: Any, name: str) -> None:
    """Copy a collection of vectors without the deleted ones."""
    source = client.get_collection(name, embedding_function=None)
    target = client.create_collection(name + _NEXT, configuration=SEARCH, embedding_function=None)
    for ids in groups(source.get(include=[])["ids"], _VECTORS_AT_ONCE):
        got = source.get(ids, include=["embeddings", "metadatas"])
        target.add(got["ids"], embeddings=got["embeddings"], metadatas=got["metadatas"])


def clean(chroma: Path) -> None:
    """Remove content from the files that the collections no longer hold.

    This process must not have an open client.

    Raises:
        StoreUnavailableError: A reader has the database locked for longer than 30 s.
    """
    with _database(chroma) as database:
        database.execute("BEGIN IMMEDIATE")
        _clean_queue(database)
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        segments = {row[0] for row in database.execute("SELECT id FROM segments")}
    for path in chroma.iterdir():
        if path.is_dir() and _is_segment(path.name):
            if path.name in segments:
                _zero_free_places(path)
            else:
                shutil.rmtree(path)


def _zero_free_places(segment: Path) -> None:
    """Overwrite the free places in the files of an index.

    Chroma writes a new index with free places of uninitialised memory, which may hold a text or
    vector that the process had in memory before.
    """
    try:
        header = (segment / "header.bin").read_bytes()[: _HEADER.size]
        version, _, _, count, element_bytes, _, _ = _HEADER.unpack(header)
    except (FileNotFoundError, struct.error):
        return
    if version != _HEADER_VERSION:
        return
    for name, used_bytes in (
        ("data_level0.bin", count * element_bytes),
        ("length.bin", count * _LENGTH_BYTES),
    ):
        with contextlib.suppress(FileNotFoundError), (segment / name).open("r+b") as file:
            free_bytes = file.seek(0, os.SEEK_END) - used_bytes
            if free_bytes > 0:
                file.seek(used_bytes)
                file.write(bytes(free_bytes))


def _clean_queue(database: sqlite3.Connection) -> None:
    """Remove stored metadata, and rows without a collection, from the queue.

    An index that is behind needs only ids, operations and vectors. The last row stays, because
    Chroma continues its numbers.
    """
    database.execute(
        "UPDATE embeddings_queue SET metadata = NULL WHERE metadata IS NOT NULL AND seq_id <="
        " (SELECT m.seq_id FROM segments AS s JOIN max_seq_id AS m ON m.segment_id = s.id"
        " WHERE s.scope = 'METADATA' AND s.collection = substr(topic, -36))"
    )
    orphans = "substr(topic, -36) NOT IN (SELECT id FROM collections)"
    last = "(SELECT max(seq_id) FROM embeddings_queue)"
    database.execute(f"DELETE FROM embeddings_queue WHERE {orphans} AND seq_id < {last}")  # noqa: S608 - constants
    database.execute(
        f"UPDATE embeddings_queue SET vector = NULL, metadata = NULL WHERE {orphans}"  # noqa: S608 - a constant
    )


@contextlib.contextmanager
def _database(chroma: Path) -> Generator[sqlite3.Connection]:
    path = chroma / _DATABASE
    try:
        database = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            database.execute("PRAGMA secure_delete = ON")
            database.execute("PRAGMA temp_store = MEMORY")
            yield database
        finally:
            database.close()
    except sqlite3.Error as error:
        msg = f"{path} cannot be purged: {error}; run `autotrace doctor` when nobody uses it"
        raise StoreUnavailableError(msg) from error


def _is_segment(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False
