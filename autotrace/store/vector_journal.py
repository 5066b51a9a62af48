"""The journal: a file beside an embedded store with the vectors that were stored lately.

Every writer appends to it, so that a reader whose index is older knows what came after it (see
fresh_index.py).

The file belongs to an epoch. The store's generation mark names the epoch in which all that was
written is in the file: a reader whose index is of the same epoch needs nothing else, and any other
must load the index anew. A writer begins an epoch when it finds none, or the file full; one of an
older version of this library leaves a mark without an epoch, and so ends it; so does a rebuild.

* The epoch is the file's name and gives the size of its records, so that there is no header that
  could be torn, or disagree with the mark.
* A record is written before Chroma has it, so that nothing that is stored is missing. One that
  Chroma has not got, since its writer died or is still at work, is not found.
* A writer that died while it wrote leaves a part of a record, which the next one cuts off. Readers
  take whole records only.
* Only readers that live now need the file; whoever opens the store begins at its end. So nothing
  in it has to outlast a power cut.
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
"""How large the file grows before another epoch begins; one write may reach beyond it.

A reader holds about as much in memory: 5,300 vectors of 384 dimensions, which add a millisecond or
two to a recall.
"""
_PREFIX: Final = "recent-"
_KEY_BYTES: Final = 24
"""Length of a text's key (see task_index.py)."""


class Record(NamedTuple):
    """A vector of the file."""

    collection: str
    """One letter: which collection it was stored in."""
    key: str
    vector: Any


class Journal:
    """The file of one epoch, as one client of Chroma sees it. Any thread may use it.

    Args:
        folder: The store's.
        epoch: As the generation mark names it; empty for none.
    """

    def __init__(self, folder: Path, epoch: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.epoch = ""
        """The present one; empty when there is none, so that others must load the index anew."""
        self._seen_bytes = 0
        size_bytes = self._size_bytes(epoch)
        if size_bytes is not None:
            self.epoch = epoch
            self._seen_bytes = size_bytes - size_bytes % _record_bytes(epoch)

    def _path(self, epoch: str) -> Path:
        return self._folder / f"{_PREFIX}{epoch}"

    def _size_bytes(self, epoch: str) -> int | None:
        """Return the size of an epoch's file; None if there is none."""
        if not _is_epoch(epoch):
            return None
        try:
            return self._path(epoch).stat().st_size
        except FileNotFoundError:
            return None

    def ensure(self) -> None:
        """Begin an epoch if there is none. The store's lock must be held.

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
        """Write down vectors, which this client has seen then. The store's lock must be held.

        Args:
            collection: One letter.
            keys: Of the texts.
            vectors: One per key.

        Raises:
            StoreUnavailableError: The file cannot be written.
        """
        import numpy as np

        if max(map(len, keys)) > _KEY_BYTES:
            self.close_epoch()  # no key of a text: the file has no place for it
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
            with contextlib.suppress(OSError):  # a reader has it open (Windows): the next one does
                path.unlink()

    def rotate(self) -> None:
        """Begin another epoch, without what was written in this one. The lock must be held.

        Raises:
            StoreUnavailableError: The folder cannot be written.
        """
        with self._lock, self._writing():
            self._begin(0)

    @staticmethod
    def delete_all(folder: Path) -> None:
        """Delete the files of all epochs: no mark names one any more. The lock must be held."""
        for path in folder.glob(f"{_PREFIX}*"):
            path.unlink(missing_ok=True)

    def close_epoch(self) -> None:
        """End the epoch: what is written now is not in the file."""
        with self._lock:
            self.epoch = ""

    def read_since(self, epoch: str) -> list[Record] | None:
        """Return what others have written down since this client was opened, or last asked.

        Args:
            epoch: The present one, of the generation mark.

        Returns:
            The records; None when not all that was written is in the file.
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
