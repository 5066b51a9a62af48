"""Run a selection of tests with other versions than those of `.venv`.

usage: python scripts/versions.py lowest|newest

lowest: Python 3.11 and the lower bound of each dependency and extra in pyproject.toml, as it stands
    there: a bound that cannot be installed with the others is an error.
newest: the newest Python of this machine. Before the extras are installed there, autotrace must
    work without them.

Each has a virtual environment, installed the first time and when pyproject.toml has changed. An
interpreter that is not here is named, and its tests are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from glob import glob
from pathlib import Path

ROOT = Path(__file__).parent.parent
OLDEST, NEWEST = 11, 14
"""The minor versions of Python 3 that should be tested."""
TEST_TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
"""Of the extra `dev`; the rest of it is not needed by these tests."""
TESTS = (
    "tests/capture/test_tool.py",
    "tests/cli/test_text.py",
    "tests/decisions/test_cedar.py",
    "tests/capture/test_carriers.py::test_a_thread_whose_run_is_called_directly_belongs_to_the_caller",
    "tests/capture/test_carriers.py::test_threads_of_a_recording_inherit_the_task_and_are_left_alone_after_it",
    "tests/server/mcp/test_trace_tools.py",
    "tests/server/rest/test_traces.py",
    "tests/test_extras.py",
    "tests/test_public_api.py",
    "tests/test_settings.py",
)
"""One file of each part: calls, command line, Cedar, threads, MCP, REST with recall, settings."""


def main() -> int:
    """Run one of the two, and return the exit code of its tests."""
    match sys.argv[1:]:
        case ["lowest"]:
            return test_lowest()
        case ["newest"]:
            return test_newest()
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def test_lowest() -> int:
    """Test the lower bounds."""
    python = find_python(OLDEST)
    if python is None:
        print(f"lowest: not run: python3.{OLDEST} is not here; old releases lack wheels for others")
        return 0
    venv = ROOT / ".venv-lowest"
    bounds = "".join(f"{name}=={version}\n" for name, version in sorted(lower_bounds().items()))
    if not is_installed(venv):
        make_venv(python, venv)
        (venv / "bounds.txt").write_text(bounds)
        install(venv, ".[all]", *test_tools(), "--constraint", str(venv / "bounds.txt"))
        mark_installed(venv)
    # Old releases may use what newer ones of their own dependencies deprecate.
    return run_tests("lowest", venv, "-W", "ignore::DeprecationWarning")


def test_newest() -> int:
    """Test the newest Python, and there first without any extra."""
    minor, python = next(
        (minor, python)
        for minor in range(NEWEST, 0, -1)
        if (python := find_python(minor)) is not None
    )
    if minor < NEWEST:
        print(f"newest: python3.{NEWEST} is not here")
    if minor == sys.version_info.minor:
        print(f"newest: not run: Python 3.{minor} is that of `make test`")
        return 0
    venv = ROOT / ".venv-newest"
    if not is_installed(venv):
        make_venv(python, venv)
        install(venv, ".", *test_tools())
        if code := run_tests("newest, without extras", venv, tests=("tests/test_extras.py",)):
            return code
        install(venv, ".[all]")
        mark_installed(venv)
    return run_tests("newest", venv)


def find_python(minor: int) -> str | None:
    """Find a Python 3 of a minor version that runs: this one, on the PATH, or of pyenv."""
    name = f"python3.{minor}"
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(name), *sorted(glob(f"{versions}/3.{minor}.*/bin/{name}"), reverse=True)]
    if minor == sys.version_info.minor:
        found.insert(0, sys.executable)
    # A shim of pyenv is on the PATH also where it runs nothing.
    check = f"import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    for python in filter(None, found):
        if subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return python
    return None


def lower_bounds() -> dict[str, str]:
    """Read the lower bound of each dependency, extra and test tool."""
    bounds: dict[str, str] = {}
    for requirement in (*requirements(), *test_tools()):
        if requirement.startswith("autotrace-agents["):
            continue
        match = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            raise SystemExit(
                f"pyproject.toml: no lower bound in {requirement!r}: write name>=version"
            )
        bounds[match[1]] = match[2]
    return bounds


def requirements(*, dev: bool = False) -> list[str]:
    """Read the requirements of pyproject.toml: for users, or the extra `dev`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    if dev:
        return extras["dev"]
    return [
        *project["dependencies"],
        *(r for name in extras if name != "dev" for r in extras[name]),
    ]


def test_tools() -> list[str]:
    """Return the requirements of what runs the tests."""
    return [r for r in requirements(dev=True) if r.split(">=")[0] in TEST_TOOLS]


def make_venv(python: str, venv: Path) -> None:
    """Make an empty virtual environment."""
    subprocess.run([python, "-m", "venv", "--clear", str(venv)], check=True)


def install(venv: Path, *what: str) -> None:
    """Install into it, by pip as it is set up on this machine."""
    print(f"installing into {venv.name}", flush=True)
    quiet = ("-qq", "--no-compile", "--disable-pip-version-check")
    command = [f"{venv}/bin/python", "-m", "pip", "install", *quiet, "--editable", *what]
    subprocess.run(command, cwd=ROOT, check=True)


def is_installed(venv: Path) -> bool:
    """Return whether all was installed for the pyproject.toml of now."""
    copy = venv / "installed-pyproject.toml"
    return copy.exists() and copy.read_bytes() == (ROOT / "pyproject.toml").read_bytes()


def mark_installed(venv: Path) -> None:
    """Keep what it was installed for; last, so that an interrupted installation starts again."""
    shutil.copyfile(ROOT / "pyproject.toml", venv / "installed-pyproject.toml")


def run_tests(what: str, venv: Path, *options: str, tests: tuple[str, ...] = TESTS) -> int:
    """Run tests in the environment; return pytest's exit code."""
    python = f"{venv}/bin/python"
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
    print(f"{what}: {version.stdout.strip()}", flush=True)
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", *options, *tests]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
