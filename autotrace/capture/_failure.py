"""The text of an exception, written so that nothing the exception does can break it.

The layout is that of the `traceback` module, which is not used for the whole: it follows chains of
any length, and reads attributes that a class may have replaced.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any, Final, cast

from autotrace.capture._introspect import attribute, own_text, type_name
from autotrace.signals import let_through

_MAX_CHAIN: Final = 16
_MAX_FRAMES: Final = 100
_MAX_LINE_CHARS: Final = 1000
_MAX_MESSAGE_CHARS: Final = 16_384
_MAX_GROUP: Final = 8
_MAX_GROUP_DEPTH: Final = 3

_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"

_cause: Any = BaseException.__dict__["__cause__"].__get__
_context: Any = BaseException.__dict__["__context__"].__get__
_suppressed: Any = BaseException.__dict__["__suppress_context__"].__get__
_traceback: Any = BaseException.__dict__["__traceback__"].__get__
_members: Any = BaseExceptionGroup.__dict__["exceptions"].__get__


def message_of(error: BaseException) -> tuple[str, bool]:
    """Returns the message of an exception, and whether its own code could be run for it."""
    try:
        return own_text(error, str), True
    except Exception as inner:  # noqa: BLE001 user code: an exception may fail to say what it is
        let_through(inner)
        return f"<{type_name(type(inner))} raised when the message was read>", False


def stack_of(error: BaseException) -> str:
    """Returns the stack trace of an exception and of those that led to it.

    At most 16 exceptions of a chain, the innermost 100 frames of each, and the first 8 members of
    a group, three levels deep.
    """
    return "".join(_lines(error, 0, set()))


def _lines(error: BaseException, level: int, seen: set[int]) -> list[str]:
    blocks: list[list[str]] = []
    link = ""
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(blocks) < _MAX_CHAIN:
        seen.add(id(current))
        blocks.append([*_one(current, level, seen), link])
        cause = _cause(current)
        if cause is not None:
            current, link = cause, _CAUSED
        elif _suppressed(current):
            current = None
        else:
            current, link = _context(current), _DURING
    return [line for block in reversed(blocks) for line in block]


def _one(error: BaseException, level: int, seen: set[int]) -> list[str]:
    name = type_name(type(error))
    message, _ = message_of(error)
    lines = _frames(_traceback(error))
    lines.append(f"{name}: {message[:_MAX_MESSAGE_CHARS]}\n" if message else f"{name}\n")
    notes = attribute(error, type(error), "__notes__")
    if type(notes) is list:
        found = cast("list[object]", notes)[:_MAX_GROUP]
        lines += [f"{note[:_MAX_MESSAGE_CHARS]}\n" for note in found if type(note) is str]
    if isinstance(error, BaseExceptionGroup) and level < _MAX_GROUP_DEPTH:
        lines += _group(cast("tuple[BaseException, ...]", _members(error)), level, seen)
    return lines


def _group(members: tuple[BaseException, ...], level: int, seen: set[int]) -> list[str]:
    lines: list[str] = []
    for number, member in enumerate(members[:_MAX_GROUP], start=1):
        lines.append(f"  +---------------- {number} ----------------\n")
        text = "".join(_lines(member, level + 1, seen))
        lines += [f"  | {line}\n" for line in text.splitlines()]
    if len(members) > _MAX_GROUP:
        lines.append(f"  +---------------- and {len(members) - _MAX_GROUP} more\n")
    return lines


def _frames(trace: TracebackType | None) -> list[str]:
    if trace is None:
        return []
    frames = traceback.StackSummary.extract(traceback.walk_tb(trace), limit=-_MAX_FRAMES)
    return [
        "Traceback (most recent call last):\n",
        *(line if len(line) <= _MAX_LINE_CHARS else line[:_MAX_LINE_CHARS] + "…\n"
          for line in frames.format()),
    ]  # fmt: skip
