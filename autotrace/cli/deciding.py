"""Opening the decisions of a store, to read and to answer, while the agent that asks waits.

No embedder is loaded and no process started, so that an answer takes no longer than the store
does. What happens is also a span, which lies in the spool when the command ends: the process that
stores for the waiting agent takes it in, or the next command that reads traces.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from autotrace import semconv
from autotrace.capture.decision_span import DecisionRecording
from autotrace.capture.recorder import make_recorder
from autotrace.cli.opening import chosen_embedding, existing_store, open_reader
from autotrace.cli.terminal import busy, complain
from autotrace.decisions.current import Deciding
from autotrace.decisions.wiring import make_deciding
from autotrace.errors import StoreError
from autotrace.export.counters import Counters
from autotrace.export.local import LocalTracerProvider
from autotrace.export.spool import SpoolWriter
from autotrace.settings import Settings
from autotrace.store.embedder import Embedder


@contextmanager
def open_deciding(store: str | None) -> Generator[Deciding]:
    """Open the decisions of a store, whatever its embedder.

    Args:
        store: Path or URL; None for the default.

    Raises:
        StoreUnavailableError: The store is not there.
    """
    settings = existing_store(store)
    with busy(f"opening {settings.store}"):
        yield from _deciding(settings, None)


@contextmanager
def open_search(store: str | None, embedder: str | None) -> Generator[Deciding]:
    """Open the decisions of a store to find some by meaning, with what waits taken in.

    Args:
        store: Path or URL; None for the default.
        embedder: `module:name` of another embedder than the default.

    Raises:
        AutotraceError: The store is not there, or holds vectors of another embedder.
    """
    with open_reader(store, embedder, recalls=True):
        pass  # what is not stored is not found
    settings = existing_store(store)
    with busy("searching"):
        yield from _deciding(settings, chosen_embedding(settings, embedder).embedder)


def _deciding(settings: Settings, embedder: Embedder | None) -> Generator[Deciding]:
    counters = Counters()
    writer = SpoolWriter(
        settings.spool_path,
        count=counters.add,
        max_total_bytes=settings.max_spool_bytes,
        on_error=lambda error: counters.note("spool", f"not recorded in the trace: {error}"),
    )

    def append(record: Any) -> None:
        writer.append(record)

    recorder = make_recorder(
        settings,
        LocalTracerProvider(append).get_tracer(semconv.SCOPE),
        count=counters.add,
        note=counters.note,
    )

    def embed(text: str) -> Any:
        if embedder is None:
            raise StoreError("no embedder was opened")
        return embedder.embed([text])[0]

    deciding = make_deciding(
        settings,
        DecisionRecording(recorder),
        space=None if embedder is None else embedder.space,
        embed=embed,
        route=lambda _: None,  # nothing is asked for here
        count=counters.add,
        note=counters.note,
    )
    try:
        yield deciding
    finally:
        writer.close()
        deciding.service.book.connection.close()
        if counters.last_error is not None:
            complain("warning", counters.last_error)
