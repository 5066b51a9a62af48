"""Read the real clocks, also in tests that freeze time.

freezegun replaces the functions of `time` in every module that has one as an attribute, so the real
ones are kept in a tuple. time-machine has an escape hatch. Without this, a span that begins in
frozen time and ends after it would last for years.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final


def _real(name: str) -> Callable[[], int]:
    """Return a function of `time`, also when this module is loaded while time is frozen."""
    frozen: Any = sys.modules.get("freezegun.api")
    return getattr(frozen, f"real_{name}", None) or getattr(time, name)


_CLOCKS: Final = (_real("time_ns"), _real("perf_counter_ns"))
_TIME_MACHINE: Final = "time_machine"


def wall_ns() -> int:
    """Return the nanoseconds since the epoch."""
    if _TIME_MACHINE in sys.modules:
        hatch: Any = getattr(sys.modules[_TIME_MACHINE], "escape_hatch", None)
        if hatch is not None and hatch.is_travelling():
            return hatch.time.time_ns()
    return _CLOCKS[0]()


def elapsed_ns() -> int:
    """Return the nanoseconds since some moment; they never go back."""
    return _CLOCKS[1]()
