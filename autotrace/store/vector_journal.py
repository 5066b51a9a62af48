"""Append recent vectors to a journal.

Readers with an older index use it (fresh_index.py). The file belongs to an epoch, whose name gives
the size of its records. The generation mark names the epoch if the file has all of its writes; a
reader of another epoch must reload the index. A writer begins an epoch if there is none or the file
is full; a rebuild, or an older version, ends it. A record is written before Chroma has it; `get`
filters out those that Chroma never received. Writers truncate partial records. A new reader starts
at the end, so the file need not survive a power cut.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from autotrace.errors import StoreUnavailableError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[np.float32]
    """One vector per row."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""Size of the file at which another epoch begins; a single larger write is accepted.

A reader holds about as much in memory: 5,300 vectors of 384 dimensions, which add one or two ms to
a recall.
"""
_PREFIX: Final = "recent-"
_KEY_BYTES: Final = 24
"""Length of the key of a text (see text_keys.py)."""


class Record(NamedTuple):
    """Hold one vector of the file."""

    collection: str
    """Letter of the collection."""
    key: str
    vector: Any


class Journal:
    """Read and append the file of one epoch for one client of Chroma.

    Any thread may use it.

    Args:
        folder: Folder of the store.
        epoch: Epoch of the generation mark; empty for none.
    """

    def __init__(self, folder: Path, epoch: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.epoch = ""
        """Current epoch; empty if there is none, so that others must reload the index."""
        self._seen_bytes = 0
        size_bytes = self._size_bytes(epoch)
        if size_bytes is not None:
            self.epoch = epoch
            self._seen_bytes = size_bytes - size_bytes % _record_bytes(epoch)

    def _path(self, epoch: str) -> Path:
        return self._folder / f"{_PREFIX}{epoch}"

    def _size_bytes(self, epoch: str) -> int | None:
        """Return the size of the file of an epoch; None if it does not exist."""
        if not _is_epoch(epoch):
            return None
        try:
            return self._path(epoch).stat().st_size
        except FileNotFoundError:
            return None

    def ensure(self) -> None:
        """Begin an epoch if there is none; the caller holds the store's lock.

        Raises:
            StoreUnavailableError: The folder cannot be written.
        """
        with self._lock, self._writing():
            if self._size_bytes(self.epoch) is None:
                self._begin(0)

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            msg = f"{self._folder} cannot be written: {error}"
            raise StoreUnavailableError(msg) from error

    def add(self, collection: str, keys: Sequence[str], vectors: Any) -> None:
        """Append vectors, which `read_since` of this client then skips.

        The caller must hold the lock of the store.

        Args:
            collection: Letter of the collection.
            keys: Keys of the texts.
            vectors: One vector per key.

        Raises:
            StoreUnavailableError: The file cannot be written.
        """
        import numpy as np

        if max(map(len, keys)) > _KEY_BYTES:
            self.close_epoch()  # not the key of a text: too long for a record
            return
        rows: Rows = np.asarray(vectors, dtype=np.float32)
        records: Any = np.empty(len(keys), dtype=_layout(rows.shape[1]))
        records["collection"] = collection.encode()
        records["key"] = [key.encode() for key in keys]
        records["vector"] = rows
        with self._lock, self._writing():
            self._write(records.tobytes(), rows.shape[1])

    def _write(self, data: bytes, dimensions: int) -> None:
        size_bytes = self._size_bytes(self.epoch)
        if (
            size_bytes is None
            or size_bytes < self._seen_bytes
            or dimensions != _dimensions(self.epoch)
            or size_bytes + len(data) > MAX_BYTES
        ):
            self._begin(dimensions)
            size_bytes = 0
        whole_bytes = size_bytes - size_bytes % _record_bytes(self.epoch)
        with self._path(self.epoch).open("r+b", buffering=0) as file:
            file.truncate(whole_bytes)
            file.seek(whole_bytes)
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
        self._seen_bytes = whole_bytes + len(data)

    def _begin(self, dimensions: int) -> None:
        others = list(self._folder.glob(f"{_PREFIX}*"))
        epoch = f"{secrets.token_hex(4)}.{dimensions}"
        os.close(os.open(self._path(epoch), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self.epoch = epoch
        for path in others:
            with contextlib.suppress(OSError):  # open in a reader (Windows): removed later
                path.unlink()

    def rotate(self) -> None:
        """Begin another epoch with an empty file; the caller holds the lock.

        Raises:
            StoreUnavailableError: The folder cannot be written.
        """
        with self._lock, self._writing():
            self._begin(0)

    @staticmethod
    def delete_all(folder: Path) -> None:
        """Delete the files of all epochs; the caller holds the lock.

        The generation mark must not name an epoch any more.
        """
        for path in folder.glob(f"{_PREFIX}*"):
            path.unlink(missing_ok=True)

    def close_epoch(self) -> None:
        """End the epoch, because the next write is not in the file."""
        with self._lock:
            self.epoch = ""

    def read_since(self, epoch: str) -> list[Record] | None:
        """Return records that others have appended since the last call.

        The first call returns those since this client was opened.

        Args:
            epoch: Current epoch of the generation mark.

        Returns:
            The records; None if the file does not have all of them.
        """
        import numpy as np

        with self._lock:
            if not epoch or epoch != self.epoch:
                return None
            try:
                with self._path(epoch).open("rb", buffering=0) as file:
                    if os.fstat(file.fileno()).st_size < self._seen_bytes:
                        return None
                    file.seek(self._seen_bytes)
                    data = file.readall()
            except FileNotFoundError:
                return None
            whole_bytes = len(data) - len(data) % _record_bytes(epoch)
            self._seen_bytes += whole_bytes
        records = np.frombuffer(data[:whole_bytes], dtype=_layout(_dimensions(epoch)))
        return [Record(c.decode(), key.decode(), vector) for c, key, vector in records]


def _is_epoch(name: str) -> bool:
    token, _, dimensions = name.partition(".")
    return token.isalnum() and dimensions.isdigit()


def _dimensions(epoch: str) -> int:
    return int(epoch.rpartition(".")[2] or 0)


def _record_bytes(epoch: str) -> int:
    return 1 + _KEY_BYTES + 4 * _dimensions(epoch)


def _layout(dimensions: int) -> Any:
    return [("collection", "S1"), ("key", f"S{_KEY_BYTES}"), ("vector", "<f4", (dimensions,))]
