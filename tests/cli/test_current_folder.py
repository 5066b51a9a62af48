"""The current folder may be anybody's: nothing of it runs unless it is named and not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

REPOSITORY = Path(__file__).parents[2]
SCRIPT = "import sys; from autotrace.cli import main; sys.argv[0] = 'autotrace'; sys.exit(main())"
"""What the console script does; `-P` keeps the current folder off the path, as there."""
NAMES = (
    *("chromadb", "numpy", "orjson", "pydantic", "httpx", "typer", "yaml", "cryptography", "mcp"),
    *("json", "pickle", "multiprocessing", "autotrace", "sitecustomize", "rich", "uvicorn"),
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder in which every module says that it was run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"print('RAN', {name!r})\nraise SystemExit(9)\n")
    (folder / ".env").write_text("CHROMA_PRODUCT_TELEMETRY_IMPL=antigravity.Nothing\n")
    return folder


def command(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    own = ("AUTOTRACE_", "OTEL_", "PYTHON")
    env = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, *arguments],
        cwd=folder,
        env=env | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.fixture
def store(tmp_path: Path) -> str:
    import autotrace
    from tests.embedders import HashEmbedder

    store = str(tmp_path / "store")
    autotrace.configure(store=store, embedder=HashEmbedder(), storing="thread")
    with autotrace.task("t"):
        pass
    autotrace.shutdown()
    return store


@pytest.mark.parametrize("arguments", [("traces",), ("decisions",), ("keys", "list")])
def test_an_installed_module_that_is_named_brings_nothing_of_the_current_folder(
    hostile: Path, store: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "company.py").write_text("from tests.embedders import HashEmbedder as E\n")

    done = command(
        hostile,
        *(*arguments, "--store", store),
        PYTHONPATH=os.pathsep.join((str(installed), str(REPOSITORY))),
        AUTOTRACE_EMBEDDER="company:E",
        AUTOTRACE_POLICIES='["company"]',
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "RAN" not in done.stdout


def test_a_module_of_the_current_folder_is_found_and_replaces_no_installed_one(
    hostile: Path, store: str
) -> None:
    (hostile / "own_embedder.py").write_text(
        "import own_helper\nfrom tests.embedders import HashEmbedder as E\n"
    )
    (hostile / "own_helper.py").write_text("")

    done = command(
        hostile,
        *("traces", "--store", store),
        PYTHONPATH=str(REPOSITORY),
        AUTOTRACE_EMBEDDER="own_embedder:E",
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "RAN" not in done.stdout


def test_a_program_elsewhere_stores_with_nothing_of_the_current_folder(
    hostile: Path, tmp_path: Path
) -> None:
    program = (
        "import autotrace\n"
        "embedder = 'tests.embedders:HashEmbedder'\n"
        f"autotrace.configure(store={str(tmp_path / 's')!r}, embedder=embedder)\n"
        "with autotrace.task('t'): pass\n"
        "assert autotrace.flush()\n"
        "assert len(autotrace.list_traces()) == 1\n"
        "autotrace.shutdown()\n"
    )

    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=hostile,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_workers_of_a_server_run_nothing_of_the_current_folder(
    hostile: Path, store: str
) -> None:
    own = ("AUTOTRACE_", "OTEL_", "PYTHON")
    env = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    env |= {"PYTHONPATH": str(REPOSITORY), "AUTOTRACE_EMBEDDER": "tests.embedders:HashEmbedder"}
    with subprocess.Popen(
        [
            *(sys.executable, "-P", "-c", SCRIPT),
            *("serve", "--port", "0", "--workers", "2", "--store", store),
        ],
        cwd=hostile,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            health = requests.Session()
            health.mount("http://", HTTPAdapter(max_retries=Retry(20, backoff_factor=0.5)))
            assert health.get(f"{url}/health/live", timeout=500).status_code == 200
        finally:
            server.terminate()
        assert "RAN" not in server.stdout.read()
        assert server.wait(500) == 0
