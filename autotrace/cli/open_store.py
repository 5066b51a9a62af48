"""Open the store of a command, and store the spans that wait in its spool.

Parts of the store are imported where a command opens it: `--help` and `--version` need none.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from autotrace import semconv
from autotrace.base.private_folder import private_directory
from autotrace.cli.terminal import busy, complain
from autotrace.errors import EmbeddingSpaceError, StoreUnavailableError
from autotrace.settings import DEFAULT_EMBEDDER, Settings, load_settings

if TYPE_CHECKING:
    from autotrace.base.health_counters import HealthCounters
    from autotrace.decisions.api import Decisions
    from autotrace.embedding.choice import Embedding
    from autotrace.embedding.embedder import Embedder
    from autotrace.models import Decision
    from autotrace.spool.span_records import SpanRecord
    from autotrace.store.connection import Connection
    from autotrace.traces.reader import Reader
    from autotrace.worker.pipeline import Pipeline

INTAKE_TIMEOUT_S: Final = 30.0
"""Time limit for storing waiting spans before a command answers."""
_LOOK_EVERY_S: Final = 0.25
_CLOSE_TIMEOUT_S: Final = 1.0


def existing_store(store: str | None) -> Settings:
    """Return the settings of a store that exists.

    Raises:
        StoreUnavailableError: Nothing was recorded there.
    """
    from autotrace.worker.wiring import store_exists

    settings = load_settings(store=store)
    if not store_exists(settings):
        msg = (
            f"no store at {settings.shown_store} (record something first, or name one with --store)"
        )
        raise StoreUnavailableError(msg)
    return settings


def check_writable(settings: Settings) -> None:
    """Raise StoreUnavailableError unless the folders of the settings can be written."""
    folders = [settings.spool_path, *([settings.store_path] if settings.is_embedded else [])]
    for folder in folders:
        try:
            private_directory(folder)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            msg = (
                f"{folder} cannot be written ({error.strerror}): name another folder with --store"
                " or AUTOTRACE_STORE"
            )
            raise StoreUnavailableError(msg) from None


def named_embedding(settings: Settings, name: str | None) -> Embedding | None:
    """Import the embedder that `--embedder` names; return None without a name.

    Modules of the current folder are found, also for the embedder of the environment.

    Raises:
        InvalidArgumentError: The embedder cannot be imported.
    """
    from autotrace.embedding.choice import import_embedding

    if (named := name or settings.embedder) != DEFAULT_EMBEDDER:
        _find([named.partition(":")[0]])
    return None if name is None else import_embedding(name, "--embedder")


def load_policies(settings: Settings) -> None:
    """Import the modules of policies that the settings name, also from the current folder.

    Raises:
        InvalidArgumentError: A module cannot be imported.
    """
    from autotrace.decisions.policies import import_policies

    _find(settings.policies)
    import_policies(settings.policies)


def _find(modules: Iterable[str]) -> None:
    """Make modules of the current folder importable if a named one is not installed.

    The folder goes last, so that its files replace no installed module. It is not searched while
    all named modules are installed, as anybody may own it.
    """
    here = os.getcwd()
    if here not in sys.path and not all(map(_is_installed, modules)):
        sys.path.append(here)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its package does not exist, or it is not a name
        return False


def chosen_embedding(settings: Settings, name: str | None) -> Embedding:
    """Return the embedding of `--embedder`, of the environment, or the default one.

    Raises:
        InvalidArgumentError: The embedder cannot be imported.
    """
    from autotrace.worker.wiring import choose_embedding

    return choose_embedding(settings, named_embedding(settings, name))


class OpenedStore(NamedTuple):
    """A store that a command has opened."""

    reader: Reader
    connection: Connection
    embedder: Embedder


@contextmanager
def open_reader(
    store: str | None, embedder: str | None, *, recalls: bool = False
) -> Generator[Reader]:
    """Open a store to read; see `open_store`."""
    with open_store(store, embedder, recalls=recalls) as opened:
        yield opened.reader


@contextmanager
def open_store(
    store: str | None, embedder: str | None, *, recalls: bool = False
) -> Generator[OpenedStore]:
    """Open a store, and store the spans that dead processes left in its spool.

    Args:
        store: Path or URL; None for the default.
        embedder: `module:name` of another embedder than the default.
        recalls: Whether the embedder must match the store's space. Otherwise a store of another
            space is opened too, and no spans are stored, as that needs its embedder.

    Raises:
        AutotraceError: The store does not exist, or cannot be opened.
    """
    from autotrace.traces.reader import Reader
    from autotrace.worker.wiring import Store, open_connection

    settings = existing_store(store)
    with busy(f"opening {settings.store}") as say:
        opened = Store(settings, chosen_embedding(settings, embedder))
        pipeline = opened.pipeline(in_this_process=True)
        connection = opened.connection
        try:
            try:
                with opened.connection.reading():
                    pass
            except EmbeddingSpaceError as error:
                if recalls:
                    raise
                connection = open_connection(settings, None)
                if left_bytes := pipeline.backlog_bytes():
                    complain("warning", f"{left_bytes:,} bytes are not stored yet: {error}")
            else:
                _take_in(pipeline, opened.counters, say)
            say("reading")
            reader = Reader(connection, opened.embedder, functools.partial(_existing, settings))
            yield OpenedStore(reader, connection, opened.embedder)
        finally:
            if connection is not opened.connection:
                connection.close()
            # The pipeline closes its connection, unless it is still storing.
            pipeline.close(_CLOSE_TIMEOUT_S, flush=False)


def _existing(settings: Settings, decision_ids: Sequence[str]) -> list[Decision]:
    with _decisions(settings) as decisions:
        return decisions.existing(decision_ids)


def _take_in(pipeline: Pipeline, counters: HealthCounters, say: Callable[[str], None]) -> None:
    """Store the spans of the spool until none waits, storing fails, or time is over."""
    pipeline.recover()
    deadline_s = time.monotonic() + INTAKE_TIMEOUT_S
    while not pipeline.flush(_LOOK_EVERY_S):
        failed = counters.snapshot().get("export_failures", 0) > 0
        left_bytes = pipeline.backlog_bytes()
        if failed or time.monotonic() > deadline_s:
            reason = counters.last_error if failed else "it takes long; the next command continues"
            complain("warning", f"{left_bytes:,} bytes are recorded and not stored yet: {reason}")
            return
        say(f"storing recorded spans: {left_bytes:,} bytes left")


@contextmanager
def open_decisions(store: str | None) -> Generator[Decisions]:
    """Open the decisions of a store to read and answer them, while an agent waits.

    No embedder is loaded and no process started, so that an answer is fast. The span of an event
    stays in the spool until the agent's worker, or a command that reads traces, stores it.

    Raises:
        StoreUnavailableError: The store does not exist.
    """
    settings = existing_store(store)
    with busy(f"opening {settings.store}"), _decisions(settings) as decisions:
        yield decisions


@contextmanager
def open_search(store: str | None, embedder: str | None) -> Generator[Decisions]:
    """Open the decisions of a store to search them, after storing the spans that wait.

    Raises:
        AutotraceError: The store does not exist, or has vectors of another embedder.
    """
    with open_reader(store, embedder, recalls=True):
        pass  # a search finds only stored decisions
    settings = existing_store(store)
    chosen = chosen_embedding(settings, embedder)
    with busy("searching"), _decisions(settings, chosen) as decisions:
        yield decisions


@contextmanager
def _decisions(settings: Settings, embedding: Embedding | None = None) -> Generator[Decisions]:
    from autotrace.capture.approvals.decision_spans import DecisionRecording
    from autotrace.capture.native_spans import LocalTracerProvider
    from autotrace.capture.recorder import make_recorder
    from autotrace.spool.writer import SpoolWriter
    from autotrace.worker.wiring import Store

    store = Store(settings, embedding)
    counters = store.counters
    writer = SpoolWriter(
        settings.spool_path,
        count=counters.add,
        max_total_bytes=settings.max_spool_bytes,
        on_error=lambda error: counters.record_failure(
            "spool", f"not recorded in the trace: {error}"
        ),
    )

    def append(record: SpanRecord) -> None:
        writer.write(record)

    recorder = make_recorder(
        settings,
        LocalTracerProvider(append).get_tracer(semconv.SCOPE),
        count=counters.add,
        note=counters.record_failure,
    )

    decisions = store.decisions(DecisionRecording(recorder))
    try:
        yield decisions
    finally:
        writer.close()
        decisions.shut_down(0)
        if counters.last_error is not None:
            complain("warning", counters.last_error)
