"""`--json`: the documents of the decision-trace contract, made of the library's own models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import autotrace
from autotrace.models import RecallResult, ToolStats, Trace, TraceSummary
from tests.embedders import HashEmbedder

from .conftest import HOSTILE, Answer, Command, Recorded


def test_traces_are_listed_newest_first_under_their_contract_names(
    answer: Answer, recorded: Recorded
) -> None:
    document = answer("traces")

    ids = recorded.ids
    assert [trace["trace_id"] for trace in document["traces"]] == [
        ids["hostile"], ids["late"], ids["failed"], ids["found"],
    ]  # fmt: skip
    assert document["count"] == 4
    assert set(document) == {"traces", "count"}
    assert set(document["traces"][0]) == set(TraceSummary.model_fields)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--agent", "concierge"], ["found"]),
        (["--agents", "concierge", "--agents", "nobody"], ["found"]),
        (["--session", "s2"], ["late"]),
        (["--status", "completed", "--limit", "2"], ["hostile", "late"]),
        (["--status", "active"], []),
        (["--status", "interrupted"], []),
        (["--agent", "nobody"], []),
    ],
)
def test_traces_are_filtered(
    answer: Answer, recorded: Recorded, filters: list[str], expected: list[str]
) -> None:
    document = answer("traces", *filters)

    assert [t["trace_id"] for t in document["traces"]] == [recorded.ids[n] for n in expected]


def test_the_next_page_goes_on_after_the_last_trace_of_the_one_before(
    answer: Answer, recorded: Recorded
) -> None:
    seen: list[str] = []
    page = answer("traces", "--limit", "1")
    while page["count"]:
        seen.append(page["traces"][0]["trace_id"])
        page = answer("traces", "--limit", "1", "--after", seen[-1])

    assert seen == list(reversed(recorded.ids.values()))


def test_show_is_the_trace_as_the_library_returns_it(answer: Answer, recorded: Recorded) -> None:
    shown = {name: answer("show", trace_id) for name, trace_id in recorded.ids.items()}

    autotrace.configure(recorded.store, embedder=HashEmbedder())
    try:
        for name, trace_id in recorded.ids.items():
            expected = autotrace.get_trace(trace_id)
            assert shown[name] == json.loads(expected.model_dump_json())
    finally:
        autotrace.shutdown()
    assert set(shown["found"]) == set(Trace.model_fields)
    assert shown["hostile"]["outcome"] == HOSTILE


def test_recall_leaves_failures_out_unless_asked_for(answer: Answer, recorded: Recorded) -> None:
    succeeded = answer("recall", "book a table near the venue")
    everything = answer("recall", "book a table near the venue", "--all")

    failed = {recorded.ids["failed"], recorded.ids["late"]}
    assert not failed & {found["trace_id"] for found in succeeded["results"]}
    assert failed <= {found["trace_id"] for found in everything["results"]}
    assert everything["count"] == len(everything["results"]) == 4
    assert set(everything["results"][0]) == set(RecallResult.model_fields)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--tool", "web_search", "--tool", "rank"], ["found"]),
        (["--tool", "web_search", "--tool", "track"], []),
        (["--agent", "booker"], ["failed"]),
        (["--agents", "booker"], ["failed"]),
        (["--session", "s2"], ["late"]),
        (["--limit", "1"], ["found"]),
    ],
)
def test_recall_is_filtered(
    answer: Answer, recorded: Recorded, filters: list[str], expected: list[str]
) -> None:
    document = answer("recall", "find a restaurant near the venue", "--all", *filters)

    found = [result["trace_id"] for result in document["results"]]
    assert found == [recorded.ids[name] for name in expected]


def test_tools_are_the_statistics_of_every_tool(answer: Answer) -> None:
    document = answer("tools")

    by_name = {stats["tool_name"]: stats for stats in document["tool_stats"]}
    assert set(document) == {"tool_stats", "count", "left_out", "others"}
    assert (document["left_out"], document["others"]) == (0, None)
    assert document["count"] == len(by_name) == 6
    assert set(by_name["web_search"]) == set(ToolStats.model_fields)
    assert by_name["web_search"]["success_rate"] == 1.0
    assert by_name["place_order"]["error_types"] == {"ValueError": 1}
    assert by_name["track"]["timeout_count"] == 1


def test_doctor_lists_its_checks(answer: Answer) -> None:
    document = answer("doctor")

    assert document["count"] == len(document["checks"])
    assert {check["status"] for check in document["checks"]} == {"ok"}
    assert all(set(c) == {"name", "status", "detail", "fix"} for c in document["checks"])


def test_no_traces_are_an_empty_list(command: Command, tmp_path: Path, recorded: Recorded) -> None:
    store = tmp_path / "store"
    autotrace.configure(store, embedder=HashEmbedder(), flush_interval_ms=0)
    with autotrace.tool_call("lonely", {}):
        pass
    autotrace.flush()
    autotrace.shutdown()

    assert json.loads(command("traces", "--json", store=store).stdout) == {"traces": [], "count": 0}
    assert json.loads(command("recall", "x", "--json", store=store).stdout) == {
        "results": [],
        "count": 0,
    }
    assert json.loads(command("tools", "--json", store=store).stdout)["count"] == 1


def test_a_document_holds_no_character_that_a_terminal_obeys(command: Command) -> None:
    printed = command("traces", "--json").stdout

    assert "\\u001b[31m" in printed
    assert "\\u009b2J" in printed
    assert not [c for c in printed if (ord(c) < 0x20 and c != "\n") or 0x7F <= ord(c) < 0xA0]


def test_recall_says_that_a_trace_that_failed_is_nearer(
    command: Command, recorded: Recorded
) -> None:
    note = "note: a trace that failed is nearer (1.00): add --all\n"

    def noted(*args: str) -> str:
        return command("recall", *args, store=recorded.store).stderr

    assert noted("book a table") == note
    assert noted("book a table", "--json") == note
    assert noted("book a table", "--agent", "booker") == note
    assert noted("book a table", "--all") == ""
    assert noted("find a restaurant near the venue") == ""
