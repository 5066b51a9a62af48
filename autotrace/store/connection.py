"""Define connections to Chroma, embedded or on a server.

Embedded Chroma (chroma_embedded.py) needs rules for several processes to share it; a Chroma server
(chroma_server.py) does not.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple

from typing_extensions import TypeVar

from autotrace.base.store_location import PLACES, without_user
from autotrace.errors import AutotraceError, InvalidArgumentError, StoreUnavailableError
from autotrace.settings import Settings
from autotrace.store.chroma_errors import StaleIndexError
from autotrace.store.schema import Collections, OpenedCollections, open_collections

C = TypeVar("C", bound=OpenedCollections, default=Collections)
"""Collections that a connection opens: those of traces, decisions or keys."""
R = TypeVar("R")
CollectionsOpener = Callable[[Any, str, "str | None"], C]
"""Opens or makes the collections of a client, given the name and the space of the store."""


@dataclass(frozen=True)
class ServerOptions:
    """Hold the options to reach a Chroma server, beyond its address."""

    headers: dict[str, str] | None = None
    tenant: str = "default_tenant"
    database: str = "default_database"
    timeout_s: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> ServerOptions:
        """Return the options in the settings."""
        return cls(
            headers=settings.chroma_headers,
            tenant=settings.chroma_tenant,
            database=settings.chroma_database,
            timeout_s=settings.chroma_timeout_ms / 1000,
        )


class PurgeLimits(NamedTuple):
    """Limit the size of a store to purge, which blocks writes."""

    vectors: float
    bytes: float


UNLIMITED: Final = PurgeLimits(math.inf, math.inf)


class Connection(ABC, Generic[C]):
    """Open the collections of one store, to read and to write.

    Args:
        name: Name of the store in errors and logs.
        space: Name of the embedding space whose vectors the store holds; None accepts any.
    """

    exclusive: bool
    """Whether `writing` excludes all other writers, so that records read stay unchanged."""

    def __init__(self, name: str, space: str | None) -> None:
        self.name = name
        self.space = space

    @abstractmethod
    def reading(self, *, fresh: bool = False) -> contextlib.AbstractContextManager[C]:
        """Use the collections to read.

        Args:
            fresh: Whether queries must see records that other processes have written.

        Raises:
            StoreUnavailableError: Chroma cannot be opened or does not answer.
        """

    def read(self, read: Callable[[C], R], *, fresh: bool = False) -> R:
        """Read, and retry once with a new client after an error.

        Another process may have changed collections that this one has open.

        Args:
            read: Returns the answer; may be called twice.
            fresh: See `reading`.

        Raises:
            StoreUnavailableError: Chroma cannot be opened or does not answer.
        """
        try:
            with self.reading(fresh=fresh) as collections:
                return read(collections)
        except AutotraceError:
            raise
        except Exception:  # noqa: BLE001 - the second attempt raises it again
            self.invalidate()
        try:
            with self.reading(fresh=True) as collections:
                return read(collections)
        except StaleIndexError as error:
            msg = f"{self.name} changes too quickly: {error}; ask again"
            raise StoreUnavailableError(msg) from error

    @abstractmethod
    def writing(self) -> contextlib.AbstractContextManager[C]:
        """Use the collections to write.

        Raises:
            StoreUnavailableError: Chroma cannot be opened or does not answer.
        """

    @abstractmethod
    def generation(self) -> str:
        """Return a mark that changes when another writer changes the store."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether a client is open, so that the next use is fast."""

    @abstractmethod
    def invalidate(self) -> None:
        """Force the next fresh read to reopen the client."""

    @abstractmethod
    def refresh(self) -> None:
        """Let the next fresh read see all records, even if it must reopen.

        It skips the minimum interval between two openings.
        """

    @abstractmethod
    def drop_broken_indexes(self) -> None:
        """Delete the vector indexes if a broken one makes the log unreadable.

        For a rebuild: the index of the log has no content; the others are rebuilt from the log.
        """

    def purge_later(self, *, vectors: bool = False) -> None:
        """Mark replaced or deleted content as due to be purged; while writing.

        Args:
            vectors: Whether vectors are deleted or replaced.
        """
        del vectors

    def purge_due(self) -> frozenset[str]:
        """Return the kinds of content due to be purged; none on a server."""
        return frozenset()

    def purge(self, limits: PurgeLimits = UNLIMITED, *, also: bool = False) -> frozenset[str]:
        """Remove replaced or deleted content from the files.

        Args:
            limits: Size of the store above which content is left for a later purge.
            also: Whether to purge rows that are not due: files may hold memory of the process.

        Returns:
            The kinds of content left.

        Raises:
            StoreUnavailableError: The files cannot be purged now; purge again.
        """
        del limits, also
        return frozenset()

    @abstractmethod
    def close(self) -> None:
        """Close the client. A later use opens it again."""


def connect(
    store: str, *, space: str | None, server: ServerOptions | None = None
) -> Connection[Collections]:
    """Make the connection to the traces of a store without opening it.

    A path is an embedded store, `http(s)://host:port` a Chroma server.

    Raises:
        InvalidArgumentError: The store is neither.
    """
    return connect_to(store, open_collections, space=space, server=server)


def connect_to(
    store: str,
    opener: CollectionsOpener[C],
    *,
    space: str | None,
    server: ServerOptions | None = None,
) -> Connection[C]:
    """Make a connection to the collections that `opener` opens.

    Raises:
        InvalidArgumentError: The store is neither a path nor a URL.
    """
    # Both modules import this one.
    from autotrace.store.chroma_embedded import connect_embedded
    from autotrace.store.chroma_server import ServerConnection

    scheme, separator, _ = store.partition("://")
    if not separator:
        return connect_embedded(Path(store).expanduser().resolve(), opener, space)
    if scheme.lower() in ("http", "https"):
        return ServerConnection(store, opener, space, server or ServerOptions())
    raise InvalidArgumentError("store", without_user(store), PLACES)
