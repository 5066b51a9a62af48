"""Waiting for an answer, as a plan that any kind of caller can sleep through.

An embedded store has a small file that changes with every write: it is looked at often, and the
decision read when it has changed. A server is asked. A store that does not answer for a while, such
as a server that is started again, is not the end of waiting.
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
"""How often the decision itself is read at least."""
_UNREACHABLE_FOR_S: Final = 60.0
"""How long a store may not answer before waiting is given up."""


def until_answered(
    book: DecisionEventStore, decision_id: str, timeout_s: float | None
) -> Generator[float, None, Log]:
    """Follow a decision until its request is answered, or ends, or the time is over.

    Yields:
        How long to sleep before the next look, in seconds.

    Returns:
        The decision as it stands then.

    Raises:
        DecisionNotFoundError: There is none with this id.
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
    """Return how long the decision itself may go unread: until it expires, or a while."""
    pause_s = _READ_EVERY_S if book.connection.exclusive else _ASK_SERVER_EVERY_S
    expires_at_ns = state.request.expires_at_ns if state.request is not None else None
    if expires_at_ns is None:
        return pause_s
    return min(pause_s, max(0.0, (expires_at_ns - book.now_ns()) / 1e9) + 0.001)
