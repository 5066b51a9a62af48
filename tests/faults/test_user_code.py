"""Programs that do what programs should not: they run as they would without us."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.checks import open_store, stored_traces
from tests.faults.conftest import Figure
from tests.faults.processes import run

SETUP: Final = """
import contextvars, json, os, signal, sys, threading
import autotrace
from autotrace import step, task, tool, tool_call
from tests.faults.agents import configure

configure(sys.argv[1], flush_interval_ms=int(sys.argv[2]) if len(sys.argv) > 2 else 0)

@tool
def work(number):
    return number

def answer(**what):
    print(json.dumps(what | {"counters": autotrace.health().counters}))
"""


def told_by(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def answer(code: str, store: Path, *arguments: object) -> dict[str, Any]:
    done = run(SETUP + code, store, *arguments)
    assert done.stderr == ""
    return told_by(done)


# --- signals

ALARMS: Final = """
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
"""

RECORDING_HANDLER: Final = (
    """
returned = handled = busy = 0
def handler(number, frame):
    global handled, busy
    if not busy and handled < 2000:
        busy = 1
        with tool_call("handle", {"n": handled}):
            pass
        handled += 1
        busy = 0
with task("with a handler that records") as t:
"""
    + ALARMS.replace("\n", "\n    ")
    + """
    while handled < 500:
        work(returned)
        returned += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
answer(trace=t.trace_id, returned=returned, handled=handled)
"""
)


def test_a_signal_handler_records_whatever_it_has_interrupted(store: Path, figure: Figure) -> None:
    told = answer(RECORDING_HANDLER, store, 600_000)

    assert told["counters"] == {}
    open_store(store)
    (trace,) = stored_traces().values()
    calls = [call.tool_name for call in trace.tool_calls]
    assert (trace.trace_id, trace.status) == (told["trace"], "completed")
    assert calls.count("work") == told["returned"]
    assert calls.count("handle") == told["handled"] >= 500
    figure(f"{told['handled']} signals handled amid {told['returned']:,} calls: every call stored")


RAISING_HANDLER: Final = """
class Stop({base}): pass
raised = caught = 0
returned = []
def handler(number, frame):
    global raised
    raised += 1
    raise Stop
signal.signal(signal.SIGALRM, handler)
def until_stopped(n):
    with task(f"to be stopped {{n}}"), step("on and on"):
        while raised == n:  # else it was raised and did not arrive
            work(n)
            returned.append(n)
for n in range(600):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + n % 7 * 0.00005)
        # Of its own, since an exception may also come before a with-block is left in order.
        contextvars.copy_context().run(until_stopped, n)
    except Stop:
        caught += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
with task("after all") as t:
    assert work(1) == 1
answer(raised=raised, caught=caught, returned=len(returned), after=t.trace_id)
"""


@pytest.mark.parametrize(
    "base",
    [
        "BaseException",
        "Exception",
    ],
)
def test_what_a_signal_handler_raises_arrives_and_leaves_recording_sound(
    store: Path, base: str, figure: Figure
) -> None:
    done = run(SETUP + RAISING_HANDLER.format(base=base), store, 600_000)

    told = told_by(done)
    # Python itself drops what is raised while an object is finalised, and says so.
    dropped = done.stderr.splitlines().count("Stop: ")
    # (A thread whose start is broken off is another matter: the next record starts another.)
    assert done.stderr.count("Exception ignored in: ") == dropped < 60
    assert told["caught"] + dropped == told["raised"] == 600
    open_store(store)
    traces = stored_traces()
    assert {trace.status for trace in traces.values()} <= {"completed", "interrupted"}
    assert [call.result for call in traces[told["after"]].tool_calls] == [1]
    stored = sum(len(trace.tool_calls) for trace in traces.values()) - 1
    assert stored >= told["returned"]
    figure(
        f"600 exceptions raised by signals amid {told['returned']:,} calls: {told['caught']} "
        f"arrived, {dropped} fell into a finaliser; all calls stored"
    )


# --- debuggers

TRACED: Final = """
def program():
    seen = []
    with task("under a debugger") as t:
        with step("a step"):
            seen.append(work(1))
        try:
            with tool_call("fails", {}):
                raise KeyError("x")
        except KeyError as error:
            seen.append(repr(error))
        thread = threading.Thread(target=lambda: seen.append(work(2)))
        thread.start()
        thread.join()
    return seen, t.trace_id

lines = []
def tracer(frame, event, argument):
    if frame.f_code.co_filename == "<string>":
        lines.append((frame.f_code.co_name, event))
    return tracer
plain, _ = program()
INSTALL(tracer)
traced, trace = program()
kept = GET() is tracer
INSTALL(None)
assert autotrace.flush(timeout=500)
answer(plain=plain, traced=traced, kept=kept, trace=trace,
       seen=len([1 for name, event in lines if name == "work"]),
       lines=len([1 for name, event in lines if (name, event) == ("program", "line")]))
"""


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_a_debugger_or_profiler_stays_and_sees_the_users_lines(store: Path, kind: str) -> None:
    code = TRACED.replace("INSTALL(", f"threading.set{kind}(tracer), sys.set{kind}(", 1)
    code = code.replace("INSTALL(", f"sys.set{kind}(").replace("GET()", f"sys.get{kind}()")
    told = answer(code, store)

    assert told["plain"] == told["traced"] == [1, "KeyError('x')", 2]
    assert told["kept"] is True
    assert told["seen"] >= 4  # a call and a return of each of the two
    assert told["counters"] == {}
    assert kind == "profile" or told["lines"] >= 10
    open_store(store)
    trace = stored_traces()[told["trace"]]
    assert [call.tool_name for call in trace.tool_calls] == ["work", "fails", "work"]


# --- the stack

RECURSION: Final = """
@tool
def down(depth):
    return 0 if depth == 0 else 1 + down(depth - 1)

@tool
def endless(depth):
    return endless(depth + 1)

with task("deep"):
    reached = down(100)
    try:
        endless(0)
    except RecursionError:
        ended = "RecursionError"
with task("after all"):
    work(1)
with task("as deep again"):
    again = down(100)
assert autotrace.flush(timeout=500)
answer(reached=reached, ended=ended, again=again)
"""


def test_recursion_to_the_end_of_the_stack_ends_as_without_us(store: Path) -> None:
    told = answer(RECURSION, store)

    assert (told["reached"], told["ended"], told["again"]) == (100, "RecursionError", 100)
    open_store(store)
    traces = {trace.task: trace for trace in stored_traces().values()}
    assert {trace.status for trace in traces.values()} == {"completed"}
    names = [call.tool_name for call in traces["deep"].tool_calls]
    assert names.count("down") == 101
    assert names.count("endless") > 10
    assert len(traces["after all"].tool_calls) == 1
    assert len(traces["as deep again"].tool_calls) == 101


# --- values

VALUES: Final = """
class Hostile:
    def __getattribute__(self, name): raise RuntimeError(name)
    def __repr__(self): raise RuntimeError("repr")
    __str__ = __iter__ = __len__ = __bool__ = __hash__ = __eq__ = __repr__

@tool
def same(value):
    return value

@tool
def stream(value):
    yield value
    yield "never asked for"

hostile = Hostile()
cyclic = {"list": []}
cyclic["list"].append(cyclic)
deep = []
for _ in range(100_000):
    deep = [deep]
changed = {"now": 1}
lazy = (n for n in range(3))
values = [hostile, cyclic, deep, "x" * 50_000_000, {n: n for n in range(300_000)}, changed, lazy,
          float("nan"), 10**5000 if not hasattr(sys, "x") else 0, "\\ud800", b"\\xff" * 1000]
with task("values") as t:
    kept = [same(value) is value for value in values]
    changed["now"] = 2
    first = next(generator := stream(changed))
    generator.close()
    changed["now"] = 3
    rest = list(lazy)
del deep
values.clear()
flushed = autotrace.flush(timeout=500)
answer(kept=kept, first=first is changed, rest=rest, flushed=flushed)
"""


def test_hostile_huge_and_cyclic_values_pass_through_and_are_stored_in_part(store: Path) -> None:
    told = answer(VALUES, store)

    assert told["kept"] == [True] * 11
    assert told["first"] is True
    assert told["rest"] == [0, 1, 2]
    assert told["flushed"] is True
    assert set(told["counters"]) <= {"truncated", "unencodable"}
    open_store(store)
    (trace,) = stored_traces().values()
    assert len(trace.tool_calls) == 12
    arguments = [call.arguments["value"] for call in trace.tool_calls]
    assert arguments[5] == {"now": 1}
    assert arguments[11] == {"now": 2}
    assert trace.tool_calls[11].result == [{"now": 2}]
    assert all(len(json.dumps(argument)) < 600_000 for argument in arguments)
