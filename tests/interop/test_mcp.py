"""The MCP server before the official inspector and conformance suite, and in an agent framework."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autotrace.server.auth.api_keys import KeyRing
from autotrace.server.mcp.server import TOOLS
from autotrace.settings import load_settings
from tests.server.serving import environment, serving

from .authorizing import AuthorizingRelay
from .conftest import REPOSITORY

pytestmark = pytest.mark.interop

NODE_FOLDER = REPOSITORY / ".venv-node"
AGENTS_VARIABLE = "INTEROP_AGENTS_VENV"
NOT_APPLICABLE = Path(__file__).with_name("mcp-not-applicable.yml")
TIMEOUT_S = 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`autotrace serve`: its URL, and a key to it."""
    folder = tmp_path_factory.mktemp("mcp")
    ring = KeyRing.of(load_settings(store=str(folder / "store")))
    key = ring.create("inspector", "default", "agent").key
    ring.close()
    with serving(folder / "store", folder / "log") as running:
        yield running.url, key


@pytest.fixture(scope="module")
def node() -> tuple[Path, Path]:
    """The interpreter, and the folder of what npm has installed."""
    modules = NODE_FOLDER / "node_modules"
    if not modules.is_dir():
        pytest.skip(f"no {modules}: scripts/interop.sh makes it where there are npm and node")
    brought = list(modules.glob("node-*/bin/node"))
    found = brought[0] if brought else Path(shutil.which("node") or "node")
    return found, modules / ".bin"


Completed = subprocess.CompletedProcess[str]


def run(command: list[str | Path], folder: Path, **variables: str) -> Completed:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(HOME=str(folder), **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )


def test_the_conformance_suite_finds_nothing_wrong_in_what_applies(
    server: tuple[str, str], node: tuple[Path, Path], tmp_path: Path
) -> None:
    relay = AuthorizingRelay(*server)  # the suite has no option for a key
    try:
        target = ["--url", f"{relay.url}/mcp", "--suite", "all"]
        expected = ["--expected-failures", NOT_APPLICABLE]
        suite = [node[0], node[1] / "conformance", "server"]
        completed = run([*suite, *target, *expected], tmp_path)
    finally:
        relay.close()

    assert completed.returncode == 0, completed.stdout + completed.stderr
    passed = re.findall(r"✓ (\S+): ([1-9]\d*) passed, 0 failed", completed.stdout)
    assert dict(passed) == {
        "server-initialize": "1",
        "ping": "1",
        "tools-list": "1",
        "dns-rebinding-protection": "2",
    }


def inspect(
    node: tuple[Path, Path], folder: Path, target: list[str | Path], *options: str
) -> Completed:
    before, after = ([], ["--", *target]) if len(target) > 1 else (target, [])
    return run([node[0], node[1] / "mcp-inspector", "--cli", *before, *options, *after], folder)


@pytest.fixture(params=["http", "stdio"])
def target(
    request: pytest.FixtureRequest, server: tuple[str, str], tmp_path: Path
) -> tuple[list[str | Path], tuple[str, ...]]:
    """What the inspector is to connect to, and the options for that."""
    if request.param == "http":
        url, key = server
        return [f"{url}/mcp"], ("--transport", "http", "--header", f"Authorization: Bearer {key}")
    program = [sys.executable, "-m", "autotrace.cli", "mcp", "--agent", "inspector"]
    # The inspector hands little of its own environment on.
    names = ("PYTHONPATH", "AUTOTRACE_EMBEDDER")
    variables = [word for name in names for word in ("-e", f"{name}={environment()[name]}")]
    return [*program, "--store", tmp_path / "store"], tuple(variables)


def test_the_inspector_lists_every_tool_and_finds_no_error_in_the_schemas(
    node: tuple[Path, Path], target: tuple[list[str | Path], tuple[str, ...]], tmp_path: Path
) -> None:
    completed = inspect(node, tmp_path, target[0], *target[1], "--method", "tools/list", "--strict")

    assert completed.returncode == 0, completed.stderr
    assert {tool["name"] for tool in json.loads(completed.stdout)["tools"]} == TOOLS.keys()


def test_the_inspector_calls_a_tool(
    node: tuple[Path, Path], target: tuple[list[str | Path], tuple[str, ...]], tmp_path: Path
) -> None:
    record: dict[str, Any] = {
        "title": "Use it",
        "category": "other",
        "context": "c",
        "decision": "d",
        "rationale": "r",
        "tags": json.dumps(["one", "two"]),
    }
    pairs = [f"{name}={value}" for name, value in record.items()]

    completed = inspect(
        node,
        tmp_path,
        target[0],
        *target[1],
        *("--method", "tools/call", "--tool-name", "decision_record", "--tool-arg", *pairs),
    )

    assert completed.returncode == 0, completed.stderr
    answer = json.loads(completed.stdout)
    assert answer["structuredContent"]["status"] == "committed"
    assert json.loads(answer["content"][0]["text"]) == answer["structuredContent"]


def test_an_agent_of_a_framework_finds_its_earlier_work(tmp_path: Path) -> None:
    named = os.environ.get(AGENTS_VARIABLE)
    python = Path(named or REPOSITORY / ".venv-agents") / "bin" / "python"
    if not python.exists():
        if named:
            pytest.fail(f"{AGENTS_VARIABLE} names {named}, and there is no {python}")
        pytest.skip(f"no {python}: scripts/interop.sh makes it and installs openai-agents")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "autotrace").write_text(
        f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m autotrace.cli "$@"\n'
    )
    (programs / "autotrace").chmod(0o755)

    completed = run(
        [python, REPOSITORY / "examples" / "mcp_agent.py", "--store", tmp_path / "store"],
        tmp_path,
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH="",
    )

    assert completed.returncode == 0, completed.stderr
    first, second = (
        line.removeprefix("  called: ").split(", ")
        for line in completed.stdout.splitlines()
        if line.startswith("  called: ")
    )
    assert "region_latencies" in first
    assert "trace_complete" in first
    assert second == ["trace_recall"]
    assert "As before ('Choose the region for the new checkout service')" in completed.stdout
