"""The exporter for a stock span processor, and how settings become a pipeline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from autotrace.export.counters import Counters
from autotrace.export.pipeline import Pipeline
from autotrace.export.processor import PipelineExporter
from autotrace.semconv import ENV_PREFIX
from autotrace.settings import DEFAULT_EMBEDDER, Settings, load_settings
from autotrace.store.connection import Connection, ServerOptions, connect
from autotrace.store.embedder import default_embedder
from autotrace.store.embedding import Embedding, embedding_of, import_embedding

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


def choose_embedding(settings: Settings, embedder: Any = None) -> Embedding:
    """Return the embedder given, or else the one that the environment names, or the default one.

    Args:
        settings: Names the embedder if none is given.
        embedder: As for `autotrace.configure`, or an embedding chosen already.

    Raises:
        InvalidArgumentError: It is no embedder, or cannot be imported; names the setting.
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
        chosen = choose_embedding(loaded, embedder).embedder
        connection = open_connection(loaded, chosen.space)
        super().__init__(open_pipeline(loaded, connection, chosen, Counters()))
