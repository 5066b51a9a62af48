"""Values as text for a person. Pure.

Recorded text may contain control characters for the terminal; `visible` and `one_line` write them
out, and all recorded text is printed through one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

import orjson

from autotrace.base.visible_text import visible as written_out

ELLIPSIS: Final = "…"
MAX_LINE_CHARACTERS: Final = 300
"""Limit of a text that is shown on one line."""
_ARGUMENT_CHARACTERS: Final = 60


def visible(text: str) -> str:
    r"""Return the text with invisible characters written out: ESC is `\x1b`."""
    return written_out(text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = MAX_LINE_CHARACTERS) -> str:
    """Return the text on one line, visible, and cut to a number of characters."""
    # Cut first, as a text may be huge; joining whitespace only makes it shorter.
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + ELLIPSIS


def fact(label: str, text: str | None) -> str | None:
    """Return a labelled text on one line; None without a text."""
    return f"{label} {one_line(text)}" if text else None


def after_colon(text: str | None) -> str:
    """Return a colon and the text on one line; empty without a text."""
    return f": {one_line(text)}" if text else ""


def block(text: str) -> str:
    """Return the text with its lines, visible, without blank lines around it."""
    return visible(text).expandtabs(4).strip("\n")


def json_line(value: Any, limit: int) -> str:
    """Return a value as JSON on one line, cut to a number of characters."""
    return one_line(orjson.dumps(value).decode(), limit)


def call(name: str, arguments: Any) -> tuple[str, str]:
    """Return the name of a tool call, and its arguments as code; empty if none were captured."""
    name = one_line(name)
    if arguments is None:
        return name, ""
    if not isinstance(arguments, dict):
        return name, f"({json_line(arguments, MAX_LINE_CHARACTERS)})"
    named = cast("Mapping[str, Any]", arguments)
    inside = ", ".join(
        f"{one_line(key, _ARGUMENT_CHARACTERS)}={json_line(value, _ARGUMENT_CHARACTERS)}"
        for key, value in named.items()
    )
    return name, f"({one_line(inside)})"


def tools(names: list[str]) -> str:
    """Return the tools of a trace in order, with repeated calls counted."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return one_line(", ".join(name if n == 1 else f"{name} x{n}" for name, n in runs))


def duration(duration_ms: float) -> str:
    """Return a duration in readable units."""
    if duration_ms < 999.5:
        return f"{duration_ms:.0f} ms"
    seconds = duration_ms / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def between(start: datetime, end: datetime | None) -> str | None:
    """Return the duration between two times; None without an end."""
    return None if end is None else duration(max(0.0, (end - start).total_seconds() * 1000))


def local_time(time: datetime) -> str:
    """Return a time in the local time zone."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
