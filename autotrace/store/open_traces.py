"""Register unfinished traces that clients report over REST or MCP.

All processes share the registry. It keeps the start of each trace until the store has its end, and
its completion: the first completion wins. In an embedded store each trace is a few small files,
which take 0.2 ms; acquiring the lock of Chroma takes 30 ms, and up to 3 s. On a Chroma server they
are records of a collection. docs/explanation/storage.md lists files and record ids.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson
from typing_extensions import override

from autotrace.base.private_folder import private_directory
from autotrace.errors import StoreUnavailableError
from autotrace.store import schema
from autotrace.store.connection import Connection, ServerOptions, connect_to
from autotrace.store.schema import JSON_KEY, NO_VECTOR, Collection

FOLDER: Final = "open"
"""Folder in an embedded store."""
_NS_PER_MS: Final = 10**6
_BEGUN: Final = "b/"
_COMPLETED: Final = "c/"
"""Prefixes of record ids, and the metadata keys of their times in ms since the epoch."""
_OWNER: Final = "owner"
"""The metadata key of the owner of a trace."""


@dataclass(frozen=True)
class OpenTraceEntry:
    """Hold the documents of the start and the completion of a trace."""

    opening: Any
    closing: Any = None
    """None while the trace is open."""


class OpenTraces(ABC):
    """Register the unfinished traces of one store.

    Any thread, and any number of processes, may use the registry. Trace ids must be well-formed.
    Every method raises StoreUnavailableError if the store does not answer, or its folder cannot be
    used.
    """

    @abstractmethod
    def begin(self, trace_id: str, owner: str, opening: Any) -> None:
        """Add a trace with a new id, which counts for an owner."""

    @abstractmethod
    def complete(self, trace_id: str, owner: str, closing: Any) -> Any:
        """Complete a trace unless it is completed; return the first completion."""

    @abstractmethod
    def find(self, trace_id: str) -> OpenTraceEntry | None:
        """Return a trace; None if it was never added, or was removed."""

    @abstractmethod
    def openings(self, trace_ids: Sequence[str]) -> dict[str, Any]:
        """Return the opening of each of these traces that is in the registry."""

    def is_open(self, trace_id: str) -> bool | None:
        """Return whether a trace is not completed; None if it is unknown."""
        entry = self.find(trace_id)
        return None if entry is None else entry.closing is None

    @abstractmethod
    def open_count(self, owner: str) -> int:
        """Return the number of open traces of an owner."""

    @abstractmethod
    def begun(self, before_ns: int, limit: int) -> list[str]:
        """Return ids of traces that began before a time, completed or not.

        The order is arbitrary.
        """

    @abstractmethod
    def completed(self, before_ns: int, limit: int) -> list[str]:
        """Return ids of traces completed before a time, in arbitrary order."""

    @abstractmethod
    def remove(self, trace_ids: Sequence[str]) -> None:
        """Remove traces; ignore unknown ones."""

    @abstractmethod
    def stop(self) -> None:
        """Close the store; a later use opens it again."""


def open_traces(store: str, server: ServerOptions | None = None) -> OpenTraces:
    """Return the registry of a store without opening it.

    Raises:
        InvalidArgumentError: The store is neither a path nor the URL of a Chroma server.
    """
    if "://" in store:
        return _OnServer(connect_to(store, _open_collection, space=None, server=server))
    return _InFolder(Path(store).expanduser().resolve())


class _InFolder(OpenTraces):
    def __init__(self, store: Path) -> None:
        self._folder = store / FOLDER
        self._begun = self._folder / "begun"
        self._completed = self._folder / "completed"

    @override
    def begin(self, trace_id: str, owner: str, opening: Any) -> None:
        with self._using():
            self._put(self._begun / trace_id, {"owner": owner, "opening": opening})
            mark = self._mark(owner, trace_id)
            private_directory(mark.parent)
            mark.touch(mode=0o600)

    @override
    def complete(self, trace_id: str, owner: str, closing: Any) -> Any:
        with self._using():
            self._put(self._completed / trace_id, closing)
            self._mark(owner, trace_id).unlink(missing_ok=True)
            return _read(self._completed / trace_id)

    @override
    def find(self, trace_id: str) -> OpenTraceEntry | None:
        with self._using():
            # `remove` deletes these in the opposite order.
            closing = _read(self._completed / trace_id)
            begun = _read(self._begun / trace_id)
        return None if begun is None else OpenTraceEntry(begun["opening"], closing)

    @override
    def openings(self, trace_ids: Sequence[str]) -> dict[str, Any]:
        with self._using():
            found = {trace_id: _read(self._begun / trace_id) for trace_id in trace_ids}
        return {trace_id: begun["opening"] for trace_id, begun in found.items() if begun}

    @override
    def open_count(self, owner: str) -> int:
        with self._using():
            try:
                return len(os.listdir(self._mark(owner)))
            except FileNotFoundError:
                return 0

    @override
    def begun(self, before_ns: int, limit: int) -> list[str]:
        return self._older(self._begun, before_ns, limit)

    @override
    def completed(self, before_ns: int, limit: int) -> list[str]:
        return self._older(self._completed, before_ns, limit)

    def _older(self, folder: Path, before_ns: int, limit: int) -> list[str]:
        with self._using():
            if not folder.is_dir():
                return []
            with os.scandir(folder) as entries:
                return list(islice((e.name for e in entries if _is_older(e, before_ns)), limit))

    @override
    def remove(self, trace_ids: Sequence[str]) -> None:
        with self._using():
            for trace_id in trace_ids:
                begun = _read(self._begun / trace_id)
                if begun is not None:
                    self._mark(begun["owner"], trace_id).unlink(missing_ok=True)
                    (self._begun / trace_id).unlink(missing_ok=True)
                (self._completed / trace_id).unlink(missing_ok=True)

    @override
    def stop(self) -> None:
        """Do nothing, as no file stays open."""

    def _mark(self, owner: str, trace_id: str = "") -> Path:
        # The name of an owner may hold any character.
        return self._folder / "of" / hashlib.sha256(owner.encode()).hexdigest()[:32] / trace_id

    def _put(self, path: Path, document: Any) -> None:
        """Make a complete file unless it exists."""
        private_directory(path.parent)
        temporary = self._folder / f"new-{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(document))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink()

    @contextlib.contextmanager
    def _using(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            msg = f"{self._folder} cannot be used: {error}"
            raise StoreUnavailableError(msg) from error


def _read(path: Path) -> Any:
    """Return the document in a file; None if the file does not exist."""
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _is_older(entry: os.DirEntry[str], before_ns: int) -> bool:
    try:
        return entry.stat().st_mtime_ns < before_ns
    except FileNotFoundError:
        return False  # another process has removed it


@dataclass(frozen=True)
class _Opened:
    """Hold the only collection of the registry."""

    indexes: ClassVar[Mapping[str, str]] = {}

    log: Collection
    state: Collection


def _open_collection(client: Any, store: str, space: str | None) -> _Opened:
    collection = schema.open_collection(client, "autotrace-open", schema.LOOKUP)
    return _Opened(collection, collection)


class _OnServer(OpenTraces):
    def __init__(self, connection: Connection[_Opened]) -> None:
        self._connection = connection

    @override
    def begin(self, trace_id: str, owner: str, opening: Any) -> None:
        self._add(_BEGUN, trace_id, owner, opening)

    @override
    def complete(self, trace_id: str, owner: str, closing: Any) -> Any:
        self._add(_COMPLETED, trace_id, owner, closing)
        record_id = _COMPLETED + trace_id
        return self._documents([record_id])[record_id]

    @override
    def find(self, trace_id: str) -> OpenTraceEntry | None:
        begun, completed = _BEGUN + trace_id, _COMPLETED + trace_id
        found = self._documents([begun, completed])
        return OpenTraceEntry(found[begun], found.get(completed)) if begun in found else None

    @override
    def openings(self, trace_ids: Sequence[str]) -> dict[str, Any]:
        found = self._documents([_BEGUN + trace_id for trace_id in trace_ids])
        return {record_id.removeprefix(_BEGUN): opening for record_id, opening in found.items()}

    @override
    def open_count(self, owner: str) -> int:
        ids = self._ids(where={_OWNER: owner})
        completed = sum(record_id.startswith(_COMPLETED) for record_id in ids)
        return len(ids) - 2 * completed

    @override
    def begun(self, before_ns: int, limit: int) -> list[str]:
        return self._older(_BEGUN, before_ns, limit)

    @override
    def completed(self, before_ns: int, limit: int) -> list[str]:
        return self._older(_COMPLETED, before_ns, limit)

    def _older(self, stage: str, before_ns: int, limit: int) -> list[str]:
        where = {stage: {"$lt": before_ns // _NS_PER_MS}}
        return [i.removeprefix(stage) for i in self._ids(where=where, limit=limit)]

    @override
    def remove(self, trace_ids: Sequence[str]) -> None:
        ids = [prefix + trace_id for trace_id in trace_ids for prefix in (_BEGUN, _COMPLETED)]
        if ids:
            with self._connection.writing() as collections:
                collections.log.delete(ids)

    @override
    def stop(self) -> None:
        self._connection.close()

    def _ids(self, **conditions: Any) -> list[str]:
        return self._connection.read(lambda c: c.log.get(include=[], **conditions)["ids"])

    def _add(self, stage: str, trace_id: str, owner: str, document: Any) -> None:
        metadata: dict[str, Any] = {
            JSON_KEY: orjson.dumps(document).decode(),
            _OWNER: owner,
            stage: time.time_ns() // _NS_PER_MS,
        }
        with self._connection.writing() as collections:
            collections.log.add([stage + trace_id], embeddings=[NO_VECTOR], metadatas=[metadata])

    def _documents(self, ids: Sequence[str]) -> dict[str, Any]:
        return self._connection.read(lambda c: schema.documents(c.log, ids))
