"""The exporter for a stock span processor, and how settings become a pipeline."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotrace.base.health_counters import HealthCounters
from autotrace.embedding.choice import Embedding, embedding_of, import_embedding
from autotrace.embedding.embedder import default_embedder
from autotrace.semconv import ENV_PREFIX
from autotrace.settings import DEFAULT_EMBEDDER, Settings, load_settings
from autotrace.store.connection import Connection, ServerOptions, connect
from autotrace.store.decision_log import connect_decisions
from autotrace.traces.decision_index import DecisionIndex
from autotrace.worker.pipeline import Pipeline
from autotrace.worker.process import WorkerProcess
from autotrace.worker.span_processor import PipelineExporter

if TYPE_CHECKING:
    from autotrace.embedding.embedder import Embedder


def open_connection(settings: Settings, space: str | None) -> Connection:
    """Make the connection that settings name; nothing is opened yet."""
    return connect(settings.store, space=space, server=ServerOptions.of(settings))


def open_decision_index(
    settings: Settings, embedder: Embedder, count: Callable[[str], None], space: str | None = None
) -> DecisionIndex:
    """Make what finds the decisions of a store by meaning; nothing is opened yet.

    Args:
        settings: Name the store.
        embedder: Makes the vectors of decisions.
        count: Called with a counter's name when a decision is left out.
        space: The embedding space that the store must hold; None accepts any, for a rebuild.
    """
    connection = connect_decisions(settings.store, space=space, server=ServerOptions.of(settings))
    return DecisionIndex(connection, embedder, count)


def choose_embedding(settings: Settings, embedder: Any = None) -> Embedding:
    """Return the embedder given, or else the one that the environment names, or the default one.

    Args:
        settings: Names the embedder if none is given.
        embedder: As for `autotrace.configure`, or an embedding chosen already.

    Raises:
        InvalidArgumentError: It is not an embedder, or cannot be imported; names the setting.
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


def open_pipeline(
    settings: Settings,
    connection: Connection,
    embedder: Embedder,
    counters: HealthCounters,
    *,
    storekeeper: WorkerProcess | None = None,
) -> Pipeline:
    """Make the pipeline that settings name; without a storekeeper this process stores."""
    return Pipeline(
        connection,
        embedder,
        settings.spool_path,
        counters=counters,
        flush_interval_ms=settings.flush_interval_ms,
        max_spool_bytes=settings.max_spool_bytes,
        storekeeper=storekeeper,
        decisions=open_decision_index(settings, embedder, counters.add, embedder.space),
    )


def choose_storekeeper(
    settings: Settings, embedding: Embedding, counters: HealthCounters
) -> WorkerProcess | None:
    """Return what starts the process that stores; None where this one must.

    Another process cannot make an embedder that was given as an object, and a program that is one
    file (frozen) cannot start Python.
    """
    if (
        settings.storing != "process"
        or embedding.spec is None
        or not hasattr(os, "fork")
        or getattr(sys, "frozen", False)
        or not sys.executable
    ):
        return None
    # Resolved here: the program may move to another folder before the process starts.
    places = {"store": settings.resolved().store, "spool": str(settings.spool_path)}
    if settings.embedding_model_path is not None:
        model = Path(settings.embedding_model_path).expanduser().resolve()
        places["embedding_model_path"] = str(model)
    order = {"settings": settings.model_dump() | places, "embedder": embedding.spec}
    return WorkerProcess(settings.spool_path, order, counters)


class ChromaSpanExporter(PipelineExporter):
    """Exports spans into a store; for use under a stock span processor.

    ```python
    provider.add_span_processor(BatchSpanProcessor(ChromaSpanExporter("./.autotrace")))
    ```

    Spans are on disk when `export` returns and reach the store soon after, whether or not it is
    up at the moment. Spans that a batch processor drops before it exports are beyond its reach:
    `autotrace.configure()` attaches a processor that drops none.

    Args:
        store: A path (embedded Chroma) or `http(s)://host:port` (a Chroma server).
        embedder: See `autotrace.configure`.
        settings: Any setting of `autotrace.configure`.

    Raises:
        InvalidArgumentError: A setting has a value that is not allowed.
    """

    def __init__(
        self, store: str | os.PathLike[str] | None = None, *, embedder: Any = None, **settings: Any
    ) -> None:
        loaded = load_settings(store=None if store is None else str(store), **settings)
        embedding = choose_embedding(loaded, embedder)
        connection = open_connection(loaded, embedding.space)
        counters = HealthCounters()
        storekeeper = choose_storekeeper(loaded, embedding, counters)
        super().__init__(
            open_pipeline(loaded, connection, embedding.embedder, counters, storekeeper=storekeeper)
        )
