"""How the CPU time of a function grows with the size of its input, however busy the machine is."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

KIB = 1024
SIZES = (8 * KIB, 32 * KIB, 128 * KIB)
"""Each size is four times the one before: a function of linear time takes four times as long, one
of quadratic time sixteen times."""
LARGER_SIZES = (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB)
"""Sizes between and above `SIZES`: a reader may refuse a text that is longer than its limit."""
_MAX_RATIO = 10
_FLOOR_S = 0.01
"""Less time at the larger size is not compared: it may be noise."""
_LEAST_S = 0.0005
_MAX_S = 4.0
_ATTEMPTS = 5
"""A load of the machine slows some attempts; quadratic time slows all."""
_NOISE_S = 0.5
"""No load of the machine adds so much to the CPU time of a thread: one attempt is enough."""


def superlinear(
    function: Callable[[Any], object],
    make: Callable[[int], Any],
    sizes: Sequence[int] = SIZES,
) -> str | None:
    """Return the measurement of a function that takes more than linear time, else None.

    Args:
        function: The function.
        make: Makes an input of about so many bytes.
        sizes: The sizes to compare, each four times the one before.
    """
    before_s = 0.0
    for size in sizes:
        value = make(size)
        took_s = _cpu_s(function, value)
        for _ in range(_ATTEMPTS - 1):
            if took_s > _NOISE_S or not _is_too_much(before_s, took_s):
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
    gc.disable()  # a collection takes longer, the more objects other tests have left
    began_s = time.thread_time()
    try:
        function(value)
    except (ValueError, TypeError):
        pass  # to refuse is as good, and is to be as fast
    finally:
        took_s = time.thread_time() - began_s
        gc.enable()
    return took_s
