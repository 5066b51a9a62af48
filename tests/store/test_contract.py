"""What every store must do, seen through the public API; run over every backend."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import autotrace
from autotrace import step, task, tool, tool_call
from tests.embedders import HashEmbedder


@pytest.fixture
def settings(store_settings: dict[str, str]) -> Iterator[dict[str, Any]]:
    options: dict[str, Any] = store_settings | {
        "embedder": HashEmbedder(),
        "flush_interval_ms": 0,
    }
    autotrace.configure(**options)
    yield options
    autotrace.shutdown()


@tool
def double(number: int) -> int:
    return number * 2


@tool
def fail(message: str) -> None:
    raise ValueError(message)


def record(text: str, *, success: bool = True, calls: int = 1, **options: Any) -> str:
    with task(text, **options) as t:
        with step("think", action="double"):
            for number in range(calls):
                double(number)
        t.complete(f"done {text}", success=success)
    return t.trace_id


def test_what_was_recorded_is_read_back_whole(settings: dict[str, Any]) -> None:
    with task("buy milk", session_id="s1", agent="shopper", triggered_by_memory_id="m1") as t:
        with step("go to the shop", action="walk", observations=["it is open"]) as s:
            double(21)
            s.observe("they have milk")
        with pytest.raises(ValueError, match="no coins"):
            fail("no coins")
        t.complete("bought", success=True)
    assert autotrace.flush() is True

    trace = autotrace.get_trace(t.trace_id)

    assert trace.model_dump(
        exclude={
            "created_at": True,
            "completed_at": True,
            "steps": {
                "__all__": {
                    "created_at": True,
                    "completed_at": True,
                    "tool_calls": {
                        "__all__": {"started_at", "ended_at", "duration_ms", "tool_call_id"}
                    },
                }
            },
        }
    ) == {
        "trace_id": t.trace_id,
        "task": "buy milk",
        "status": "completed",
        "success": True,
        "outcome": "bought",
        "session_id": "s1",
        "agent": "shopper",
        "parent_trace_id": None,
        "triggered_by_memory_id": "m1",
        "recorded_by": None,
        "decisions": [],
        "decisions_error": None,
        "steps": [
            {
                "step_id": s.step_id,
                "thought": "go to the shop",
                "action": "walk",
                "observations": ["it is open", "they have milk"],
                "error": None,
                "implicit": False,
                "parent_step_id": None,
                "tool_calls": [
                    {
                        "tool_name": "double",
                        "arguments": {"number": 21},
                        "result": 42,
                        "error": None,
                        "error_type": None,
                        "status": "success",
                        "ended_as": "success",
                        "ended_by": None,
                        "yielded": None,
                        "memory_id": None,
                        "parent_tool_call_id": None,
                    },
                    {
                        "tool_name": "fail",
                        "arguments": {"message": "no coins"},
                        "result": None,
                        "error": "no coins",
                        "error_type": "ValueError",
                        "status": "error",
                        "ended_as": "error",
                        "ended_by": None,
                        "yielded": None,
                        "memory_id": None,
                        "parent_tool_call_id": None,
                    },
                ],
            }
        ],
    }


def test_an_unknown_trace_is_not_found(settings: dict[str, Any]) -> None:
    for trace_id in ("trace-" + "0" * 32 + "-" + "0" * 16, "nonsense", ""):
        with pytest.raises(autotrace.TraceNotFoundError):
            autotrace.get_trace(trace_id)


def test_a_page_after_an_unknown_trace_is_refused(settings: dict[str, Any]) -> None:
    record("x")
    autotrace.flush()

    with pytest.raises(autotrace.TraceNotFoundError):
        autotrace.list_traces(after="trace-" + "0" * 32 + "-" + "0" * 16)


def test_a_text_that_the_embedder_refuses_keeps_no_other_out(
    store_settings: dict[str, str],
) -> None:
    class Choosy(HashEmbedder):
        def embed(self, texts: Any) -> list[list[float]]:
            if any("bad" in text for text in texts):
                msg = "400 Bad Request"
                raise RuntimeError(msg)
            return super().embed(texts)

    autotrace.configure(**store_settings, embedder=Choosy(), flush_interval_ms=0)  # type: ignore[arg-type] - strings
    ids = [record(text) for text in ("a good one", "a bad one", "another good one")]

    assert autotrace.flush(timeout=500) is True

    assert {autotrace.get_trace(i).task for i in ids} == {
        "a good one",
        "a bad one",
        "another good one",
    }
    assert {s.task: s.status for s in autotrace.list_traces()}["a bad one"] == "completed"
    assert {r.task for r in autotrace.recall("a good one")} == {"a good one", "another good one"}
    assert autotrace.health().counters["unembedded_tasks"] >= 1
    autotrace.shutdown()


def test_an_embedder_that_is_down_keeps_everything_waiting(store_settings: dict[str, str]) -> None:
    class Down(HashEmbedder):
        up = False

        def embed(self, texts: Any) -> list[list[float]]:
            if not self.up:
                raise ConnectionError
            return super().embed(texts)

    embedder = Down()
    autotrace.configure(**store_settings, embedder=embedder, flush_interval_ms=0)  # type: ignore[arg-type] - strings
    trace_id = record("patience")
    assert autotrace.flush(timeout=3) is False
    assert "embedder" in str(autotrace.health().last_error)

    embedder.up = True

    assert autotrace.flush(timeout=500) is True
    assert [r.trace_id for r in autotrace.recall("patience")] == [trace_id]
    autotrace.shutdown()


def test_an_active_trace_is_read_and_listed_but_not_recalled(settings: dict[str, Any]) -> None:
    with task("a long task") as t:
        double(1)
        autotrace.flush()

        trace = autotrace.get_trace(t.trace_id)
        assert (trace.status, trace.success, len(trace.tool_calls)) == ("active", None, 1)
        (summary,) = autotrace.list_traces()
        assert (summary.trace_id, summary.status) == (t.trace_id, "active")
        assert (summary.tool_call_count, summary.tool_sequence) == (1, ["double"])
        assert autotrace.recall("a long task") == []
    autotrace.flush()

    (summary,) = autotrace.list_traces()
    assert (summary.trace_id, summary.status) == (t.trace_id, "completed")
    assert [r.trace_id for r in autotrace.recall("a long task")] == [t.trace_id]


def test_recall_finds_by_meaning_and_by_success(settings: dict[str, Any]) -> None:
    good = record("book a table for dinner", agent="a", session_id="1")
    bad = record("book a table for lunch", agent="b", session_id="2", success=False)
    record("repair the printer")
    autotrace.flush()

    results = autotrace.recall("book a table", limit=2)
    assert results[0].trace_id == good
    assert results[0].model_dump(include={"task", "outcome", "success", "tool_sequence"}) == {
        "task": "book a table for dinner",
        "outcome": "done book a table for dinner",
        "success": True,
        "tool_sequence": ["double"],
    }
    assert all(r.success for r in results)
    both = autotrace.recall("book a table", success_only=False, limit=2)
    assert {r.trace_id for r in both} == {good, bad}
    assert [r.similarity for r in both] == sorted((r.similarity for r in both), reverse=True)


def test_recall_of_the_same_text_is_most_similar(settings: dict[str, Any]) -> None:
    trace_id = record("book a table for dinner")
    record("repair the printer")
    autotrace.flush()

    best = autotrace.recall("book a table for dinner")[0]

    assert best.trace_id == trace_id
    assert best.similarity == pytest.approx(1.0, abs=1e-5)


def test_of_equally_similar_traces_the_newest_are_recalled(settings: dict[str, Any]) -> None:
    ids = [record("back up the database", calls=0) for _ in range(60)]
    record("something else")
    autotrace.flush()

    recalled = autotrace.recall("back up the database", limit=5)

    assert [r.trace_id for r in recalled] == ids[:-6:-1]


def test_a_flush_on_a_store_used_before_waits_for_what_was_just_recorded(
    settings: dict[str, Any],
) -> None:
    record("yesterday")
    autotrace.shutdown()
    autotrace.configure(**settings)
    autotrace.flush()  # whatever the last process left is stored, and this one has said nothing yet

    trace_id = record("today")
    assert autotrace.flush() is True

    assert autotrace.get_trace(trace_id).task == "today"


def test_a_text_that_the_index_has_lost_is_found_in_its_own_words(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autotrace.store import task_index as texts

    nearest = texts.nearest
    trace_id = record("lost by the index")
    record("another")
    assert autotrace.flush(timeout=500)
    monkeypatch.setattr(
        texts, "nearest", lambda *a, **k: [t for t in nearest(*a, **k) if t.similarity < 0.99]
    )

    assert [r.trace_id for r in autotrace.recall("lost by the index", limit=1)] == [trace_id]


def test_a_task_repeated_thousands_of_times_hides_no_other(settings: dict[str, Any]) -> None:
    rare = [f"rare task number{n} about subject{n}" for n in range(19)]
    ids: dict[str, str] = {}
    repeated: list[str] = []
    for n in range(3000):
        with task("the task of every hour", session_id=f"s{n}", agent="cron") as run:
            pass
        repeated.append(run.trace_id)
        if n % 150 == 75 and rare[n // 150 :]:
            ids[rare[n // 150]] = record(rare[n // 150], agent="person")
    assert autotrace.flush(timeout=500)
    failed = record("the task of every hour", success=False, agent="cron")
    assert autotrace.flush(timeout=500)

    assert len(ids) == 19
    assert {t: autotrace.recall(t, limit=1)[0].trace_id for t in ids} == ids
    newest = autotrace.recall("the task of every hour", limit=50)
    assert [r.trace_id for r in newest] == repeated[:-51:-1]
    assert {r.similarity for r in newest} == {1.0}
    both = autotrace.recall("the task of every hour", success_only=False, limit=2)
    assert [r.trace_id for r in both] == [failed, repeated[-1]]
    of_person = autotrace.recall("the task of every hour", agent="person", limit=50)
    assert {r.trace_id for r in of_person} == set(ids.values())
    (one,) = autotrace.recall("anything", session_id="s7")
    assert one.trace_id == repeated[7]
    used = autotrace.recall("the task of every hour", tools=["double"], limit=50)
    assert {r.trace_id for r in used} == set(ids.values())


def test_recall_filters_also_what_is_rare(settings: dict[str, Any]) -> None:
    for n in range(60):
        record(f"task number {n}", agent="common", session_id=f"s{n % 7}")
    with task("something quite different", agent="rare", session_id="rare"), tool_call("odd_tool"):
        pass
    autotrace.flush()

    def found(**filters: Any) -> list[str]:
        return [r.task for r in autotrace.recall("task number 1", limit=3, **filters)]

    assert found(agent="rare") == ["something quite different"]
    assert found(session_id="rare") == ["something quite different"]
    assert found(tools=["odd_tool"]) == ["something quite different"]
    assert found(tools=["odd_tool", "double"]) == []
    assert len(found(agent="common")) == 3
    assert found(agent="nobody") == []


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: autotrace.recall("x", limit=0), "limit"),
        (lambda: autotrace.recall("x", limit=51), "limit"),
        (lambda: autotrace.recall("x", limit=True), "limit"),
        (lambda: autotrace.recall("  "), "query"),
        (lambda: autotrace.recall("x", tools="double"), "tools"),
        (lambda: autotrace.list_traces(limit=1001), "limit"),
        (lambda: autotrace.list_traces(status="done"), "status"),  # type: ignore[arg-type] - the point
    ],
)
def test_bad_questions_name_the_field(settings: dict[str, Any], call: Any, field: str) -> None:
    with pytest.raises(autotrace.InvalidArgumentError) as caught:
        call()
    assert caught.value.field == field


def test_listing_is_newest_first_and_pages_without_gap_or_repeat(settings: dict[str, Any]) -> None:
    ids = [record(f"task {n}", calls=0) for n in range(45)]
    autotrace.flush()

    pages: list[str] = []
    after: str | None = None
    while page := autotrace.list_traces(limit=10, after=after):
        pages += [summary.trace_id for summary in page]
        after = pages[-1]

    assert pages == ids[::-1]


def test_listing_filters(settings: dict[str, Any]) -> None:
    first = record("one", session_id="s1", agent="a")
    second = record("two", session_id="s2", agent="a")
    third = record("three", session_id="s1", agent="b")
    autotrace.flush()

    def listed(**filters: Any) -> list[str]:
        return [summary.trace_id for summary in autotrace.list_traces(**filters)]

    assert listed(session_id="s1") == [third, first]
    assert listed(agent="a") == [second, first]
    assert listed(agent="a", session_id="s1") == [first]
    assert listed(status="completed") == [third, second, first]
    assert listed(status="active") == []
    assert listed(session_id="s1", after=third) == [first]


def test_a_rare_session_is_found_behind_many_newer_traces(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autotrace.store.trace_summaries._SCAN_ENTRIES", 20)
    old = record("old", session_id="rare", calls=0)
    for n in range(40):
        record(f"new {n}", calls=0)
    autotrace.flush()

    assert [s.trace_id for s in autotrace.list_traces(session_id="rare")] == [old]


def test_statistics_equal_a_recount(settings: dict[str, Any]) -> None:
    generator = random.Random(7)
    for n in range(30):
        with task(f"task {n}"):
            for _ in range(generator.randrange(4)):
                double(n)
            if n % 3 == 0:
                with pytest.raises(ValueError, match="x"):
                    fail("x")
            if n % 10 == 0:
                with pytest.raises(TimeoutError), tool_call("slow"):
                    raise TimeoutError
        if n % 7 == 0:
            autotrace.flush()
    double(5)  # outside any task: counted, in no trace
    autotrace.flush()

    calls = [
        call
        for summary in autotrace.list_traces(limit=1000)
        for call in autotrace.get_trace(summary.trace_id).tool_calls
    ]
    counts = Counter((call.tool_name, call.status) for call in calls)
    counts["double", "success"] += 1
    stats = {s.tool_name: s for s in autotrace.tool_stats()}

    assert {name: s.call_count for name, s in stats.items()} == {
        name: sum(n for (tool_name, _), n in counts.items() if tool_name == name)
        for name in ("double", "fail", "slow")
    }
    assert stats["double"].success_rate == 1.0
    assert (stats["fail"].error_count, stats["fail"].error_types) == (10, {"ValueError": 10})
    assert (stats["slow"].timeout_count, stats["slow"].error_types) == (3, {"TimeoutError": 3})


def test_a_store_is_opened_again_with_everything_in_it(settings: dict[str, Any]) -> None:
    trace_id = record("remember me")
    autotrace.shutdown()
    autotrace.configure(**settings)

    assert autotrace.get_trace(trace_id).task == "remember me"
    assert [r.trace_id for r in autotrace.recall("remember me")] == [trace_id]
    record("another")
    autotrace.flush()
    (stats,) = autotrace.tool_stats()
    assert stats.call_count == 2


def test_another_embedding_space_is_refused_and_both_are_named(settings: dict[str, Any]) -> None:
    record("x")
    autotrace.shutdown()
    other = HashEmbedder()
    other.space = "another-space"
    autotrace.configure(**settings | {"embedder": other})

    with pytest.raises(autotrace.EmbeddingSpaceError) as caught:
        autotrace.recall("x")

    for part in ("test-hash", "another-space", "autotrace rebuild"):
        assert part in str(caught.value)


def test_an_older_store_is_refused_with_the_command_that_brings_it_up_to_date(
    settings: dict[str, Any],
) -> None:
    from autotrace.settings import load_settings
    from autotrace.store import schema
    from autotrace.worker.wiring import open_connection

    record("x")
    autotrace.shutdown()
    names = {k: v for k, v in settings.items() if k != "embedder"}
    connection = open_connection(load_settings(**names), None)
    with connection.writing() as collections:
        schema.upsert(
            collections.state,
            {schema.STORE_RECORD_ID: {"schema_version": 1, "space": "test-hash"}},
        )
    connection.close()

    autotrace.configure(**settings)
    with pytest.raises(autotrace.StoreVersionError, match="autotrace rebuild --store"):
        autotrace.list_traces()


def test_a_newer_store_is_refused_and_left_as_it_is(settings: dict[str, Any]) -> None:
    from autotrace.settings import load_settings
    from autotrace.store import schema
    from autotrace.worker.wiring import open_connection

    trace_id = record("x")
    autotrace.shutdown()
    names = {k: v for k, v in settings.items() if k != "embedder"}
    connection = open_connection(load_settings(**names), None)
    newer = {"schema_version": schema.SCHEMA_VERSION + 1, "space": "test-hash"}
    with connection.writing() as collections:
        schema.upsert(collections.state, {schema.STORE_RECORD_ID: newer})
    connection.close()

    autotrace.configure(**settings)
    record("y")
    with pytest.raises(autotrace.StoreVersionError):
        autotrace.get_trace(trace_id)
    assert autotrace.flush(timeout=500) is False  # at once: to wait is of no use
    assert autotrace.health().backlog_bytes > 0
