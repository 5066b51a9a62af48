"""The order of the doctor's checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from autotrace.doctor import environment_checks
from autotrace.doctor.check import DoctorCheck, error, guarded, ok, warning
from autotrace.doctor.decision_checks import check_decisions
from autotrace.doctor.environment_checks import lock_holder
from autotrace.doctor.store_checks import check_contents
from autotrace.embedding.embedder import Embedder
from autotrace.errors import StoreVersionError
from autotrace.settings import Settings, misspelled_variables
from autotrace.store.chroma_embedded import LOCK_FILE, may_exist
from autotrace.worker.wiring import open_connection, store_exists

_LOCK_PATIENCE_S: Final = 3.0
"""A write holds the lock well under a second."""


def diagnose(settings: Settings, embedder: Any = None) -> Iterator[DoctorCheck]:
    """Run all checks, and yield their findings one by one.

    Args:
        settings: Settings that name the store, the spool and the embedder's weights.
        embedder: As for `autotrace.configure`.
    """
    yield environment_checks.check_versions()
    for text in misspelled_variables():
        yield warning("environment", text, "rename the variable, or unset it")
    usable, check = environment_checks.check_embedder(settings, embedder)
    yield check
    if not store_exists(settings):
        fix = "record something first, or name the store with --store"
        yield error("store", f"no store at {settings.shown_store}", fix)
        return
    if settings.is_embedded and Path(settings.store).is_dir():
        yield guarded("folder", lambda: environment_checks.check_folder(Path(settings.store)))
        yield guarded("disk", lambda: environment_checks.check_disk(Path(settings.store)))
    yield guarded("spool", lambda: environment_checks.check_spool(settings))
    yield guarded("cursor", lambda: environment_checks.check_cursor(settings.spool_path))
    yield guarded("set aside", lambda: environment_checks.check_set_aside(settings))
    # Before the store is opened: a purge needs it closed in this process.
    yield guarded("erased content", lambda: environment_checks.purge_erased(settings))
    yield from _check_store(settings, usable)


def _check_store(settings: Settings, embedder: Embedder | None) -> Iterator[DoctorCheck]:
    """Open the store and check its contents."""
    store = settings.store
    if settings.is_embedded:
        if not may_exist(store):
            detail = f"embedded at {store}; everything recorded is still in the spool"
            yield warning("store", detail, environment_checks.drain_command(store))
            return
        try:
            holder = _lasting_holder(Path(store) / LOCK_FILE)
        except OSError as raised:
            yield _not_opened(settings, raised)
            return
        if holder is not None:
            detail = f"{holder} has held the lock of {store} for over {_LOCK_PATIENCE_S:g} s"
            yield error("store", detail, "wait if it is a rebuild; else end that process")
            return
    rebuild = f"autotrace rebuild --store {store}"
    connection = open_connection(settings, None)
    try:
        with connection.reading(fresh=True) as collections:
            kind = "embedded at" if settings.is_embedded else "a Chroma server at"
            yield ok("store", f"{kind} {connection.name}")
            yield from check_contents(collections, embedder, rebuild)
        yield guarded("decisions", lambda: check_decisions(settings, embedder, rebuild), rebuild)
    except StoreVersionError as raised:
        yield error("schema", str(raised), "pip install -U autotrace-agents")
    except Exception as raised:  # noqa: BLE001 - a store that cannot be opened is the finding
        yield _not_opened(settings, raised)
    finally:
        connection.close()


def _not_opened(settings: Settings, raised: Exception) -> DoctorCheck:
    fix = "restore it from a backup" if settings.is_embedded else "start it: chroma run"
    if isinstance(raised, PermissionError) or isinstance(raised.__cause__, PermissionError):
        fix = "run this as the user who records into the store"
    return error("store", str(raised), fix)


def _lasting_holder(path: Path) -> str | None:
    deadline_s = time.monotonic() + _LOCK_PATIENCE_S
    while (holder := lock_holder(path)) is not None and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return holder
