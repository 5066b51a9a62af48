"""Decisions of a store without a runtime: what the book, the service and the library do alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from autotrace.decisions.api import Decisions
from autotrace.decisions.event_store import NOWHERE, AppendedEvent, TraceLocation
from autotrace.decisions.wiring import make_deciding
from autotrace.settings import load_settings
from tests.embedders import HashEmbedder


class Kept:
    """Keeps everything as it is, and the events."""

    def __init__(self) -> None:
        self.events: list[AppendedEvent] = []

    def value(self, value: Any, path: str) -> Any:
        return orjson.loads(orjson.dumps(value))

    def text(self, value: Any, path: str) -> str:
        return str(value)

    def place(self) -> TraceLocation:
        return NOWHERE

    def event(self, happened: AppendedEvent) -> None:
        self.events.append(happened)


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> int:
        return time.time_ns() + int(self.ahead_s * 1e9)


def open_deciding(
    settings: Mapping[str, Any], embedder: HashEmbedder | None = None, **options: Any
) -> Decisions:
    embedder = embedder or HashEmbedder()
    failures: list[BaseException] = []
    deciding = make_deciding(
        load_settings(**{**settings, **options}),
        Kept(),
        space=embedder.space,
        embed=lambda text: embedder.embed([text])[0],
        count=lambda name: None,
        note=lambda kind, message, error: failures.append(error),
    )
    assert failures == []
    return deciding
