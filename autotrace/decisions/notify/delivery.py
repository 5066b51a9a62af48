"""Deliver notices in the background: bounded, retried, each reported once.

A daemon thread runs while deliveries are pending. A delivery that waits for its next attempt does
not delay others. `drain` gives the thread time to finish before the program ends.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import random
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

logger = logging.getLogger("autotrace")

MAX_PENDING: Final = 1_000
FIRST_BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 30.0
MAX_RETRY_AFTER_S: Final = 60.0
"""Limit of a Retry-After."""

_random = random.SystemRandom()  # leaves the random state of the program alone


@dataclass(frozen=True)
class Attempt:
    """Result of one attempt.

    Args:
        status: `retry`: it failed, and another attempt may succeed.
        note: Description without secrets.
        retry_after_s: Time that the receiver asked to wait, in seconds.
    """

    status: Literal["delivered", "failed", "retry"]
    note: str
    retry_after_s: float | None = None


class Sender(Protocol):
    """A receiver of notices."""

    @property
    def attempts(self) -> int:
        """Maximum number of attempts."""
        ...

    def send(self, notice: dict[str, Any], delivery_id: str) -> Attempt:
        """Try once. An exception is a failure that is not retried."""
        ...


DeliveryReporter: TypeAlias = Callable[[Literal["delivered", "failed"], str, int], None]
"""Called with the status, a note and the number of attempts."""


def backoff_s(attempts: int, retry_after_s: float | None) -> float:
    """Return the seconds to wait after a number of attempts."""
    ceiling_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempts - 1))
    asked_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return max(asked_s, _random.uniform(ceiling_s / 2, ceiling_s))


@dataclass(order=True)
class _Delivery:
    due_at_s: float
    number: int
    """Position in the order of calls."""
    sender: Sender = field(compare=False)
    notice: str = field(compare=False)
    """JSON text, so that later changes of the caller have no effect."""
    report: DeliveryReporter = field(compare=False)
    id: str = field(compare=False)
    attempts: int = field(compare=False, default=0)


class Deliveries:
    """Delivers notices in one background thread.

    Args:
        max_pending: Limit of pending deliveries; further ones fail at once.
        delay_s: Returns the seconds to wait, given the number of attempts and the Retry-After.
        count: Called with `delivery_report_failures` when a report raised.
    """

    def __init__(
        self,
        *,
        max_pending: int = MAX_PENDING,
        delay_s: Callable[[int, float | None], float] = backoff_s,
        count: Callable[[str], None] | None = None,
    ) -> None:
        self._max_pending = max_pending
        self._delay_s = delay_s
        self._count = count
        self._begin()
        if hasattr(os, "register_at_fork"):
            itself = weakref.ref(self)

            def in_child() -> None:
                deliveries = itself()
                if deliveries is not None:
                    deliveries._begin()

            os.register_at_fork(after_in_child=in_child)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Delivery] = []
        self._pending = 0
        self._number = 0
        self._thread: threading.Thread | None = None

    def deliver(self, sender: Sender, notice: Mapping[str, Any], report: DeliveryReporter) -> None:
        """Deliver a notice in the background. Never raises.

        Args:
            sender: Receiver.
            notice: A JSON object.
            report: Called once with the result, in the background; if the notice cannot be queued,
                before this returns.
        """
        problem = None
        try:
            text = json.dumps(notice)
            with self._changed:
                if self._pending >= self._max_pending:
                    problem = f"{self._pending} deliveries are pending already"
                else:
                    self._add(sender, text, report)
        except Exception as error:  # noqa: BLE001 - the request for approval stays
            problem = f"it could not be queued ({type(error).__name__})"
        if problem is not None:
            self._report(report, Attempt("failed", f"not tried: {problem}"), 0)

    def drain(self, timeout_s: float) -> bool:
        """Wait until all deliveries are reported.

        Returns:
            Whether none is left after `timeout_s`.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._pending == 0, timeout_s)

    def _add(self, sender: Sender, text: str, report: DeliveryReporter) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="autotrace-deliveries", daemon=True)
            thread.start()  # waits for the lock that is held here
            self._thread = thread
        self._number += 1
        delivery_id = uuid.uuid4().hex
        now_s = time.monotonic()
        heapq.heappush(
            self._waiting, _Delivery(now_s, self._number, sender, text, report, delivery_id)
        )
        self._pending += 1
        self._changed.notify_all()

    def _run(self) -> None:
        while (delivery := self._next()) is not None:
            attempt = _try(delivery)
            delivery.attempts += 1
            if attempt.status == "retry" and delivery.attempts < delivery.sender.attempts:
                delay_s = self._delay_s(delivery.attempts, attempt.retry_after_s)
                delivery.due_at_s = time.monotonic() + delay_s
                with self._changed:
                    heapq.heappush(self._waiting, delivery)
                continue
            self._report(delivery.report, attempt, delivery.attempts)
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()

    def _next(self) -> _Delivery | None:
        """Wait for a delivery that is due; None if none is left, and the thread ends."""
        with self._changed:
            while self._waiting:
                left_s = self._waiting[0].due_at_s - time.monotonic()
                if left_s <= 0:
                    return heapq.heappop(self._waiting)
                self._changed.wait(left_s)
            self._thread = None
            return None

    def _report(self, report: DeliveryReporter, attempt: Attempt, attempts: int) -> None:
        status = "delivered" if attempt.status == "delivered" else "failed"
        try:
            report(status, attempt.note, attempts)
        except Exception as error:  # noqa: BLE001 - the thread goes on with the others
            if self._count is not None:
                self._count("delivery_report_failures")
            logger.warning("the result of a notice (%s) could not be recorded: %r", status, error)


def _try(delivery: _Delivery) -> Attempt:
    try:
        return delivery.sender.send(json.loads(delivery.notice), delivery.id)
    except BaseException as error:  # noqa: BLE001 - even a SystemExit must not end the thread
        # Only its class: its text may hold a URL with a token.
        return Attempt("failed", f"{delivery.sender!r} raised {type(error).__name__}")
