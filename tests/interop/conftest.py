"""Fixtures that run another product beside autotrace, in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from .collector import Phoenix
from .relay import OtlpRelay

pytest.register_assert_rewrite(f"{__package__}.expected")  # its asserts compare whole spans

REPOSITORY = Path(__file__).parents[2]
AGENT = Path(__file__).with_name("agent.py")
AGENT_TIMEOUT_S = 120
VENV_VARIABLE = "INTEROP_PHOENIX_VENV"
DEFAULT_VENV = REPOSITORY / ".venv-phoenix"
NOT_INHERITED = ("OTEL_", "AUTOTRACE_", "PHOENIX_")
"""Prefixes of variables that would change what the agent does."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these tests out unless `-m` names their marker."""
    if "interop" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("interop")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class RunAgent(Protocol):
    """Runs `agent.py` as a program of its own and returns what it printed."""

    def __call__(self, *arguments: str, environment: dict[str, str] | None = None) -> Any: ...


@pytest.fixture(scope="session")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    server = Phoenix(phoenix_python(), tmp_path_factory.mktemp("phoenix"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def relay(phoenix: Phoenix) -> Iterator[OtlpRelay]:
    relay = OtlpRelay(phoenix.http_endpoint)
    try:
        yield relay
    finally:
        relay.close()


@pytest.fixture
def project(tmp_path: Path) -> str:
    """A Phoenix project that no other test writes to."""
    return tmp_path.name


@pytest.fixture
def phoenix_client(tmp_path: Path) -> Path:
    """A directory to import `phoenix.otel` from, and nothing else that Phoenix brought along."""
    packages = subprocess.check_output(
        [str(phoenix_python()), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        text=True,
    )
    client = tmp_path / "client"
    (client / "phoenix").mkdir(parents=True)
    for package in ("phoenix/otel", "openinference"):
        (client / package).symlink_to(Path(packages.strip()) / package)
    return client


@pytest.fixture
def run_agent(tmp_path: Path, project: str) -> RunAgent:
    stores = iter(range(100))

    def run(*arguments: str, environment: dict[str, str] | None = None) -> Any:
        store = tmp_path / f"store-{next(stores)}"
        completed = subprocess.run(
            [sys.executable, str(AGENT), "--store", str(store), *arguments],
            env=agent_environment(project) | (environment or {}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=AGENT_TIMEOUT_S,
        )
        assert completed.returncode == 0, completed.stderr
        return json.loads(completed.stdout)

    return run


def phoenix_python() -> Path:
    """Return the interpreter that has arize-phoenix; skip where nobody asked for one."""
    named = os.environ.get(VENV_VARIABLE)
    python = Path(named or DEFAULT_VENV) / "bin" / "python"
    if not python.exists():
        if named:
            pytest.fail(f"{VENV_VARIABLE} names {named}, and there is no {python}")
        pytest.skip(f"no {python}: scripts/interop.sh makes it and installs arize-phoenix")
    return python


def agent_environment(project: str) -> dict[str, str]:
    """Return the caller's environment without what would change the agent's telemetry."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(NOT_INHERITED) and not key.lower().endswith("_proxy")
    }
    return inherited | {
        "PYTHONPATH": str(REPOSITORY),
        "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={project}",
    }
