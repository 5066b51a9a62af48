"""Recorders are measured side by side, and the one that is ours loses nothing.

Nothing here is about time, and nothing but autotrace and OpenTelemetry is installed for it.
"""

from __future__ import annotations

import copy
import gzip
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("peers")
"""Of one worker, which makes what they share once."""

REPOSITORY = Path(__file__).parents[2]
ABSENT = "langfuse"
"""A recorder that the tests' own environment does not have."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The report of a tiny run, and what it printed."""
    folder = tmp_path_factory.mktemp("peers")
    file = folder / "peers.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.peers", "autotrace", ABSENT),
            *("--size", "tiny", "--python", sys.executable, "--json", str(file)),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


@pytest.fixture
def report(run: tuple[dict[str, Any], str]) -> dict[str, Any]:
    return copy.deepcopy(run[0])


def recorder(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in report["recorders"] if row["name"] == name)


def test_what_runs_in_a_recorders_own_environment_needs_the_standard_library_alone() -> None:
    bare = [sys.executable, "-I", "-S", "-c"]
    statement = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import benchmarks.peers.worker"
    )
    done = subprocess.run([*bare, statement], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_autotrace_keeps_every_finished_call_of_a_killed_process(report: dict[str, Any]) -> None:
    killed = recorder(report, "autotrace")["killed"]
    assert killed == {
        "calls": 20,
        "sink_up": {"kept": [20]},
        "sink_down": {"kept": [20]},
    }


def test_autotrace_loses_nothing_of_a_burst(report: dict[str, Any]) -> None:
    burst = recorder(report, "autotrace")["burst"]
    assert (burst["calls"], burst["arrived"], burst["lost"]) == (198, 198, 0)
    assert "problem" not in burst


def test_every_call_whose_time_counts_has_arrived(report: dict[str, Any]) -> None:
    for name in ("autotrace", "hand_written"):
        speed = recorder(report, name)["speed"]
        assert speed["arrived"] == speed["calls"] >= 60
        assert "problem" not in speed


def test_every_recorder_is_compared_with_the_hand_written_span(report: dict[str, Any]) -> None:
    assert [row["name"] for row in report["recorders"]] == ["autotrace", "hand_written", ABSENT]
    for name in ("autotrace", "hand_written"):
        for metric in ("wall", "cpu", "total"):
            figure = recorder(report, name)["speed"][metric]
            assert figure["rounds"] == report["size"]["rounds"] == 2
            assert 0 < figure["ratio_min"] <= figure["ratio"] <= figure["ratio_max"]


def test_a_hand_written_span_is_lost_with_its_process(report: dict[str, Any]) -> None:
    """Else the harness could not tell what is lost from what is kept."""
    assert recorder(report, "hand_written")["killed"]["sink_down"]["kept"] == [0]


def test_a_recorder_that_cannot_run_is_listed_with_the_reason(
    run: tuple[dict[str, Any], str],
) -> None:
    report, printed = run
    reason = recorder(report, ABSENT)["problem"]
    assert "No package metadata was found" in reason
    assert f"| {ABSENT} | see below |" in printed
    assert reason in printed


def test_the_table_names_the_command_the_machine_and_the_versions(
    run: tuple[dict[str, Any], str],
) -> None:
    report, printed = run
    assert f"`python -m benchmarks.peers autotrace {ABSENT} --size tiny`" in printed
    assert f"{os.cpu_count()} cores" in printed
    for name in ("autotrace", "hand_written"):
        row = recorder(report, name)
        assert f"{row['distribution']} {row['version']}" in printed


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY), *sys.path])


def test_what_went_wrong_in_a_part_is_said_below_the_table(report: dict[str, Any]) -> None:
    from benchmarks.peers.report import rendered

    row = recorder(report, "autotrace")
    row["speed"] = {"problem": "did not end in 60 s", "refused_hosts": ["example.org"]}
    row["killed"]["sink_down"]["problem"] = "the next process did not end in 60 s"
    row["burst"] = {"problem": "ended without an answer"}
    text = rendered(report)
    name = f"- autotrace-agents {row['version']}"
    assert f"{name}, speed: did not end in 60 s" in text
    assert f"{name}, SIGKILL, destination down: the next process did not end in 60 s" in text
    assert f"{name}, burst: ended without an answer" in text
    assert f"{name} wanted to reach example.org" in text


def test_a_call_has_arrived_when_both_its_argument_and_its_result_have() -> None:
    from benchmarks.peers.work import calls_in, queries, web_search

    (one, other) = queries(7, 2)
    result = json.dumps(web_search(one)).encode()
    assert calls_in([one.encode(), other.encode()]) == set()
    assert calls_in([one.encode(), other.encode(), result]) == {7}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[tuple[http.client.HTTPConnection, Path]]:
    file = tmp_path / "sink"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.sink", str(file), "0"],
        cwd=REPOSITORY,
        env=os.environ | {"SINK_ANSWERS": '{"/info": {"known": true}}'},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    connection = http.client.HTTPConnection("127.0.0.1", int(process.stdout.readline()))
    yield connection, file
    connection.close()
    process.terminate()
    process.communicate()


def test_a_sink_answers_and_keeps_whatever_way_a_body_is_sent(
    sink: tuple[http.client.HTTPConnection, Path],
) -> None:
    from benchmarks.peers.sink import bodies

    connection, file = sink

    def sent(method: str, path: str, body: Any, headers: dict[str, str]) -> bytes:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        assert response.status == 200
        return response.read()

    assert sent("GET", "/v1/info?x=1", None, {}) == b'{"known": true}'
    assert sent("POST", "/a", b"plain", {}) == b""
    assert sent("PUT", "/b", gzip.compress(b"packed"), {"Content-Encoding": "gzip"}) == b""
    assert sent("PATCH", "/c", iter([b"in ", b"chunks"]), {}) == b""  # chunked, as its length lacks
    assert list(bodies(file)) == [b"plain", b"packed", b"in chunks"]


def test_other_peoples_code_reaches_no_other_machine() -> None:
    code = """
import socket, urllib.request
from benchmarks.peers.loopback import stay_on_this_machine
server = socket.create_server(("127.0.0.1", 0))
stay_on_this_machine()
socket.create_connection(server.getsockname()).close()
for way in (lambda: urllib.request.urlopen("http://example.org/"),
            lambda: socket.create_connection(("192.0.2.1", 80)),
            lambda: socket.socket().connect_ex(("192.0.2.1", 80))):
    try:
        way()
    except OSError as error:
        print("refused", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("refused") == 3
    assert done.stderr.splitlines() == [
        "refused to reach example.org",
        "refused to reach 192.0.2.1",
        "refused to reach 192.0.2.1",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the CPU time of others")
def test_the_cpu_time_of_a_child_that_detached_itself_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks.peers.cpu import MARK, cpu_of_children_s

    monkeypatch.setenv(MARK, "this test")
    before_s = cpu_of_children_s()
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", burn],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert cpu_of_children_s() - before_s >= 0.3
        child.communicate(b"\n")
    assert cpu_of_children_s() - before_s >= 0.3


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    from benchmarks.peers.progress import Progress

    file = tmp_path / "unfinished"
    assert Progress(file, ["full", ("a", 1)]).part("speed", lambda: "measured") == "measured"
    again = Progress(file, ["full", ("a", 1)])
    assert again.part("speed", lambda: "measured again") == "measured"
    assert Progress(file, ["full", ("a", 2)]).part("speed", lambda: "anew") == "anew"
    again.finish()
    assert not file.exists()
