"""What every test stands on: an environment of its own, and ways to record in it."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from opentelemetry.sdk.trace import TracerProvider

import autotrace
from autotrace.testing import Recording, recording
from tests.embedders import HashEmbedder
from tests.servers import ChromaServer, chroma_server

Configure = Callable[..., Path]

# How long an example takes says something about the machine, not about the code. Each run takes
# other examples, so that few are enough.
settings.register_profile("autotrace", deadline=None, max_examples=40)
# The same examples every time: what fails in CI fails again on the desk.
settings.register_profile("steady", deadline=None, max_examples=40, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "autotrace"))


def pytest_xdist_auto_num_workers() -> int:
    """Start more workers than cores: half the tests wait for other processes."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with groups: one worker runs each, and the others should not wait for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


def pytest_report_header() -> str:
    """Name the versions that matter."""
    names = ("chromadb", "opentelemetry-sdk", "wrapt", "pydantic", "onnxruntime")
    return "with " + ", ".join(f"{name} {version(name)}" for name in names)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the machine that the tests run on are not those of the tests."""
    for name in list(os.environ):
        if name.startswith(("AUTOTRACE_", "OTEL_")):
            monkeypatch.delenv(name)
    # Where the developer may have an approver's key.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(Path(__file__).parent / "no-such-folder"))


@pytest.fixture
def recorded() -> Iterator[Recording]:
    """What the test records, in memory."""
    with recording() as found:
        yield found


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    """`autotrace.configure` on a store of the test, which is shut down afterwards."""

    def configured(**options: Any) -> Path:
        store = tmp_path / "store"
        autotrace.configure(store, **{"embedder": HashEmbedder(), "flush_interval_ms": 0} | options)
        return store

    yield configured
    autotrace.shutdown()


@pytest.fixture
def counted(configure: Configure) -> Callable[[], Counter[str]]:
    """What `autotrace.health()` has counted since the test began; counters are the process's."""
    before: Counter[str] = Counter()

    def since() -> Counter[str]:
        return Counter(autotrace.health().counters) - before

    configure()
    before.update(autotrace.health().counters)
    return since


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    """A tracer provider that an application has made for itself."""
    made = TracerProvider(shutdown_on_exit=False)
    yield made
    made.shutdown()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    with chroma_server(tmp_path_factory.mktemp("chroma-run")) as running:
        yield running


_databases = itertools.count()


@pytest.fixture(params=["embedded", "server"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings of an empty store: each backend in turn."""
    if request.param == "embedded":
        return {"store": str(tmp_path / "store")}
    running: ChromaServer = request.getfixturevalue("server")
    database = f"test-{next(_databases)}"
    running.create_database(database)
    return {
        "store": running.url,
        "chroma_database": database,
        "spool": str(tmp_path / "spool"),
    }
