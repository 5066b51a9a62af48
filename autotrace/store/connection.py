"""Connections to Chroma: what every kind of store offers to those who read and write it.

Embedded Chroma (chroma_embedded.py) has rules of its own so that several processes may share it; a
Chroma server (chroma_server.py) needs none of them.
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
"""What a connection opens: the collections of traces, or those of decisions."""
R = TypeVar("R")
CollectionsOpener = Callable[[Any, str, "str | None"], C]
"""Opens, or makes, the collections of a Chroma client; given the store's name and its space."""


@dataclass(frozen=True)
class ServerOptions:
    """How to reach a Chroma server, beyond its address."""

    headers: dict[str, str] | None = None
    tenant: str = "default_tenant"
    database: str = "default_database"
    timeout_s: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> ServerOptions:
        """Return the options that settings name."""
        return cls(
            headers=settings.chroma_headers,
            tenant=settings.chroma_tenant,
            database=settings.chroma_database,
            timeout_s=settings.chroma_timeout_ms / 1000,
        )


class PurgeLimits(NamedTuple):
    """How large a store may be to be purged; it cannot be written meanwhile."""

    vectors: float
    bytes: float


UNLIMITED: Final = PurgeLimits(math.inf, math.inf)


class Connection(ABC, Generic[C]):
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
    def reading(self, *, fresh: bool = False) -> contextlib.AbstractContextManager[C]:
        """Use the collections to read; with `fresh`, see in queries what others have written.

        Raises:
            StoreUnavailableError: Chroma cannot be opened or does not answer.
        """

    def read(self, read: Callable[[C], R], *, fresh: bool = False) -> R:
        """Read; once more with a new client if another process changed what this one has open.

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
        except Exception:  # noqa: BLE001 - what it is shows in the second attempt
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
        """Return a mark that changes whenever another writer may have changed the store."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether a client is open, so that the next use is quick."""

    @abstractmethod
    def invalidate(self) -> None:
        """Have the next fresh reading open the client anew, whatever the generation says."""

    @abstractmethod
    def refresh(self) -> None:
        """Have the next fresh reading see all that others have written, however lately it did."""

    @abstractmethod
    def drop_broken_indexes(self) -> None:
        """Delete the vector indexes if a broken one keeps the log from being read; for a rebuild.

        The log's own index holds nothing; the others are made anew from the log.
        """

    def purge_later(self, *, vectors: bool = False) -> None:
        """Say that what is replaced or deleted now must leave the files, too; while writing.

        Args:
            vectors: Whether vectors are deleted or replaced.
        """
        del vectors

    def purge_due(self) -> frozenset[str]:
        """Return what is to be purged; nothing where the files are out of reach (a server)."""
        return frozenset()

    def purge(self, limits: PurgeLimits = UNLIMITED, *, also: bool = False) -> frozenset[str]:
        """Rid the files of what was replaced or deleted; return what is left.

        Args:
            limits: How large the store may be; a larger one is left for a later purge.
            also: Whether to purge rows though none are due, for what the process had in memory.

        Raises:
            StoreUnavailableError: The files cannot be purged now; purge again.
        """
        del limits, also
        return frozenset()

    @abstractmethod
    def close(self) -> None:
        """Let go of the client. A later use opens it again."""


def connect(
    store: str, *, space: str | None, server: ServerOptions | None = None
) -> Connection[Collections]:
    """Make the connection for a store: a path is embedded, http(s)://host:port a Chroma server.

    Nothing is opened yet.

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
    """Make the connection to other collections than those of traces.

    Raises:
        InvalidArgumentError: The store is neither a path nor a URL.
    """
    # Imported here: both build on this module.
    from autotrace.store.chroma_embedded import connect_embedded
    from autotrace.store.chroma_server import ServerConnection

    scheme, separator, _ = store.partition("://")
    if not separator:
        return connect_embedded(Path(store).expanduser().resolve(), opener, space)
    if scheme.lower() in ("http", "https"):
        return ServerConnection(store, opener, space, server or ServerOptions())
    raise InvalidArgumentError("store", without_user(store), PLACES)
