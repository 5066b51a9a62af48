"""Detect whether the caller runs in a loop that takes work from a queue.

Such a worker, if it was started inside a task, keeps the context of the task after the task has
ended, also for the work of others. Work that the task started and did not await has the same
context, but only a worker has a function on its stack that loops and holds a queue.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dis import get_instructions
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, Final

_MAX_FRAMES: Final = 100
_HOSTS: Final = frozenset(
    {
        *("asyncio.base_events", "asyncio.events", "asyncio.runners", "concurrent.futures.thread"),
        *("anyio._backends._asyncio", "threading", "trio._core._run"),
    }
)
"""Modules that run functions of others; the search ends at their frames."""


_TAKING: Final = frozenset({"blpop", "getone", "popleft", "receive_nowait"})
"""Methods that only queues have: of Redis, Kafka, `deque`, anyio and trio."""


def is_consumer() -> bool:
    """Return whether the caller runs in a loop that takes work from a queue."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - the documented way
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return False
        module = str(frame.f_globals.get("__name__"))
        if module in _HOSTS:
            return False
        is_worker = not module.startswith("autotrace.") and _loops(frame.f_code)
        if is_worker and any(map(_is_queue, map(type, _held(frame)))):
            return True
        frame = frame.f_back
    return False


@lru_cache(maxsize=512)
def _loops(code: CodeType) -> bool:
    names = {instruction.opname for instruction in get_instructions(code)}
    if "SEND" not in names:
        return any("JUMP_BACKWARD" in name for name in names)
    # An `await` jumps back, too, but by JUMP_BACKWARD_NO_INTERRUPT.
    starts = [i for i in get_instructions(code) if "JUMP_BACKWARD" in i.opname]
    return any("NO_INTERRUPT" not in i.opname for i in starts)


def _held(frame: FrameType) -> Iterator[Any]:
    """Yield locals, used globals, and attributes of `self` of a frame."""
    code = frame.f_code
    local = frame.f_locals
    yield from local.values()
    for name in code.co_names:
        if name in frame.f_globals:
            yield frame.f_globals[name]
    try:
        own: dict[str, Any] = object.__getattribute__(local.get("self"), "__dict__")
    except AttributeError:
        return
    yield from list(own.values())


@lru_cache(maxsize=1024)
def _is_queue(kind: type) -> bool:
    names = {name for base in kind.__mro__ for name in vars(base)}
    return {"put", "get"} <= names or not names.isdisjoint(_TAKING)
