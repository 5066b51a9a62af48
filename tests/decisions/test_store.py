"""What decisions must do in every store, through the service and the library."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from autotrace.decision_requests import ApprovalAnswer, DecisionEnd, DecisionRequest, GatedCall
from autotrace.decisions.api import Decisions
from autotrace.errors import (
    ApprovalPending,
    ApprovalRefused,
    AutotraceError,
    DecisionNotFoundError,
    DecisionStateError,
    InvalidArgumentError,
    StoreError,
    StoreVersionError,
)
from autotrace.models import ApprovalRequest, Decision
from autotrace.store import decision_log as store
from autotrace.store import schema
from autotrace.store.text_keys import key_of
from tests.decisions.deciding import Clock, Kept, open_deciding
from tests.servers import chroma_server


@pytest.fixture
def deciding(store_settings: dict[str, str]) -> Iterator[Decisions]:
    opened = open_deciding(store_settings)
    yield opened
    opened.event_store.connection.close()


@pytest.fixture
def clock(deciding: Decisions) -> Clock:
    made = Clock()
    deciding.event_store.now_ns = made
    return made


def opened(deciding: Decisions, **options: Any) -> Decision:
    given: dict[str, Any] = {"automation_mode": "approve", "actor": "bot"} | options
    return deciding.create(DecisionRequest("customer.order.create", **given))


def asked(deciding: Decisions, **request: Any) -> str:
    decision_id = opened(deciding).decision_id
    deciding.request_approval(decision_id, ApprovalRequest(**request), by="bot")
    return decision_id


def test_a_decision_is_read_back_whole(deciding: Decisions) -> None:
    made = opened(deciding, instance="i-1", version="2.0", metadata={"order": 7}, key="order-7")
    context = deciding.add_context(made.decision_id, {"risk": 0.12}, summary="low risk", by="bot")
    request = ApprovalRequest(
        title="25 % discount", message="for a good customer", expires_in_seconds=60
    )
    approval = deciding.request_approval(made.decision_id, request, by="bot")
    deciding.resolve(
        made.decision_id, ApprovalAnswer(granted=True, approver="ada", rationale="within budget")
    )
    calls = [{"tool_name": "pay", "tool_call_id": "call-1", "status": "success", "duration_ms": 3}]
    deciding.end(
        made.decision_id, DecisionEnd("commit", {"order": "o-1"}, tool_calls=calls), by="bot"
    )

    trace = deciding.trace(made.decision_id)

    assert trace.model_dump(exclude={"created_at", "closed_at", "approval", "events"}) == {
        "decision_id": made.decision_id,
        "intent": "customer.order.create",
        "status": "committed",
        "automation_mode": "approve",
        "approval_required": False,
        "trace_id": None,
        "head": trace.events[2].hash,
        "actor": "bot",
        "actor_label": None,
        "agent": "bot",
        "instance": "i-1",
        "version": "2.0",
        "metadata": {"order": 7},
        "key": "order-7",
        "evaluations": [],
        "execution": None,
        "reason": None,
        "summary": {"order": "o-1"},
        "title": None,
        "category": None,
        "context": None,
        "decision": None,
        "rationale": None,
        "alternatives_considered": [],
        "tags": [],
        "constraints": [],
        "consequences": [],
        "supersedes": None,
        "superseded_by": None,
    }
    assert trace.approval is not None
    assert trace.approval.expires_at == trace.approval.requested_at + timedelta(seconds=60)
    assert trace.approval.model_dump(
        exclude={"requested_at", "expires_at", "resolved_at", "votes"}
    ) == {
        "id": approval.id,
        "status": "approved",
        "title": "25 % discount",
        "message": "for a good customer",
        "requester": "bot",
        "approver": "ada",
        "rationale": "within budget",
        "require_rationale": False,
        "approvals_needed": 1,
        "route": None,
        "delivery": {
            "status": "pending",
            "note": "no approval route is set up: nobody was notified",
        },
        "arguments_sha256": None,
        "hidden": [],
        "approver_keys": [],
        "tool": None,
    }
    assert [event.type for event in trace.events] == [
        "created",
        "context_added",
        "approval_requested",
        "approval_granted",
        "tool_called",
        "closed",
    ]
    assert trace.events[1] == context
    assert context.model_extra == {"context": {"risk": 0.12}, "summary": "low risk"}
    assert trace.events[4].model_extra == calls[0]
    assert deciding.get(made.decision_id).model_dump() == trace.model_dump(exclude={"events"})


def test_an_open_decision_says_no_time_of_closing(deciding: Decisions) -> None:
    assert "closed_at" not in opened(deciding).model_dump(mode="json")


def test_a_key_finds_the_decision_it_has_opened_in_any_process(
    deciding: Decisions, store_settings: dict[str, str]
) -> None:
    first = opened(deciding, key="order-1")
    other = open_deciding(store_settings)

    assert opened(other, key="order-1") == first
    assert opened(other, key="order-1", actor="another").decision_id != first.decision_id
    with pytest.raises(InvalidArgumentError, match="belongs to"):
        deciding.create(DecisionRequest("another.intent", actor="bot", key="order-1"))
    other.shut_down(0)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"intent": " "}, "intent"),
        ({"intent": "x" * 257}, "intent"),
        ({"automation_mode": "yolo"}, "automation_mode"),
        ({"actor": ""}, "actor"),
        ({"metadata": ["a list"]}, "metadata"),
        ({"key": ""}, "key"),
    ],
)
def test_what_cannot_be_opened_names_the_field_and_changes_nothing(
    deciding: Decisions, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{named}="):
        deciding.create(DecisionRequest(**{"intent": "a.b", "actor": "bot"} | given))

    assert deciding.list() == []


def test_what_is_asked_of_no_decision_says_so(deciding: Decisions) -> None:
    calls: list[Callable[[], object]] = [
        lambda: deciding.get("decision-none"),
        lambda: deciding.trace("decision-none"),
        lambda: deciding.receipt("decision-none"),
        lambda: deciding.verify("decision-none"),
        lambda: deciding.list(after="decision-none"),
        lambda: deciding.close("decision-none", "commit", by="bot"),
        lambda: deciding.add_context("decision-none", {"a": 1}, by="bot"),
    ]
    for call in calls:
        with pytest.raises(DecisionNotFoundError, match="decision-none"):
            call()


def test_what_waits_is_pending_until_it_is_answered(deciding: Decisions) -> None:
    first, second, third = (asked(deciding) for _ in range(3))
    opened(deciding)
    deciding.resolve(second, ApprovalAnswer(granted=False, approver="ada", rationale="no"))

    assert [d.decision_id for d in deciding.pending()] == [first, third]


def test_a_request_that_has_expired_is_seen_so_by_whoever_looks(
    deciding: Decisions, clock: Clock
) -> None:
    looked_at, resolved, listed, pending = (
        asked(deciding, expires_in_seconds=60) for _ in range(4)
    )
    clock.ahead_s = 61

    decision = deciding.get(looked_at)
    with pytest.raises(DecisionStateError, match="has expired"):
        deciding.resolve(resolved, ApprovalAnswer(granted=True, approver="ada"))

    assert (decision.status, decision.approval and decision.approval.status) == (
        "aborted",
        "expired",
    )
    assert deciding.pending() == []
    assert {d.decision_id: d.status for d in deciding.list()} == dict.fromkeys(
        [looked_at, resolved, listed, pending], "aborted"
    )
    clock.ahead_s = 0  # whatever another machine's clock says: it has happened
    assert deciding.get(looked_at) == decision


def test_lists_are_newest_first_by_page_and_filter(deciding: Decisions, clock: Clock) -> None:
    ids: list[str] = []
    for number in range(7):
        clock.ahead_s = 20 * number  # each in a bucket of its own
        ids.append(opened(deciding, actor=f"bot-{number % 2}").decision_id)
    deciding.close(ids[3], "commit", by="bot")
    listed = deciding.list

    assert [d.decision_id for d in listed()] == ids[::-1]
    assert [d.decision_id for d in listed(limit=2)] == ids[:4:-1]
    assert [d.decision_id for d in listed(limit=2, after=ids[5])] == [ids[4], ids[3]]
    assert [d.decision_id for d in listed(status="committed")] == [ids[3]]
    assert [d.decision_id for d in listed(actor="bot-1")] == [ids[5], ids[3], ids[1]]
    for options, named in (
        ({"limit": 0}, "limit"),
        ({"status": "done"}, "status"),
        ({"category": "x"}, "category"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"^{named}="):
            listed(**options)  # type: ignore[arg-type]


RECORD: dict[str, Any] = {
    "title": "Use a queue",
    "category": "architecture",
    "context": "orders come in bursts",
    "decision": "put a queue before the shop",
    "rationale": "bursts must not lose orders",
    "alternatives_considered": [{"option": "more servers", "rejected_because": "too dear"}],
    "tags": ["orders", "load"],
    "constraints": ["one team"],
    "consequences": ["orders are late by seconds"],
    "actor": "ada",
}


def test_a_decision_is_recorded_in_one_call(deciding: Decisions) -> None:
    recorded = deciding.record(**RECORD)

    assert recorded.status == "committed"
    assert {name: getattr(recorded, name) for name in RECORD} | {
        "alternatives_considered": [a.model_dump() for a in recorded.alternatives_considered]
    } == RECORD
    assert deciding.list(category="architecture") == [recorded]
    assert deciding.verify(recorded.decision_id)
    for name, value in (
        ("category", "poetry"),
        ("title", ""),
        ("tags", "orders"),
        ("alternatives_considered", [{"rejected_because": "x"}]),
    ):
        with pytest.raises(InvalidArgumentError, match=f"^{name}="):
            deciding.record(**RECORD | {name: value})


def test_a_decision_is_superseded_once_and_both_say_so(deciding: Decisions) -> None:
    old = deciding.record(**RECORD).decision_id
    new = deciding.record(**RECORD, supersedes=old).decision_id

    assert deciding.get(old).superseded_by == new
    assert deciding.erase(old, by="ada").superseded_by == new
    assert deciding.get(new).supersedes == old
    with pytest.raises(DecisionStateError, match=new):
        deciding.record(**RECORD, supersedes=old)
    with pytest.raises(DecisionNotFoundError):
        deciding.record(**RECORD, supersedes="decision-none")
    assert len(deciding.list()) == 2


def test_what_died_before_it_superseded_leaves_room_for_another(deciding: Decisions) -> None:
    old = deciding.record(**RECORD).decision_id
    with deciding.event_store.connection.writing() as collections:
        schema.add(collections.log, {store.superseded_id(old): {"by": "decision-died"}})

    assert deciding.get(old).superseded_by is None
    new = deciding.record(**RECORD, supersedes=old).decision_id
    assert deciding.get(old).superseded_by == new


def test_searching_goes_by_meaning_and_filter(deciding: Decisions) -> None:
    found: dict[str, str] = {}
    for title, tags in (("cache the menu", ["speed"]), ("cache the prices", ["speed", "money"])):
        made = deciding.record(**RECORD | {"title": title, "tags": tags})
        found[title] = made.decision_id
        connection = deciding.event_store.connection
        vector = deciding._embed(title)  # pyright: ignore[reportPrivateUsage] - the exporter's part
        text = store.IndexedText(key_of(title), 1, vector)
        with connection.writing() as collections:
            store.put_search(collections, {made.decision_id: text}, exclusive=connection.exclusive)
    search = deciding.search

    assert [f.decision_id for f in search("cache the prices")] == [
        found["cache the prices"],
        found["cache the menu"],
    ]
    assert search("cache the prices", limit=1)[0].similarity == 1
    assert [f.decision_id for f in search("cache", tags=["money"])] == [found["cache the prices"]]
    assert [f.decision_id for f in search(category="architecture", limit=1)] == [
        found["cache the prices"]
    ]
    assert search("cache", status="aborted") == []
    for options, named in (({"query": " "}, "query"), ({"limit": 101}, "limit")):
        with pytest.raises(InvalidArgumentError, match=f"^{named}="):
            search(**options)  # type: ignore[arg-type]


def test_a_call_has_one_decision_at_a_time_and_a_new_one_after_it_was_used(
    deciding: Decisions,
) -> None:
    call = GatedCall("bot", {"name": "pay"}, "00")

    def open_call(**other: Any) -> str:
        return deciding.open_call(replace(call, **other)).decision_id

    first = open_call()
    assert open_call() == first
    assert open_call(arguments_sha256="11") != first
    assert open_call(actor="another") != first
    deciding.request_approval(first, ApprovalRequest(), by="bot")
    with pytest.raises(ApprovalPending):
        deciding.check_answer(first, by="bot")
    deciding.resolve(first, ApprovalAnswer(granted=True, approver="ada"))
    deciding.claim(first, call)
    assert open_call() == first, "claimed and not finished"
    with pytest.raises(ApprovalRefused):
        deciding.claim(first, call)
    deciding.close(first, "commit", by="bot")

    second = open_call()
    assert second != first
    deciding.request_approval(second, ApprovalRequest(), by="bot")
    deciding.resolve(second, ApprovalAnswer(granted=False, approver="ada", rationale="not twice"))
    assert open_call() == second, "the refusal has not been told"
    with pytest.raises(ApprovalRefused, match="not twice"):
        deciding.check_answer(second, by="bot")
    assert open_call() not in (first, second)


def test_a_receipt_is_signed_and_stays_the_same(deciding: Decisions) -> None:
    decision_id = opened(deciding).decision_id
    with pytest.raises(DecisionStateError, match="needs a decision that has ended"):
        deciding.receipt(decision_id)
    deciding.close(decision_id, "commit", by="bot")

    receipt = deciding.receipt(decision_id)

    assert deciding.receipt(decision_id) == receipt
    closed = deciding.trace(decision_id).events[-1]
    assert receipt.receipt_data | {"created_at": "", "closed_at": ""} == {
        "decision_id": decision_id,
        "intent": "customer.order.create",
        "status": "committed",
        "created_at": "",
        "closed_at": "",
        "agent_id": "bot",
        "events": 2,
        "head": closed.hash,
    }
    assert deciding.check(decision_id).receipt == "valid"


def test_a_decision_is_the_agents_whose_key_opened_it_whatever_label_it_gave(
    deciding: Decisions,
) -> None:
    made = opened(deciding, actor="order-bot", label="night shift", key="order-7")

    assert (made.actor, made.agent, made.actor_label) == ("order-bot", "order-bot", "night shift")
    assert deciding.trace(made.decision_id).events[0].by == "order-bot"
    again = opened(deciding, actor="order-bot", label="day shift", key="order-7")
    assert again.decision_id == made.decision_id, "a key is its agent's, not the label's"
    other = opened(deciding, actor="other-bot", label="night shift", key="order-7")
    assert other.decision_id != made.decision_id

    deciding.request_approval(made.decision_id, ApprovalRequest(), by="admin")
    for asking in ("Order-Bot", "admin"):
        with pytest.raises(ApprovalRefused):
            deciding.resolve(made.decision_id, ApprovalAnswer(granted=True, approver=asking))
    deciding.resolve(
        made.decision_id, ApprovalAnswer(granted=True, approver="night shift")
    )  # a label bars nobody
    deciding.close(made.decision_id, "abort", by="order-bot")
    assert deciding.receipt(made.decision_id).receipt_data["agent_id"] == "order-bot"


def test_a_changed_receipt_is_not_valid(deciding: Decisions) -> None:
    decision_id = opened(deciding).decision_id
    deciding.close(decision_id, "commit", by="bot")
    receipt = deciding.receipt(decision_id)

    for changed in (
        receipt.model_copy(update={"signature": "AAAA"}),
        receipt.model_copy(update={"receipt_data": receipt.receipt_data | {"status": "aborted"}}),
    ):
        assert deciding.check(decision_id, changed).problem == (
            "the receipt's signature is not that of its data"
        )


def test_a_receipt_signed_with_another_key_says_so(
    deciding: Decisions, store_settings: dict[str, str]
) -> None:
    other = open_deciding(store_settings, receipt_key=base64.b64encode(bytes(32)).decode())
    decision_id = opened(other).decision_id
    other.close(decision_id, "commit", by="bot")
    other.shut_down(0)

    found = deciding.check(decision_id)

    assert (found.ok, found.receipt) == (False, "unknown_key")


def test_a_changed_event_is_named(deciding: Decisions) -> None:
    decision_id = asked(deciding, title="small")
    deciding.resolve(decision_id, ApprovalAnswer(granted=True, approver="ada"))
    assert deciding.verify(decision_id)
    connection = deciding.event_store.connection
    with connection.writing() as collections:
        (event,) = schema.documents(collections.log, [f"{decision_id}/1"]).values()
        event[0]["content"]["title"] = "large"
        schema.upsert(collections.log, {f"{decision_id}/1": event})

    found = deciding.check(decision_id)

    assert (found.ok, found.first_bad_event) == (False, event[0]["event_id"])
    assert found.problem == "its content was changed"
    assert not deciding.verify(decision_id)


def test_callers_that_race_for_a_call_get_the_same_decision_and_so_does_the_next(
    deciding: Decisions, store_settings: dict[str, str]
) -> None:
    book = deciding.event_store
    if book.connection.exclusive:
        pytest.skip("an embedded store lets one caller in at a time")
    other = open_deciding(store_settings)
    begin, ids = book._begin, list[str]()

    def overtaken(*args: Any) -> Any:
        ids.append(call(other))
        return begin(*args)

    def call(by: Decisions) -> str:
        return by.open_call(GatedCall("bot", {"name": "pay"}, "00")).decision_id

    book._begin = overtaken  # type: ignore[method-assign]
    ids.append(call(deciding))
    book._begin = begin  # type: ignore[method-assign]
    ids.append(call(deciding))
    other.event_store.connection.close()

    assert len(set(ids)) == 1


def test_a_damaged_decision_is_named_and_keeps_none_of_the_others_from_being_read(
    deciding: Decisions,
) -> None:
    whole = asked(deciding)
    damages = ((0, None), (0, "{"), (1, "7"), (1, "[7]"), (1, "[{}]"), (1, "[]"))
    damaged = {asked(deciding): damage for damage in damages}
    with deciding.event_store.connection.writing() as collections:
        for decision_id, (number, damage) in damaged.items():
            record_id = f"{decision_id}/{number}"
            if damage is None:
                collections.log.delete([record_id])
            else:
                collections.log.update([record_id], metadatas=[{"json": damage}])

    bad = {found.decision_id for found in deciding.check_all() if not found.ok}

    assert bad == set(damaged)
    assert [found.decision_id for found in deciding.pending()] == [whole]
    assert [found.decision_id for found in deciding.list()] == [whole]
    for decision_id in damaged:
        with pytest.raises(StoreError, match=f"decisions verify {decision_id}"):
            deciding.get(decision_id)


def test_an_end_that_was_exchanged_shows_by_the_ledger(deciding: Decisions) -> None:
    decision_id = opened(deciding).decision_id
    deciding.close(decision_id, "abort", by="bot", reason="no")
    receipt = deciding.receipt(decision_id)
    with deciding.event_store.connection.writing() as collections:
        collections.log.delete([f"{decision_id}/1"])
    still_open = deciding.check(decision_id, receipt)
    deciding.close(decision_id, "commit", by="eve")

    assert still_open.problem == "its end was cut off: the ledger names 2 events, and there are 1"
    for kept in (receipt, None):
        exchanged = deciding.check(decision_id, kept)
        assert (
            exchanged.problem == "it was written again: the ledger names another head of 2 events"
        )


@pytest.mark.parametrize("times", [1, 500], ids=["short", "so long that it is compressed"])
def test_erased_content_is_gone_and_the_history_still_verifies(
    deciding: Decisions, times: int
) -> None:
    decision_id = opened(deciding, metadata={"name": "Grace"}).decision_id
    address = {"address": "secret street " * times}
    deciding.add_context(decision_id, address, by="bot")
    deciding.close(decision_id, "commit", by="bot", summary={"to": "Grace"})
    before = deciding.receipt(decision_id)

    deciding.erase(decision_id, by="ada", reason="asked to")
    after = deciding.get(decision_id)

    assert (after.status, after.metadata, after.summary) == ("committed", {}, None)
    trace = deciding.trace(decision_id)
    assert "Grace" not in trace.model_dump_json()
    assert "street" not in trace.model_dump_json()
    assert [event.erased for event in trace.events] == [True, True, True, False]
    found = deciding.check(decision_id)
    assert (found.ok, found.erased_events, found.receipt) == (True, 3, "valid")
    assert deciding.receipt(decision_id) == before
    deciding.erase(decision_id, by="ada")
    assert deciding.get(decision_id) == after


def test_an_erasure_that_was_broken_off_is_finished_by_the_next(
    deciding: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision_id = opened(deciding, metadata={"name": "Grace"}).decision_id

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            deciding.erase(decision_id, by="ada")
    assert deciding.get(decision_id).metadata == {"name": "Grace"}

    deciding.erase(decision_id, by="ada")
    assert deciding.get(decision_id).metadata == {}
    assert deciding.verify(decision_id)


def test_threads_that_race_have_one_winner(deciding: Decisions) -> None:
    decision_id = asked(deciding)
    barrier = threading.Barrier(8)
    won: list[str] = []

    def answer(number: int) -> None:
        barrier.wait()
        try:
            deciding.resolve(
                decision_id, ApprovalAnswer(granted=number % 2 == 0, approver=f"person {number}")
            )
        except DecisionStateError:
            return
        won.append(f"person {number}")

    threads = [threading.Thread(target=answer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    decision = deciding.get(decision_id)
    assert decision.approval is not None
    assert won == [decision.approval.approver]
    assert len(deciding.trace(decision_id).events) == 3


def test_a_failed_change_leaves_everything_as_it_was(deciding: Decisions) -> None:
    decision_id = asked(deciding)
    before = deciding.trace(decision_id)
    attempts: list[Callable[[], object]] = [
        lambda: deciding.close(decision_id, "commit", by="bot"),
        lambda: deciding.close(decision_id, "explode", by="bot"),
        lambda: deciding.add_context(decision_id, {}, by="bot"),
        lambda: deciding.resolve(decision_id, ApprovalAnswer(granted=True, approver="bot")),
        lambda: deciding.resolve(decision_id, ApprovalAnswer(granted=True, approver=" ")),
        lambda: deciding.evaluate(decision_id, "none", {}, by="bot"),
        lambda: deciding.evaluate(decision_id, "none", by="bot"),
        lambda: deciding.evaluate(decision_id, "none", inputs_ref="event-0", by="bot"),
        lambda: deciding.claim(decision_id, GatedCall("bot", {"name": "x"}, "00")),
    ]
    for attempt in attempts:
        with pytest.raises(AutotraceError):
            attempt()

    assert deciding.trace(decision_id) == before


def test_every_event_is_told_once_and_says_the_state_after_it(deciding: Decisions) -> None:
    decision_id = asked(deciding)
    deciding.request_approval(decision_id, ApprovalRequest(), by="bot")
    deciding.resolve(decision_id, ApprovalAnswer(granted=True, approver="ada"))

    kept = deciding.event_store.recording
    assert isinstance(kept, Kept)
    assert [(h.event["type"], h.status) for h in kept.events] == [
        ("created", "open"),
        ("approval_requested", "needs_approval"),
        ("approval_granted", "approved"),
    ]


def test_decisions_of_a_newer_version_are_refused_and_not_touched(
    deciding: Decisions, store_settings: dict[str, str]
) -> None:
    opened(deciding)
    connection = deciding.event_store.connection
    with connection.writing() as collections:
        (known,) = schema.documents(collections.state, ["store"]).values()
        schema.upsert(collections.state, {"store": known | {"schema_version": 99}})
    connection.close()

    with pytest.raises(StoreVersionError, match="version 99"):
        deciding.list()


def test_waiting_outlasts_a_server_that_is_started_again(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "chroma") as server:
        agent, person = (open_deciding({"store": server.url, "spool": str(tmp_path)}) for _ in "ab")
        decision_id = asked(agent)
        looks = agent.until_answered(decision_id, 100)
        assert next(looks) > 0
        server.stop()
        agent.event_store.connection.close()  # as its next request would find
        assert next(looks) > 0
        server.start()
        person.resolve(decision_id, ApprovalAnswer(granted=True, approver="ada"))

        assert _last(looks).status == "approved"
        for deciding in (agent, person):
            deciding.shut_down(0)


def _last(looks: Generator[float, None, Decision]) -> Decision:
    try:
        while True:
            next(looks)
    except StopIteration as ended:
        return ended.value
