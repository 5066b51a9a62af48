"""Connect to a Chroma server, the only writer of its store."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from typing_extensions import override

from autotrace.base.store_location import why_not_a_place, without_user
from autotrace.embedding.vectors import import_whole
from autotrace.errors import (
    AutotraceError,
    InvalidArgumentError,
    StoreError,
    StoreUnavailableError,
)
from autotrace.store.chroma_errors import is_content_error
from autotrace.store.connection import C, CollectionsOpener, Connection, ServerOptions

_NOT_FOUND: Final = 404
_OWN_ERRORS: Final = (AutotraceError, RecursionError, TypeError, UnicodeError)
"""Errors of this program or of its input, not of the server."""


class ServerConnection(Connection[C]):
    """Connect to a Chroma server (`chroma run`), which machines may share."""

    exclusive = False

    def __init__(
        self, url: str, opener: CollectionsOpener[C], space: str | None, options: ServerOptions
    ) -> None:
        if (why := why_not_a_place(url)) is not None:
            raise InvalidArgumentError("store", without_user(url), why)
        parts = urlsplit(url)
        host = str(parts.hostname)
        self._host = f"[{host}]" if ":" in host else host
        super().__init__(f"{parts.scheme}://{self._host}:{parts.port or ''}".rstrip(":"), space)
        self._port = parts.port or (443 if parts.scheme == "https" else 8000)
        self._ssl = parts.scheme == "https"
        self._opener = opener
        self._options = options
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._open_lock = threading.Lock()
        self._client: Any = None
        self._collections: C | None = None

    @override
    @contextlib.contextmanager
    def reading(self, *, fresh: bool = False) -> Generator[C]:
        if self._pid != os.getpid():
            self._reset()
        with self._open_lock:
            if self._collections is None:
                self._collections = self._open()
            collections = self._collections
        try:
            yield collections
        except Exception as error:
            if is_content_error(error) or isinstance(error, _OWN_ERRORS):
                raise
            # A server that was restarted empty, or moved, needs a new client.
            self.close()
            msg = f"the Chroma server {self.name} does not answer: {error}"
            raise StoreUnavailableError(msg) from error

    @override
    def writing(self) -> contextlib.AbstractContextManager[C]:
        return self.reading()

    @override
    def generation(self) -> str:
        return ""

    @property
    @override
    def is_open(self) -> bool:
        return self._collections is not None

    @override
    def invalidate(self) -> None:
        self.close()

    @override
    def drop_broken_indexes(self) -> None:
        """Do nothing: the files of a server are not accessible."""

    @override
    def refresh(self) -> None:
        """Do nothing: a server returns all stored records."""

    def _open(self) -> C:
        import_whole("chromadb", "httpx")
        import chromadb
        from chromadb.config import Settings

        try:
            self._look_for_database()
            self._client = chromadb.HttpClient(
                host=self._host,
                port=self._port,
                ssl=self._ssl,
                headers=self._options.headers,
                tenant=self._options.tenant,
                database=self._options.database,
                # No .env file, as in chroma_embedded.py.
                settings=cast("Any", Settings)(anonymized_telemetry=False, _env_file=None),
            )
            _set_timeout(self._client, self._options.timeout_s)
            return self._opener(self._client, self.name, self.space)
        except StoreError:
            self.close()
            raise
        except Exception as error:
            self.close()
            msg = (
                f"the Chroma server {self.name} cannot be reached{self._by_proxy()}: {error}; "
                "is `chroma run` running there?"
            )
            raise StoreUnavailableError(msg) from error

    def _by_proxy(self) -> str:
        """Return a phrase that names the proxy in use, for an error message."""
        from urllib.request import getproxies, proxy_bypass

        proxies = getproxies()
        proxy = proxies.get("https" if self._ssl else "http") or proxies.get("all")
        if proxy is None or proxy_bypass(self._host.strip("[]")):
            return ""
        return f" by way of the proxy {without_user(proxy)} (NO_PROXY leaves it out)"

    def _look_for_database(self) -> None:
        """Raise StoreUnavailableError unless the server has the database.

        The constructor of chromadb's client requests it without a timeout, and leaves sockets open
        if it does not exist.

        Raises:
            StoreUnavailableError: The tenant or the database does not exist.
            httpx.HTTPError: The server does not answer, or refuses.
        """
        import httpx

        scheme = "https" if self._ssl else "http"
        base = f"{scheme}://{self._host}:{self._port}/api/v2"
        tenant, database = self._options.tenant, self._options.database
        place = f"tenants/{quote(tenant, safe='')}/databases/{quote(database, safe='')}"
        with httpx.Client(headers=self._options.headers, timeout=self._options.timeout_s) as client:
            client.get(f"{base}/heartbeat").raise_for_status()
            answer = client.get(f"{base}/{place}")
        if answer.status_code == _NOT_FOUND:
            msg = (
                f"the Chroma server {self.name} has no database {database!r} of a tenant "
                f"{tenant!r}: chromadb.AdminClient makes both, and so does "
                "`autotrace keys create --tenant` for a tenant of a server"
            )
            raise StoreUnavailableError(msg)
        answer.raise_for_status()

    @override
    def close(self) -> None:
        client, self._client, self._collections = self._client, None, None
        if client is not None and self._pid == os.getpid():
            _close_http_client(client)


def _set_timeout(client: Any, timeout_s: float) -> None:
    """Set a timeout for every request; chromadb has no setting for it."""
    for session in _sessions_of(client):
        session.timeout = timeout_s


def _close_http_client(client: Any) -> None:
    """Close an HTTP client, its connections and its internal admin client.

    chromadb leaves both open, and keeps their systems in its cache under ids that it does not use.
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
