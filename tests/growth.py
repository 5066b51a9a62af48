"""How the CPU time of a function grows with the size of its input, however busy the machine is."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

KIB = 1024
SERIES = ((4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB), (32 * KIB, 128 * KIB))
"""Each size is four times the one before in its series: a function of linear time takes four times
as long, one of quadratic time sixteen times."""
_MAX_RATIO = 10
_FLOOR_S = 0.04
"""What takes less at the larger size is not compared: it may be noise."""
_LEAST_S = 0.0005
_MAX_S = 4.0


def superlinear(function: Callable[[Any], object], make: Callable[[int], Any]) -> str | None:
    """Return what shows that a function takes more than linear time; None if nothing does.

    Args:
        function: The function.
        make: Makes an input of about so many bytes.
    """
    found = (_superlinear_in(sizes, function, make) for sizes in SERIES)
    return next((shown for shown in found if shown is not None), None)


def _superlinear_in(
    sizes: Sequence[int], function: Callable[[Any], object], make: Callable[[int], Any]
) -> str | None:
    before_s = 0.0
    for size in sizes:
        value = make(size)
        took_s = _cpu_s(function, value)
        for _ in range(2):
            if took_s > _MAX_S or not _is_too_much(before_s, took_s):
                break
            took_s = min(took_s, _cpu_s(function, value))
        if _is_too_much(before_s, took_s):
            return f"{before_s:.4f} s, and {took_s:.4f} s at {size // KIB} KiB"
        before_s = took_s
    return None


def _is_too_much(before_s: float, took_s: float) -> bool:
    if took_s > _MAX_S:
        return True
    return before_s > 0 and _FLOOR_S < took_s > _MAX_RATIO * max(before_s, _LEAST_S)


def _cpu_s(function: Callable[[Any], object], value: Any) -> float:
    gc.disable()  # a collection takes the longer the more objects other tests have left
    began_s = time.thread_time()
    try:
        function(value)
    except (ValueError, TypeError):
        pass  # to refuse is as good, and is to be as fast
    finally:
        took_s = time.thread_time() - began_s
        gc.enable()
    return took_s
