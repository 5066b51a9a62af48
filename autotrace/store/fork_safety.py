"""Whether Chroma can be used in this process.

A process that was forked from one that has opened Chroma inherits what Chroma's library thinks of
its threads, and not the threads: it hangs in one of its first calls, even if the parent had closed
what it had open, and on any other path.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_has_opened = False
_forked_after_open = False


def mark_opened() -> None:
    """Say that Chroma is about to be opened in this process."""
    global _has_opened
    _has_opened = True


def chroma_deadlocks_after_fork() -> bool:
    """Tell whether this process was forked from one that had opened Chroma."""
    return _forked_after_open


def _program_has_opened() -> bool:
    """Tell whether the program itself, not autotrace, has an embedded Chroma open."""
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
