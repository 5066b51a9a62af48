"""What a person sees: in a terminal, and in what a terminal's output is piped into."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
from typing_extensions import override

from autotrace.cli.commands import app

from .conftest import EMBEDDER, REPOSITORY, Command, Recorded, environment, process

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on Windows", allow_module_level=True)
else:
    import pty

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
BOX = re.compile("[\u2500-\u257f]")
VIEWS = ["traces", "show", "recall", "tools"]


def arguments(view: str, recorded: Recorded) -> list[str]:
    extra = {
        "show": [recorded.ids["hostile"]],
        "recall": ["find a restaurant near the venue", "--all"],
    }
    return [view, *extra.get(view, []), "--store", str(recorded.store), *EMBEDDER]


class Terminal(io.StringIO):
    """Standard output that claims to be a terminal."""

    @override
    def isatty(self) -> bool:
        return True


def on_terminal(view: list[str], columns: int = 80, **changes: str) -> str:
    """Run a command in this process with a terminal for output, and return the output."""
    return _printed(tuple(view), columns, tuple(changes.items()))


@functools.cache  # nothing of it changes from test to test
def _printed(view: tuple[str, ...], columns: int, changes: tuple[tuple[str, str], ...]) -> str:
    terminal = Terminal()
    variables = environment(COLUMNS=str(columns), **dict(changes))
    with mock.patch.dict(os.environ, variables, clear=True), redirect_stdout(terminal):
        app(view, prog_name="autotrace", standalone_mode=False)
    return terminal.getvalue()


def in_pseudo_terminal(*view: str) -> str:
    """Run the command line as a process in a pseudo-terminal, and return the output."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "autotrace.cli", *view],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
        env=environment(COLUMNS="80"),
    ) as running:
        os.close(its)
        printed = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            while True:
                try:
                    chunk = terminal.read(65536)
                except OSError:  # how Linux says that the other side is closed
                    break
                if not chunk:
                    break
                printed += chunk
    assert running.returncode == 0
    return printed.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("view", VIEWS)
def test_a_pipe_gets_neither_colours_nor_boxes(
    command: Command, recorded: Recorded, view: str
) -> None:
    printed = command(*arguments(view, recorded)[:-4]).stdout

    assert printed
    assert "\x1b" not in printed
    assert not BOX.search(printed)


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_none_gets_neither(
    recorded: Recorded, changes: dict[str, str]
) -> None:
    printed = on_terminal(arguments("show", recorded), **changes)

    assert "\x1b" not in printed
    assert not BOX.search(printed)


def test_a_terminal_gets_both(recorded: Recorded) -> None:
    printed = in_pseudo_terminal(*arguments("show", recorded))

    assert printed == on_terminal(arguments("show", recorded))
    assert ESCAPE.search(printed)
    assert BOX.search(printed)


def test_colours_can_be_asked_for_in_a_pipe(command: Command) -> None:
    result = command("traces", FORCE_COLOR="1", TERM="xterm-256color")

    assert ESCAPE.search(result.stdout)


@pytest.mark.parametrize("view", ["traces", "recall"])
@pytest.mark.parametrize("columns", [40, 80])
def test_every_id_stands_whole_on_a_line_of_its_own(
    recorded: Recorded, view: str, columns: int
) -> None:
    printed = ESCAPE.sub("", on_terminal(arguments(view, recorded), columns))

    lines = [line.strip() for line in printed.splitlines()]
    assert [i for i in recorded.ids.values() if lines.count(i) != 1] == []


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_no_id_keeps_to_the_width_of_the_terminal(recorded: Recorded, view: str) -> None:
    printed = ESCAPE.sub("", on_terminal(arguments(view, recorded)))

    assert [line for line in printed.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("view", VIEWS)
def test_recorded_text_steers_no_terminal(recorded: Recorded, view: str) -> None:
    printed = on_terminal(arguments(view, recorded))

    left = ESCAPE.sub("", printed)
    assert all(said in left for said in ("\\x1b[31mred", "[bold]loud[/bold]", "\\u202egnp.exe"))
    assert not [c for c in left if (ord(c) < 0x20 and c != "\n") or 0x7F <= ord(c) < 0xA0]
    assert "\x1b[31mred" not in printed


def test_a_listed_trace_says_how_it_stands_and_what_it_took(
    command: Command, recorded: Recorded
) -> None:
    printed = command("traces", "--session", "s1").stdout

    first, second, third = printed.splitlines()
    assert first == "succeeded    find a restaurant near the venue"
    assert second.strip() == recorded.ids["found"]
    assert re.fullmatch(
        r"    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \d+ ms  1 step  2 calls"
        r"  agent concierge  session s1",
        third,
    )


def test_show_is_a_tree_of_steps_and_calls(command: Command, recorded: Recorded) -> None:
    printed = command("show", recorded.ids["found"]).stdout

    lines = [re.sub(r"  \d+ ms", "", line) for line in printed.splitlines()]
    assert lines[:3] == [
        "find a restaurant near the venue",
        "succeeded: Trattoria Milano it is",
        recorded.ids["found"],
    ]
    assert lines[4:] == [
        "",
        "1. I need to search first",
        "  action: call web_search",
        '  web_search(query="italian near the venue", limit=3)',
        '    -> {"results":["Trattoria Milano","Perbacco"]}',
        '    rank(query="italian near the venue")',
        "      -> 22",
        "  observed: found 15 results",
    ]


def test_show_says_what_failed_and_why(command: Command, recorded: Recorded) -> None:
    failed = command("show", recorded.ids["failed"]).stdout
    late = command("show", recorded.ids["late"]).stdout

    assert "failed: ValueError: no table for 8" in failed
    assert "outside any step" in failed
    assert re.search(r"place_order\(table=8\)  \d+ ms  error\n    ValueError: no table", failed)
    assert re.search(r"track\(parcel=\"77\"\)  \d+ ms  timeout\n", late)
    assert "triggered by memory mem-7" in late


def test_the_beginning_of_an_id_is_enough_where_it_says_which(
    command: Command, recorded: Recorded
) -> None:
    for trace_id in recorded.ids.values():
        start = trace_id[: len("trace-") + 20]
        assert trace_id in command("show", start).stdout
        assert trace_id in command("show", start.removeprefix("trace-")).stdout


def test_an_ambiguous_beginning_names_the_candidates(command: Command, recorded: Recorded) -> None:
    result = command("show", "trace-")

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "4 ids begin with it" in result.stderr
    assert all(trace_id in result.stderr for trace_id in recorded.ids.values())


def test_tools_say_what_their_errors_were(command: Command) -> None:
    printed = command("tools").stdout

    assert re.search(r"^tool +calls  success +p50 +p95 +max +last used$", printed, re.MULTILINE)
    assert re.search(r"^place_order +1      0 % ", printed, re.MULTILINE)
    assert "\nplace_order: ValueError x1\n" in printed
    assert "\ntrack: TimeoutError x1\n" in printed


@pytest.fixture
def time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the time zone of this process until the test ends."""
    with monkeypatch.context() as patch:

        def set_zone(name: str) -> None:
            patch.setenv("TZ", name)
            time.tzset()

        yield set_zone
    time.tzset()


def test_times_are_those_of_the_reader(command: Command, time_zone: Callable[[str], None]) -> None:
    printed: list[str] = []
    for zone in ("UTC", "Etc/GMT+12"):
        time_zone(zone)
        printed.append(command("traces", "--limit", "1").stdout)

    times = [re.findall(r"\d{4}-\d\d-\d\d \d\d", text) for text in printed]
    assert len(times[0]) == len(times[1]) == 1
    assert times[0] != times[1]


def test_the_end_of_a_page_says_how_to_go_on(recorded: Recorded) -> None:
    printed = on_terminal([*arguments("traces", recorded), "--limit", "2"])

    assert f"--after {recorded.ids['late']}" in ESCAPE.sub("", printed)


def test_text_that_the_encoding_lacks_is_written_out(recorded: Recorded) -> None:
    ascii_only = environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    view = "show", recorded.ids["late"], "--store", str(recorded.store)

    result = process(*view, *EMBEDDER, env=ascii_only)
    document = process(*view, *EMBEDDER, "--json", env=ascii_only)

    assert "failed: asked in vain \\u6f22\\u5b57" in result.stdout
    assert json.loads(document.stdout)["outcome"] == "asked in vain \u6f22\u5b57"


def test_the_demonstration_shows_its_work(tmp_path: Path) -> None:
    result = process("demo", cwd=tmp_path, env=environment(AUTOTRACE_SPOOL=str(tmp_path / "mine")))

    assert result.returncode == 0, result.stderr
    assert "Find Italian restaurants near the conference venue" in result.stdout
    assert "Recalled for: Where can we eat pasta close to the trade fair?" in result.stdout
    assert "autotrace.demo.FullyBookedError x1" in result.stdout
    assert result.stderr == (
        "note: this was in a temporary folder; --store ./.autotrace keeps it\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_demonstration_can_be_kept(tmp_path: Path, command: Command) -> None:
    store = tmp_path / "store"

    shown = json.loads(process("demo", "--json", "--store", str(store)).stdout)

    kept = json.loads(command("traces", "--json", store=store, embedder=()).stdout)
    assert shown["traces"] == kept["traces"]
    assert shown["recalled"][0]["task"] == shown["traces"][-1]["task"]
    assert [t["success"] for t in shown["traces"]] == [True, False, True, False, True]
    refunded = shown["traces"][2]["trace_id"]
    refund = json.loads(command("show", refunded, "--json", store=store, embedder=()).stdout)
    assert refund["steps"][1]["tool_calls"][0]["arguments"]["account"] == "[REDACTED]"
