"""Separate our own errors from those that a signal handler of the program raises in our code.

A handler runs wherever the main thread is at the moment. If that is in our code, its exception (for
example a time-out by alarm) is meant for the program, so no guard of ours may swallow it.
"""

from __future__ import annotations

import functools
import signal
import threading
from types import CodeType
from typing import Any


def reraise_if_from_signal_handler(error: Exception) -> None:
    """Raise an error again if a signal handler has raised it; do nothing if not."""
    if threading.current_thread() is not threading.main_thread():
        return
    codes = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            raise error
        traceback = traceback.tb_next


def _code_of(handler: Any) -> CodeType | None:
    while isinstance(handler, functools.partial):
        handler = handler.func
    for function in (handler, getattr(handler, "__func__", None), type(handler).__call__):
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None
