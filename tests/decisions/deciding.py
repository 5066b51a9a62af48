"""Decisions of a store without a runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from autotrace.base.health_counters import HealthCounters
from autotrace.decisions.api import Decisions
from autotrace.decisions.event_store import AppendedEvent
from autotrace.embedding.choice import embedding_of
from autotrace.models import NOWHERE, TraceLocation
from autotrace.settings import load_settings
from tests.embedders import HashEmbedder


class Kept:
    """Keeps everything as it is, and the events."""

    def __init__(self) -> None:
        self.events: list[AppendedEvent] = []
        self.here = NOWHERE

    def value(self, value: Any, path: str) -> Any:
        return orjson.loads(orjson.dumps(value))

    def text(self, value: Any, path: str) -> str:
        return str(value)

    def place(self) -> TraceLocation:
        return self.here

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
    return Decisions(
        load_settings(**{**settings, **options}), Kept(), HealthCounters(), embedding_of(embedder)
    )
