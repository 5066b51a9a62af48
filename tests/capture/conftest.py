"""What must hold after every test of capture, whatever it was about."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context


@pytest.fixture(autouse=True)
def _leaves_no_trace_of_itself(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The context is what it was, and OpenTelemetry has not complained of how it is used."""
    before = otel_context.get_current()
    yield
    assert otel_context.get_current() == before
    for when in ("setup", "call"):
        complaints = [
            record.getMessage()
            for record in caplog.get_records(when)
            if record.name.startswith("opentelemetry") and record.levelno >= logging.WARNING
        ]
        assert not complaints
