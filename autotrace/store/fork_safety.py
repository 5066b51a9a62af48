"""Detect whether Chroma would deadlock in this process.

After fork(), Chroma's native threads are gone but the library still waits for them, so one of its
first calls deadlocks, even if the parent had closed its clients, and on any path.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_has_opened = False
_forked_after_open = False


def mark_opened() -> None:
    """Record that this process is about to open Chroma."""
    global _has_opened
    _has_opened = True


def chroma_deadlocks_after_fork() -> bool:
    """Return whether this process was forked from one that had opened Chroma."""
    return _forked_after_open


def _program_has_opened() -> bool:
    """Return whether the program itself has opened an embedded Chroma."""
    module: Any = sys.modules.get("chromadb.api.shared_system_client")
    if module is None:
        return False
    systems: Any = module.SharedSystemClient._identifier_to_system.values()
    return any("rust" in str(system.settings.chroma_api_impl) for system in list(systems))


def _after_fork_in_child() -> None:
    global _forked_after_open
    _forked_after_open = _forked_after_open or _has_opened or _program_has_opened()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
