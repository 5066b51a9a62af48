"""The doctor purges what was erased from the store's files, and says what it cannot reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from autotrace.doctor.check import DoctorCheck
from autotrace.errors import StoreError
from autotrace.settings import Settings
from autotrace.spool.drain_lock import DRAIN_LOCK_TIMEOUT_S, exclusive_drain_lock
from autotrace.worker.exporter import open_connection
from autotrace.worker.purge import Purger

_NAME: Final = "erased content"


def purge_erased(settings: Settings, count: Callable[[str, int], None]) -> DoctorCheck:
    """Purge what was erased, if that is due; it may take minutes in a large store."""
    if not settings.is_embedded:
        detail = (
            "autotrace cannot purge a Chroma server: what was erased stays in its files until they "
            "are rewritten there (`chroma vacuum`; docs/explanation/storage.md)"
        )
        return DoctorCheck(name=_NAME, status="ok", detail=detail)
    purger = Purger(settings, open_connection(settings, None), count)
    if not purger.due():
        return DoctorCheck(
            name=_NAME, status="ok", detail="nothing waits to be purged from the files"
        )
    began_s = time.monotonic()
    try:
        with exclusive_drain_lock(settings.spool_path, DRAIN_LOCK_TIMEOUT_S):
            purger.purge()
    except (StoreError, OSError) as error:
        detail = f"erased content waits to be purged from the files: {error}"
        fix = f"autotrace doctor --store {settings.store} (when nobody uses it)"
        return DoctorCheck(name=_NAME, status="warning", detail=detail, fix=fix)
    took_s = time.monotonic() - began_s
    return DoctorCheck(name=_NAME, status="ok", detail=f"purged from the files in {took_s:.1f} s")
