"""Wait for records to be stored."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from autotrace.spool.cursor import START, SpoolPosition, Stored


@dataclass(frozen=True)
class Awaited:
    """Hold the spool positions that a caller of `catch_up` waits for."""

    own: Mapping[str, SpoolPosition]
    others: Mapping[str, SpoolPosition] = field(default_factory=dict[str, SpoolPosition])
    after_batch: int | None = None
    """Number of a batch: a later batch is enough in place of `others`."""

    def is_stored(self, stored: Stored) -> bool:
        """Return whether the positions are stored."""
        goes_on = self.after_batch is not None and stored.batch != self.after_batch
        return stored.holds(self.own) and (goes_on or stored.holds(self.others))

    def without(self, is_left_alone: Callable[[str], bool]) -> Awaited:
        """Return a copy without the processes that will not be stored."""
        own = {name: place for name, place in self.own.items() if not is_left_alone(name)}
        others = {name: place for name, place in self.others.items() if not is_left_alone(name)}
        return replace(self, own=own, others=others)


class FlushMonitor:
    """Track how far records are stored, and wake the callers that wait for it.

    * Threads of the program call `flush` and `catch_up`, which block up to their timeout.
    * The storing thread alone calls `publish` and `back_off`; any thread may call the rest.
    * `close` wakes every caller, which then returns the result known at that time.
    * After a fork the child makes another monitor, because a lock of the parent may stay held.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stored_up_to: Mapping[str, SpoolPosition | None] = {}
        """Position of each spool of this process; None: the spool is stored and removed."""
        self._catching_up: dict[object, Awaited] = {}
        self._deletions = self._deletions_reported = 0
        self._set_aside = self._set_aside_reported = 0
        self._progressed_at_s = time.monotonic()
        self.is_closed = False
        self.is_recovering = False
        """Whether records of dead processes are to be stored."""
        self.is_refused = False
        """Whether the store rejects every batch until it is rebuilt."""
        self._retries_now = False
        """Whether `retry` has ended the pause before the next attempt."""
        self.waiting = 0
        """Number of callers that wait."""

    def flush(
        self,
        target: Mapping[str, SpoolPosition],
        timeout_s: float,
        *,
        also_dead: bool,
        hurry: Callable[[], None],
    ) -> bool:
        """Wait until spools of this process are stored.

        Args:
            target: Position of each spool.
            timeout_s: How long to wait at most, in seconds.
            also_dead: Wait for records of dead processes, too.
            hurry: Called once the wait is registered; has the records stored soon.

        Returns:
            Whether all is stored, and nothing was refused or deleted since the last flush.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self.waiting += 1
            refused, deleted = self._set_aside_reported, self._deletions_reported
        done = False
        try:
            hurry()
            done = self._wait_for(target, deadline, also_dead=also_dead)
        finally:
            with self._changed:
                self.waiting -= 1
                self._set_aside_reported = self._set_aside
                self._deletions_reported = self._deletions
        return done and self._set_aside <= refused and self._deletions <= deleted

    def _wait_for(
        self, target: Mapping[str, SpoolPosition], deadline: float, *, also_dead: bool
    ) -> bool:
        with self._changed:
            while (also_dead and self.is_recovering) or not self._holds(target):
                remaining_s = deadline - time.monotonic()
                is_lost = self._deletions > self._deletions_reported
                if remaining_s <= 0 or self.is_closed or self.is_refused or is_lost:
                    return False
                self._changed.wait(remaining_s)
        return True

    def catch_up(self, awaited: Awaited, timeout_s: float, *, hurry: Callable[[], None]) -> bool:
        """Wait until spools of any process are stored; return whether they are.

        Args:
            awaited: Positions to wait for.
            timeout_s: How long to wait at most, in seconds.
            hurry: Called once the wait is registered; has the records stored soon.
        """
        deadline = time.monotonic() + timeout_s
        ticket = object()
        with self._changed:
            self.waiting += 1
            self._catching_up[ticket] = awaited
        try:
            hurry()
            with self._changed:
                while ticket in self._catching_up:
                    remaining_s = deadline - time.monotonic()
                    if remaining_s <= 0 or self.is_closed or self.is_refused:
                        return False
                    self._changed.wait(remaining_s)
            return True
        finally:
            with self._changed:
                self.waiting -= 1
                self._catching_up.pop(ticket, None)

    def recover(self) -> None:
        """Mark the records of dead processes as to be stored."""
        with self._changed:
            self.is_recovering = True

    def publish(
        self,
        stored: Stored,
        places: Mapping[str, SpoolPosition | None],
        *,
        set_aside: int,
        is_refused: bool,
        has_recovered: Callable[[], bool],
    ) -> None:
        """Publish the stored positions; wake the callers if they changed.

        Args:
            stored: Stored positions of all processes.
            places: Stored positions of the spools of this process.
            set_aside: Number of this process's records that the store has refused.
            is_refused: Whether the store rejects every batch until it is rebuilt.
            has_recovered: Return whether no record of a dead process is left. Called under the
                lock, so that `recover` of another thread is not overwritten.
        """
        with self._changed:
            before = self._progress()
            self.is_refused, self._stored_up_to, self._set_aside = is_refused, places, set_aside
            if has_recovered():
                self.is_recovering = False
            for ticket, awaited in list(self._catching_up.items()):
                if awaited.is_stored(stored):
                    del self._catching_up[ticket]
            if self._progress() != before:
                self.restart_clock()
                self._changed.notify_all()

    def _progress(self) -> tuple[object, ...]:
        state = (self.is_refused, self._stored_up_to, self._set_aside, self.is_recovering)
        return *state, len(self._catching_up)

    def report_deletion(self) -> None:
        """Fail the current flushes: a deleted spool had records not stored."""
        with self._changed:
            self._deletions += 1
            self._changed.notify_all()

    def back_off(self, seconds: float) -> None:
        """Wait before a retry, on the storing thread.

        `close` and `retry` end the wait early.
        """
        with self._changed:
            self._changed.notify_all()
            if not (self.is_closed or self._retries_now):
                self._changed.wait(seconds)
            self._retries_now = False

    def retry(self, timeout_s: float) -> None:
        """Retry a refused batch now, and wait until the store accepts it.

        Args:
            timeout_s: How long to wait at most, in seconds. If another process stores, its next
                retry is up to 30 s away.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._retries_now = self.is_refused
            self._changed.notify_all()
            while self.is_refused and not self.is_closed:
                if (remaining_s := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(remaining_s)

    def close(self) -> None:
        """Wake every caller."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()

    def _holds(self, target: Mapping[str, SpoolPosition]) -> bool:
        known = self._stored_up_to
        return all(
            (stored := known.get(process, START)) is None or stored >= place
            for process, place in target.items()
        )

    def holds(self, target: Mapping[str, SpoolPosition]) -> bool:
        """Return whether these positions are stored; always True once closed."""
        return self.is_closed or self._holds(target)

    def awaits_more(self, target: Mapping[str, SpoolPosition]) -> bool:
        """Return whether these positions, or any awaited ones, are not stored."""
        return self.is_recovering or bool(self._catching_up) or not self.holds(target)

    def restart_clock(self) -> None:
        """Restart the time that `stalled_s` returns."""
        self._progressed_at_s = time.monotonic()

    def stalled_s(self) -> float:
        """Return the seconds since the last progress.

        The value is infinite if the store refuses every batch.
        """
        return math.inf if self.is_refused else time.monotonic() - self._progressed_at_s
