"""The doctor's round: what is looked at, and in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from autotrace.base.health_counters import HealthCounters
from autotrace.doctor import environment_checks
from autotrace.doctor.check import DoctorCheck, guarded
from autotrace.doctor.decision_checks import check_decisions
from autotrace.doctor.lock_holder import lock_holder
from autotrace.doctor.purge import purge_erased
from autotrace.doctor.store_checks import check_contents
from autotrace.embedding.embedder import Embedder
from autotrace.errors import StoreVersionError
from autotrace.settings import Settings
from autotrace.spool.files import processes_in
from autotrace.store.chroma_embedded import CHROMA_DIRECTORY, LOCK_FILE
from autotrace.worker.exporter import open_connection

_LOCK_PATIENCE_S: Final = 3.0
"""A write holds the lock well under a second."""


def store_exists(settings: Settings) -> bool:
    """Tell whether anything was ever recorded here; a server is taken to be there."""
    if not settings.is_embedded:
        return True
    database = Path(settings.store) / CHROMA_DIRECTORY / "chroma.sqlite3"
    spool = settings.spool_path
    return database.is_file() or (spool.is_dir() and bool(processes_in(spool)))


def diagnose(settings: Settings, embedder: Any = None) -> Iterator[DoctorCheck]:
    """Look at everything, and yield what was found one by one.

    Args:
        settings: Where the store and the spool are, and the embedder's weights.
        embedder: As for `autotrace.configure`.
    """
    yield environment_checks.check_versions()
    usable, check = environment_checks.check_embedder(settings, embedder)
    yield check
    if not store_exists(settings):
        yield DoctorCheck(
            name="store",
            status="error",
            detail=f"no store at {settings.shown_store}",
            fix="record something first, or name the store with --store",
        )
        return
    if settings.is_embedded and Path(settings.store).is_dir():
        yield guarded("folder", lambda: environment_checks.check_folder(Path(settings.store)))
        yield guarded("disk", lambda: environment_checks.check_disk(Path(settings.store)))
    spool = settings.spool_path
    yield guarded("spool", lambda: environment_checks.check_spool(settings))
    yield guarded("cursor", lambda: environment_checks.check_cursor(spool))
    yield guarded("set aside", lambda: environment_checks.check_set_aside(settings))
    # Before the store is opened: nobody must have it open in this process.
    yield guarded("erased content", lambda: purge_erased(settings, HealthCounters().add))
    yield from check_store(settings, usable)


def check_store(settings: Settings, embedder: Embedder | None) -> Iterator[DoctorCheck]:
    """Open the store and look at what it holds."""
    store = settings.store
    if settings.is_embedded:
        if not (Path(store) / CHROMA_DIRECTORY / "chroma.sqlite3").is_file():
            detail = f"embedded at {store}; everything recorded is still in the spool"
            fix = f"autotrace traces --store {store} (a command that reads takes it in)"
            yield DoctorCheck(name="store", status="warning", detail=detail, fix=fix)
            return
        try:
            holder = _lasting_holder(Path(store) / LOCK_FILE)
        except OSError as error:
            yield _not_opened(settings, error)
            return
        if holder is not None:
            yield DoctorCheck(
                name="store",
                status="error",
                detail=f"{holder} has held the lock of {store} for over {_LOCK_PATIENCE_S:g} s",
                fix="wait if it is a rebuild; else end that process",
            )
            return
    rebuild = f"autotrace rebuild --store {store}"
    connection = open_connection(settings, None)
    try:
        with connection.reading(fresh=True) as collections:
            kind = "embedded at" if settings.is_embedded else "a Chroma server at"
            yield DoctorCheck(name="store", status="ok", detail=f"{kind} {connection.name}")
            yield from check_contents(collections, embedder, rebuild)
        yield guarded("decisions", lambda: check_decisions(settings, embedder, rebuild), rebuild)
    except StoreVersionError as error:
        fix = "pip install -U autotrace-agents"
        yield DoctorCheck(name="schema", status="error", detail=str(error), fix=fix)
    except Exception as error:  # noqa: BLE001 - that it cannot be opened, however, is the finding
        yield _not_opened(settings, error)
    finally:
        connection.close()


def _not_opened(settings: Settings, error: Exception) -> DoctorCheck:
    fix = "restore it from a backup" if settings.is_embedded else "start it: chroma run"
    if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
        fix = "run this as the user who records into the store"
    return DoctorCheck(name="store", status="error", detail=str(error), fix=fix)


def _lasting_holder(path: Path) -> str | None:
    deadline_s = time.monotonic() + _LOCK_PATIENCE_S
    while (holder := lock_holder(path)) is not None and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return holder
