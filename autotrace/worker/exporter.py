"""Export OpenTelemetry spans into a store from a stock span processor."""

from __future__ import annotations

import os
from typing import Any

from autotrace.settings import load_settings, store_text
from autotrace.worker.span_processor import PipelineExporter
from autotrace.worker.wiring import Store


class ChromaSpanExporter(PipelineExporter):
    """Export spans into a store from a stock span processor.

    ```python
    provider.add_span_processor(BatchSpanProcessor(ChromaSpanExporter("./.autotrace")))
    ```

    Spans are on disk when `export` returns and reach the store soon after, or once the store is
    up. The exporter never receives spans that a batch processor drops; `autotrace.configure()`
    attaches a processor that drops none.

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
        loaded = load_settings(store=store_text(store), **settings)
        super().__init__(Store.open(loaded, embedder).pipeline())
