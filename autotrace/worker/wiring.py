"""Wiring of a store: makes its parts from settings and an embedding."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotrace.base.health_counters import HealthCounters
from autotrace.embedding.choice import Embedding, embedding_of, import_embedding
from autotrace.embedding.embedder import default_embedder
from autotrace.errors import StoreError
from autotrace.semconv import ENV_PREFIX
from autotrace.settings import DEFAULT_EMBEDDER, Settings
from autotrace.spool.files import processes_in
from autotrace.store.chroma_embedded import may_exist
from autotrace.store.connection import Connection, ServerOptions, connect
from autotrace.store.decision_log import connect_decisions
from autotrace.traces.decision_index import DecisionIndex
from autotrace.traces.ingest import Ingestor
from autotrace.traces.reader import Reader
from autotrace.worker.pipeline import Pipeline
from autotrace.worker.process import WorkerProcess

if TYPE_CHECKING:
    from autotrace.capture.approvals.decision_spans import DecisionRecording
    from autotrace.decisions.api import Decisions
    from autotrace.embedding.embedder import Embedder
    from autotrace.models import Decision


class Store:
    """One store, with the parts that read and write it.

    Each part is opened at its first use.

    Args:
        settings: Location of the store and of its spool.
        embedding: Embedding of the store. None: a store of any embedding space is accepted, and
            parts that embed texts raise StoreError.
        counters: Counters of drops and failures; None: new ones.
    """

    def __init__(
        self,
        settings: Settings,
        embedding: Embedding | None,
        counters: HealthCounters | None = None,
    ) -> None:
        self.settings = settings
        self.embedding = embedding
        self.counters = counters or HealthCounters()
        self.connection = open_connection(settings, self.space)

    @classmethod
    def open(
        cls, settings: Settings, embedder: Any = None, counters: HealthCounters | None = None
    ) -> Store:
        """Return a store with a given or configured embedder.

        See `choose_embedding`.

        Raises:
            InvalidArgumentError: The embedder is not valid, or cannot be imported.
        """
        return cls(settings, choose_embedding(settings, embedder), counters)

    @property
    def space(self) -> str | None:
        """The embedding space that the store must hold; None accepts any."""
        return None if self.embedding is None else self.embedding.space

    @property
    def embedder(self) -> Embedder:
        """The embedder of the store.

        Raises:
            StoreError: The store was opened without an embedding.
        """
        if self.embedding is None:
            raise StoreError("no embedder was opened")
        return self.embedding.embedder

    @cached_property
    def decision_index(self) -> DecisionIndex:
        """The index of decisions by meaning."""
        return open_decision_index(self.settings, self.embedder, self.counters.add, self.space)

    def ingestor(self) -> Ingestor:
        """Make the ingestor, which stores batches of records."""
        return Ingestor(self.connection, self.embedder, self.counters.add, self.decision_index)

    def reader(self, find_decisions: Callable[[Sequence[str]], list[Decision]]) -> Reader:
        """Make the reader of traces.

        Args:
            find_decisions: Returns the decisions with given ids that exist, oldest first.
        """
        return Reader(self.connection, self.embedder, find_decisions)

    def pipeline(self, *, in_this_process: bool = False) -> Pipeline:
        """Make the pipeline, which spools records and has them stored.

        Args:
            in_this_process: Whether a thread of this process stores, against the setting `storing`.
        """
        return Pipeline(
            self.connection,
            self.embedder,
            self.settings.spool_path,
            counters=self.counters,
            flush_interval_ms=self.settings.flush_interval_ms,
            max_spool_bytes=self.settings.max_spool_bytes,
            storekeeper=None if in_this_process else self._worker_process(),
            decisions=self.decision_index,
        )

    def _worker_process(self) -> WorkerProcess | None:
        """Return the launcher of the storekeeper; None if a thread must store.

        Another process cannot make an embedder that was passed as an object, and a frozen program
        (one file) cannot start Python.
        """
        settings, embedding = self.settings, self.embedding
        if (
            settings.storing != "process"
            or embedding is None
            or embedding.spec is None
            or not hasattr(os, "fork")
            or getattr(sys, "frozen", False)
            or not sys.executable
        ):
            return None
        # Resolved now, as the program may change its directory before the storekeeper starts.
        places = {"store": settings.resolved().store, "spool": str(settings.spool_path)}
        if settings.embedding_model_path is not None:
            model = Path(settings.embedding_model_path).expanduser().resolve()
            places["embedding_model_path"] = str(model)
        order = {"settings": settings.model_dump() | places, "embedder": embedding.spec}
        return WorkerProcess(settings.spool_path, order, self.counters)

    def decisions(self, recording: DecisionRecording) -> Decisions:
        """Make the decisions of the store.

        Args:
            recording: Encodes the values of decisions, and records their events as spans.
        """
        # Imported here, as few programs use decisions.
        from autotrace.decisions.api import Decisions

        return Decisions(self.settings, recording, self.counters, self.embedding)

    def close(self) -> None:
        """Close the connections. A later use opens them again."""
        self.connection.close()
        if "decision_index" in self.__dict__:
            self.decision_index.close()


def store_exists(settings: Settings) -> bool:
    """Return whether anything was recorded into a store. True for any Chroma server."""
    return may_exist(settings.store) or bool(processes_in(settings.spool_path))


def open_connection(settings: Settings, space: str | None) -> Connection:
    """Make the connection to the traces of a store without opening it.

    Args:
        settings: Location of the store.
        space: The embedding space that the store must hold; None accepts any.
    """
    return connect(settings.store, space=space, server=ServerOptions.of(settings))


def open_decision_index(
    settings: Settings, embedder: Embedder, count: Callable[[str], None], space: str | None = None
) -> DecisionIndex:
    """Make the index of a store's decisions without opening it.

    Args:
        settings: Location of the store.
        embedder: Makes the vectors of decisions.
        count: Called with a counter's name when a decision is not indexed.
        space: The embedding space that the store must hold; None accepts any, for a rebuild.
    """
    connection = connect_decisions(settings.store, space=space, server=ServerOptions.of(settings))
    return DecisionIndex(connection, embedder, count)


def choose_embedding(settings: Settings, embedder: Any = None) -> Embedding:
    """Return the embedding of a given embedder, else of the configured one.

    Args:
        settings: Name the embedder if none is given.
        embedder: As for `autotrace.configure`, or an embedding that was chosen before.

    Raises:
        InvalidArgumentError: The embedder is not valid, or cannot be imported; the error names the
            setting.
    """
    if isinstance(embedder, Embedding):
        return embedder
    if embedder is not None and not isinstance(embedder, str):
        return embedding_of(embedder)
    spec = embedder or settings.embedder
    if spec == DEFAULT_EMBEDDER:
        default = default_embedder(settings.embedding_model_path)
        return Embedding(default, default.space, type(default), spec)
    return import_embedding(spec, "embedder" if embedder else f"{ENV_PREFIX}EMBEDDER")
