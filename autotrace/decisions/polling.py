"""Polling for an answer, as a generator of sleeps that sync and async callers can run.

An embedded store has a small file that changes with every write: it is checked often, and the
decision is read when it has changed. A Chroma server is asked at intervals. A store may be
unreachable for a while, for example while a server restarts.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Final

from autotrace.decisions.event_store import DecisionEventStore, Log
from autotrace.decisions.state_machine import State
from autotrace.errors import StoreUnavailableError

_LOOK_EVERY_S: Final = 0.1
_ASK_SERVER_EVERY_S: Final = 0.5
_READ_EVERY_S: Final = 2.0
"""Longest interval between two reads of a decision."""
_UNREACHABLE_FOR_S: Final = 60.0
"""Time after which a store that does not answer is an error."""


def until_answered(
    book: DecisionEventStore, decision_id: str, timeout_s: float | None
) -> Generator[float, None, Log]:
    """Wait until the request of a decision is answered or ends, or the time is over.

    Yields:
        Seconds to sleep before the next look.

    Returns:
        The decision in its state then.

    Raises:
        DecisionNotFoundError: No decision has this id.
        StoreUnavailableError: The store has not answered for a minute, or until the time was over.
    """
    deadline_s = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
    connection = book.connection
    is_file = connection.exclusive
    lost_at_s: float | None = None
    while True:
        mark = connection.generation()
        try:
            log = book.read(decision_id)
        except StoreUnavailableError:
            now_s = time.monotonic()
            lost_at_s = now_s if lost_at_s is None else lost_at_s
            if now_s >= min(deadline_s, lost_at_s + _UNREACHABLE_FOR_S):
                raise
            yield _ASK_SERVER_EVERY_S
            continue
        lost_at_s = None
        now_s = time.monotonic()
        if log.state.status != "needs_approval" or now_s >= deadline_s:
            return log
        read_again_s = min(now_s + _pause_s(book, log.state), deadline_s)
        while now_s < read_again_s and (not is_file or connection.generation() == mark):
            left_s = read_again_s - now_s
            yield min(left_s, _LOOK_EVERY_S) if is_file else left_s
            now_s = time.monotonic()


def _pause_s(book: DecisionEventStore, state: State) -> float:
    """Return the seconds until the decision must be read again, at the latest when it expires."""
    pause_s = _READ_EVERY_S if book.connection.exclusive else _ASK_SERVER_EVERY_S
    expires_at_ns = state.request.expires_at_ns if state.request is not None else None
    if expires_at_ns is None:
        return pause_s
    return min(pause_s, max(0.0, (expires_at_ns - book.now_ns()) / 1e9) + 0.001)
