"""Which tools are counted by name: their number is bounded, as senders choose the names. Pure.

A writer counts at most `MAX_TOOLS` tools by name, and the calls of all others together, under
`OTHER_TOOLS`. A name that was given is kept, so that no sender can take the name of a tool that
others use. A sender (the agent of a key) may hold half of the names that other senders leave free,
so that a flood of names leaves some to everybody else; the owner of a store, whose program records
into it without a key, may hold all that are free.

A named tool has every call since its writer's batch `since`, which is every call of it unless its
first sender had no name left. All calls together are always exact.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

MAX_TOOLS: Final = 1_000
MAX_NAME_CHARS: Final = 256
OTHER_TOOLS: Final = "(other tools)"
"""Under which calls of tools without a name of their own are counted."""
_DIGEST_CHARS: Final = 12
_CUT: Final = "…"


def bounded_name(name: str) -> str:
    """Return a name whole, or its beginning and a digest of it if it is too long."""
    if len(name) <= MAX_NAME_CHARS:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    return f"{name[: MAX_NAME_CHARS - _DIGEST_CHARS - len(_CUT)]}{_CUT}{digest}"


class _Named(Protocol):
    """Counters of one tool."""

    @property
    def sender(self) -> str: ...


class ToolNames:
    """The names that are given.

    Args:
        own: Counters of the writer by tool.
        elsewhere: Tools that other writers count by name: these are known already.
    """

    def __init__(self, own: Mapping[str, _Named], elsewhere: Iterable[str] = ()) -> None:
        self._names = {name: c.sender for name, c in own.items() if name != OTHER_TOOLS}
        self._held = Counter(self._names.values())
        self._elsewhere = frozenset(elsewhere)

    def place(self, tool: str, sender: str) -> str:
        """Return the name under which a call is counted; a tool gets one if it may."""
        if tool in self._names:
            return tool
        if tool not in self._elsewhere and not self._has_room(sender):
            return OTHER_TOOLS
        if tool != OTHER_TOOLS:
            self._names[tool] = sender
            self._held[sender] += 1
        return tool

    def sender_of(self, tool: str) -> str:
        """Return who recorded the call by which a tool got its name."""
        return self._names.get(tool, "")

    def _has_room(self, sender: str) -> bool:
        free = MAX_TOOLS - len(self._names)
        if not sender:
            return free > 0
        of_others = len(self._names) - self._held[sender]
        return free > 0 and self._held[sender] < (MAX_TOOLS - of_others + 1) // 2
