"""The warning, once in a process, for a task before `autotrace.configure()`."""

from __future__ import annotations

import threading
import warnings
from inspect import currentframe
from pathlib import Path
from typing import Final

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.errors import NotConfiguredWarning

_PACKAGE: Final = str(Path(__file__).parent.parent)
_warned = threading.Lock()
"""Acquired by the first warning, and never released."""


def warn_not_configured() -> None:
    """Warn once in a process that nothing is recorded."""
    if not _warned.acquire(blocking=False):
        return
    try:
        warnings.warn(
            "autotrace records nothing: call autotrace.configure() once, before the first task",
            NotConfiguredWarning,
            stacklevel=_frames_of_ours() + 1,
        )
    except Exception as error:  # noqa: BLE001 - warnings are errors here, and ours must not be the user's
        reraise_if_from_signal_handler(error)


def _frames_of_ours() -> int:
    """Return how many frames lie between the warning and the user's code."""
    frame, count = currentframe(), -1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, count = frame.f_back, count + 1
    return count
