"""Checks around the store: versions, weights, disk, spool, files."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any, Final

import orjson
from filelock import lock_descriptor

from autotrace import __version__
from autotrace.base.health_counters import HealthCounters
from autotrace.base.plural import counted
from autotrace.doctor.check import DoctorCheck, error, ok, warning
from autotrace.embedding.embedder import Embedder, MiniLmEmbedder
from autotrace.errors import EmbedderUnavailableError, InvalidArgumentError, StoreError
from autotrace.settings import Settings
from autotrace.spool import drain_lock
from autotrace.spool.cursor import CURSOR_FILE, load_cursor
from autotrace.spool.files import (
    BAD_DIRECTORY,
    owner_is_alive,
    processes_in,
    read_chunk,
    segments_of,
)
from autotrace.spool.lanes import process_in
from autotrace.worker.purge import Purger
from autotrace.worker.quarantine import count_set_aside, set_aside_fix
from autotrace.worker.spool_reader import backlog_bytes
from autotrace.worker.wiring import choose_embedding, open_connection

_LITTLE_DISK_BYTES: Final = 1024**3
_NO_DISK_BYTES: Final = 100 * 1024**2
PROBE: Final = "find a restaurant near the venue"


def check_versions() -> DoctorCheck:
    """Report the versions of autotrace, Python and the main dependencies."""
    found = [f"autotrace {__version__}", f"Python {platform.python_version()}"]
    missing: list[str] = []
    for package in ("chromadb", "opentelemetry-sdk"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        detail = f"{', '.join(missing)} not installed; found {', '.join(found)}"
        return error("versions", detail, "pip install autotrace-agents")
    return ok("versions", ", ".join(found))


def check_embedder(settings: Settings, embedder: Any) -> tuple[Embedder | None, DoctorCheck]:
    """Load the embedder and embed a text; return the embedder if that works."""
    try:
        chosen = choose_embedding(settings, embedder).embedder
        place = f" from {chosen.load()}" if isinstance(chosen, MiniLmEmbedder) else ""
        dimensions = len(chosen.embed([PROBE])[0])
    except InvalidArgumentError as raised:
        fix = f"set {raised.field} to an embedder that can be imported"
        return None, error("embedder", str(raised), fix)
    except EmbedderUnavailableError as raised:
        reason, _, fix = str(raised).partition("; to fix it: ")
        return None, error("embedder", reason, fix)
    except Exception as raised:  # noqa: BLE001 - an application's own embedder raises anything
        fix = "have the embedder given answer with one vector per text"
        return None, error("embedder", f"{type(raised).__name__}: {raised}", fix)
    return chosen, ok("embedder", f"{chosen.space}, {dimensions} dimensions{place}")


def check_folder(store: Path) -> DoctorCheck:
    """Check whether the store's folder is closed to other users."""
    place = store.resolve()
    if os.name == "nt":
        return ok("folder", f"{place}")
    mode = store.stat().st_mode & 0o777
    if mode & 0o077:
        detail = f"{place} is open to other users (mode {mode:04o})"
        return warning("folder", detail, f"chmod 700 {place}")
    return ok("folder", f"{place}, private")


def check_disk(store: Path) -> DoctorCheck:
    """Check whether there is room to record."""
    free = shutil.disk_usage(store).free
    detail = f"{free / 1024**3:,.1f} GiB free"
    if free >= _LITTLE_DISK_BYTES:
        return ok("disk", detail)
    found = error if free < _NO_DISK_BYTES else warning
    return found("disk", detail, "make room on this disk")


def check_spool(settings: Settings) -> DoctorCheck:
    """Check what waits to be stored, and whether a process stores it."""
    spool = settings.spool_path
    names = processes_in(spool)
    live = {process_in(name) for name in names if owner_is_alive(spool / name)}
    dead = {process_in(name) for name in names} - live
    waiting = backlog_bytes(spool, load_cursor(spool))
    holder = lock_holder(spool / drain_lock.LOCK_FILE)
    detail = (
        f"{waiting:,} bytes wait; {len(live)} live and {len(dead)} dead processes "
        f"have a spool; {f'{holder} stores' if holder else 'nobody stores at present'}"
    )
    if any(_is_newer(spool / name) for name in names):
        detail += "; some of it was written by a newer autotrace, and is left alone"
        return warning("spool", detail, "pip install -U autotrace-agents")
    if waiting and not live and not holder:
        return warning("spool", detail, drain_command(settings.store))
    return ok("spool", detail)


def drain_command(store: str) -> str:
    """Return the fix for records that wait in a spool."""
    return f"autotrace traces --store {store} (a command that reads takes it in)"


def _is_newer(directory: Path) -> bool:
    first = segments_of(directory)[:1]
    return any(read_chunk(p, 0, max_bytes=4096, complete=False).newer_version for p in first)


def check_cursor(spool: Path) -> DoctorCheck:
    """Check whether the record of how far the spools are stored can be read."""
    path = spool / CURSOR_FILE
    if not path.is_file():
        return ok("cursor", "none yet")
    try:
        # load_cursor replaces a damaged cursor with one of another writer.
        readable = orjson.loads(path.read_bytes())["writer"] == load_cursor(spool).writer
    except (ValueError, KeyError, TypeError):
        readable = False
    if readable:
        return ok("cursor", "readable")
    detail = f"{path} is damaged; what is still in the spool is read again, which is harmless"
    return warning("cursor", detail, f"delete {path}")


def check_set_aside(settings: Settings) -> DoctorCheck:
    """Check whether any record could not be read or stored."""
    bad = settings.spool_path / BAD_DIRECTORY
    files = sorted(path for path in bad.glob("*") if path.is_file()) if bad.is_dir() else []
    if not files:
        return ok("set aside", "nothing")
    if refused := count_set_aside(settings.spool_path):
        detail = f"the store refused {counted(refused, 'record')}, kept in {bad}"
        return warning("set aside", detail, f"{set_aside_fix(settings.store)} (tries them again)")
    sizes = ", ".join(f"{path.name} {path.stat().st_size:,} bytes" for path in files)
    fix = f"look into {bad}, and delete it when it is of no more use"
    return warning("set aside", f"records that could not be read: {sizes}", fix)


def purge_erased(settings: Settings) -> DoctorCheck:
    """Purge erased content from the store's files, if that is due."""
    name = "erased content"
    if not settings.is_embedded:
        detail = (
            "autotrace cannot purge a Chroma server: what was erased stays in its files until they "
            "are rewritten there (`chroma vacuum`; docs/explanation/storage.md)"
        )
        return ok(name, detail)
    purger = Purger(settings, open_connection(settings, None), HealthCounters().add)
    if not purger.due():
        return ok(name, "nothing waits to be purged from the files")
    began_s = time.monotonic()
    try:
        with drain_lock.exclusive_drain_lock(settings.spool_path, drain_lock.DRAIN_LOCK_TIMEOUT_S):
            purger.purge()
    except (StoreError, OSError) as raised:
        detail = f"erased content waits to be purged from the files: {raised}"
        fix = f"autotrace doctor --store {settings.store} (when nobody uses it)"
        return warning(name, detail, fix)
    return ok(name, f"purged from the files in {time.monotonic() - began_s:.1f} s")


def lock_holder(path: Path) -> str | None:
    """Return which process holds a lock file, in words; None if none does."""
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
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                name = Path(f"/proc/{fields[4]}/comm").read_text(encoding="utf-8").strip()
                return f"process {fields[4]} ({name})"
    except (OSError, IndexError):
        pass  # not Linux, or the process has just ended, or lives in another container
    return "another process"
