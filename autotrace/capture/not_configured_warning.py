"""Warn once per process about a task before `autotrace.configure()`."""

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
"""Lock that the first warning acquires and keeps."""


def warn_not_configured() -> None:
    """Warn once per process that nothing is recorded."""
    if not _warned.acquire(blocking=False):
        return
    try:
        warnings.warn(
            "autotrace records nothing: call autotrace.configure() once, before the first task",
            NotConfiguredWarning,
            stacklevel=_frames_of_ours() + 1,
        )
    except Exception as error:  # noqa: BLE001 - a filter made it an error, which must not reach user code
        reraise_if_from_signal_handler(error)


def _frames_of_ours() -> int:
    """Return the number of frames between the warning and user code."""
    frame, count = currentframe(), -1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, count = frame.f_back, count + 1
    return count
