"""Servers that several tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from .serving import App, ServerProcess, application, serving


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application in this process, for the tests of one file."""
    with application(tmp_path_factory.mktemp("app") / "store") as running:
        yield running


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`autotrace serve` on a new store, with the key that it made for itself."""
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder / "store", folder / "log") as server:
        server.first_key()
        yield server
        assert server.stop(signal.SIGINT) == 0  # Ctrl-C is an orderly end, too
