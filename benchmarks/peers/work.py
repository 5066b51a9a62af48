"""The work that every recorder records: tool calls that can be told apart wherever they arrive.

The argument of call 17 holds `k0000017`, its result `r0000017`. A call has arrived when both have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

CALLS_OF_A_TASK: Final = 99
"""With the task's own, a hundred spans."""
_MARKER: Final = re.compile(rb"([kr])(\d{7})")


def queries(first: int, number: int) -> list[str]:
    """Return the arguments of so many calls: some 60 characters each."""
    return [
        f"k{call:07d} latest benchmark results for tracing agents, in Py 3x"
        for call in range(first, first + number)
    ]


def web_search(query: str, limit: int = 10) -> dict[str, Any]:
    """Search the web: a fresh result of some 200 bytes as JSON."""
    return {
        "results": [
            {"title": "Tracing overhead", "url": "https://example.org/a", "score": 0.93},
            {"title": "Span cost study", "url": "https://example.org/b", "score": 0.71},
        ],
        "count": 2,
        "took_ms": 12,
        "request": "r" + query[1:8],
    }


def tasks_of(all_queries: list[str]) -> Iterator[list[str]]:
    """Share calls out to tasks."""
    for start in range(0, len(all_queries), CALLS_OF_A_TASK):
        yield all_queries[start : start + CALLS_OF_A_TASK]


def calls_in(texts: Iterable[bytes]) -> set[int]:
    """Return the numbers of the calls that arrived with argument and result."""
    halves: dict[bytes, set[int]] = {b"k": set(), b"r": set()}
    for text in texts:
        for half, number in _MARKER.findall(text):
            halves[half].add(int(number))
    return halves[b"k"] & halves[b"r"]
