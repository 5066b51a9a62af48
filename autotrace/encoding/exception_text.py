"""Write exceptions as text, so that no code of an exception can break it.

The layout is that of the `traceback` module, which is not used for the whole: it follows chains of
any length, and reads attributes that a class may have replaced.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any, Final, cast

from autotrace.base.signal_errors import reraise_if_from_signal_handler
from autotrace.encoding.introspect import (
    MISSING,
    attribute,
    class_attribute,
    class_name,
    kind_of,
    own_text,
    root_of,
    type_name,
)

_MAX_CHAIN: Final = 16
_MAX_OUTER_FRAMES: Final = 5
_MAX_INNER_FRAMES: Final = 20
_MAX_REPEATS: Final = 3
_MAX_CACHED_FRAMES: Final = 2_048
_MAX_LINE_CHARS: Final = 1000
_MAX_MESSAGE_CHARS: Final = 16_384
_MAX_GROUP: Final = 8
_MAX_GROUP_DEPTH: Final = 3

_MAX_NESTED: Final = 3
_MAX_PARTS: Final = 1_000
_BUILTIN: Final = frozenset(
    ("builtins", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid")
)
_CONTAINERS: Final = (list, tuple, set, frozenset)
_TEXTS: Final = (str, bytes, bytearray, range)
_PLAIN_STR: Final = BaseException.__dict__["__str__"]
_KEY_ERROR_STR: Final = KeyError.__dict__["__str__"]
_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"

_cause: Any = BaseException.__dict__["__cause__"].__get__
_context: Any = BaseException.__dict__["__context__"].__get__
_suppressed: Any = BaseException.__dict__["__suppress_context__"].__get__
_arguments: Any = BaseException.__dict__["args"].__get__
_traceback: Any = BaseException.__dict__["__traceback__"].__get__
_members: Any = BaseExceptionGroup.__dict__["exceptions"].__get__

_frame_cache: dict[tuple[int, int], tuple[CodeType, str]] = {}
"""Text by code object and line; each code object is kept, so that its id stays its own."""


def message_of(error: BaseException) -> tuple[str, bool]:
    """Return the message of an exception, and whether it could be read."""
    try:
        return read_message(error), True
    except Exception as inner:  # noqa: BLE001 user code: the message of an exception may raise
        reraise_if_from_signal_handler(inner)
        return f"<{type_name(type(inner))} raised when the message was read>", False


def read_message(error: BaseException, depth: int = _MAX_NESTED) -> str:
    """Read the message of an exception; raises any error of the class's own `__str__`.

    Of the arguments that a builtin class prints, only builtins are written: the `__str__` of a
    lazy object is not run.
    """
    own = class_attribute(type(error), "__str__")
    if own is not _PLAIN_STR and own is not _KEY_ERROR_STR:
        return own_text(error, str)
    arguments = cast("tuple[object, ...]", _arguments(error))
    has_repr = len(arguments) > 1 or own is _KEY_ERROR_STR
    written = [_written(item, has_repr, depth) for item in arguments]
    return written[0] if len(written) == 1 else f"({', '.join(written)})" if written else ""


def _written(value: Any, has_repr: bool, depth: int) -> str:
    if _is_plain(value, depth):
        return repr(value) if has_repr else str(value)
    kind = kind_of(value)
    if issubclass(kind, BaseException) and depth:
        message = read_message(value, depth - 1)
        return f"{class_name(kind)}({message!r})" if has_repr else message
    return f"<{type_name(kind)}>"


def _is_plain(value: Any, depth: int) -> bool:
    """Return whether builtins alone write a value, and not too much of it."""
    kind = kind_of(value)
    parts: Any = ()
    if kind in _CONTAINERS:
        parts = value
    elif kind is dict:
        parts = [part for pair in value.items() for part in pair]
    elif root_of(kind) not in _BUILTIN or issubclass(kind, BaseException):
        return False
    else:
        return kind in _TEXTS or class_attribute(kind, "__iter__") is MISSING
    return depth > 0 and len(parts) <= _MAX_PARTS and all(_is_plain(p, depth - 1) for p in parts)


def stack_of(error: BaseException) -> str:
    """Return the stack trace of an exception and of those that led to it.

    At most 16 exceptions of a chain, the outermost 5 and the innermost 20 frames of each, and the
    first 8 members of a group, three levels deep.
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
    lines = ["Traceback (most recent call last):\n"]
    last, times = "", 0
    for line in _frame_texts(trace):
        times = times + 1 if line == last else 1
        if times > _MAX_REPEATS + 1:
            lines.pop()
        more = times - _MAX_REPEATS
        if more > 0:
            line = f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n"
        else:
            last = line
        lines.append(line)
    return lines


def _frame_texts(trace: TracebackType) -> Iterator[str]:
    """Yield the text of the outermost and of the innermost frames, in one walk."""
    inner: deque[TracebackType] = deque(maxlen=_MAX_INNER_FRAMES)
    step: TracebackType | None = trace
    depth = 0
    while step is not None:
        if depth < _MAX_OUTER_FRAMES:
            yield _frame_text(step)
        else:
            inner.append(step)
        depth += 1
        step = step.tb_next
    left_out = depth - _MAX_OUTER_FRAMES - len(inner)
    if left_out > 0:
        yield f"  [{left_out} frames left out]\n"
    yield from map(_frame_text, inner)


def _frame_text(step: TracebackType) -> str:
    """Return the text of a frame, which is formatted once for each line of a code object.

    An error that rises through many traced calls has the same frames in each.
    """
    code = step.tb_frame.f_code
    key = id(code), step.tb_lineno
    known = _frame_cache.get(key)
    if known is not None:
        return known[1]
    frames = iter([(step.tb_frame, step.tb_lineno)])
    text = "".join(traceback.StackSummary.extract(frames).format())
    if len(text) > _MAX_LINE_CHARS:
        text = text[:_MAX_LINE_CHARS] + "…\n"
    if len(_frame_cache) >= _MAX_CACHED_FRAMES:
        _frame_cache.clear()
    _frame_cache[key] = code, text
    return text
