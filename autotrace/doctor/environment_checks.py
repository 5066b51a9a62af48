"""What the doctor finds around the store: versions, weights, disk, and the spool."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any, Final

import orjson

from autotrace import __version__
from autotrace.base.health_counters import HealthCounters
from autotrace.doctor.check import DoctorCheck
from autotrace.doctor.lock_holder import lock_holder
from autotrace.embedding.embedder import Embedder, MiniLmEmbedder, default_embedder
from autotrace.errors import EmbedderUnavailableError, InvalidArgumentError
from autotrace.settings import Settings
from autotrace.spool.cursor import CURSOR_FILE, load_cursor
from autotrace.spool.drain_lock import LOCK_FILE
from autotrace.spool.files import (
    BAD_DIRECTORY,
    owner_is_alive,
    processes_in,
    read_chunk,
    segments_of,
)
from autotrace.spool.lanes import process_in
from autotrace.worker.exporter import choose_embedding, open_connection, open_pipeline
from autotrace.worker.quarantine import count_set_aside, set_aside_fix

_LITTLE_DISK_BYTES: Final = 1024**3
_NO_DISK_BYTES: Final = 100 * 1024**2
_PROBE: Final = "find a restaurant near the venue"


def check_versions() -> DoctorCheck:
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
        return DoctorCheck(name="versions", status="error", detail=detail, fix=fix)
    return DoctorCheck(name="versions", status="ok", detail=", ".join(found))


def check_embedder(settings: Settings, embedder: Any) -> tuple[Embedder | None, DoctorCheck]:
    """Load the embedder and have it embed something; return it if it works."""
    try:
        chosen = choose_embedding(settings, embedder).embedder
    except InvalidArgumentError as error:
        fix = f"set {error.field} to an embedder that can be imported"
        return None, DoctorCheck(name="embedder", status="error", detail=str(error), fix=fix)
    except EmbedderUnavailableError as error:
        return None, _unavailable(error)
    try:
        place = f" from {chosen.load()}" if isinstance(chosen, MiniLmEmbedder) else ""
        dimensions = len(chosen.embed([_PROBE])[0])
    except EmbedderUnavailableError as error:
        return None, _unavailable(error)
    except Exception as error:  # noqa: BLE001 - an application's own embedder raises anything
        return None, DoctorCheck(
            name="embedder",
            status="error",
            detail=f"{type(error).__name__}: {error}",
            fix="have the embedder given answer with one vector per text",
        )
    detail = f"{chosen.space}, {dimensions} dimensions{place}"
    return chosen, DoctorCheck(name="embedder", status="ok", detail=detail)


def _unavailable(error: EmbedderUnavailableError) -> DoctorCheck:
    reason, _, fix = str(error).partition("; to fix it: ")
    return DoctorCheck(name="embedder", status="error", detail=reason, fix=fix)


def check_folder(store: Path) -> DoctorCheck:
    """Tell whether the store's folder is closed to other users."""
    if os.name == "nt":
        return DoctorCheck(name="folder", status="ok", detail=f"{store.resolve()}")
    mode = store.stat().st_mode & 0o777
    if mode & 0o077:
        return DoctorCheck(
            name="folder",
            status="warning",
            detail=f"{store.resolve()} is open to other users (mode {mode:04o})",
            fix=f"chmod 700 {store.resolve()}",
        )
    return DoctorCheck(name="folder", status="ok", detail=f"{store.resolve()}, private")


def check_disk(store: Path) -> DoctorCheck:
    """Tell whether there is room to record."""
    free = shutil.disk_usage(store).free
    detail = f"{free / 1024**3:,.1f} GiB free"
    if free >= _LITTLE_DISK_BYTES:
        return DoctorCheck(name="disk", status="ok", detail=detail)
    status = "error" if free < _NO_DISK_BYTES else "warning"
    return DoctorCheck(name="disk", status=status, detail=detail, fix="make room on this disk")


def check_spool(settings: Settings) -> DoctorCheck:
    """Tell what waits to be stored, and whether anybody is there to store it."""
    spool = settings.spool_path
    names = processes_in(spool)
    live = {process_in(name) for name in names if owner_is_alive(spool / name)}
    dead = {process_in(name) for name in names} - live
    nobody = open_connection(settings, None)  # opens nothing
    waiting = open_pipeline(settings, nobody, default_embedder(), HealthCounters()).backlog_bytes()
    holder = lock_holder(spool / LOCK_FILE)
    detail = (
        f"{waiting:,} bytes wait; {len(live)} live and {len(dead)} dead processes "
        f"have a spool; {f'{holder} stores' if holder else 'nobody stores at present'}"
    )
    if any(_is_newer(spool / name) for name in names):
        detail += "; some of it was written by a newer autotrace, and is left alone"
        fix = "pip install -U autotrace-agents"
        return DoctorCheck(name="spool", status="warning", detail=detail, fix=fix)
    if waiting and not live and not holder:
        fix = f"autotrace traces --store {settings.store} (a command that reads takes it in)"
        return DoctorCheck(name="spool", status="warning", detail=detail, fix=fix)
    return DoctorCheck(name="spool", status="ok", detail=detail)


def _is_newer(directory: Path) -> bool:
    first = segments_of(directory)[:1]
    return any(read_chunk(p, 0, max_bytes=4096, complete=False).newer_version for p in first)


def check_cursor(spool: Path) -> DoctorCheck:
    """Tell whether the record of how far the spools are stored can be read."""
    path = spool / CURSOR_FILE
    if not path.is_file():
        return DoctorCheck(name="cursor", status="ok", detail="none yet")
    try:
        # A cursor that does not read is begun anew, as another writer.
        readable = orjson.loads(path.read_bytes())["writer"] == load_cursor(spool).writer
    except (ValueError, KeyError, TypeError):
        readable = False
    if readable:
        return DoctorCheck(name="cursor", status="ok", detail="readable")
    return DoctorCheck(
        name="cursor",
        status="warning",
        detail=f"{path} is damaged; what is still in the spool is read again, which is harmless",
        fix=f"delete {path}",
    )


def check_set_aside(settings: Settings) -> DoctorCheck:
    """Tell whether any record could not be read or stored."""
    bad = settings.spool_path / BAD_DIRECTORY
    files = sorted(path for path in bad.glob("*") if path.is_file()) if bad.is_dir() else []
    if not files:
        return DoctorCheck(name="set aside", status="ok", detail="nothing")
    refused = count_set_aside(settings.spool_path)
    if refused:
        return DoctorCheck(
            name="set aside",
            status="warning",
            detail=f"the store refused {refused:,} records, kept in {bad}",
            fix=f"{set_aside_fix(settings.store)} (tries them again)",
        )
    sizes = ", ".join(f"{path.name} {path.stat().st_size:,} bytes" for path in files)
    return DoctorCheck(
        name="set aside",
        status="warning",
        detail=f"records that could not be read: {sizes}",
        fix=f"look into {bad}, and delete it when it is of no more use",
    )
