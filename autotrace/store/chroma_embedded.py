"""Share embedded Chroma on one path between several processes.

Concurrent writes corrupt Chroma silently, and `query` does not see later writes of other processes.
So every write holds an inter-process lock and counts up a generation file, and a client that is
older than the generation is reopened before a write. Queries merge the index with the journal of
later records (fresh_index.py); only if that is incomplete, the client is reopened, at most once a
second and for a tenth of the time. Any thread may use a connection; reopening waits for the users
of a client. A forked child opens its own client in another process (fork_safety.py).
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final, cast

from filelock import FileLock, Timeout
from typing_extensions import override

from autotrace.base.folder_permissions import why_not_trusted
from autotrace.base.private_folder import private_directory
from autotrace.embedding.vectors import import_whole
from autotrace.errors import StoreError, StoreUnavailableError
from autotrace.store import file_purge as purge
from autotrace.store.chroma_errors import is_failure_of_chroma
from autotrace.store.connection import UNLIMITED, C, CollectionsOpener, Connection, PurgeLimits
from autotrace.store.fork_safety import chroma_deadlocks_after_fork, mark_opened
from autotrace.store.fresh_index import View
from autotrace.store.vector_journal import Journal

LOCK_FILE: Final = "store.lock"
GENERATION_FILE: Final = "generation"
CHROMA_DIRECTORY: Final = "chroma"
REOPEN_INTERVAL_S: Final = 1.0
"""Minimum interval at which a reader reopens its client because other processes write."""
_REOPEN_REST: Final = 10
"""Minimum interval as a multiple of the load time: a large index takes seconds to load."""
LOCK_TIMEOUT_S: Final = 60.0
"""How long to wait for the lock of an embedded store; a write holds it well under a second."""

_embedded: weakref.WeakValueDictionary[tuple[Path, str | None], EmbeddedConnection[Any]] = (
    weakref.WeakValueDictionary()
)
_embedded_lock = threading.Lock()

_inherited_clients: list[Any] = []
"""Clients of a parent process, never released: destroying one after a fork can hang."""


def may_exist(store: str, folder: str = ".") -> bool:
    """Return whether a store may have a database in a folder.

    The result is always True for a Chroma server.
    """
    database = Path(store).expanduser() / folder / CHROMA_DIRECTORY / "chroma.sqlite3"
    return "://" in store or database.is_file()


def connect_embedded(path: Path, opener: CollectionsOpener[C], space: str | None) -> Connection[C]:
    """Return the connection of this process to a path without opening it.

    There is one per path, space and process: two clients of one path would hide each other's
    reopening.
    """
    with _embedded_lock:
        connection = _embedded.get((path, space))
        if connection is None:
            connection = _embedded[(path, space)] = EmbeddedConnection(path, opener, space)
    return connection


class _Lease:
    """Allow many users of a client, or one thread that changes it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._changing = False

    @contextlib.contextmanager
    def use(self) -> Generator[None]:
        with self._condition:
            while self._changing:
                self._condition.wait()
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def change(self) -> Generator[None]:
        with self._condition:
            while self._changing or self._users:
                self._condition.wait()
            self._changing = True
        try:
            yield
        finally:
            with self._condition:
                self._changing = False
                self._condition.notify_all()


class EmbeddedConnection(Connection[C]):
    """Connect to Chroma on a path that any number of processes share."""

    exclusive = True

    def __init__(self, path: Path, opener: CollectionsOpener[C], space: str | None) -> None:
        super().__init__(str(path), space)
        self.path = path
        self._opener = opener
        self._reset()

    def _reset(self) -> None:
        self._id = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._pid = os.getpid()
        self._thread_lock = threading.RLock()
        # One lock object for all threads, which _thread_lock serializes.
        self._file_lock = FileLock(self.path / LOCK_FILE, thread_local=False, mode=0o600)
        self._lease = _Lease()
        self._client: Any = None
        self._view: View[C] | None = None
        self._seen = ""
        self._opened_at_s = -math.inf
        self._reopen_after_s = REOPEN_INTERVAL_S

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            if self._client is not None:
                _inherited_clients.append(self._client)
                _forget(self._client)
            self._reset()

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        with self._thread_lock:
            try:
                private_directory(self.path)
                self._file_lock.acquire(timeout=LOCK_TIMEOUT_S)
            except Timeout:
                msg = (
                    f"the lock of {self.name} has been held by another process for "
                    f"{LOCK_TIMEOUT_S:.0f} s; see who holds {self.path / LOCK_FILE}"
                )
                raise StoreUnavailableError(msg) from None
            except OSError as error:
                msg = f"the store {self.name} cannot be used: {error}"
                raise StoreUnavailableError(msg) from error
            try:
                yield
            finally:
                self._file_lock.release()

    @override
    @contextlib.contextmanager
    def reading(self, *, fresh: bool = False) -> Generator[C]:
        self._after_fork()
        if self._view is not None and not (fresh and self._must_load()):
            with self._lease.use():
                # Another thread may have closed the client since the check above.
                view = cast("View[C] | None", self._view)
                if view is not None:
                    yield view.collections
                    return
        with contextlib.ExitStack() as used:
            with self._locked():
                began_s = time.monotonic()
                with self._lease.change():
                    view = self._open_if_changed()
                    if fresh:
                        # Under the lock, because a writer may change the files that this reads.
                        view.load()
                took_s = time.monotonic() - began_s
                self._reopen_after_s = max(REOPEN_INTERVAL_S, _REOPEN_REST * took_s)
                used.enter_context(self._lease.use())
            yield view.collections

    def _must_load(self) -> bool:
        """Return whether a query needs the index to be loaded or reloaded."""
        view = self._view
        if view is None or not view.is_loaded:
            return True
        if self._has_caught_up():
            return False
        return time.monotonic() - self._opened_at_s >= self._reopen_after_s

    def _has_caught_up(self) -> bool:
        """Apply records that others have stored; return whether they are all."""
        generation = self.generation()
        if generation == self._seen:
            return True
        view, epoch = self._view, _epoch_of(generation)
        return view is not None and epoch == _epoch_of(self._seen) and view.apply_journal(epoch)

    @override
    @contextlib.contextmanager
    def writing(self) -> Generator[C]:
        self._after_fork()
        with self._locked():
            with self._lease.change():
                view = self._open_if_changed()
            view.journal.ensure()
            self._advance(view)
            try:
                with self._lease.use():
                    yield view.collections
            except Exception as error:
                if not is_failure_of_chroma(error):
                    raise
                # After a write that failed because of a full disk, the next write would hang.
                with self._lease.change():
                    self._close_client()
                msg = f"the Chroma database of {self.name} cannot be written: {error}"
                raise StoreUnavailableError(msg) from error
            finally:
                self._advance(view)

    @override
    def generation(self) -> str:
        try:
            return (self.path / GENERATION_FILE).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    @property
    @override
    def is_open(self) -> bool:
        return self._view is not None

    @override
    def invalidate(self) -> None:
        self._seen = "?"
        self._opened_at_s = -math.inf

    @override
    def drop_broken_indexes(self) -> None:
        with self._locked():
            # A rebuild does not write to the journal, so the mark names no epoch.
            self._write_mark(self.generation(), "")
        try:
            with self.reading() as collections:
                collections.state.get(limit=1)
                collections.log.get(limit=1)
        except Exception as error:
            if not is_failure_of_chroma(error.__cause__ or error):
                raise
        else:
            return
        with self._locked(), self._lease.change():
            self._close_client()
            for path in (self.path / CHROMA_DIRECTORY).iterdir():
                if path.is_dir():
                    shutil.rmtree(path)

    @override
    def refresh(self) -> None:
        self._opened_at_s = -math.inf

    @override
    def purge_later(self, *, vectors: bool = False) -> None:
        known = purge.marks_in(self.path)
        wanted = known | {purge.ROWS} | ({purge.VECTORS} if vectors else set[str]())
        if wanted != known:
            try:
                purge.set_marks(self.path, wanted)
            except OSError as error:
                msg = f"the store {self.name} cannot be written: {error}"
                raise StoreUnavailableError(msg) from error

    @override
    def purge_due(self) -> frozenset[str]:
        return purge.marks_in(self.path)

    @override
    def purge(self, limits: PurgeLimits = UNLIMITED, *, also: bool = False) -> frozenset[str]:
        wanted = frozenset({purge.ROWS} if also else ())
        if not (self.purge_due() | wanted) or not (self.path / CHROMA_DIRECTORY).is_dir():
            return frozenset()
        self._after_fork()
        if chroma_deadlocks_after_fork():
            msg = f"a forked process cannot purge {self.name}: run `autotrace doctor`"
            raise StoreUnavailableError(msg)
        with self._locked(), self._lease.change():
            self._close_client()
            try:
                due = self.purge_due() | wanted
                left = purge.purge(self.path / CHROMA_DIRECTORY, due, limits, self._opened_apart)
                if left != due:
                    # Open views were loaded before the purge and must be reloaded.
                    self._write_mark(self.generation(), "")
                    Journal.delete_all(self.path)
                    purge.set_marks(self.path, left)
                return left
            except Exception as error:
                if not (isinstance(error, OSError) or is_failure_of_chroma(error)):
                    raise
                msg = f"{self.name} cannot be purged: {error}; run `autotrace doctor`"
                raise StoreUnavailableError(msg) from error

    @contextlib.contextmanager
    def _opened_apart(self) -> Generator[C]:
        """Open a client for a purge, in any embedding space."""
        self._client = open_client(str(self.path / CHROMA_DIRECTORY))
        try:
            yield self._opener(self._client, self.name, None)
        finally:
            self._close_client()

    def _advance(self, view: View[C]) -> None:
        self._seen = self._write_mark(self._seen, view.journal.epoch)

    def _write_mark(self, before: str, epoch: str) -> str:
        number, _, _ = before.partition(" ")
        mark = f"{int(number) + 1 if number.isdigit() else 1} {self._id} {epoch}".rstrip()
        # One short write in place: a reader sees the old or the new mark.
        descriptor = os.open(self.path / GENERATION_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, mark.ljust(63).encode("ascii") + b"\n")
        finally:
            os.close(descriptor)
        return mark

    def _open_if_changed(self) -> View[C]:
        current = self.generation()
        lock = cast("Any", self._file_lock)._context.lock_file_fd
        if self._view is not None and current == self._seen and self._is_usable(lock):
            return self._view
        self._close_client()
        path = self.path / CHROMA_DIRECTORY
        private_directory(path)
        for folder in (self.path, path):
            if (why := why_not_trusted(folder)) is not None:
                msg = f"the store {self.name} is not used: it must be {why}"
                raise StoreUnavailableError(msg)
        try:
            if chroma_deadlocks_after_fork():
                from autotrace.store.chroma_process import RemoteClient

                self._client = RemoteClient(str(path), lock)
            else:
                self._client = open_client(str(path))
            opened = self._opener(self._client, self.name, self.space)
        except StoreError:
            self._close_client()
            raise
        except Exception as error:
            self._close_client()
            msg = f"the Chroma database of {self.name} cannot be opened: {error}"
            raise StoreUnavailableError(msg) from error
        journal = Journal(self.path, _epoch_of(current))
        self._view = View(
            opened,
            journal,
            lambda: self.purge_later(vectors=True),
            self._has_caught_up,
        )
        self._seen = current
        self._opened_at_s = time.monotonic()
        return self._view

    def _is_usable(self, lock: int) -> bool:
        """Return whether the client works; pass it the lock in a forked process."""
        if chroma_deadlocks_after_fork():
            try:
                self._client.hold(lock)
            except Exception as error:
                if not is_failure_of_chroma(error):
                    raise
                return False
        return True

    def _close_client(self) -> None:
        client, self._client, self._view = self._client, None, None
        if client is not None:
            client.close()
            # Otherwise chromadb could reuse the old system for this path.
            _forget(client)

    @override
    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._lease.change():
            self._close_client()


def _epoch_of(generation: str) -> str:
    """Return the epoch in a generation mark: its third word, or an empty one.

    See vector_journal.py.
    """
    return generation.split(" ")[2] if generation.count(" ") >= 2 else ""


def open_client(path: str) -> Any:
    """Open Chroma in this process."""
    import_whole("chromadb")
    import chromadb
    from chromadb.config import Settings

    mark_opened()
    # No .env file: Chroma would import modules named in the one of the current folder.
    settings = cast("Any", Settings)(anonymized_telemetry=False, _env_file=None)
    return chromadb.PersistentClient(path, settings=settings)


def _forget(client: Any) -> None:
    """Remove a client from chromadb's cache, so that its path is reopened.

    The public method of chromadb removes the systems of every path, and breaks other clients.
    """
    from chromadb.api.shared_system_client import SharedSystemClient

    shared: Any = SharedSystemClient
    identifier = getattr(client, "_identifier", None)  # a client in another process has none
    shared._identifier_to_system.pop(identifier, None)
    shared._identifier_to_refcount.pop(identifier, None)
