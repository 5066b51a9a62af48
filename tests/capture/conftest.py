"""What must hold after every test of capture, whatever it was about."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider

from autotrace.testing import recording
from tests.capture.spans import Spans


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


@pytest.fixture(scope="session")
def spans_of_the_session() -> Iterator[tuple[TracerProvider, Spans]]:
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider, Spans(provider)
    provider.shutdown()


@pytest.fixture
def spans(spans_of_the_session: tuple[TracerProvider, Spans]) -> Iterator[Spans]:
    """The spans of an application's own provider; each must have ended once when the test has."""
    provider, found = spans_of_the_session
    found.clear()
    with recording(tracer_provider=provider, propagate_threads=False) as recorded:
        yield found
    assert not found.open_or_ended_twice()
    assert recorded.counters.get("capture_errors", 0) == 0, recorded.last_error
