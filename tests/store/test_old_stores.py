"""Stores and spools of earlier commits open, are read whole, and are added to.

`tests/data/stores` has one of each kind, made by `scripts/record_store.py`.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

import autotrace
from autotrace import task
from tests.conftest import Configure

STORES = Path(__file__).parents[1] / "data" / "stores"
COMMITS = ("bde9e52", "ba021b0")


def as_then(then: Any, now: Any) -> Any:
    """Return `now` without the fields that did not exist then."""
    if isinstance(then, dict) and isinstance(now, dict):
        return {key: as_then(then[key], now[key]) for key in then if key in now}
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [as_then(*each) for each in zip(then, now, strict=True)]
    return now


@pytest.mark.parametrize("commit", COMMITS)
def test_a_store_of_an_earlier_commit_is_read_whole_and_added_to(
    commit: str, tmp_path: Path, configure: Configure
) -> None:
    then = json.loads((STORES / f"{commit}.json").read_text("utf-8"))
    with tarfile.open(STORES / f"{commit}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")

    configure()
    with task("added: Find a hotel", agent="concierge") as added:
        added.complete("Hotel Riva", success=True)
    assert autotrace.flush()

    for trace_id, trace in then["traces"].items():
        now = autotrace.get_trace(trace_id).model_dump(mode="json")
        assert as_then(trace, now) == trace
    decisions = [each.model_dump(mode="json") for each in autotrace.decisions.list()]
    assert as_then(then["decisions"], decisions) == then["decisions"]
    spooled = [autotrace.get_trace(trace_id) for trace_id in then["spooled"]]
    assert [trace.success for trace in spooled] == [True, False, True, False]
    assert {summary.trace_id for summary in autotrace.list_traces(limit=50)} == {
        *then["traces"],
        *then["spooled"],
        added.trace_id,
    }
    calls = {each.tool_name: each.call_count for each in autotrace.tool_stats()}
    before = {each["tool_name"]: each["call_count"] for each in then["tool_stats"]}
    assert calls == {**before, "city_map": 2, "live_rates": 2, "book": 4}
    found = autotrace.recall("stored: Find a restaurant near the venue", limit=3)
    assert found[0].trace_id == then["recalled"][0][0]
    assert autotrace.recall("added: Find a hotel", limit=1)[0].trace_id == added.trace_id
    for decision in then["decisions"]:
        assert autotrace.decisions.verify(decision["decision_id"])
