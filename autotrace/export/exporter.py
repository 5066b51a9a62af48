"""The exporter for a stock span processor, and how settings become a pipeline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from autotrace.export.counters import Counters
from autotrace.export.pipeline import Pipeline
from autotrace.export.processor import PipelineExporter
from autotrace.settings import Settings, load_settings
from autotrace.store.connection import Connection, ServerOptions, connect
from autotrace.store.embedder import as_embedder, default_embedder

if TYPE_CHECKING:
    from autotrace.store.embedder import Embedder


def open_connection(settings: Settings, space: str | None) -> Connection:
    """Make the connection that settings name; nothing is opened yet."""
    return connect(
        settings.store,
        space=space,
        server=ServerOptions(
            headers=settings.chroma_headers,
            tenant=settings.chroma_tenant,
            database=settings.chroma_database,
            timeout_s=settings.chroma_timeout_ms / 1000,
        ),
    )


def choose_embedder(settings: Settings, embedder: Any) -> Embedder:
    """Return the embedder given, or the default one."""
    if embedder is None:
        return default_embedder(settings.embedding_model_path)
    return as_embedder(embedder)


def open_pipeline(
    settings: Settings, connection: Connection, embedder: Embedder, counters: Counters
) -> Pipeline:
    """Make the pipeline that settings name."""
    return Pipeline(
        connection,
        embedder,
        settings.spool_path,
        counters=counters,
        flush_interval_ms=settings.flush_interval_ms,
        max_spool_bytes=settings.max_spool_bytes,
    )


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
        chosen = choose_embedder(loaded, embedder)
        connection = open_connection(loaded, chosen.space)
        super().__init__(open_pipeline(loaded, connection, chosen, Counters()))
