"""Opening the store that a command reads, and taking in what is recorded and not stored yet."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from autotrace import semconv
from autotrace.base.health_counters import HealthCounters
from autotrace.base.private_folder import private_directory
from autotrace.capture.native_spans import LocalTracerProvider
from autotrace.cli.terminal import busy, complain
from autotrace.doctor import store_exists
from autotrace.embedding.choice import Embedding, import_embedding
from autotrace.errors import EmbeddingSpaceError, StoreUnavailableError
from autotrace.settings import DEFAULT_EMBEDDER, Settings, load_settings
from autotrace.spool.writer import SpoolWriter
from autotrace.traces.reader import Reader
from autotrace.worker.pipeline import Pipeline
from autotrace.worker.wiring import Store, choose_embedding, open_connection

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions
    from autotrace.embedding.embedder import Embedder
    from autotrace.models import Decision
    from autotrace.store.connection import Connection

INTAKE_TIMEOUT_S: Final = 30.0
"""How long a command takes in what others have recorded before it answers with what there is."""
_LOOK_EVERY_S: Final = 0.25
_CLOSE_TIMEOUT_S: Final = 1.0


def existing_store(store: str | None) -> Settings:
    """Return the settings of a store that is there.

    Raises:
        StoreUnavailableError: Nothing was ever recorded there.
    """
    settings = load_settings(store=store)
    if not store_exists(settings):
        msg = (
            f"no store at {settings.shown_store} (record something first, or name one with --store)"
        )
        raise StoreUnavailableError(msg)
    return settings


def check_writable(settings: Settings) -> None:
    """Raise unless records can be written where the settings have them.

    Raises:
        StoreUnavailableError: They cannot.
    """
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
    """Import the embedder that `--embedder` names; None when it names none.

    A module of the current folder is found, also for the environment's embedder.

    Raises:
        InvalidArgumentError: It cannot be imported.
    """
    if (named := name or settings.embedder) != DEFAULT_EMBEDDER:
        _find([named.partition(":")[0]])
    return None if name is None else import_embedding(name, "--embedder")


def load_policies(settings: Settings) -> None:
    """Import the modules of policies that the settings name; those of the current folder, too.

    Raises:
        InvalidArgumentError: One cannot be imported.
    """
    from autotrace.decisions.policies import import_policies

    _find(settings.policies)
    import_policies(settings.policies)


def _find(modules: Iterable[str]) -> None:
    """Make modules of the current folder importable if one that is named is not installed.

    The folder goes last, so that no file in it takes the place of an installed module; and while
    all named modules are installed it is not searched at all: it may be anybody's.
    """
    here = os.getcwd()
    if here not in sys.path and not all(map(_is_installed, modules)):
        sys.path.append(here)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a package above it is not there, or it is not a name
        return False


def chosen_embedding(settings: Settings, name: str | None) -> Embedding:
    """Return the embedder that `--embedder` names, or else the environment, or the default one.

    Raises:
        InvalidArgumentError: It cannot be imported.
    """
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
    """Open a store, with what dead processes have left in its spool taken in.

    Args:
        store: Path or URL; None for the default.
        embedder: `module:name` of another embedder than the default.
        recalls: Whether the embedder must be of the store's space. Without it a store of another
            space is opened as well, and nothing is taken in, which would need the right one.

    Raises:
        AutotraceError: The store is not there, or cannot be opened.
    """
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
            reader = Reader(connection, opened.embedder, functools.partial(_decisions, settings))
            yield OpenedStore(reader, connection, opened.embedder)
        finally:
            if connection is not opened.connection:
                connection.close()
            # It closes its connection unless it still stores; that is not waited for.
            pipeline.close(_CLOSE_TIMEOUT_S, flush=False)


def _decisions(settings: Settings, decision_ids: Sequence[str]) -> list[Decision]:
    with _deciding(settings, None) as deciding:
        return deciding.library.existing(decision_ids)


def _take_in(pipeline: Pipeline, counters: HealthCounters, say: Callable[[str], None]) -> None:
    """Store what waits in the spool, until nothing does, or it fails, or it takes too long."""
    pipeline.recover()
    deadline_s = time.monotonic() + INTAKE_TIMEOUT_S
    while not pipeline.flush(_LOOK_EVERY_S):
        failed = counters.snapshot().get("export_failures", 0) > 0
        left_bytes = pipeline.backlog_bytes()
        if failed or time.monotonic() > deadline_s:
            reason = counters.last_error if failed else "it takes long; the next command goes on"
            complain("warning", f"{left_bytes:,} bytes are recorded and not stored yet: {reason}")
            return
        say(f"taking in what was recorded: {left_bytes:,} bytes left")


@contextmanager
def open_deciding(store: str | None) -> Generator[Decisions]:
    """Open the decisions of a store, to read and to answer, while the agent that asks waits.

    No embedder is loaded and no process started, so that an answer takes no longer than the store
    does. What happens is also a span, which lies in the spool when the command ends: what stores
    for the waiting agent takes it in, or the next command that reads traces.

    Args:
        store: Path or URL; None for the default.

    Raises:
        StoreUnavailableError: The store is not there.
    """
    settings = existing_store(store)
    with busy(f"opening {settings.store}"), _deciding(settings, None) as deciding:
        yield deciding


@contextmanager
def open_search(store: str | None, embedder: str | None) -> Generator[Decisions]:
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
    with busy("searching"), _deciding(settings, chosen_embedding(settings, embedder)) as deciding:
        yield deciding


@contextmanager
def _deciding(settings: Settings, embedding: Embedding | None) -> Generator[Decisions]:
    # Not needed by the other commands, so not loaded by them.
    from autotrace.capture.approvals.decision_spans import DecisionRecording
    from autotrace.capture.recorder import make_recorder

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

    def append(record: Any) -> None:
        writer.write(record)

    recorder = make_recorder(
        settings,
        LocalTracerProvider(append).get_tracer(semconv.SCOPE),
        count=counters.add,
        note=counters.record_failure,
    )

    deciding = store.decisions(DecisionRecording(recorder))
    try:
        yield deciding
    finally:
        writer.close()
        deciding.service.book.connection.close()
        if counters.last_error is not None:
            complain("warning", counters.last_error)
