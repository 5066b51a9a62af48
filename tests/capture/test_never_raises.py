"""Whatever fails in recording, the user's program goes on as if nothing had happened.

Faults are not picked by hand. A program that uses everything is run once under a profiler, which
finds every call that capture, the span processor and the spool make to what is not theirs:
OpenTelemetry, the encoder, clocks, the operating system. Then each of those calls is made to fail,
one at a time. And everything that those packages hold on to (a tracer, its spans, an encoder, the
context) is made to fail for good, one method at a time.
"""

from __future__ import annotations

import ast
import contextvars
import errno
import itertools
import os
import sys
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.trace import TracerProvider

import autotrace
from autotrace import attach, current_task, inject, step, task, tool, tool_call
from autotrace.base.health_counters import HealthCounters
from autotrace.capture.recorder import Recorder, current
from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.spool import writer as spool
from autotrace.testing import Recording, recording
from autotrace.worker.span_processor import SpoolSpanProcessor
from tests.conftest import Configure

PACKAGE: Final = Path(autotrace.__file__).parent
_CALLED_UNDER_A_GUARD: Final = {
    *("cancellation.py", "queue_consumers.py", "injected_parameters.py"),
    *("arrays.py", "exact_types.py", "faithful_json.py", "hidden_arguments.py"),
    *("context_carriers.py", "native_spans.py"),
}
GUARDED: Final = {
    str(path): "capture"
    for path in (PACKAGE / "capture").rglob("*.py")
    if path.name not in _CALLED_UNDER_A_GUARD
} | {
    str(PACKAGE / "ids.py"): "capture",  # it joins strings, as the expressions of capture do
    str(PACKAGE / "worker" / "span_processor.py"): "export",
    str(PACKAGE / "capture" / "native_spans.py"): "export",
}
"""The files that must cope with calls that fail, and which of them stand behind one guard."""
FALLIBLE_MODULES: Final = {"posix", "nt", "time", "_contextvars"}
"""C modules that may fail; what is builtin to the language does not."""

Site = tuple[str, ...]
"""Where in the guarded files a call is made, the frames above it included, and what it calls."""


class Injected(Exception):
    """What is raised in place of a call."""


# --- a program that uses everything, and what its user sees


@tool
def double(x: int) -> int:
    return 2 * x


@tool
def fails(x: int) -> None:
    raise ValueError("fails", x)


@tool
def count(n: int) -> Iterator[int]:
    for i in range(n):
        with step("counting"):
            yield i


@tool
async def double_async(x: int) -> int:
    return 2 * x


@tool
async def count_async(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@tool(redact=["pin"])
def pay(pin: str) -> dict[str, str]:
    return {"pin": pin}


@task("Run {name}", agent="worker")
@step("Think of {name}")
def run(name: str) -> str:
    found = current_task()
    if found is not None:
        found.complete(name, success=False)
    return name


def by_hand(coroutine: Any) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


async def use_async() -> list[Any]:
    seen: list[Any] = [await double_async(4)]
    async with task("async", agent="a"), step("inside") as s:
        s.observe("seen")
        generator = count_async(3)
        seen.append(await anext(generator))
        await generator.aclose()  # type: ignore[attr-defined] - it is a generator
        seen.extend([item async for item in count_async(2)])
    async with tool_call("async call") as call:
        call.set_error("no", error_type="quota")
    return seen


def program() -> list[Any]:
    """Use everything, and return everything that came of it."""
    seen: list[Any] = []
    with task("use everything", session_id="s", agent="a", triggered_by_memory_id="m") as t:
        with step("a thought", action="an action", observations=["o"]) as s:
            seen += [double(1), pay("1234"), run("it")]
            s.observe({"an": "observation"})
            assert isinstance(t.trace_id + s.step_id, str)
        seen += list(count(2))
        generator = count(5)
        seen.append(next(generator))
        generator.close()  # type: ignore[attr-defined] - it is a generator
        try:
            fails(1)
        except ValueError as error:
            seen.append(error.args)
        try:
            double()  # type: ignore[call-arg] - that is the test
        except TypeError as error:
            seen.append(str(error))
        with tool_call("by hand", {"a": 1}, memory_id="m") as call:
            call.set_result([1])
            assert isinstance(call.tool_call_id, str)
        try:
            with tool_call("by hand"), step("x"), task("y"):
                raise KeyError("out")
        except KeyError as error:
            seen.append(error.args)
        with attach(inject({})):
            seen.append(double(3))
        seen.append(by_hand(use_async()))
        abandoned = double_async(1)
        abandoned.close()  # type: ignore[attr-defined] - it is a coroutine
        t.complete({"out": "come"})
    return seen


EXPECTED: Final = [
    2, {"pin": "1234"}, "it", 0, 1, 0, ("fails", 1),
    "double() missing 1 required positional argument: 'x'", ("out",), 6, [8, 0, 0, 1],
]  # fmt: skip


def run_apart() -> list[Any]:
    """Run the program in a context of its own: one that cannot be put back must not spread."""
    return contextvars.copy_context().run(program)


# --- one call at a time


class Profiler:
    """Sees the calls that our files make to what may fail, and can make one of them fail."""

    def __init__(self, failing: Site | None = None, error: BaseException | None = None) -> None:
        self.sites: dict[Site, None] = {}
        self._failing = failing
        self._error = error
        self.has_failed = False

    def __enter__(self) -> Profiler:
        sys.setprofile(self)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            caller, called = frame.f_back, frame.f_code.co_qualname
            file = frame.f_code.co_filename
            if not file.startswith(str(PACKAGE)) and "site-packages" not in file:
                return
        elif event == "c_call":
            caller, called = frame, argument.__qualname__
            owner = getattr(argument, "__self__", None)
            module = argument.__module__ or type(owner).__module__
            if module not in FALLIBLE_MODULES:
                return
        else:
            return
        guard = None if caller is None else GUARDED.get(caller.f_code.co_filename)
        if caller is None or guard is None:
            return
        if event == "call" and GUARDED.get(frame.f_code.co_filename) == guard:
            return
        site = (*_places(caller), called)
        self.sites[site] = None
        if site == self._failing and self._error is not None and not self.has_failed:
            self.has_failed = True
            raise self._error


def _places(frame: FrameType | None) -> Iterator[str]:
    while frame is not None and frame.f_code.co_filename in GUARDED:
        yield f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back


def sites_of(run: Callable[[], list[Any]]) -> list[Site]:
    with Profiler() as profiler:
        assert run() == EXPECTED
    return list(profiler.sites)


@pytest.fixture(params=["our spans", "the application's spans"])
def provider_of(request: pytest.FixtureRequest, provider: TracerProvider) -> TracerProvider | None:
    return provider if request.param == "the application's spans" else None


def test_the_program_is_recorded_when_nothing_fails() -> None:
    with recording() as recorded:
        assert program() == EXPECTED
    assert "capture_errors" not in recorded.counters
    assert len(recorded.traces) == 4
    assert program() == EXPECTED  # unrecorded


def test_each_call_to_what_may_fail_may_fail(
    configure: Configure, provider_of: TracerProvider | None, counted: Callable[[], Counter[str]]
) -> None:
    configure(tracer_provider=provider_of)
    run_apart()  # what is imported or opened at the first call is so by now
    sites = sites_of(run_apart)
    called = {site[-1] for site in sites}
    assert len(sites) > 50
    assert {"Encoder.json", "Encoder.text", "Encoder.error", "get_current", "attach"} <= called
    assert any(name.endswith("start_span") for name in called)
    errors = itertools.cycle([Injected(), OSError(errno.ENOSPC, "no space left"), MemoryError()])
    for site, error in zip(sites, errors, strict=False):
        before = counted().total()
        with Profiler(site, error) as profiler:
            assert run_apart() == EXPECTED, site
        assert profiler.has_failed, site
        assert counted().total() > before, (site, "is not counted")


# --- for good, one method at a time


def public_methods(kind: type) -> list[str]:
    return [name for name, value in vars(kind).items() if callable(value) and name[0] != "_"]


def fail(*args: Any, **kwargs: Any) -> Any:
    raise Injected


class BrokenSpan(otel_trace.NonRecordingSpan):
    """A span of somebody's own tracer; one of its methods is broken."""

    def __init__(self, broken: str) -> None:
        super().__init__(otel_trace.SpanContext(1, 2, is_remote=False))
        setattr(self, broken, fail)


class BrokenProvider(otel_trace.TracerProvider, otel_trace.Tracer):
    """Gives itself as the tracer, whose spans are broken; or is broken itself."""

    def __init__(self, broken: str) -> None:
        self.broken = broken

    def get_tracer(self, *args: Any, **kwargs: Any) -> otel_trace.Tracer:
        return self

    def start_span(self, *args: Any, **kwargs: Any) -> otel_trace.Span:
        if self.broken == "start_span":
            raise Injected
        return BrokenSpan(self.broken)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError  # capture attaches by itself


@pytest.mark.parametrize("method", ["start_span", *public_methods(otel_trace.Span)])
def test_a_broken_tracer_or_span_is_counted_and_no_more(method: str) -> None:
    with recording(tracer_provider=BrokenProvider(method)) as recorded:
        assert run_apart() == EXPECTED
    never_used = {"add_link", "update_name", "record_exception"}
    assert ("capture_errors" in recorded.counters) == (method not in never_used)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(kind, name) for kind in (Encoder, Redactor) for name in public_methods(kind)],
)
def test_a_broken_encoder_or_redactor_is_counted_and_no_more(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording(redact_keys=["secret"]) as recorded:
        monkeypatch.setattr(owner, name, fail)
        assert run_apart() == EXPECTED
        monkeypatch.undo()
    # Nothing in the program looks like a token, asks for approval, or is of another library.
    if name not in ("formats", "declared", "of_span"):
        assert recorded.counters.keys() & {"capture_errors", "unencodable"}


@pytest.mark.parametrize("name", ["count", "note"])
def test_broken_counters_and_hooks_reach_nobody(name: str, provider: TracerProvider) -> None:
    with recording(tracer_provider=provider) as recorded:
        recorder = current.recorder
        assert isinstance(recorder, Recorder)
        setattr(recorder, name, fail)
        assert run_apart() == EXPECTED
        recorder.tracer = BrokenProvider("end")
        assert run_apart() == EXPECTED
    assert ("capture_errors" in recorded.counters) == (name != "count")


@pytest.mark.parametrize(
    "name", [name for name in otel_context.__all__ if name not in ("Context", "create_key")]
)
def test_a_broken_context_is_counted_and_no_more(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording() as recorded:
        monkeypatch.setattr(otel_context, name, fail)
        assert run_apart() == EXPECTED
        monkeypatch.undo()
    # Tokens are reset without OpenTelemetry's function, and it has its own way to the span's key.
    assert ("capture_errors" in recorded.counters) == (name not in ("detach", "get_value"))


def test_a_hook_of_the_user_that_raises_costs_the_value_alone() -> None:
    with recording(redact=fail) as recorded:
        assert run_apart() == EXPECTED
    assert recorded.counters["hook_errors"] > 0
    assert "1234" not in str([r.get("attributes") for r in recorded.records])  # not in times or ids
    assert len(recorded.traces) == 4


# --- the disk


class _BrokenOs:
    """The module `os` as the spool sees it, with one function that says the disk is full."""

    def __init__(self, broken: str) -> None:
        self.broken = broken
        self.has_failed = False

    def __getattr__(self, name: str) -> Any:
        return self._full if name == self.broken else getattr(os, name)

    def _full(self, *args: Any, **kwargs: Any) -> Any:
        self.has_failed = True
        raise OSError(errno.ENOSPC, "No space left on device")


OS_FUNCTIONS: Final = sorted(
    {
        node.attr
        for node in ast.walk(ast.parse(Path(spool.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and callable(getattr(os, node.attr, None))
    }
)


@pytest.mark.parametrize("function", OS_FUNCTIONS)
def test_a_disk_that_fails_costs_records_that_are_counted(
    function: str, tmp_path: Path, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = _BrokenOs(function)
    counters = HealthCounters()
    writer = spool.SpoolWriter(tmp_path / "spool", count=counters.add)
    pipeline: Any = types.SimpleNamespace(record=writer.write)
    provider.add_span_processor(SpoolSpanProcessor(pipeline, counters))
    with recording(tracer_provider=provider) as recorded:
        monkeypatch.setattr(spool, "os", broken)
        assert run_apart() == EXPECTED
        monkeypatch.undo()
    writer.close()
    assert "capture_errors" not in recorded.counters
    dropped = {name: count for name, count in counters.snapshot().items() if "dropped" in name}
    assert bool(dropped) == (broken.has_failed and function != "close")


# --- what users pass


class Hostile:
    """Raises at whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise Injected(name)

    __repr__ = __str__ = __bool__ = __len__ = __iter__ = __format__ = __hash__ = fail
    __eq__ = fail  # pyright: ignore[reportAssignmentType] - that is what makes it hostile


class HostileError(Exception):
    """An exception that does not even say what it is."""

    __class__ = property(fail)  # type: ignore[assignment] - that is what makes it hostile
    __str__ = __repr__ = fail


def test_hostile_values_pass_through_everything() -> None:
    hostile: Any = Hostile()
    error = HostileError(hostile)

    @task("{hostile}")
    @step("{hostile}", hostile)
    @tool
    def echo(hostile: Any, *rest: Any, **more: Any) -> Any:
        return hostile

    @tool
    def raises() -> None:
        raise error

    def use_it() -> list[Any]:
        seen = [echo(hostile, hostile, hostile_too=hostile)]
        with task(hostile, session_id=hostile, agent=hostile) as t:
            with step(hostile, hostile, [hostile]) as s, tool_call("x", hostile) as call:
                s.observe(hostile)
                call.set_result(hostile)
                call.set_error(hostile, error_type=hostile)
            try:
                raises()
            except HostileError as caught:
                seen.append(caught)
            t.complete(hostile, success=hostile)
        return seen

    with recording(redact=lambda path, value: value) as recorded:
        seen = use_it()
    assert seen[0] is hostile
    assert seen[1] is error
    found = [trace for trace in recorded.traces if trace.tool_calls]
    assert [[call.status for call in trace.tool_calls] for trace in found] == [
        ["success"],
        ["error", "error"],
    ]


def test_hostile_carriers_and_options_pass_through(recorded: Recording) -> None:
    hostile: Any = Hostile()
    with attach(hostile):
        assert double(1) == 2
    with tool_call(hostile, hostile, memory_id=hostile):
        pass
    assert recorded.counters["capture_errors"] > 0
