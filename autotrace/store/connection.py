"""Connections to Chroma: the only place that opens it, and the rules under which it is used.

Embedded Chroma is destroyed in silence by two processes that write at once, and a client does not
see in `query` what another process wrote after it was opened. So an embedded connection

* takes an inter-process lock around every write,
* keeps a generation beside the lock: who wrote last, and how often anybody has,
* opens its client anew before it writes, or answers a query, after another process has written;
  for queries at most once a second, as opening reads the whole index.

A Chroma server needs none of this: it is the one writer.

Threads: any thread may use a connection. A client in use is never closed under its user's feet;
opening anew waits until nobody uses it. After a fork the child leaves the parent's client alone
(closing it would wait for threads that did not survive) and opens its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from typing_extensions import override

from autotrace.errors import (
    AutotraceError,
    InvalidArgumentError,
    StoreError,
    StoreUnavailableError,
)
from autotrace.store.folder import private_directory
from autotrace.store.rows import import_whole
from autotrace.store.schema import Collections, open_collections

LOCK_FILE: Final = "store.lock"
GENERATION_FILE: Final = "generation"
CHROMA_DIRECTORY: Final = "chroma"
REOPEN_INTERVAL_S: Final = 1.0
"""How often at most a reader opens its client anew because others are writing."""
LOCK_TIMEOUT_S: Final = 60.0
"""How long to wait for the lock of an embedded store; a write holds it well under a second."""


@dataclass(frozen=True)
class ServerOptions:
    """How to reach a Chroma server, beyond its address."""

    headers: dict[str, str] | None = None
    tenant: str = "default_tenant"
    database: str = "default_database"
    timeout_s: float = 30.0


class Connection(ABC):
    """A way to the collections of one store.

    Args:
        name: The store as errors and logs name it.
        space: Name of the embedding space whose vectors the store holds; None accepts any.
    """

    exclusive: bool
    """Whether `writing` keeps every other writer out, so that what was read stays true."""

    def __init__(self, name: str, space: str | None) -> None:
        self.name = name
        self.space = space

    @abstractmethod
    def reading(self, *, fresh: bool = False) -> contextlib.AbstractContextManager[Collections]:
        """Use the collections to read; with `fresh`, see in queries what others have written.

        Raises:
            StoreUnavailableError: Chroma cannot be opened or does not answer.
        """

    @abstractmethod
    def writing(self) -> contextlib.AbstractContextManager[Collections]:
        """Use the collections to write.

        Raises:
            StoreUnavailableError: Chroma cannot be opened or does not answer.
        """

    @abstractmethod
    def generation(self) -> str:
        """Return a mark that changes whenever another writer may have changed the store."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether a client is open, so that the next use is quick."""

    @abstractmethod
    def expire(self) -> None:
        """Have the next fresh reading open the client anew, whatever the generation says."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the client. A later use opens it again."""


def connect(store: str, *, space: str | None, server: ServerOptions | None = None) -> Connection:
    """Make the connection for a store: a path is embedded, http(s)://host:port a Chroma server.

    Nothing is opened yet.

    Raises:
        InvalidArgumentError: The store is neither.
    """
    scheme, separator, _ = store.partition("://")
    if not separator:
        # One per path and process: two clients of one path would hide each other's reopening.
        path = Path(store).expanduser().resolve()
        with _embedded_lock:
            connection = _embedded.get((path, space))
            if connection is None:
                connection = _embedded[(path, space)] = EmbeddedConnection(path, space)
        return connection
    if scheme in ("http", "https"):
        return ServerConnection(store, space, server or ServerOptions())
    raise InvalidArgumentError("store", store, "a path, or http(s)://host:port of a Chroma server")


class _Lease:
    """Many users or one changer of a client."""

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


_embedded: weakref.WeakValueDictionary[tuple[Path, str | None], EmbeddedConnection] = (
    weakref.WeakValueDictionary()
)
_embedded_lock = threading.Lock()

_inherited_clients: list[Any] = []
"""Clients of a parent process: kept for ever, since to destroy one after a fork can hang."""


class EmbeddedConnection(Connection):
    """Chroma in this process, on a path that any number of processes share."""

    exclusive = True

    def __init__(self, path: Path, space: str | None) -> None:
        super().__init__(str(path), space)
        self.path = path
        self._reset()

    def _reset(self) -> None:
        self._id = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._pid = os.getpid()
        self._thread_lock = threading.RLock()
        # One lock object for all threads; _thread_lock keeps them apart.
        self._file_lock = FileLock(self.path / LOCK_FILE, thread_local=False, mode=0o600)
        self._lease = _Lease()
        self._client: Any = None
        self._collections: Collections | None = None
        self._seen = ""
        self._opened_at_s = 0.0

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            if self._client is not None:
                _inherited_clients.append(self._client)
                _forget_system(self._client)
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
    def reading(self, *, fresh: bool = False) -> Generator[Collections]:
        self._after_fork()
        if self._collections is not None and not (fresh and self._is_stale()):
            with self._lease.use():
                # Another thread may have closed the client just before this one came in.
                collections = cast("Collections | None", self._collections)
                if collections is not None:
                    yield collections
                    return
        with self._locked():
            # The first queries load the index from files that a writer might be changing.
            with self._lease.change():
                collections = self._open_if_changed()
            with self._lease.use():
                yield collections

    def _is_stale(self) -> bool:
        return (
            self.generation() != self._seen
            and time.monotonic() - self._opened_at_s >= REOPEN_INTERVAL_S
        )

    @override
    @contextlib.contextmanager
    def writing(self) -> Generator[Collections]:
        self._after_fork()
        with self._locked():
            with self._lease.change():
                collections = self._open_if_changed()
            self._advance()
            try:
                with self._lease.use():
                    yield collections
            finally:
                self._advance()

    @override
    def generation(self) -> str:
        try:
            return (self.path / GENERATION_FILE).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    @property
    @override
    def is_open(self) -> bool:
        return self._collections is not None

    @override
    def expire(self) -> None:
        self._seen = "?"
        self._opened_at_s = 0.0

    def _advance(self) -> None:
        number, _, _ = self._seen.partition(" ")
        self._seen = f"{int(number) + 1 if number.isdigit() else 1} {self._id}"
        # In place, one short write: a reader sees the old or the new one.
        descriptor = os.open(self.path / GENERATION_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, self._seen.ljust(63).encode("ascii") + b"\n")
        finally:
            os.close(descriptor)

    def _open_if_changed(self) -> Collections:
        current = self.generation()
        if self._collections is not None and current == self._seen:
            return self._collections
        self._close_client()
        import_whole("chromadb")
        import chromadb
        from chromadb.config import Settings

        path = self.path / CHROMA_DIRECTORY
        private_directory(path)
        try:
            self._client = chromadb.PersistentClient(
                str(path), settings=Settings(anonymized_telemetry=False)
            )
            self._collections = open_collections(self._client, self.name, self.space)
        except StoreError:
            self._close_client()
            raise
        except Exception as error:
            self._close_client()
            msg = f"the Chroma database of {self.name} cannot be opened: {error}"
            raise StoreUnavailableError(msg) from error
        self._seen = current
        self._opened_at_s = time.monotonic()
        return self._collections

    def _close_client(self) -> None:
        client, self._client, self._collections = self._client, None, None
        if client is not None:
            client.close()
            # Somebody else's client of this path must not hand us its old view.
            _forget_system(client)

    @override
    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._lease.change():
            self._close_client()


def _forget_system(client: Any) -> None:
    """Make chromadb open the path anew instead of handing out a system it has open.

    chromadb's public way to do so forgets the systems of every path and breaks other clients.
    """
    from chromadb.api.shared_system_client import SharedSystemClient

    shared: Any = SharedSystemClient
    identifier = client._identifier
    shared._identifier_to_system.pop(identifier, None)
    shared._identifier_to_refcount.pop(identifier, None)


class ServerConnection(Connection):
    """A Chroma server (`chroma run`), shared by any number of machines."""

    exclusive = False

    def __init__(self, url: str, space: str | None, options: ServerOptions) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise InvalidArgumentError("store", url, "http(s)://host:port of a Chroma server")
        super().__init__(f"{parts.scheme}://{parts.hostname}:{parts.port or ''}".rstrip(":"), space)
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 8000)
        self._ssl = parts.scheme == "https"
        self._options = options
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._open_lock = threading.Lock()
        self._client: Any = None
        self._collections: Collections | None = None

    @override
    @contextlib.contextmanager
    def reading(self, *, fresh: bool = False) -> Generator[Collections]:
        if self._pid != os.getpid():
            self._reset()
        with self._open_lock:
            if self._collections is None:
                self._collections = self._open()
            collections = self._collections
        try:
            yield collections
        except Exception as error:
            if is_content_error(error) or isinstance(error, AutotraceError):
                raise
            # A server that was restarted empty, or moved, is found again by asking anew.
            self.close()
            msg = f"the Chroma server {self.name} does not answer: {error}"
            raise StoreUnavailableError(msg) from error

    @override
    def writing(self) -> contextlib.AbstractContextManager[Collections]:
        return self.reading()

    @override
    def generation(self) -> str:
        return ""

    @property
    @override
    def is_open(self) -> bool:
        return self._collections is not None

    @override
    def expire(self) -> None:
        self.close()

    def _open(self) -> Collections:
        import_whole("chromadb")
        import chromadb
        from chromadb.config import Settings

        try:
            self._client = chromadb.HttpClient(
                host=self._host,
                port=self._port,
                ssl=self._ssl,
                headers=self._options.headers,
                tenant=self._options.tenant,
                database=self._options.database,
                settings=Settings(anonymized_telemetry=False),
            )
            _set_timeout(self._client, self._options.timeout_s)
            return open_collections(self._client, self.name, self.space)
        except StoreError:
            self.close()
            raise
        except Exception as error:
            self.close()
            msg = (
                f"the Chroma server {self.name} cannot be reached: {error}; "
                "is `chroma run` running there?"
            )
            raise StoreUnavailableError(msg) from error

    @override
    def close(self) -> None:
        client, self._client, self._collections = self._client, None, None
        if client is not None and self._pid == os.getpid():
            _close_http_client(client)


def _set_timeout(client: Any, timeout_s: float) -> None:
    """Bound every request; chromadb's HTTP client waits for ever and has no setting for it."""
    for session in _sessions_of(client):
        session.timeout = timeout_s


def _close_http_client(client: Any) -> None:
    """Close an HTTP client with its connections, and the admin client hidden in it.

    chromadb leaves both open, and keeps what they belong to under ids it has itself forgotten.
    """
    from chromadb.api.shared_system_client import SharedSystemClient

    sessions = _sessions_of(client)
    systems = [getattr(part, "_system", None) for part in _parts_of(client)]
    client.close()
    for session in sessions:
        session.close()
    shared: Any = SharedSystemClient
    for identifier, system in list(shared._identifier_to_system.items()):
        if any(system is ours for ours in systems):
            shared._identifier_to_system.pop(identifier, None)
            shared._identifier_to_refcount.pop(identifier, None)


def _parts_of(client: Any) -> list[Any]:
    return [part for part in (client, getattr(client, "_admin_client", None)) if part is not None]


def _sessions_of(client: Any) -> list[Any]:
    servers = [getattr(part, "_server", None) for part in _parts_of(client)]
    sessions = [getattr(server, "_session", None) for server in servers]
    return [session for session in sessions if session is not None]


def is_content_error(error: BaseException) -> bool:
    """Tell whether Chroma refused what was sent, so that sending it again is of no use."""
    code = getattr(error, "code", None)
    return callable(code) and code() in (400, 409, 413, 422)
