"""Deliveries: in the background, tried again, reported once, and never in the caller's way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.decisions.notify.delivery import (
    MAX_BACKOFF_S,
    MAX_RETRY_AFTER_S,
    Attempt,
    Deliveries,
    backoff_s,
)
from autotrace.decisions.notify.webhooks import SlackWebhook, Webhook
from tests.decisions.notify.receiver import Answer, Receiver, hang_up, receiver

WAIT_S = 60.0
"""How long a test waits for what must come: it fails then, and does not hang."""

Sending = Callable[[dict[str, Any], str], Attempt]
DONE = Attempt("delivered", "done")
AGAIN = Attempt("retry", "not now")


@dataclass
class Scripted:
    """A sender that does what it is told."""

    send: Sending
    attempts: int = 4


@dataclass
class Reports:
    """What was reported, in order."""

    seen: list[tuple[str, str, int]] = field(default_factory=list)

    def __call__(self, status: str, note: str, attempts: int) -> None:
        self.seen.append((status, note, attempts))


def at_once(attempts: int, retry_after_s: float | None) -> float:
    return 0.0


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def told(sender: Any, notice: Any = None, **options: Any) -> tuple[str, str, int]:
    """Deliver one notice and return what was reported."""
    deliveries, reports = Deliveries(**{"delay_s": at_once} | options), Reports()
    deliveries.deliver(sender, {} if notice is None else notice, reports)
    assert deliveries.drain(WAIT_S)
    (report,) = reports.seen
    return report


def test_a_webhook_is_tried_again_until_it_answers(server: Receiver) -> None:
    server.answers = [Answer(503), hang_up, Answer(429, {"Retry-After": "7"}), Answer(200)]
    asked: list[tuple[int, float | None]] = []

    def delay_s(attempts: int, retry_after_s: float | None) -> float:
        asked.append((attempts, retry_after_s))
        return 0.0

    status, note, attempts = told(Webhook(server.url(), secret="s"), {"a": 1}, delay_s=delay_s)

    assert (status, attempts) == ("delivered", 4)
    assert note == f"127.0.0.1:{server.port} answered 200"
    assert asked == [(1, None), (2, None), (3, 7.0)]
    assert len(server.received) == 4
    assert len({got.headers["X-Autotrace-Delivery"] for got in server.received}) == 1
    assert {got.body for got in server.received} == {b'{"a":1}'}


@pytest.mark.parametrize(
    ("status", "attempts", "expected"), [(503, 4, 4), (503, 1, 1), (404, 4, 1), (302, 4, 1)]
)
def test_it_is_given_up_after_its_attempts_or_when_more_are_of_no_use(
    server: Receiver, status: int, attempts: int, expected: int
) -> None:
    server.answers = [Answer(status)]
    for kind in (Webhook, SlackWebhook):
        server.received.clear()
        notice = {"intent": "i", "decision_id": "d", "requester": "r"}
        notice["answer"] = {"approve": "", "reject": ""}  # type: ignore[assignment]

        result, note, made = told(kind(server.url(), attempts=attempts), notice)

        assert (result, made) == ("failed", expected)
        assert note.startswith(f"127.0.0.1:{server.port} answered {status}")
        assert len(server.received) == expected


def test_two_deliveries_have_ids_of_their_own(server: Receiver) -> None:
    told(Webhook(server.url()))
    told(Webhook(server.url()))

    assert len({got.headers["X-Autotrace-Delivery"] for got in server.received}) == 2


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError])
def test_a_sender_that_raises_has_failed_and_the_next_one_has_its_turn(
    error: type[BaseException],
) -> None:
    def fail(notice: dict[str, Any], delivery_id: str) -> Attempt:
        raise error("https://host/TOKEN")

    deliveries, reports = Deliveries(), Reports()
    deliveries.deliver(Scripted(fail), {}, reports)
    deliveries.deliver(Scripted(lambda *_: DONE), {}, reports)

    assert deliveries.drain(WAIT_S)
    (first, second) = reports.seen
    assert (first[0], first[2]) == ("failed", 1)
    assert error.__name__ in first[1]
    assert "TOKEN" not in first[1]
    assert second == ("delivered", "done", 1)


def test_what_waits_to_be_tried_again_lets_others_pass() -> None:
    reports, passed = Reports(), threading.Event()
    deliveries = Deliveries(delay_s=lambda *_: 3600.0)
    deliveries.deliver(Scripted(lambda *_: AGAIN), {}, reports)
    deliveries.deliver(Scripted(lambda *_: DONE), {}, lambda *_: passed.set())

    assert passed.wait(WAIT_S)
    assert reports.seen == []
    assert not deliveries.drain(0)


def test_a_full_queue_is_a_failed_delivery_with_a_note() -> None:
    deliveries, reports, full = Deliveries(max_pending=2), Reports(), Reports()
    go = threading.Event()

    def wait(notice: dict[str, Any], delivery_id: str) -> Attempt:
        assert go.wait(WAIT_S)
        return DONE

    for _ in range(2):
        deliveries.deliver(Scripted(wait), {}, reports)
    deliveries.deliver(Scripted(wait), {}, full)

    assert full.seen == [("failed", "not tried: 2 deliveries are pending already", 0)]
    assert not deliveries.drain(0)
    go.set()
    assert deliveries.drain(WAIT_S)
    assert reports.seen == [("delivered", "done", 1)] * 2


@pytest.mark.parametrize("notice", [{"a": object()}, {("a",): 1}], ids=["value", "key"])
def test_a_notice_that_is_no_json_is_a_failed_delivery(notice: Any) -> None:
    status, note, attempts = told(Scripted(lambda *_: DONE), notice)

    assert (status, attempts) == ("failed", 0)
    assert "not tried" in note


def test_a_thread_that_cannot_be_started_is_a_failed_delivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert told(Scripted(lambda *_: DONE))[0] == "failed"


def test_what_the_caller_changes_afterwards_is_not_delivered_nor_what_a_sender_does() -> None:
    go, seen = threading.Event(), list[str]()

    def look(notice: dict[str, Any], delivery_id: str) -> Attempt:
        assert go.wait(WAIT_S)
        seen.append(repr(notice))
        notice["title"] = "changed by the sender"
        return AGAIN

    deliveries, notice = Deliveries(delay_s=at_once), {"title": "as it was"}
    deliveries.deliver(Scripted(look, attempts=2), notice, Reports())
    notice["title"] = "changed by the caller"
    go.set()

    assert deliveries.drain(WAIT_S)
    assert seen == ["{'title': 'as it was'}"] * 2


def test_a_report_that_raises_is_counted_and_the_next_one_is_made() -> None:
    counted: list[str] = []
    deliveries, reports = Deliveries(count=counted.append), Reports()

    def fail(status: str, note: str, attempts: int) -> None:
        raise OSError

    deliveries.deliver(Scripted(lambda *_: DONE), {}, fail)
    deliveries.deliver(Scripted(lambda *_: DONE), {}, reports)

    assert deliveries.drain(WAIT_S)
    assert reports.seen == [("delivered", "done", 1)]
    assert counted == ["delivery_report_failures"]


def test_the_thread_ends_when_nothing_is_left_and_another_one_begins() -> None:
    threads: list[threading.Thread] = []

    def look(notice: dict[str, Any], delivery_id: str) -> Attempt:
        threads.append(threading.current_thread())
        return DONE

    deliveries = Deliveries()
    for _ in range(2):
        deliveries.deliver(Scripted(look), {}, Reports())
        assert deliveries.drain(WAIT_S)
        threads[-1].join(WAIT_S)
        assert not threads[-1].is_alive()

    assert len(set(threads)) == 2
    assert all(thread.daemon for thread in threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # it is what is tested
def test_a_forked_child_delivers_by_itself_what_is_its_own() -> None:
    inside, go, reports = threading.Event(), threading.Event(), Reports()
    told_by: list[int] = []

    def wait(notice: dict[str, Any], delivery_id: str) -> Attempt:
        inside.set()
        assert go.wait(WAIT_S)
        told_by.append(os.getpid())
        return DONE

    deliveries = Deliveries()
    deliveries.deliver(Scripted(wait), {}, reports)
    assert inside.wait(WAIT_S)
    with deliveries._changed:  # as another thread of the program may hold it at any moment
        child = os.fork()
    if child == 0:
        own = Reports()
        deliveries.deliver(Scripted(lambda *_: DONE), {}, own)
        done = deliveries.drain(WAIT_S) and own.seen == [("delivered", "done", 1)]
        os._exit(0 if done and told_by == [] and reports.seen == [] else 1)
    go.set()

    assert deliveries.drain(WAIT_S)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert told_by == [os.getpid()]
    assert reports.seen == [("delivered", "done", 1)]


@given(st.integers(1, 20), st.none() | st.floats(0, 1e9))
def test_the_wait_grows_and_is_bounded_and_no_shorter_than_asked(
    attempts: int, retry_after_s: float | None
) -> None:
    wait_s = backoff_s(attempts, retry_after_s)
    ceiling_s = min(MAX_BACKOFF_S, 0.5 * 2 ** (attempts - 1))

    assert wait_s >= min(retry_after_s or 0, MAX_RETRY_AFTER_S)
    assert ceiling_s / 2 <= wait_s <= max(ceiling_s, min(retry_after_s or 0, MAX_RETRY_AFTER_S))


def test_the_wait_is_not_the_same_for_all() -> None:
    assert len({backoff_s(5, None) for _ in range(20)}) > 1
