"""Detect whether the caller runs in a worker: a loop that takes its work from a queue.

A worker that was started inside a task keeps the context of the task, also for the work of others
after the task has ended. Work that the task has started and not awaited has the same context. Only
a worker is below a function that loops and holds a queue.
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
"""Modules that run functions of others; frames below them do not count."""


_TAKING: Final = frozenset({"blpop", "getone", "popleft", "receive_nowait"})
"""Methods that only queues have: of Redis, Kafka, `deque`, anyio and trio."""


def is_consumer() -> bool:
    """Return whether the caller runs in a loop that takes its work from a queue."""
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
    # Each `await` jumps back, too, over the one instruction that waits.
    starts = [i for i in get_instructions(code) if "JUMP_BACKWARD" in i.opname]
    return any("NO_INTERRUPT" not in i.opname for i in starts)


def _held(frame: FrameType) -> Iterator[Any]:
    """Yield the objects of a function: variables, globals, and attributes of `self`."""
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
