"""Times and durations, whatever is done to the clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import freezegun
import pytest
import time_machine

from autotrace import task, tool
from autotrace.testing import Recording

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@tool
def tick() -> None:
    pass


@pytest.mark.parametrize(
    "frozen",
    [
        lambda: freezegun.freeze_time(LONG_AGO),
        lambda: freezegun.freeze_time(LONG_AGO, tick=True),
        lambda: time_machine.travel(LONG_AGO, tick=False),
    ],
    ids=["freezegun", "freezegun ticks", "time-machine"],
)
def test_frozen_time_gives_no_absurd_times(
    frozen: Callable[[], AbstractContextManager[object]], recorded: Recording
) -> None:
    began = datetime.now(UTC)
    inside_out, outside_in = task("begins inside"), task("begins outside")
    with frozen():
        inside_out.__enter__()
        tick()
    inside_out.__exit__(None, None, None)
    outside_in.__enter__()
    with frozen():
        tick()
        outside_in.__exit__(None, None, None)
    ended = datetime.now(UTC)
    # By their tasks: an object of an earlier test may be finalised, and record, amid this one.
    traces = {trace.task: trace for trace in recorded.traces}
    for trace in (traces["begins inside"], traces["begins outside"]):
        (call,) = trace.tool_calls
        assert trace.completed_at is not None
        times = [trace.created_at, call.started_at, call.ended_at, trace.completed_at]
        assert times == sorted(times)
        assert began - timedelta(seconds=1) < times[0]
        assert times[-1] < ended + timedelta(seconds=1)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_leaves_a_call_inside_its_task(
    hours: int, recorded: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    with task("t"):
        set_to_ns = time.time_ns() + hours * 3_600_000_000_000
        monkeypatch.setattr("autotrace.capture.operation.wall_ns", lambda: set_to_ns)
        tick()
    trace = recorded.trace
    (call,) = trace.tool_calls
    assert trace.completed_at is not None
    assert trace.created_at <= call.started_at <= call.ended_at <= trace.completed_at
