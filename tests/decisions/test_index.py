"""Decisions are found by meaning once their events are stored, and after a rebuild."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from autotrace.base.health_counters import HealthCounters
from autotrace.decision_requests import ApprovalAnswer, DecisionRequest
from autotrace.doctor.decision_checks import check_decisions
from autotrace.errors import EmbeddingSpaceError, StoreError, StoreUnavailableError
from autotrace.models import ApprovalRequest
from autotrace.settings import Settings, load_settings
from autotrace.spool.span_records import SpanRecord
from autotrace.store import chroma_embedded, decision_log, schema, task_index
from autotrace.store.schema import groups
from autotrace.store.text_keys import key_of
from autotrace.traces.ingest import Ingestor
from autotrace.traces.reader import Reader
from autotrace.worker.rebuild import Rebuilt, rebuild
from autotrace.worker.wiring import open_connection, open_decision_index
from tests.decisions.deciding import Kept, open_deciding
from tests.embedders import HashEmbedder, SmallEmbedder
from tests.traces.strategies import decision_record, task_record, tool_record


@dataclass
class Agent:
    """Decides, and stores its spans when told to."""

    settings: Settings
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    counters: HealthCounters = field(default_factory=HealthCounters)

    def __post_init__(self) -> None:
        deciding = open_deciding(self.settings.model_dump(), self.embedder)
        self.deciding = deciding
        self.connection = deciding.event_store.connection
        self.told = cast("Kept", deciding.event_store.recording)
        space = self.embedder.space
        self.index = open_decision_index(self.settings, self.embedder, self.counters.add, space)
        self.traces = open_connection(self.settings, space)
        self.ingestor = Ingestor(self.traces, self.embedder, self.counters.add, self.index)
        self.batch = 0

    def ask(self, intent: str, title: str) -> str:
        decision = self.deciding.create(DecisionRequest(intent, "approve", actor="bot"))
        request = ApprovalRequest(title=title)
        self.deciding.request_approval(decision.decision_id, request, by="bot")
        return decision.decision_id

    def events(self) -> list[SpanRecord]:
        """Return the spans of what has happened, below a task."""
        spans = [
            decision_record(n, 1, n, n, h.decision_id, h.event["type"])
            for n, h in enumerate(self.told.events, start=2)
        ]
        return [task_record(1, None, 0, 1000), *spans]

    def store(self, records: list[SpanRecord] | None = None) -> None:
        self.batch += 1
        self.ingestor.ingest(records or self.events(), writer="w", batch=self.batch)

    def found(self, query: str) -> list[str]:
        return [found.decision_id for found in self.deciding.search(query, limit=1)]

    def close(self) -> None:
        for part in (self.index, self.traces, self.connection):
            part.close()


Agents = Callable[..., Agent]


@pytest.fixture
def agents(store_settings: dict[str, str]) -> Iterator[Agents]:
    """Agents on a store of each backend in turn."""
    with _agents(load_settings(**store_settings)) as make:
        yield make


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent on an embedded store, where the backend makes no difference."""
    with _agents(load_settings(store=str(tmp_path / "store"))) as make:
        yield make()


@contextmanager
def _agents(settings: Settings) -> Iterator[Agents]:
    made: list[Agent] = []

    def make(**options: Any) -> Agent:
        made.append(Agent(settings, **options))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


def test_a_decision_is_found_by_meaning_once_its_events_are_stored(agents: Agents) -> None:
    agent = agents()
    refund = agent.ask("refund.grant", "Give the money back for the broken kettle")
    order = agent.ask("order.place", "Buy paper for the printer")
    assert agent.found("broken kettle") == []

    agent.store()

    assert agent.found("money for a broken kettle") == [refund]
    assert agent.found("paper for the printer") == [order]


def test_what_is_stored_twice_is_found_once(agent: Agent) -> None:
    refund = agent.ask("refund.grant", "Give the money back")

    agent.store()
    agent.store()
    agent.batch -= 1
    agent.store()

    found = agent.deciding.search("money back")
    assert [f.decision_id for f in found] == [refund]


def test_a_rejection_is_found_by_its_rationale(agent: Agent) -> None:
    refund, order = agent.ask("a.refund", "Give money"), agent.ask("an.order", "Buy paper")
    agent.store()

    agent.deciding.resolve(
        order, ApprovalAnswer(granted=False, approver="ada", rationale="elephants are grey")
    )
    agent.store()

    assert agent.found("grey elephants are") == [order]
    assert {f.decision_id for f in agent.deciding.search("elephants")} == {refund, order}


def test_what_was_erased_finds_nothing_even_while_it_is_being_erased(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise StoreUnavailableError("between the event and the erasure")

    asked = agent.ask("refund.grant", "Jane Doe wants money")
    with monkeypatch.context() as patch:
        patch.setattr(decision_log, "replace", die)
        with pytest.raises(StoreUnavailableError):
            agent.deciding.erase(asked, by="ada")
    agent.store()

    (found,) = agent.deciding.search("refund grant")
    assert found.similarity is not None
    assert found.similarity > 0.99


def test_a_batch_without_events_of_decisions_does_not_touch_their_store(agent: Agent) -> None:
    agent.store([task_record(1, None, 0, 10), tool_record(2, 1, 3, 4)])

    assert not Path(agent.settings.store, decision_log.FOLDER).exists()


def test_a_store_of_decisions_that_fails_has_the_batch_tried_again(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    refund = agent.ask("refund.grant", "Give the money back")
    records = [*agent.events(), tool_record(90, 1, 90, 91)]
    reader = Reader(agent.traces, agent.embedder)

    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailableError("down")

    with monkeypatch.context() as patch:
        patch.setattr(decision_log, "put_search", fail)
        with pytest.raises(StoreError, match="down"):
            agent.store(records)
        assert agent.found("money back") == []
    agent.batch -= 1
    agent.store(records)

    assert agent.found("money back") == [refund]
    assert [stats.call_count for stats in reader.tool_stats()] == [1]
    assert [trace.tool_call_count for trace in reader.list_traces()] == [1]


def test_a_decision_that_is_gone_or_damaged_stops_nobody(agent: Agent) -> None:
    damaged, sound = agent.ask("a.refund", "Give money"), agent.ask("an.order", "Buy paper")
    with agent.connection.writing() as collections:
        schema.upsert(collections.log, {f"{damaged}/0": [{"type": "created"}]})

    agent.store([*agent.events(), decision_record(90, 1, 9, 9, "decision-gone")])

    with agent.connection.reading(fresh=True) as collections:
        assert collections.search.count() == 1
    assert agent.found("Give money") == [sound]
    assert agent.counters.snapshot() == {"unindexed_decisions": 1}


def test_a_trace_lists_its_decisions_as_they_stand_and_its_summary_the_rejected(
    agents: Agents,
) -> None:
    agent = agents()
    refund, order = agent.ask("a.refund", "Give money"), agent.ask("an.order", "Buy paper")
    agent.deciding.resolve(
        order, ApprovalAnswer(granted=False, approver="ada", rationale="no paper is needed")
    )
    agent.store([*agent.events(), decision_record(90, 1, 9, 9, "decision-gone")])
    agent.deciding.resolve(refund, ApprovalAnswer(granted=True, approver="ada"))
    reader = Reader(agent.traces, agent.embedder, agent.deciding.existing)

    (summary,) = reader.list_traces()
    trace = reader.get_trace(summary.trace_id)

    assert [(d.decision_id, d.status) for d in trace.decisions] == [
        (refund, "approved"), (order, "aborted"),
    ]  # fmt: skip
    assert trace.decisions[1].approval is not None
    assert trace.decisions[1].approval.rationale == "no paper is needed"
    assert trace.decisions_error is None
    assert trace.steps == []
    assert summary.rejected_decisions == [order]
    assert reader.recall("task 1")[0].rejected_decisions == [order]


def test_a_trace_is_given_though_its_decisions_cannot_be_read(agent: Agent) -> None:
    agent.ask("a.refund", "Give money")
    agent.store()

    def down(_: object) -> Any:
        raise StoreUnavailableError("the decisions are down")

    reader = Reader(agent.traces, agent.embedder, down)
    trace = reader.get_trace(reader.list_traces()[0].trace_id)

    assert (trace.task, trace.decisions) == ("task 1", [])
    assert trace.decisions_error == "the decisions are down"


def test_a_trace_without_decisions_does_not_ask_for_any(agent: Agent) -> None:
    agent.store([task_record(1, None, 0, 10)])

    def unasked(_: object) -> Any:
        raise AssertionError

    reader = Reader(agent.traces, agent.embedder, unasked)

    assert reader.get_trace(reader.list_traces()[0].trace_id).decisions == []


def rebuilt(agent: Agent, embedder: HashEmbedder) -> Rebuilt:
    index = open_decision_index(agent.settings, embedder, agent.counters.add)
    connection = open_connection(agent.settings, None)
    return rebuild(connection, embedder, agent.settings.spool_path, decisions=index)


def test_a_rebuild_moves_decisions_to_another_embedder(agents: Agents) -> None:
    agent = agents()
    refund = agent.ask("refund.grant", "Give the money back for the broken kettle")
    order = agent.ask("order.place", "Buy paper for the printer")
    agent.store()

    done = rebuilt(agent, SmallEmbedder())
    agent.close()

    assert (done.traces, done.decisions) == (1, 2)
    moved = agents(embedder=SmallEmbedder())
    assert moved.found("refund grant Give the money back for the broken kettle") == [refund]
    assert moved.found("order place Buy paper for the printer") == [order]
    with pytest.raises(EmbeddingSpaceError):
        agent.found("a broken kettle")


def test_a_search_goes_on_while_a_rebuild_replaces_the_index(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_embedded, "REOPEN_INTERVAL_S", 3600.0)
    refund = agent.ask("refund.grant", "Give the money back for the broken kettle")
    agent.store()
    assert agent.found("a broken kettle") == [refund]

    assert rebuilt(agent, agent.embedder).decisions == 1

    assert agent.found("a broken kettle") == [refund]


def test_a_rebuild_finds_what_the_index_has_lost(agent: Agent) -> None:
    refund = agent.ask("refund.grant", "Give the money back for the broken kettle")
    agent.store()
    with agent.connection.writing() as collections:
        collections.search.delete(collections.search.get(include=[])["ids"])

    assert rebuilt(agent, agent.embedder).decisions == 1

    assert agent.found("a broken kettle") == [refund]


def test_a_rebuild_that_was_interrupted_is_said_and_run_again(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agents()
    refund = agent.ask("refund.grant", "Give the money back for the broken kettle")
    agent.store()

    def interrupt(*_: object, **__: object) -> Mapping[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decision_log, "put_search", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rebuilt(agent, agent.embedder)
    agent.close()  # a new process
    with pytest.raises(StoreError, match="being rebuilt"):
        agent.found("a broken kettle")
    rebuilt(agent, agent.embedder)
    agent.close()

    assert agent.found("a broken kettle") == [refund]


def put_copies(agent: Agent, number: int, text: str = "may the door be opened") -> list[str]:
    """Index decisions of one text without the events that the index does not read."""
    vector = agent.embedder.embed([text])[0]
    ids = [f"decision-copy-{n}" for n in range(number)]
    key = key_of(text)
    with agent.connection.writing() as collections:
        for some in groups(ids, 500):
            found = {i: decision_log.IndexedText(key, 1, vector) for i in some}
            decision_log.put_search(collections, found, exclusive=agent.connection.exclusive)
    return ids


def names(agent: Agent, query: str, limit: int) -> list[str]:
    vector = agent.embedder.embed([query])[0]
    with agent.connection.reading(fresh=True) as collections:
        return [name for name, _ in decision_log.nearest(collections, vector, limit)[0]]


def test_thousands_of_decisions_of_one_text_have_one_vector_and_hide_no_other(
    agents: Agents,
) -> None:
    agent = agents()
    copies = put_copies(agent, 1_500)
    others = [agent.ask(f"order.item{n}", f"buy thing{n} for room{n}") for n in range(20)]
    agent.store()

    with agent.connection.reading(fresh=True) as collections:
        assert collections.search.count() == 21
    asked = [agent.found(f"buy thing{n} for room{n}") for n in range(20)]
    assert asked == [[other] for other in others]
    assert set(names(agent, "may the door be opened", 1_500)) == set(copies)


def test_a_decision_is_not_found_by_a_text_that_it_had(agents: Agents) -> None:
    agent = agents()
    kept, changed = (
        agent.ask("door.open", "Zebra crossing"),
        agent.ask("door.open", "Zebra crossing"),
    )
    agent.store()

    agent.deciding.resolve(
        changed, ApprovalAnswer(granted=False, approver="ada", rationale="elephants are grey")
    )
    agent.store()

    assert names(agent, "door open Zebra crossing", 10)[0] == kept
    assert sorted(names(agent, "Zebra crossing", 10)) == sorted([kept, changed])
    agent.deciding.resolve(
        kept, ApprovalAnswer(granted=False, approver="ada", rationale="wolves are grey, too")
    )
    agent.store()
    with agent.connection.reading(fresh=True) as collections:
        assert collections.search.count() == 2
        assert collections.texts.get(where=None, include=[])["ids"]
    assert sorted(names(agent, "Zebra crossing", 10)) == sorted([kept, changed])


def test_a_writer_that_dies_leaves_no_text_that_nobody_has(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = agent.ask("door.open", "Zebra crossing")
    steps = ("add_task", "remove_unused")
    for step in steps:
        done = getattr(task_index, step)

        def die(*args: Any, done: Any = done, **options: Any) -> None:
            done(*args, **options)
            raise StoreUnavailableError("after a step")

        agent.deciding.add_context(asked, {"a": 1}, summary=f"before {step}", by="bot")
        with monkeypatch.context() as patch:
            patch.setattr(task_index, step, die)
            with pytest.raises(StoreUnavailableError):
                agent.index.update([asked])
        agent.deciding.add_context(asked, {"a": 2}, summary=f"after {step}", by="bot")
        agent.index.update([asked])

        with agent.connection.reading(fresh=True) as collections:
            assert collections.search.count() == 1
        assert names(agent, "door open", 10) == [asked]


def test_a_store_of_schema_1_stays_as_it_is_until_a_rebuild(agents: Agents) -> None:
    agent = agents()
    with agent.connection.writing() as collections:
        record = {"schema_version": 1, "space": agent.embedder.space}
        schema.upsert(collections.state, {schema.STORE_RECORD_ID: record})
    agent.close()
    refund = agent.ask("refund.grant", "Give the money back")
    again = agent.ask("refund.grant", "Give the money back")
    agent.store()

    with agent.connection.reading(fresh=True) as collections:
        assert sorted(collections.search.get(include=[])["ids"]) == sorted([refund, again])
    assert set(names(agent, "money back", 10)) == {refund, again}

    assert rebuilt(agent, agent.embedder).decisions == 2
    agent.close()

    with agent.connection.reading(fresh=True) as collections:
        assert collections.search.count() == 1
    assert set(names(agent, "money back", 10)) == {refund, again}


def test_the_doctor_reports_a_vector_that_too_many_decisions_have(agent: Agent) -> None:
    agent.ask("refund.grant", "Give the money back")
    agent.store()
    vector = agent.embedder.embed(["one and the same"])[0]
    with agent.connection.writing() as collections:
        old = replace(collections, by_texts=False)
        found = {f"decision-{n}": decision_log.IndexedText("k", 1, vector) for n in range(1_200)}
        decision_log.put_search(old, found, exclusive=True)

    check = check_decisions(agent.settings, agent.embedder, "rebuild")

    assert (check.status, check.fix) == ("error", "rebuild")
    assert check.detail.startswith("1,200 have one and the same vector")
