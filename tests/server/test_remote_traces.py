"""Traces told of from elsewhere, in one process: what is recorded, refused, and read back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autotrace
from autotrace import task
from autotrace.errors import (
    InvalidArgumentError,
    LimitExceededError,
    NotPermittedError,
    StepNotFoundError,
    StoreUnavailableError,
    TraceNotFoundError,
    TraceStateError,
)
from autotrace.memory import Memory
from autotrace.server.remote_traces import MAX_DURATION_MS, TraceService
from autotrace.store.connection import ServerOptions
from autotrace.store.open_traces import open_traces
from tests.embedders import SmallEmbedder
from tests.faults.proxy import Proxy
from tests.server.telling import ADMIN, ALICE, BOB, open_service, told_what_happens
from tests.servers import ChromaServer, free_port

Open = Callable[..., TraceService]
UNKNOWN = f"trace-{'0' * 31}1-{'0' * 15}1"
MALFORMED = ["", "trace-1", UNKNOWN.upper(), UNKNOWN + "0", "../../etc/passwd", "trace-\n", "\x00"]


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[Memory, TraceService]]]:
    """Opens services, which are stopped afterwards."""
    made: list[tuple[Memory, TraceService]] = []

    def open_one(settings: dict[str, Any], **limits: Any) -> tuple[Memory, TraceService]:
        made.append(open_service(settings, **limits))
        return made[-1]

    yield open_one
    for memory, service in made:
        service.stop()
        memory.stop(30)


@pytest.fixture
def service(
    opened: Callable[..., tuple[Memory, TraceService]], store_settings: dict[str, str]
) -> TraceService:
    """Over an embedded store, and over a Chroma server."""
    return opened(store_settings)[1]


@pytest.fixture
def embedded(
    opened: Callable[..., tuple[Memory, TraceService]], tmp_path: Path
) -> tuple[Memory, TraceService]:
    return opened({"store": str(tmp_path / "store")})


def test_a_trace_told_of_call_by_call_reads_as_it_was_told(service: TraceService) -> None:
    started = service.start(
        "Find restaurants", "session-1", triggered_by_memory_id="mem_xyz", by=ALICE
    )
    assert service.get(started.trace_id, by=ALICE).status == "active"
    first = service.step(started.trace_id, "search", "call web_search", ["15 found"], by=ALICE)
    assert service.get(started.trace_id, by=ALICE).steps[0].thought == "search"
    call = service.tool_call(
        started.trace_id,
        "web_search",
        {"query": "italian"},
        {"results": ["Perbacco"]},
        420,
        "success",
        memory_id="mem_1",
        step_id=first.step_id,
        by=ALICE,
    )
    service.step(started.trace_id, "look at maps", "call maps", by=ALICE)
    service.tool_call(started.trace_id, "maps", {}, "no route", 30_000, "timeout", by=ALICE)
    completed = service.complete(started.trace_id, "Found 3", True, by=ALICE)

    trace = service.get(started.trace_id, by=ALICE)

    assert (started.task, started.status) == ("Find restaurants", "active")
    assert trace.created_at == started.created_at
    assert (trace.task, trace.session_id, trace.agent) == (started.task, "session-1", "alice")
    assert trace.triggered_by_memory_id == "mem_xyz"
    assert (trace.status, trace.success, trace.outcome) == ("completed", True, "Found 3")
    assert trace.completed_at == completed.completed_at
    assert trace.steps[0].step_id == first.step_id
    assert [(s.thought, s.action, s.observations) for s in trace.steps] == [
        ("search", "call web_search", ["15 found"]),
        ("look at maps", "call maps", []),
    ]
    searched, mapped = (s.tool_calls[0] for s in trace.steps)
    assert (searched.tool_call_id, searched.memory_id) == (call.tool_call_id, "mem_1")
    assert (searched.arguments, searched.result) == (
        {"query": "italian"},
        {"results": ["Perbacco"]},
    )
    assert (searched.duration_ms, searched.status) == (420, "success")
    assert (mapped.duration_ms, mapped.status, mapped.error) == (30_000, "timeout", "no route")
    [found] = service.recall("Find restaurants", by=ALICE)
    assert (found.trace_id, found.tool_sequence) == (trace.trace_id, ["web_search", "maps"])
    assert [s.trace_id for s in service.list(agent="alice", by=ALICE)] == [trace.trace_id]
    counted = {
        s.tool_name: (s.call_count, s.success_rate) for s in service.tool_stats(by=ALICE).tools
    }
    assert counted == {"web_search": (1, 1.0), "maps": (1, 0.0)}


def test_what_came_from_afar_is_redacted_and_cut_like_anything_else(
    opened: Callable[..., tuple[Memory, TraceService]], tmp_path: Path
) -> None:
    memory, service = opened(
        {"store": str(tmp_path / "store"), "max_value_bytes": 512, "redact_keys": ["loyalty"]}
    )
    secret = "sk-proj-" + "a1B2" * 12
    trace_id = service.start(f"use {secret}", f"s {secret}", by=ALICE).trace_id
    service.step(trace_id, f"think {secret}", f"act {secret}", [f"saw {secret}"], by=ALICE)
    service.tool_call(
        trace_id,
        "pay" * 100,
        {"password": "hunter22", "deep": [{"Loyalty": 7}], "page": "x" * 10_000},
        {"said": "hunter22 " + secret, "page": "y" * 10_000},
        1,
        "success",
        by=ALICE,
    )
    service.tool_call(trace_id, "fail", {}, f"denied {secret}", 1, "error", by=ALICE)
    service.complete(trace_id, f"with {secret} " + "z" * 10_000, False, by=ALICE)

    trace = service.get(trace_id, by=ALICE)

    text = trace.model_dump_json()
    assert secret not in text
    assert "hunter22" not in trace.tool_calls[0].model_dump_json(include={"arguments"})
    assert trace.tool_calls[0].arguments["password"] == "[REDACTED]"
    assert trace.tool_calls[0].arguments["deep"] == [{"Loyalty": "[REDACTED]"}]
    assert len((trace.outcome or "").encode()) <= 512
    assert all(len(str(c.result).encode()) <= 1024 for c in trace.tool_calls)
    assert len(trace.tool_calls[0].tool_name) == 256
    assert memory.counters.snapshot()["redacted"] >= 7
    assert memory.counters.snapshot()["truncated"] >= 4
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_a_call_without_a_step_belongs_to_the_latest_when_it_was_told(
    embedded: tuple[Memory, TraceService],
) -> None:
    service = embedded[1]
    trace_id = service.start("t", "s", by=ALICE).trace_id
    service.tool_call(trace_id, "before_any_step", {}, None, 60_000, "success", by=ALICE)
    first = service.step(trace_id, "one", "a", by=ALICE)
    service.step(trace_id, "two", "b", by=ALICE)
    service.tool_call(trace_id, "slow", {}, None, 86_400_000, "success", by=ALICE)
    service.tool_call(trace_id, "quick", {}, None, 0, "success", by=ALICE)
    service.tool_call(trace_id, "named", {}, None, 0, "success", step_id=first.step_id, by=ALICE)

    steps = service.get(trace_id, by=ALICE).steps

    told = {s.thought: [c.tool_name for c in s.tool_calls] for s in steps}
    assert told == {"": ["before_any_step"], "one": ["named"], "two": ["slow", "quick"]}
    assert [s.implicit for s in steps] == [True, False, False]
    assert steps[2].tool_calls[0].started_at < steps[0].created_at - timedelta(hours=23)
    assert service.list(by=ALICE)[0].tool_sequence == ["before_any_step", "slow", "quick", "named"]


Telling = tuple[Literal["step", "call", "named"], int]


@settings(max_examples=15)
@given(
    tellings=st.lists(
        st.tuples(st.sampled_from(["step", "call", "named"]), st.integers(0, 10**7)), max_size=12
    ),
    success=st.booleans(),
)
def test_whatever_is_told_in_whatever_order_is_the_trace(
    shared: list[TraceService], tellings: list[Telling], success: bool
) -> None:
    steps: list[str] = []
    calls: dict[str, list[tuple[str, int]]] = {}
    trace_id = shared[0].start("t", "s", by=ALICE).trace_id
    for number, (kind, value) in enumerate(tellings):
        service = shared[value % len(shared)]
        if kind == "step":
            steps.append(service.step(trace_id, f"{number}", "", by=ALICE).step_id)
            calls[steps[-1]] = []
            continue
        named = steps[value % len(steps)] if steps and kind == "named" else None
        owner = named or (steps[-1] if steps else "implicit")
        calls.setdefault(owner, []).append((f"tool {number}", value))
        service.tool_call(
            trace_id, f"tool {number}", {}, None, value, "success", step_id=named, by=ALICE
        )
    shared[-1].complete(trace_id, "", success, by=ALICE)

    trace = shared[0].get(trace_id, by=ALICE)

    seen = {
        "implicit" if s.implicit else s.step_id: [
            (c.tool_name, c.duration_ms) for c in s.tool_calls
        ]
        for s in trace.steps
    }
    assert seen == calls
    assert [s.step_id for s in trace.steps if not s.implicit] == steps
    assert (trace.success, trace.outcome) == (success, "")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[TraceService]]:
    """Two services over one embedded store, each with a spool of its own, as two workers have."""
    store = str(tmp_path_factory.mktemp("shared") / "store")
    made = [open_service({"store": store}) for _ in range(2)]
    yield [service for _, service in made]
    for memory, service in made:
        service.stop()
        memory.stop(30)


def test_completing_again_gets_the_same_answer_and_otherwise_is_refused(
    service: TraceService,
) -> None:
    trace_id = service.start("t", "s", by=ALICE).trace_id
    completed = service.complete(trace_id, "done", True, by=ALICE)

    def check() -> None:
        assert service.complete(trace_id, "done", True, by=ALICE) == completed
        for outcome, success in [("done", False), ("other", True)]:
            with pytest.raises(TraceStateError, match="completed"):
                service.complete(trace_id, outcome, success, by=ALICE)
        with pytest.raises(TraceStateError, match=r"a step.*completed"):
            service.step(trace_id, "late", "", by=ALICE)
        with pytest.raises(TraceStateError, match=r"a tool call.*completed"):
            service.tool_call(trace_id, "late", {}, None, 1, "success", by=ALICE)
        trace = service.get(trace_id, by=ALICE)
        assert (trace.outcome, trace.success, trace.steps) == ("done", True, [])

    check()
    service.tidy(kept_for_s=0)
    check()


def test_a_completion_that_was_cut_short_is_finished_by_whoever_comes_next(
    store_settings: dict[str, str],
    opened: Callable[..., tuple[Memory, TraceService]],
) -> None:
    _, service = opened(store_settings)
    ids = [service.start(f"t{n}", "s", by=ALICE).trace_id for n in range(2)]
    for trace_id in ids:
        _completed_by_one_that_died(service, trace_id)
    assert [service.get(trace_id, by=ALICE).status for trace_id in ids] == ["active", "active"]

    service.complete(ids[0], "done", True, by=ALICE)
    assert [service.get(trace_id, by=ALICE).status for trace_id in ids] == ["completed", "active"]
    service.tidy(kept_for_s=0)
    assert [service.get(trace_id, by=ALICE).status for trace_id in ids] == [
        "completed",
        "completed",
    ]
    assert service.get(ids[1], by=ALICE).outcome == "done"


def _completed_by_one_that_died(service: TraceService, trace_id: str) -> None:
    """Complete a trace in a process that is gone before it has recorded that."""

    def die(_: object, **options: Any) -> None:
        del options
        raise SystemExit

    append, service.memory.record = service.memory.record, die  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        service.complete(trace_id, "done", True, by=ALICE)
    service.memory.record = append  # type: ignore[method-assign]


def test_what_nobody_goes_on_with_is_interrupted_and_counts_no_more(service: TraceService) -> None:
    abandoned = service.start("t", "s", by=ALICE).trace_id
    call = service.tool_call(abandoned, "t", {}, None, 5, "success", by=ALICE)
    completed = told_what_happens(service, "another")
    service.tidy()
    assert service.get(abandoned, by=ALICE).status == "active"

    service.tidy(abandoned_after_s=0)

    trace = service.get(abandoned, by=ALICE)
    assert (trace.status, trace.success) == ("interrupted", None)
    assert trace.completed_at == call.created_at
    assert _open_count(service) == 0
    for late in (
        lambda: service.step(abandoned, "", "", by=ALICE),
        lambda: service.complete(abandoned, "done", True, by=ALICE),
    ):
        with pytest.raises(TraceStateError, match="interrupted"):
            late()
    assert service.get(completed, by=ALICE).status == "completed"


def test_a_deletion_that_was_cut_short_leaves_nothing_open(
    embedded: tuple[Memory, TraceService],
) -> None:
    memory, service = embedded
    ids = [service.start("t", "s", by=ALICE).trace_id, told_what_happens(service, "t")]
    for trace_id in ids:
        memory.delete_trace(trace_id, 10)

    service.tidy(kept_for_s=0, abandoned_after_s=0)

    assert _open_count(service) == 0
    assert [
        service.list(by=ALICE),
        list((Path(memory.settings.store) / "open").glob("*/trace-*")),
    ] == [
        [],
        [],
    ]


def test_what_the_store_has_not_taken_in_yet_is_neither_missing_nor_deleted(
    opened: Callable[..., tuple[Memory, TraceService]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, service = opened({"store": str(tmp_path / "store"), "flush_interval_ms": 60_000})
    trace_id = told_what_happens(service, "t")
    with monkeypatch.context() as busy:
        busy.setattr(memory.pipeline, "catch_up", lambda _timeout_s, **options: False)
        open_id = service.start("u", "s", by=ALICE).trace_id
        for call in (
            lambda: service.get(open_id, by=ALICE),
            lambda: service.delete(open_id, by=ALICE),
            lambda: service.delete(trace_id, by=ALICE),
        ):
            with pytest.raises(StoreUnavailableError):
                call()

    service.step(open_id, "", "", by=ALICE)
    service.complete(open_id, "done", True, by=ALICE)
    assert service.get(open_id, by=ALICE).status == "completed"


@pytest.mark.parametrize("trace_id", [UNKNOWN, *MALFORMED])
def test_a_trace_that_is_not_there_is_not_found(
    embedded: tuple[Memory, TraceService], trace_id: str
) -> None:
    service = embedded[1]
    for call in (
        lambda: service.get(trace_id, by=ALICE),
        lambda: service.step(trace_id, "", "", by=ADMIN),
        lambda: service.tool_call(trace_id, "t", {}, None, 1, "success", by=ADMIN),
        lambda: service.complete(trace_id, "", True, by=ADMIN),
        lambda: service.delete(trace_id, by=ADMIN),
        lambda: service.list(after=trace_id, by=ALICE),
    ):
        with pytest.raises(TraceNotFoundError) as caught:
            call()
        assert str(service.memory.connection.name) not in str(caught.value)


def test_a_step_that_is_not_there_is_not_found(embedded: tuple[Memory, TraceService]) -> None:
    service = embedded[1]
    trace_id = service.start("t", "s", by=ALICE).trace_id
    step_id = service.step(trace_id, "", "", by=ALICE).step_id
    another = service.start("t", "s", by=ALICE).trace_id
    elsewhere = service.step(another, "", "", by=ALICE).step_id
    swapped = step_id[:-1] + ("0" if step_id[-1] != "0" else "1")

    for wrong in ("", "step-001", elsewhere, swapped, trace_id):
        with pytest.raises(StepNotFoundError):
            service.tool_call(trace_id, "t", {}, None, 1, "success", step_id=wrong, by=ALICE)

    assert service.get(trace_id, by=ALICE).tool_calls == []


def test_an_agents_key_adds_to_its_own_traces_alone(service: TraceService) -> None:
    trace_id = service.start("t", "s", by=ALICE).trace_id

    for attempt in (
        lambda: service.step(trace_id, "", "", by=BOB),
        lambda: service.tool_call(trace_id, "t", {}, None, 1, "success", by=BOB),
        lambda: service.complete(trace_id, "", True, by=BOB),
    ):
        with pytest.raises(NotPermittedError):
            attempt()
    assert service.get(trace_id, by=ALICE).steps == []

    service.step(trace_id, "an admin may", "", by=ADMIN)
    service.complete(trace_id, "", True, by=ADMIN)
    service.tidy(kept_for_s=0)
    with pytest.raises(NotPermittedError):
        service.step(trace_id, "", "", by=BOB)
    assert service.get(trace_id, by=ALICE).agent == "alice"


@pytest.mark.parametrize("is_open", [True, False])
def test_a_deleted_trace_is_gone_and_takes_no_more(service: TraceService, is_open: bool) -> None:
    kept = told_what_happens(service, "keep this")
    trace_id = service.start("delete this", "s", by=ALICE).trace_id
    service.tool_call(trace_id, "only_here", {}, None, 1, "success", by=ALICE)
    if not is_open:
        service.complete(trace_id, "done", True, by=ALICE)

    with pytest.raises(NotPermittedError):
        service.delete(trace_id, by=BOB)
    service.delete(trace_id, by=ALICE)

    for call in (
        lambda: service.get(trace_id, by=ALICE),
        lambda: service.delete(trace_id, by=ALICE),
        lambda: service.step(trace_id, "", "", by=ALICE),
        lambda: service.tool_call(trace_id, "t", {}, None, 1, "success", by=ALICE),
        lambda: service.complete(trace_id, "done", True, by=ALICE),
    ):
        with pytest.raises(TraceNotFoundError):
            call()
    assert [t.trace_id for t in service.list(by=ALICE)] == [kept]
    assert [t.trace_id for t in service.recall("delete this", False, by=ALICE)] == [kept]
    assert "only_here" not in {s.tool_name for s in service.tool_stats(by=ALICE).tools}
    assert _open_count(service) == 0


def test_what_a_program_records_itself_is_not_added_to(
    embedded: tuple[Memory, TraceService],
) -> None:
    memory, service = embedded
    autotrace.configure(memory.settings.store, embedder=SmallEmbedder(), storing="thread")
    with task("t", agent="alice") as t:
        with pytest.raises(TraceStateError, match="program"):
            service.step(t.trace_id, "", "", by=ALICE)
        with pytest.raises(TraceStateError, match="program"):
            service.complete(t.trace_id, "", True, by=ALICE)
    autotrace.shutdown()

    assert service.get(t.trace_id, by=ALICE).steps == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_ms", -1),
        ("duration_ms", MAX_DURATION_MS + 1),
        ("duration_ms", True),
        ("duration_ms", 1.5),
        ("status", "ok"),
        ("tool_name", " "),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_recorded(
    embedded: tuple[Memory, TraceService], field: str, value: Any
) -> None:
    service = embedded[1]
    trace_id = service.start("t", "s", by=ALICE).trace_id
    good: dict[str, Any] = {
        "tool_name": "t",
        "arguments": {},
        "result": 1,
        "duration_ms": 1,
        "status": "success",
    }

    with pytest.raises(InvalidArgumentError) as caught:
        service.tool_call(trace_id, **good | {field: value}, by=ALICE)

    assert caught.value.field == field
    assert service.get(trace_id, by=ALICE).tool_calls == []


@pytest.mark.parametrize("duration_ms", [0, 1, MAX_DURATION_MS])
def test_a_duration_comes_back_to_the_millisecond(
    embedded: tuple[Memory, TraceService], duration_ms: int
) -> None:
    service = embedded[1]
    trace_id = service.start("t", "s", by=ALICE).trace_id
    service.tool_call(trace_id, "t", {}, None, duration_ms, "success", by=ALICE)

    assert service.get(trace_id, by=ALICE).tool_calls[0].duration_ms == duration_ms
    assert service.tool_stats(by=ALICE).tools[0].max_duration_ms == duration_ms


def test_another_machine_sees_at_once_what_was_acknowledged(
    opened: Callable[..., tuple[Memory, TraceService]], server: ChromaServer, tmp_path: Path
) -> None:
    server.create_database("machines")
    here, there = (
        opened(
            {"store": server.url, "chroma_database": "machines", "spool": str(tmp_path / machine)}
        )[1]
        for machine in ("here", "there")
    )

    trace_id = here.start("t", "s", by=ALICE).trace_id
    assert there.get(trace_id, by=ALICE).status == "active"
    there.step(trace_id, "told there", "", by=ALICE)
    assert len(here.get(trace_id, by=ALICE).steps) == 1
    here.tool_call(trace_id, "t", {}, None, 10, "success", by=ALICE)
    assert len(there.get(trace_id, by=ALICE).steps[0].tool_calls) == 1
    there.complete(trace_id, "done", True, by=ALICE)
    assert [t.trace_id for t in here.recall("t", by=ALICE)] == [trace_id]


def test_a_key_has_only_so_many_traces_open(
    opened: Callable[..., tuple[Memory, TraceService]], store_settings: dict[str, str]
) -> None:
    _, service = opened(store_settings, max_open_per_key=2)
    first, _ = (service.start("t", "s", by=ALICE).trace_id for _ in range(2))

    with pytest.raises(LimitExceededError) as caught:
        service.start("t", "s", by=ALICE)
    assert caught.value.retry_after_s > 0
    service.start("t", "s", by=BOB)
    service.complete(first, "", True, by=ALICE)
    service.start("t", "s", by=ALICE)
    service.tidy(kept_for_s=0)
    with pytest.raises(LimitExceededError):
        service.start("t", "s", by=ALICE)


def test_a_store_that_is_down_is_said_and_nothing_is_recorded(
    opened: Callable[..., tuple[Memory, TraceService]], server: ChromaServer, tmp_path: Path
) -> None:
    proxy = Proxy(server.port)
    server.create_database("down")
    spool = tmp_path / "spool"
    settings = {"store": proxy.url, "chroma_database": "down", "spool": str(spool)}
    memory, service = opened(settings)
    trace_id = service.start("t", "s", by=ALICE).trace_id
    recorded = memory.pipeline.backlog_bytes()

    proxy.set("refuse")
    for call in (
        lambda: service.start("t", "s", by=ALICE),
        lambda: service.step(trace_id, "", "", by=ALICE),
        lambda: service.tool_call(trace_id, "t", {}, None, 1, "success", by=ALICE),
        lambda: service.complete(trace_id, "", True, by=ALICE),
        lambda: service.get(trace_id, by=ALICE),
        lambda: service.list(by=ALICE),
    ):
        with pytest.raises(StoreUnavailableError):
            call()
    assert memory.pipeline.backlog_bytes() == recorded
    proxy.set("pass")

    trace = service.get(trace_id, by=ALICE)
    assert (trace.status, trace.steps) == ("active", [])
    assert len(service.list(by=ALICE)) == 1
    proxy.close()


def test_a_folder_that_cannot_be_written_is_a_store_that_is_down(
    opened: Callable[..., tuple[Memory, TraceService]], tmp_path: Path
) -> None:
    _, service = opened({"store": str(tmp_path / "store")})
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "open").write_text("in the way")

    with pytest.raises(StoreUnavailableError, match="open"):
        service.start("t", "s", by=ALICE)


def test_a_spool_that_cannot_be_written_acknowledges_nothing(
    opened: Callable[..., tuple[Memory, TraceService]], tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("in the way")
    _, service = opened({"store": str(tmp_path / "store"), "spool": str(tmp_path / "spool")})

    with pytest.raises(StoreUnavailableError, match="not recorded"):
        service.start("t", "s", by=ALICE)
    assert _open_count(service) == 0


def test_another_server_than_the_one_meant_is_said(
    opened: Callable[..., tuple[Memory, TraceService]], tmp_path: Path
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    _, service = opened({"store": nobody, "spool": str(tmp_path / "spool")})

    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        service.start("t", "s", by=ALICE)
    assert not list(tmp_path.glob("spool/*/*.log"))


def test_many_at_once_open_and_complete_without_loss(
    embedded: tuple[Memory, TraceService],
) -> None:
    service = embedded[1]
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(functools.partial(told_what_happens, service), map(str, range(40))))

    assert len(service.list(status="completed", limit=100, by=ALICE)) == len(set(ids)) == 40
    assert _open_count(service) == 0


def _open_count(service: TraceService) -> int:
    settings = service.memory.settings
    registry = open_traces(settings.store, ServerOptions.of(settings))
    count = registry.open_count(ALICE.key_id)
    registry.stop()
    return count
