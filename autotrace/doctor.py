"""The doctor: is everything that recording and recall need in place, and if not, what to do.

It looks and changes nothing; a store that others write to meanwhile may be looked at.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import orjson
from filelock import lock_descriptor
from pydantic import BaseModel, ConfigDict

from autotrace import __version__
from autotrace.errors import EmbedderUnavailableError, StoreError, StoreVersionError
from autotrace.export.counters import Counters
from autotrace.export.drain import CURSOR_FILE, load_cursor
from autotrace.export.drain import LOCK_FILE as DRAIN_LOCK_FILE
from autotrace.export.exporter import choose_embedder, open_connection, open_pipeline
from autotrace.export.spool import (
    BAD_DIRECTORY,
    owner_is_alive,
    processes_in,
    read_chunk,
    segments_of,
)
from autotrace.retrieval import search
from autotrace.settings import Settings
from autotrace.store import timeline, traces
from autotrace.store.connection import CHROMA_DIRECTORY
from autotrace.store.connection import LOCK_FILE as STORE_LOCK_FILE
from autotrace.store.embedder import Embedder, MiniLmEmbedder, default_embedder
from autotrace.store.schema import SCHEMA_VERSION, STORE_RECORD_ID, Collections, documents

_SAMPLE: Final = 20
"""With 5 % of the vectors lost, a sample of 20 shows it in two cases of three; the worst damage
known, by two processes that wrote without a lock, loses 15 % and shows in 96 of 100."""
_NEIGHBOURS: Final = 50
_NEWEST: Final = 100
_SAME_COSINE: Final = 0.95
"""Two quantisations of one model agree to 0.999, two models of the same dimension to about 0."""
_LOCK_PATIENCE_S: Final = 3.0
"""A write holds the lock well under a second."""
_LITTLE_DISK_BYTES: Final = 1024**3
_NO_DISK_BYTES: Final = 100 * 1024**2
_PROBE: Final = "find a restaurant near the venue"


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str
    fix: str | None = None
    """What to do about it; None when it is ok."""


def store_exists(settings: Settings) -> bool:
    """Tell whether anything was ever recorded here; a server is taken to be there."""
    if not settings.is_embedded:
        return True
    database = Path(settings.store) / CHROMA_DIRECTORY / "chroma.sqlite3"
    spool = settings.spool_path
    return database.is_file() or (spool.is_dir() and bool(processes_in(spool)))


def diagnose(settings: Settings, embedder: Any = None) -> Iterator[Check]:
    """Look at everything, and yield what was found one by one.

    Args:
        settings: Where the store and the spool are, and the embedder's weights.
        embedder: As for `autotrace.configure`.
    """
    yield check_versions()
    usable, check = check_embedder(settings, embedder)
    yield check
    if not store_exists(settings):
        yield Check(
            name="store",
            status="error",
            detail=f"no store at {settings.store}",
            fix="record something first, or name the store with --store",
        )
        return
    if settings.is_embedded:
        yield _guarded("folder", lambda: check_folder(Path(settings.store)))
        yield _guarded("disk", lambda: check_disk(Path(settings.store)))
    spool = settings.spool_path
    yield _guarded("spool", lambda: check_spool(settings))
    yield _guarded("cursor", lambda: check_cursor(spool))
    yield _guarded("set aside", lambda: check_set_aside(spool))
    yield from check_store(settings, usable)


def _guarded(name: str, check: Callable[[], Check], fix: str | None = None) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - that it fails, in whatever way, is the finding
        detail = f"{type(error).__name__}: {error}"
        return Check(name=name, status="error", detail=detail, fix=fix or "see what it says")


def check_versions() -> Check:
    """Say which versions are at work."""
    found = [f"autotrace {__version__}", f"Python {platform.python_version()}"]
    missing: list[str] = []
    for package in ("chromadb", "opentelemetry-sdk"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        detail = f"{', '.join(missing)} not installed, beside {', '.join(found)}"
        fix = "pip install autotrace-agents"
        return Check(name="versions", status="error", detail=detail, fix=fix)
    return Check(name="versions", status="ok", detail=", ".join(found))


def check_embedder(settings: Settings, embedder: Any) -> tuple[Embedder | None, Check]:
    """Load the embedder and have it embed something; return it if it works."""
    try:
        chosen = choose_embedder(settings, embedder)
        place = f" from {chosen.load()}" if isinstance(chosen, MiniLmEmbedder) else ""
        dimensions = len(chosen.embed([_PROBE])[0])
    except EmbedderUnavailableError as error:
        reason, _, fix = str(error).partition("; to fix it: ")
        return None, Check(name="embedder", status="error", detail=reason, fix=fix)
    except Exception as error:  # noqa: BLE001 - an application's own embedder raises anything
        return None, Check(
            name="embedder",
            status="error",
            detail=f"{type(error).__name__}: {error}",
            fix="have the embedder given answer with one vector per text",
        )
    detail = f"{chosen.space}, {dimensions} dimensions{place}"
    return chosen, Check(name="embedder", status="ok", detail=detail)


def check_folder(store: Path) -> Check:
    """Tell whether the store's folder is closed to other users."""
    if os.name == "nt":
        return Check(name="folder", status="ok", detail=f"{store.resolve()}")
    mode = store.stat().st_mode & 0o777
    if mode & 0o077:
        return Check(
            name="folder",
            status="warning",
            detail=f"{store.resolve()} is open to other users (mode {mode:04o})",
            fix=f"chmod 700 {store.resolve()}",
        )
    return Check(name="folder", status="ok", detail=f"{store.resolve()}, private")


def check_disk(store: Path) -> Check:
    """Tell whether there is room to record."""
    free = shutil.disk_usage(store).free
    detail = f"{free / 1024**3:,.1f} GiB free"
    if free >= _LITTLE_DISK_BYTES:
        return Check(name="disk", status="ok", detail=detail)
    status = "error" if free < _NO_DISK_BYTES else "warning"
    return Check(name="disk", status=status, detail=detail, fix="make room on this disk")


def check_spool(settings: Settings) -> Check:
    """Tell what waits to be stored, and whether anybody is there to store it."""
    spool = settings.spool_path
    names = processes_in(spool)
    live = [name for name in names if owner_is_alive(spool / name)]
    nobody = open_connection(settings, None)  # opens nothing
    waiting = open_pipeline(settings, nobody, default_embedder(), Counters()).backlog_bytes()
    holder = lock_holder(spool / DRAIN_LOCK_FILE)
    detail = (
        f"{waiting:,} bytes wait; {len(live)} live and {len(names) - len(live)} dead processes "
        f"have a spool; {f'{holder} stores' if holder else 'nobody stores at present'}"
    )
    if any(_is_newer(spool / name) for name in names):
        detail += "; some of it was written by a newer autotrace, and is left alone"
        fix = "pip install -U autotrace-agents"
        return Check(name="spool", status="warning", detail=detail, fix=fix)
    if waiting and not live and not holder:
        fix = f"autotrace traces --store {settings.store} (a command that reads takes it in)"
        return Check(name="spool", status="warning", detail=detail, fix=fix)
    return Check(name="spool", status="ok", detail=detail)


def _is_newer(directory: Path) -> bool:
    first = segments_of(directory)[:1]
    return any(read_chunk(p, 0, max_bytes=4096, complete=False).newer_version for p in first)


def check_cursor(spool: Path) -> Check:
    """Tell whether the record of how far the spools are stored can be read."""
    path = spool / CURSOR_FILE
    if not path.is_file():
        return Check(name="cursor", status="ok", detail="none yet")
    try:
        # A cursor that does not read is begun anew, as another writer.
        readable = orjson.loads(path.read_bytes())["writer"] == load_cursor(spool).writer
    except (ValueError, KeyError, TypeError):
        readable = False
    if readable:
        return Check(name="cursor", status="ok", detail="readable")
    return Check(
        name="cursor",
        status="warning",
        detail=f"{path} is damaged; what is still in the spool is read again, which is harmless",
        fix=f"delete {path}",
    )


def check_set_aside(spool: Path) -> Check:
    """Tell whether any record could not be read or stored."""
    bad = spool / BAD_DIRECTORY
    files = sorted(path for path in bad.glob("*") if path.is_file()) if bad.is_dir() else []
    if not files:
        return Check(name="set aside", status="ok", detail="nothing")
    sizes = ", ".join(f"{path.name} {path.stat().st_size:,} bytes" for path in files)
    return Check(
        name="set aside",
        status="warning",
        detail=f"records that could not be read (damaged) or stored (unstored): {sizes}",
        fix=f"look into {bad}, and delete it when it is of no more use",
    )


def check_store(settings: Settings, embedder: Embedder | None) -> Iterator[Check]:
    """Open the store and look at what it holds."""
    store = settings.store
    if settings.is_embedded:
        if not (Path(store) / CHROMA_DIRECTORY / "chroma.sqlite3").is_file():
            detail = f"embedded at {store}; everything recorded is still in the spool"
            fix = f"autotrace traces --store {store} (a command that reads takes it in)"
            yield Check(name="store", status="warning", detail=detail, fix=fix)
            return
        holder = _lasting_holder(Path(store) / STORE_LOCK_FILE)
        if holder is not None:
            yield Check(
                name="store",
                status="error",
                detail=f"{holder} has held the lock of {store} for over {_LOCK_PATIENCE_S:g} s",
                fix="wait if it is a rebuild; else end that process",
            )
            return
    connection = open_connection(settings, None)
    try:
        with connection.reading(fresh=True) as collections:
            kind = "embedded at" if settings.is_embedded else "a Chroma server at"
            yield Check(name="store", status="ok", detail=f"{kind} {connection.name}")
            yield from check_contents(collections, embedder, f"autotrace rebuild --store {store}")
    except StoreVersionError as error:
        fix = "pip install -U autotrace-agents"
        yield Check(name="schema", status="error", detail=str(error), fix=fix)
    except StoreError as error:
        fix = "restore it from a backup" if settings.is_embedded else "chroma run"
        yield Check(name="store", status="error", detail=str(error), fix=fix)
    finally:
        connection.close()


def check_contents(
    collections: Collections, embedder: Embedder | None, rebuild: str
) -> Iterator[Check]:
    """Look into an open store; `rebuild` is the command that rebuilds it."""
    record = documents(collections.state, [STORE_RECORD_ID]).get(STORE_RECORD_ID)
    yield check_schema(record, embedder, rebuild)
    yield _guarded("records", lambda: count_records(collections), rebuild)
    yield _guarded("timeline", lambda: check_timeline(collections, rebuild), rebuild)
    same_space = record is not None and embedder is not None and record["space"] == embedder.space
    usable = embedder if same_space else None
    yield _guarded("index", lambda: check_index(collections, usable, rebuild), rebuild)
    if usable is not None:
        yield _guarded("query", lambda: check_query(collections, usable), rebuild)


def check_schema(record: dict[str, Any] | None, embedder: Embedder | None, rebuild: str) -> Check:
    """Tell whether the store may be used with this embedder."""
    if record is None:
        return Check(
            name="schema",
            status="error",
            detail="the store does not say its version nor its embedding space",
            fix=rebuild,
        )
    detail = f"version {record['schema_version']} of {SCHEMA_VERSION}, space {record['space']}"
    if record.get("rebuilding"):
        detail += "; it is being rebuilt, or a rebuild was interrupted"
        return Check(name="schema", status="error", detail=detail, fix=f"wait for it, or {rebuild}")
    if embedder is not None and embedder.space != record["space"]:
        detail += f"; the configured embedder makes vectors of {embedder.space}"
        fix = f"configure the embedder of the store, or embed it anew: {rebuild}"
        return Check(name="schema", status="error", detail=detail, fix=fix)
    return Check(name="schema", status="ok", detail=detail)


def count_records(collections: Collections) -> Check:
    """Count the records of each collection."""
    names = ("log", "open", "succeeded", "failed", "state")
    counts = ", ".join(f"{name} {getattr(collections, name).count():,}" for name in names)
    return Check(name="records", status="ok", detail=counts)


def check_timeline(collections: Collections, rebuild: str) -> Check:
    """Tell whether the newest traces that were started can be listed."""
    newest = [
        entry.trace_id
        for entry in islice(
            timeline.newest_first(lambda ids: documents(collections.log, ids)), _NEWEST
        )
    ]
    lost = len(newest) - len(traces.get_summaries(collections, newest))
    if lost:
        detail = f"{lost} of the newest {len(newest)} traces cannot be listed or recalled"
        return Check(name="timeline", status="error", detail=detail, fix=rebuild)
    return Check(name="timeline", status="ok", detail=f"the newest {len(newest)} traces are listed")


def check_index(collections: Collections, embedder: Embedder | None, rebuild: str) -> Check:
    """Recall a sample of completed traces by their own task; each must be found."""
    sample = [
        (success, found)
        for success, collection in ((True, collections.succeeded), (False, collections.failed))
        for found in _spread(collection)
    ]
    lost = 0
    foreign = 0
    for success, (trace_id, task, stored) in sample:
        vector = stored if embedder is None else embedder.embed([task])[0]
        foreign += _dot(vector, stored) < _SAME_COSINE
        nearest = traces.search(collections, stored, success=success, limit=_NEIGHBOURS)
        # Agents run the same task again and again: so many may be just as near that not all fit.
        crowded = len(nearest) == _NEIGHBOURS and nearest[-1].similarity > 1 - 1e-4
        lost += not crowded and all(found.trace_id != trace_id for found in nearest)
    if lost or foreign:
        detail = f"of {len(sample)} traces {lost} are not found by their own task"
        if foreign:
            detail += f", and {foreign} have another vector than the embedder makes"
        return Check(name="index", status="error", detail=detail, fix=rebuild)
    return Check(name="index", status="ok", detail=f"{len(sample)} of {len(sample)} traces found")


def _spread(collection: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield id, task and vector of records from all over a collection."""
    total: int = collection.count()
    wanted = min(total, _SAMPLE // 2)
    for number in range(wanted):
        got = collection.get(
            limit=1, offset=number * total // wanted, include=["metadatas", "embeddings"]
        )
        for trace_id, metadata, vector in zip(
            got["ids"], got["metadatas"], got["embeddings"], strict=True
        ):
            yield trace_id, orjson.loads(metadata["json"])["task"], vector


def _dot(one: Any, other: Any) -> float:
    return float(sum(a * b for a, b in zip(one, other, strict=True)))


def check_query(collections: Collections, embedder: Embedder) -> Check:
    """Recall something, whatever it finds."""
    started_s = time.perf_counter()
    vector = embedder.embed([_PROBE])[0]
    found = search.find(collections, vector, success_only=False, limit=1)
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    what = f"{found[0].similarity:.2f} similar" if found else "none stored"
    detail = f"a recall took {elapsed_ms:.0f} ms; nearest trace: {what}"
    return Check(name="query", status="ok", detail=detail)


def _lasting_holder(path: Path) -> str | None:
    deadline_s = time.monotonic() + _LOCK_PATIENCE_S
    while (holder := lock_holder(path)) is not None and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return holder


def lock_holder(path: Path) -> str | None:
    """Return who holds a lock file, in words; None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if lock_descriptor(descriptor, blocking=False):
            return None
        inode = os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
    return _process_with_lock(inode)


def _process_with_lock(inode: int) -> str:
    """Name the process that has locked a file, where the system tells (Linux)."""
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                name = Path(f"/proc/{fields[4]}/comm").read_text(encoding="utf-8").strip()
                return f"process {fields[4]} ({name})"
    except (OSError, IndexError):
        pass  # not Linux, or the process has just ended, or lives in another container
    return "another process"
