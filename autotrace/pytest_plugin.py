"""A pytest plugin: `pytest_plugins = ["autotrace.pytest_plugin"]` in a `conftest.py`."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from autotrace.testing import Recording, recording


@pytest.fixture
def autotrace_recording() -> Generator[Recording]:
    """Record the test into memory; see `autotrace.testing.Recording`."""
    with recording() as recorded:
        yield recorded
