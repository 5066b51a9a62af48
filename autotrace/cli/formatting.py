"""Values as a person reads them. Pure.

What an agent recorded may hold anything, also what would steer a terminal: `visible` and `one_line`
make it harmless, and nothing recorded is printed without one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

import orjson

from autotrace.base.visible_text import visible as written_out

ELLIPSIS: Final = "…"
MAX_LINE_CHARACTERS: Final = 300
"""How much of a text stands for it where one line is all there is."""
_ARGUMENT_CHARACTERS: Final = 60


def visible(text: str) -> str:
    r"""Return the text with all that a reader would not see written out: ESC is `\x1b`."""
    return written_out(text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = MAX_LINE_CHARACTERS) -> str:
    """Return the text harmless, on one line, and cut to a number of characters."""
    # Cut before it is searched, since a text may be huge; whitespace can only make it shorter.
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + ELLIPSIS


def block(text: str) -> str:
    """Return the text harmless, with its lines, without blank ones around it."""
    return visible(text).expandtabs(4).strip("\n")


def json_line(value: Any, limit: int) -> str:
    """Return a value as JSON on one line, cut to a number of characters."""
    return one_line(orjson.dumps(value).decode(), limit)


def call(name: str, arguments: Any) -> tuple[str, str]:
    """Return a tool call as code would write it: the name, and what follows it.

    Nothing follows it when no arguments were captured.
    """
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
    """Return the tools of a trace in order; one called again at once is counted, not repeated."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return one_line(", ".join(name if n == 1 else f"{name} x{n}" for name, n in runs))


def duration(duration_ms: float) -> str:
    """Return a duration in the units that a person would use."""
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
    """Return the duration between two times, None when there is no end."""
    return None if end is None else duration(max(0.0, (end - start).total_seconds() * 1000))


def local_time(time: datetime) -> str:
    """Return a time in the zone of whoever reads it."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
