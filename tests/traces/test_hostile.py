"""Whatever a sender writes into spans: what is made of it can be stored, and read."""

from __future__ import annotations

import json
import os
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from autotrace import semconv
from autotrace.otlp.decode import read_json
from autotrace.spool import record_fields
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import role_of, trace_id_of
from autotrace.store.times import utc
from autotrace.store.tool_stats import ToolCounters
from autotrace.store.trace_summaries import to_model
from autotrace.traces.assembly import assemble, build_trace, decisions_of, summarize
from autotrace.traces.tool_calls import call_of
from autotrace.traces.tree import Tree
from tests.traces.hostile import batches

fuzzing = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")))


@fuzzing
@given(batch=batches())
def test_whatever_spans_hold_what_is_made_of_them_can_be_stored_and_shown(
    batch: dict[str, Any],
) -> None:
    records = [orjson.loads(orjson.dumps(r)) for r in read_json(json.dumps(batch).encode()).records]
    tree = Tree(records)
    for task in tree.tasks:
        summary = summarize(tree, task)
        assert orjson.loads(orjson.dumps(summary)) == summary
        to_model(trace_id_of(task), summary).model_dump_json()
        shown = build_trace(tree, task)
        shown.model_dump_json()
        json.dumps(shown.model_dump(mode="json"), allow_nan=False)
        assert all(isinstance(decision, str) for decision in decisions_of(tree, task))
    for call in map(call_of, tree.calls()):
        counters = ToolCounters(call.tool_name)
        counters.count(call)
        assert orjson.loads(orjson.dumps(counters))["total_ms"] == call.duration_ms
        assert 0 < len(call.tool_name) <= 256
        counters.to_model().model_dump_json()


def record(**attributes: Any) -> SpanRecord:
    return SpanRecord(
        trace="ab" * 16, id="cd" * 8, start_ns=1, end_ns=2, attributes=dict(attributes)
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ("a word", "a word"),
        ("half a \ud800 character", "half a \ufffd character"),
        (True, "true"),
        (1, "1"),
        (2**70, str(2**70)),
        (float("nan"), "null"),
        (["a", 1], '["a",1]'),
        ({"a": None}, '{"a":null}'),
        (b"\xff", "b'\\xff'"),
    ],
)
def test_any_value_is_read_as_text(value: Any, text: str | None) -> None:
    assert record_fields.text(record(key=value), "key") == text


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), (False, False), ("false", False), (" True", True), ("no", None), (0, None)],
)
def test_a_flag_is_a_boolean_or_the_word_for_it(value: Any, flag: bool | None) -> None:
    assert record_fields.flag(record(key=value), "key") is flag


@pytest.mark.parametrize(
    ("value", "texts"),
    [(None, []), (1, ["1"]), ("a", ["a"]), (["a", 2, None, {}], ["a", "2", "{}"]), ({}, ["{}"])],
)
def test_texts_are_the_items_of_a_list_or_the_one_value(value: Any, texts: list[str]) -> None:
    assert record_fields.texts(record(key=value), "key") == texts


def test_json_that_is_nested_too_deeply_to_be_shown_stays_text() -> None:
    deep, flat = "[" * 101 + "]" * 101, "[" + "[]," * 500 + "1]"
    assert record_fields.json_value(record(key=deep), "key") == deep
    assert record_fields.json_value(record(key=flat), "key") == json.loads(flat)


def test_a_record_with_fields_of_other_types_is_read_as_far_as_it_goes() -> None:
    event = {"name": 5, "attributes": []}
    odd: Any = record() | {
        "start_ns": 1.5e18,
        "end_ns": 2**70,
        "name": ["a"],
        "attributes": None,
        "status": "bad",
        "events": [event, "no event"],
    }
    assert record_fields.conformed(odd) == {
        "trace": "ab" * 16,
        "id": "cd" * 8,
        "start_ns": 1_500_000_000_000_000_000,
        "end_ns": 2**63 - 1,
        "name": '["a"]',
        "events": [{"name": "5", "time_ns": 0, "attributes": {}}],
    }
    usual = record(a=1)
    assert record_fields.conformed(usual) is usual


@pytest.mark.parametrize("missing", ["trace", "id", "start_ns"])
def test_what_has_no_ids_or_no_start_is_not_a_record(missing: str) -> None:
    whole: dict[str, Any] = dict(record())
    del whole[missing]
    with pytest.raises(ValueError, match="not a record"):
        record_fields.conformed(whole)


def test_a_span_of_the_kind_task_without_a_text_opens_no_trace() -> None:
    assert role_of(record(**{semconv.KIND: "task"})) == "other"
    assert assemble([record(**{semconv.KIND: "task"})]) == []
    assert [t.task for t in assemble([record(**{semconv.KIND: "task", semconv.TASK: 5})])] == ["5"]


def test_a_call_lasts_a_year_at_most_and_any_time_can_be_shown() -> None:
    long = record(**{semconv.GEN_AI_OPERATION_NAME: "execute_tool"}) | {"end_ns": 2**63 - 1}
    assert call_of(long).duration_ms == 366 * 24 * 60 * 60 * 1000  # type: ignore[arg-type]
    assert call_of(long).tool_name == semconv.UNNAMED_TOOL  # type: ignore[arg-type]
    assert [utc(10**40).year, utc(-(10**40)).year] == [2262, 1677]
