"""Shares of an OpenTelemetry trace: what one sender records changes nothing of another's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace import semconv
from autotrace.errors import TraceNotFoundError
from autotrace.settings import load_settings
from autotrace.spool.shares import Share, partition_of, share_of
from autotrace.spool.span_records import SpanRecord, record_key
from autotrace.traces.assembly import assemble
from autotrace.traces.deletion import erase_trace
from autotrace.traces.ingest import Ingestor
from autotrace.traces.reader import Reader
from autotrace.worker.rebuild import rebuild
from autotrace.worker.wiring import open_connection
from tests.embedders import HashEmbedder

TRACE = "a" * 32
TASK = "1" * 16
PUBLIC = f"trace-{TRACE}-{TASK}"
EMBEDDER = HashEmbedder()


def made(
    span: str,
    sender: str | None,
    owner: str | None,
    attributes: dict[str, Any],
    parent: str | None = TASK,
) -> SpanRecord:
    record: SpanRecord = {
        "trace": TRACE,
        "id": span,
        "parent": parent,
        "name": "any",
        "start_ns": 10**18,
        "end_ns": 10**18 + 10**6,
        "attributes": attributes,
    }
    if sender is not None:
        record["sender"] = {"key": f"key of {sender}", "agent": sender}
    if owner is not None:
        record["owner"] = owner
    return record


def a_task(
    sender: str | None, owner: str | None, outcome: str, span: str = TASK, **more: Any
) -> SpanRecord:
    attributes = {
        semconv.KIND: semconv.KIND_TASK,
        semconv.TASK: "pay the invoice",
        semconv.OUTCOME: outcome,
        semconv.SUCCESS: True,
    }
    return made(span, sender, owner, attributes, **{"parent": None} | more)


def a_call(sender: str | None, owner: str | None, tool: str, span: str) -> SpanRecord:
    attributes = {
        semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
        semconv.GEN_AI_TOOL_NAME: tool,
    }
    return made(span, sender, owner, attributes)


def a_step(sender: str | None, owner: str | None, thought: str, span: str) -> SpanRecord:
    attributes = {semconv.KIND: semconv.KIND_STEP, semconv.THOUGHT: thought}
    return made(span, sender, owner, attributes)


OWN = [
    a_task("ann", "ann", "paid 10 EUR"),
    a_step("ann", "ann", "look", "2" * 16),
    a_call("ann", "ann", "search", "3" * 16),
]
GRANTED = [
    a_call("bob", "ann", "added", "4" * 16),
    a_task("bob", "ann", "FORGED end of the task"),
    a_step("bob", "ann", "FORGED step", "2" * 16),
    a_task("bob", "ann", "bob's part", "5" * 16, parent=TASK),
]
CALLS = {("search", 1), ("added", 1)}


@given(st.permutations([*OWN, *GRANTED]))
def test_a_guest_adds_and_changes_nothing_in_any_order(records: Sequence[SpanRecord]) -> None:
    traces = {trace.outcome: trace for trace in assemble(records)}

    own = traces["paid 10 EUR"]
    assert (own.trace_id, own.recorded_by) == (PUBLIC, "ann")
    assert sorted(s.thought for s in own.steps if not s.implicit) == ["look"]
    assert traces["bob's part"].recorded_by == "bob"
    assert traces["bob's part"].parent_trace_id == PUBLIC
    assert {c.tool_name for trace in traces.values() for c in trace.tool_calls} == {
        "search",
        "added",
    }
    assert assemble([*records, *reversed(records)]) == assemble(records)


@given(st.permutations(range(4)))
def test_a_chain_of_guests_is_one_trace(order: Sequence[int]) -> None:
    deeper = {**a_call("carol", "ann", "deeper", "6" * 16), "parent": "5" * 16}
    records = [OWN[0], a_step("bob", "ann", "bob's", "5" * 16), deeper, OWN[2]]

    (trace,) = assemble([records[number] for number in order])  # pyright: ignore[reportArgumentType] - of the same fields

    assert {(step.thought, call.tool_name) for step in trace.steps for call in step.tool_calls} == {
        ("", "search"),  # ann's, which no step of bob's draws to it
        ("bob's", "deeper"),
    }


def test_each_owner_has_a_share_of_its_own_and_records_of_senders_are_told_apart() -> None:
    local, ann, bob = a_task(None, None, ""), a_task("ann", "ann", ""), a_task("bob", "bob", "")

    assert share_of(local) == Share(TRACE)
    assert partition_of(local) == TRACE  # as logs of earlier releases have it
    assert len({partition_of(r) for r in (local, ann, bob)}) == 3
    assert partition_of(a_task("bob", "ann", "")) == partition_of(ann)
    assert record_key(local) == record_key(ann) == TASK  # each in its own share
    assert record_key(a_task("bob", "ann", "")) != record_key(ann)
    other_key: SpanRecord = {**ann, "sender": {"key": "another", "agent": "ann"}}
    assert record_key(other_key) == record_key(ann)


class Stored:
    """A store, into which records go batch by batch."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(store=str(folder))
        self.connection = open_connection(self.settings, HashEmbedder.space)
        self.reader = Reader(self.connection, EMBEDDER)
        self._ingestor = Ingestor(self.connection, EMBEDDER, lambda _: None)
        self._batch = 0

    def put(self, *records: SpanRecord) -> None:
        self._batch += 1
        self._ingestor.ingest(records, writer="w", batch=self._batch)

    def outcomes(self) -> dict[str | None, str | None]:
        listed = self.reader.list_traces()
        assert len({each.trace_id for each in listed}) == len(listed)
        for each in listed:
            assert self.reader.get_trace(each.trace_id).outcome == each.outcome
        recalled = self.reader.recall("pay the invoice", limit=50)
        assert {r.outcome for r in recalled} == {each.outcome for each in listed}
        return {each.recorded_by: each.outcome for each in listed}

    def calls(self) -> set[tuple[str, int]]:
        return {(tool.tool_name, tool.call_count) for tool in self.reader.tool_stats()}


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path / "store")


ALL = {None: "local", "ann": "of ann", "bob": "of bob"}
CLAIMS = [a_task(who, who, outcome) for who, outcome in ALL.items()]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_senders_that_claim_the_same_ids_lose_nothing(
    stored: Stored, order: tuple[int, ...]
) -> None:
    for number in order:
        stored.put(CLAIMS[number])

    assert stored.outcomes() == ALL
    assert stored.reader.get_trace(PUBLIC).outcome == "local"
    assert stored.reader.get_trace(PUBLIC, asked_by="ann").outcome == "local"
    before = stored.outcomes()
    stored.put(*CLAIMS)  # again
    assert stored.outcomes() == before


def test_without_a_local_one_everybody_reads_their_own_and_others_the_first(
    stored: Stored,
) -> None:
    stored.put(CLAIMS[2])
    stored.put(CLAIMS[1])

    by = {who: stored.reader.get_trace(PUBLIC, asked_by=who).outcome for who in ("ann", "bob", "c")}
    assert by == {"ann": "of ann", "bob": "of bob", "c": "of bob"}
    second = next(each for each in stored.reader.list_traces() if each.recorded_by == "ann")
    assert second.trace_id != PUBLIC
    assert stored.reader.get_trace(second.trace_id, asked_by="bob").outcome == "of ann"


def test_a_rebuild_keeps_shares_names_and_counts(stored: Stored) -> None:
    stored.put(CLAIMS[2])
    stored.put(*CLAIMS[:2], *GRANTED, *OWN[1:])
    before = [stored.reader.list_traces(), stored.calls()]
    assert stored.calls() == CALLS
    stored.connection.close()

    rebuild(open_connection(stored.settings, None), EMBEDDER, stored.settings.spool_path)

    assert [stored.reader.list_traces(), stored.calls()] == before


@pytest.mark.parametrize("guests_first", [True, False])
def test_statistics_are_those_of_a_recount_whoever_comes_first(
    stored: Stored, guests_first: bool
) -> None:
    forged = a_call("bob", "ann", "forged", "3" * 16)  # of the id of the owner's call
    batches = [[*GRANTED, forged], OWN]
    for batch in batches if guests_first else reversed(batches):
        stored.put(*batch)
    stored.put(*OWN, *GRANTED, forged)

    assert stored.calls() == CALLS | {("forged", 1)}
    assert stored.reader.get_trace(PUBLIC).outcome == "paid 10 EUR"


def test_deleting_a_trace_deletes_that_of_one_owner_alone(stored: Stored) -> None:
    for record in CLAIMS:
        stored.put(record)

    erase_trace(stored.connection, EMBEDDER, PUBLIC)
    assert stored.outcomes() == {"ann": "of ann", "bob": "of bob"}
    of_bob = stored.reader.locate(PUBLIC, asked_by="bob")
    erase_trace(stored.connection, EMBEDDER, PUBLIC, of_bob)
    assert stored.outcomes() == {"ann": "of ann"}
    with pytest.raises(TraceNotFoundError):
        erase_trace(stored.connection, EMBEDDER, PUBLIC, of_bob)
    stored.put(a_task("bob", "bob", "again"))
    assert stored.outcomes() == {"ann": "of ann"}


def test_copies_of_one_sender_take_two_places_and_hide_nobody(stored: Stored) -> None:
    def forged(number: int) -> SpanRecord:
        copy = a_task("bob", "bob", f"FORGED {number}")
        copy["trace"], copy["start_ns"] = f"{number + 1:032x}", 10**18 + number
        text = f"Pay the invoice{number * '!'}" if number < 1000 else "pay, the invoice"
        copy["attributes"] = copy.get("attributes", {}) | {semconv.TASK: text}
        return copy

    stored.put(*(forged(number) for number in range(1000, 1300)))
    stored.put(CLAIMS[1])
    stored.put(CLAIMS[0])
    stored.put(*(forged(number) for number in range(300)))

    found = stored.reader.recall("pay the invoice", limit=5)
    assert sorted(str(each.recorded_by) for each in found) == ["None", "ann", "bob", "bob"]
    only = stored.reader.recall("pay the invoice", limit=5, agents=["ann"])
    assert [each.outcome for each in only] == ["of ann"]
