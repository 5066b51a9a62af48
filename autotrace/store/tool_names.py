"""Limit the number of tools that are counted by name (pure).

Senders choose the names, so a writer counts at most `MAX_TOOLS` tools by name, and the calls of all
others under `OTHER_TOOLS`. A tool keeps its name. A sender (the agent of a key) may hold half of
the names that others leave free; the owner of a store, whose program records without a key, all of
them. A named tool has every call since the batch `since` of its writer: all calls, unless its first
sender had no name left.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

MAX_TOOLS: Final = 1_000
MAX_NAME_CHARS: Final = 256
OTHER_TOOLS: Final = "(other tools)"
"""The name for calls of all tools that are not counted by name."""
_DIGEST_CHARS: Final = 12
_CUT: Final = "…"


def bounded_name(name: str) -> str:
    """Return a name; if it is too long, its beginning and a digest."""
    if len(name) <= MAX_NAME_CHARS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{name[: MAX_NAME_CHARS - _DIGEST_CHARS - len(_CUT)]}{_CUT}{digest}"


class _Named(Protocol):
    """Counters of one tool."""

    @property
    def sender(self) -> str: ...


class ToolNames:
    """Assign names for one writer; a tool named `elsewhere` always gets one."""

    def __init__(self, own: Mapping[str, _Named], elsewhere: Iterable[str] = ()) -> None:
        self._names = {name: c.sender for name, c in own.items() if name != OTHER_TOOLS}
        self._held = Counter(self._names.values())
        self._elsewhere = frozenset(elsewhere)

    def place(self, tool: str, sender: str) -> str:
        """Return the name to count a call under; name a new tool if allowed."""
        if tool in self._names:
            return tool
        if tool not in self._elsewhere and not self._has_room(sender):
            return OTHER_TOOLS
        if tool != OTHER_TOOLS:
            self._names[tool] = sender
            self._held[sender] += 1
        return tool

    def sender_of(self, tool: str) -> str:
        """Return the sender of the first call of a tool."""
        return self._names.get(tool, "")

    def _has_room(self, sender: str) -> bool:
        free = MAX_TOOLS - len(self._names)
        if not sender:
            return free > 0
        of_others = len(self._names) - self._held[sender]
        return free > 0 and self._held[sender] < (MAX_TOOLS - of_others + 1) // 2
