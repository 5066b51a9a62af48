"""Delivering notices in the background: bounded, tried again, and each reported once.

A thread is there while something is to be delivered. It waits for nobody: what is to be tried
again later lets others pass. It is a daemon, so that a program can end; `drain` gives it time.
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
"""How much of a server's Retry-After is honoured."""

_random = random.SystemRandom()  # the program's own numbers stay what they would be without us


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt.

    Args:
        status: `retry`: it failed, and another attempt may not.
        note: How it went; holds no secrets.
        retry_after_s: How long the other side wishes not to be asked, in seconds.
    """

    status: Literal["delivered", "failed", "retry"]
    note: str
    retry_after_s: float | None = None


class Sender(Protocol):
    """Somebody who can be told."""

    @property
    def attempts(self) -> int:
        """How often to try in all."""
        ...

    def send(self, notice: dict[str, Any], delivery_id: str) -> Attempt:
        """Try once. What this raises is a failure that is not tried again."""
        ...


DeliveryReporter: TypeAlias = Callable[[Literal["delivered", "failed"], str, int], None]
"""Called with the status, a note and the number of attempts."""


def backoff_s(attempts: int, retry_after_s: float | None) -> float:
    """Return how long to wait after so many attempts, in seconds."""
    ceiling_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (attempts - 1))
    asked_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return max(asked_s, _random.uniform(ceiling_s / 2, ceiling_s))


@dataclass(order=True)
class _Delivery:
    due_at_s: float
    number: int
    """In the order in which they were given."""
    sender: Sender = field(compare=False)
    notice: str = field(compare=False)
    """As JSON: what the caller changes afterwards changes nothing."""
    report: DeliveryReporter = field(compare=False)
    id: str = field(compare=False)
    attempts: int = field(compare=False, default=0)


class Deliveries:
    """Delivers notices.

    Args:
        max_pending: How many may wait; more than that have failed at once.
        delay_s: How long to wait after so many attempts, the last of which brought this
            Retry-After, in seconds.
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
            sender: Who is told.
            notice: A JSON object.
            report: Called once, when it is known how it went: from the background, or from here
                if it cannot even be tried.
        """
        problem = None
        try:
            text = json.dumps(notice)
            with self._changed:
                if self._pending >= self._max_pending:
                    problem = f"{self._pending} deliveries wait already"
                else:
                    self._add(sender, text, report)
        except Exception as error:  # noqa: BLE001 - whatever it is, the request is not lost by it
            problem = f"it could not be given to the background ({type(error).__name__})"
        if problem is not None:
            self._tell(report, Attempt("failed", f"not tried: {problem}"), 0)

    def drain(self, timeout_s: float) -> bool:
        """Wait until all deliveries are reported.

        Args:
            timeout_s: How long to wait at most, in seconds.

        Returns:
            Whether none is left.
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
            self._tell(delivery.report, attempt, delivery.attempts)
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()

    def _next(self) -> _Delivery | None:
        """Wait for a delivery that is due; None: nothing is left, and the thread ends."""
        with self._changed:
            while self._waiting:
                left_s = self._waiting[0].due_at_s - time.monotonic()
                if left_s <= 0:
                    return heapq.heappop(self._waiting)
                self._changed.wait(left_s)
            self._thread = None
            return None

    def _tell(self, report: DeliveryReporter, attempt: Attempt, attempts: int) -> None:
        status = "delivered" if attempt.status == "delivered" else "failed"
        try:
            report(status, attempt.note, attempts)
        except Exception as error:  # noqa: BLE001 - the thread goes on with the others
            if self._count is not None:
                self._count("delivery_report_failures")
            logger.warning("how a notice went (%s) could not be kept: %r", status, error)


def _try(delivery: _Delivery) -> Attempt:
    try:
        return delivery.sender.send(json.loads(delivery.notice), delivery.id)
    except BaseException as error:  # noqa: BLE001 - even a SystemExit must not end the thread
        # Its class alone: its text may hold a URL with a token.
        return Attempt("failed", f"{delivery.sender!r} raised {type(error).__name__}")
