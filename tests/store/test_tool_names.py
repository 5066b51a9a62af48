"""Senders choose the names of tools: what they come to is bounded, and no call goes uncounted."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotrace.errors import InvalidArgumentError, ToolNotFoundError
from autotrace.spool.shares import Share
from autotrace.spool.span_records import SpanRecord
from autotrace.store import tool_names, tool_stats
from autotrace.store.call_counts import Recount
from autotrace.store.tool_names import OTHER_TOOLS, ToolNames, bounded_name
from autotrace.store.tool_stats import ToolCounters, read_page, read_totals, write_counters
from autotrace.traces.ingest import Ingestor
from autotrace.traces.tool_calls import call_of
from tests.traces.strategies import OTEL_TRACE, task_record, tool_record
from tests.traces.test_erase_property import EMBEDDER, Store

FEW = 4
"""Tools that are counted by name, in these tests."""


@pytest.fixture(autouse=True, scope="module")
def few_names() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool_names, "MAX_TOOLS", FEW)
        yield


def called(number: int, tool: str, sender: str = "", parent: int | None = None) -> SpanRecord:
    record: Any = tool_record(number, parent, number, number + 1, tool)
    return record | sent_by(sender) if sender else record


def sent_by(agent: str) -> Any:
    return {"sender": {"key": agent, "agent": agent}, "owner": agent}


def counted(store: Store) -> dict[str, int]:
    page = read_page(store.connection.collections.state)
    found = {tool.tool_name: tool.call_count for tool in page.tools}
    return found | ({OTHER_TOOLS: page.others.call_count} if page.others else {})


calls = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "ann", "bob"])), max_size=12
)


@settings(max_examples=60)
@given(
    before=calls,
    batches=st.lists(calls.map(lambda found: [*found, ("a", "")]), min_size=1, max_size=4),
    stop_after=st.integers(-1, 8),
    exclusive=st.booleans(),
)
def test_every_call_is_counted_once_by_name_or_among_the_others(
    before: Any, batches: Any, stop_after: int, exclusive: bool
) -> None:
    store = Store(exclusive=exclusive)
    number = 1
    named_before: set[str] = set()
    for batch in [[*before, ("first", "")], *batches]:
        records: list[SpanRecord] = []
        for tool, sender in batch:
            number += 1
            records.append(called(number, tool, sender))
        store.record(records, stop_after)
        found = counted(store)
        named = found.keys() - {OTHER_TOOLS}
        assert len(named) <= FEW
        assert named_before <= named
        named_before = named

    truth = Counter(tool for batch in [*batches, before, [("first", "")]] for tool, _ in batch)
    found = counted(store)
    assert sum(found.values()) == sum(truth.values())
    since = {
        t: c.since for (_, t), c in read_totals(store.connection.collections.state).writers.items()
    }
    for tool in found.keys() - {OTHER_TOOLS}:
        assert found[tool] == truth[tool] if since[tool] == 0 else found[tool] <= truth[tool]


@given(calls=calls, later=calls)
def test_a_rebuild_keeps_the_names_and_gives_each_all_of_its_calls(calls: Any, later: Any) -> None:
    store = Store(exclusive=True)
    for start, batch in ((1, calls), (100, later)):
        store.record([called(start + n, *call) for n, call in enumerate(batch)])
    state = store.connection.collections.state
    named = counted(store).keys() - {OTHER_TOOLS}

    recount = Recount(state)
    for tool, sender in [*later, *calls]:  # the log is in another order
        call = call_of(called(1, tool, sender))
        recount.add("w", 1, call)

    found = {tool: c.calls for tool, c in recount.counters.get("w", {}).items()}
    truth = Counter(tool for tool, _ in [*calls, *later])
    assert named <= found.keys()
    assert sum(found.values()) == sum(truth.values())
    assert all(found[tool] == truth[tool] for tool in found.keys() - {OTHER_TOOLS})


def test_what_is_deleted_leaves_the_place_where_it_was_counted() -> None:
    store = Store(exclusive=True)
    store.record([called(10 + n, f"ann-{n}", "ann") for n in range(4)])  # two names, two others
    mine: Any = task_record(50, None, 50, 60) | sent_by("ann")
    store.record([mine, called(51, "ann-3", "ann", parent=50)])
    store.record([called(70, "ann-3", "bob")])  # now it has a name
    assert counted(store) == {"ann-0": 1, "ann-1": 1, "ann-3": 1, OTHER_TOOLS: 3}

    store.delete(Share(OTEL_TRACE, "ann").trace_id(f"{50:016x}"))

    assert counted(store) == {"ann-0": 1, "ann-1": 1, "ann-3": 1, OTHER_TOOLS: 2}


def test_a_flood_of_names_leaves_some_to_every_other_sender() -> None:
    names = ToolNames({})
    assert names.place("honest", "bob") == "honest"
    flood = [names.place(f"forged-{n}", "ann") for n in range(100)]

    assert flood.count(OTHER_TOOLS) >= 100 - FEW // 2
    assert names.place("honest", "bob") == "honest"
    assert names.place("new", "carl") == "new"
    assert names.place("honest", "ann") == "honest"


def test_pages_and_what_comes_after_them_add_up_to_every_call() -> None:
    store = Store(exclusive=True)
    used = {"a": 3, "b": 5, "c": 1, "d": 2, "e": 7}
    spelled = [tool for tool in used for _ in range(used[tool])]
    store.record([called(n + 1, tool) for n, tool in enumerate(spelled)])

    pages = [store.reader.tool_stats_page(limit=2)]
    while pages[-1].left_out:
        pages.append(store.reader.tool_stats_page(limit=2, after=pages[-1].tools[-1].tool_name))

    assert [[t.tool_name for t in page.tools] for page in pages] == [["b", "a"], ["d", "c"]]
    assert [page.left_out for page in pages] == [2, 0]
    assert [page.others and page.others.call_count for page in pages] == [10, 7]
    assert pages[1].others is not None
    assert pages[1].others.tool_name == OTHER_TOOLS
    with pytest.raises(ToolNotFoundError, match="no tool 'e'"):
        store.reader.tool_stats(after="e")
    with pytest.raises(InvalidArgumentError, match="limit"):
        store.reader.tool_stats(limit=0)


def test_a_name_that_is_too_long_is_cut_and_counted() -> None:
    store, counters = Store(exclusive=True), Counter[str]()
    long = ["x" * 100_000 + end for end in ("1", "2")]
    records = [called(n + 2, name, parent=1) for n, name in enumerate(long)]
    ingestor = Ingestor(store.connection, EMBEDDER, lambda name: counters.update([name]))
    ingestor.ingest([task_record(1, None, 1, 9), *records], writer="w", batch=1)

    names = sorted(map(bounded_name, long))
    assert [tool.tool_name for tool in store.reader.tool_stats()] == names
    assert {len(name) for name in names} == {tool_names.MAX_NAME_CHARS}
    (trace,) = store.traces().values()
    assert sorted(call.tool_name for call in trace.tool_calls) == names
    assert counters == {"truncated": 2}


def test_a_longer_name_of_an_older_version_is_counted_once() -> None:
    store = Store(exclusive=True)
    long = "x" * 1000
    old = ToolCounters(long)
    old.count(call_of(called(1, long))._replace(tool_name=long))
    write_counters(store.connection.collections.state, "w", [old])
    assert counted(store) == {bounded_name(long): 1}

    store.batch = 5
    store.record([called(9, long)])

    assert counted(store) == {bounded_name(long): 2}


def test_an_answer_names_the_most_frequent_errors_and_counts_the_others() -> None:
    counters = ToolCounters("t")
    for number in range(tool_stats.MAX_ERROR_TYPES):
        call = tool_stats.ToolCallStat("t", "error", 1, 1, f"E{number:02}")
        for _ in range(number + 1):
            counters.count(call)

    shown = counters.to_model().error_types

    assert len(shown) == tool_stats.MAX_SHOWN_ERROR_TYPES
    assert sum(shown.values()) == counters.calls
    assert all(shown[f"E{n:02}"] == n + 1 for n in range(31, tool_stats.MAX_ERROR_TYPES))
    assert all(a <= b for a, b in pairwise([shown["E31"], shown["E49"]]))
