from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ChromaServer, chroma_server


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
