"""A Chroma server that is down, dies, hangs or answers nonsense: everything arrives later, once."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import autotrace
from autotrace import step, task, tool
from tests.faults.agents import configure
from tests.faults.checks import stored_traces
from tests.faults.conftest import Counted, Figure, by_a_thread
from tests.faults.processes import LINUX, ROOT, peak_memory_bytes
from tests.faults.proxy import Mode, Proxy
from tests.servers import ChromaServer, chroma_server


@tool
def work(number: int) -> int:
    return number + 1


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    with chroma_server(tmp_path_factory.mktemp("chroma-run")) as running:
        yield running


@pytest.fixture
def proxy(server: ChromaServer) -> Iterator[Proxy]:
    made = Proxy(server.port)
    yield made
    autotrace.shutdown(timeout=5)
    made.close()


_databases = itertools.count()


@pytest.fixture
def begin(server: ChromaServer, proxy: Proxy, tmp_path: Path, storing: str) -> Callable[[], None]:
    """Configure a recorder that reaches the server through the proxy alone."""

    def configured() -> None:
        database = f"faults-{next(_databases)}"
        server.create_database(database)
        configure(
            proxy.url,
            chroma_database=database,
            spool=str(tmp_path / "spool"),
            chroma_timeout_ms=500,
        )

    return configured


def record(name: str) -> None:
    with task(name), step("a step"):
        assert [work(n) for n in range(5)] == [1, 2, 3, 4, 5]


def check(names: list[str], counted: Counter[str]) -> None:
    traces = stored_traces()
    assert sorted(trace.task for trace in traces.values()) == sorted(names)
    for trace in traces.values():
        assert [call.result for call in trace.tool_calls] == [1, 2, 3, 4, 5]
        assert trace.status == "completed"
        assert autotrace.recall(trace.task, limit=1)[0].trace_id == trace.trace_id
    assert autotrace.health().backlog_bytes == 0
    assert counted.keys() <= {"export_failures"}


@by_a_thread
@pytest.mark.parametrize("mode", ["refuse", "hang", "error", "cut"])
def test_while_a_server_misbehaves_nothing_is_felt_and_all_arrives_later(
    begin: Callable[[], None], proxy: Proxy, mode: Mode, counted: Counted
) -> None:
    begin()
    record("before")
    assert autotrace.flush(timeout=500)
    proxy.set(mode)

    seen = proxy.requests
    for number in range(3):
        record(f"during {number}")
        assert autotrace.flush(timeout=0.6) is False
    assert autotrace.health().backlog_bytes > 0
    assert mode == "refuse" or proxy.requests > seen

    proxy.set("pass")
    assert autotrace.flush(timeout=500) is True
    record("after")
    assert autotrace.flush(timeout=500) is True
    check(["before", "during 0", "during 1", "during 2", "after"], counted())


@pytest.mark.parametrize("mode", ["error", "cut"])
def test_a_batch_that_is_broken_off_at_any_request_is_stored_once(
    begin: Callable[[], None], proxy: Proxy, mode: Mode, counted: Counted, figure: Figure
) -> None:
    """The n-th request of each batch fails, before the server has done it (`error`) or after."""
    begin()
    left = 0

    def break_one() -> Mode:
        nonlocal left
        left -= 1
        return mode if left == 0 else "pass"

    proxy.on_write = break_one
    broken = 0
    for number in itertools.count(1):
        left = number
        record(f"broken off at {number}")
        assert autotrace.flush(timeout=500)
        if left > 0:
            break  # a batch has fewer requests than that
        broken += 1

    assert broken >= 3
    check([f"broken off at {number}" for number in range(1, broken + 2)], counted())
    figure(f"{broken} writes of a batch broken off in turn ({mode}): all stored once")


def test_a_server_that_is_killed_in_mid_batch_gets_the_batch_again(
    begin: Callable[[], None], proxy: Proxy, server: ChromaServer, counted: Counted
) -> None:
    begin()
    record("before")
    assert autotrace.flush(timeout=500)
    writes = itertools.count(1)

    def kill_at_the_second() -> Mode:
        if next(writes) == 2:
            server.stop(kill=True)
        return "pass"

    proxy.on_write = kill_at_the_second
    record("meanwhile")
    assert autotrace.flush(timeout=2) is False
    assert next(writes) > 2
    record("while it is down")

    server.start()

    assert autotrace.flush(timeout=500) is True
    check(["before", "meanwhile", "while it is down"], counted())


AGENT = """
import sys, autotrace
from autotrace import task, tool
from tests.faults.agents import configure

@tool
def fetch(number: int) -> str:
    return f"{number:010d}" * 200

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

configure(sys.argv[1], chroma_database=sys.argv[2], spool=sys.argv[3])
for number in range(200):
    if number in (50, 199):
        # What it takes to try at all has been loaded once an attempt has failed.
        while not autotrace.flush(timeout=1.5) and not autotrace.health().counters:
            pass
        print(resident_bytes())
    with task(f"fetch {number}"):
        for n in range(50):
            assert len(fetch(n)) == 2000
print(autotrace.health().backlog_bytes, flush=True)
sys.stdin.readline()
print(autotrace.flush(timeout=90), autotrace.health().backlog_bytes, flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not LINUX, reason="memory is read from /proc")
def test_a_server_that_is_down_for_the_whole_run_costs_disk_alone(
    server: ChromaServer, proxy: Proxy, tmp_path: Path, storing: str, figure: Figure
) -> None:
    database = f"down-{storing}"
    server.create_database(database)
    proxy.set("refuse")
    spool = tmp_path / "spool"
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, proxy.url, database, str(spool)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        early, late = int(agent.stdout.readline()), int(agent.stdout.readline())
        waiting = int(agent.stdout.readline())
        during = peak_memory_bytes(str(tmp_path))
        assert waiting > 200 * 50 * 2000

        proxy.set("pass")
        print("it is up", file=agent.stdin, flush=True)

        assert agent.stdout.readline().split() == ["True", "0"]
        after = peak_memory_bytes(str(tmp_path))
        print("end", file=agent.stdin, flush=True)
    assert agent.returncode == 0
    assert late - early < waiting / 10  # three quarters of it were recorded in between
    configure(proxy.url, chroma_database=database, spool=str(tmp_path / "another"))
    traces = stored_traces()
    assert len(traces) == 200
    assert {len(trace.tool_calls) for trace in traces.values()} == {50}
    figure(
        f"{waiting / 1e6:.0f} MB recorded while down: memory grew by {(late - early) / 1e6:.1f} "
        "MB meanwhile; "
        f"peak {during / 1e6:.0f} MB then, {after / 1e6:.0f} MB while it was delivered"
    )
