"""Chroma, used directly: the floor of what a store on top of it can do."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True)
class RawCollection:
    """An open collection with the index configuration that the store uses for its searches."""

    collection: Any
    max_batch: int
    """How many records Chroma takes in one call."""


@contextmanager
def raw_collection(folder: Path) -> Generator[RawCollection]:
    """Open the collection in a folder of its own, or make it, and close it afterwards."""
    import chromadb
    from chromadb.config import Settings

    # Its types do not tell all that the client can do.
    client = cast(
        "Any",
        chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False)),
    )
    with _opened(client) as opened:
        yield opened


@contextmanager
def raw_server_collection(port: int) -> Generator[RawCollection]:
    """Open, or make, the collection on a Chroma server of this machine."""
    import chromadb
    from chromadb.config import Settings

    client = cast(
        "Any",
        chromadb.HttpClient("127.0.0.1", port, settings=Settings(anonymized_telemetry=False)),
    )
    with _opened(client) as opened:
        yield opened


@contextmanager
def _opened(client: Any) -> Generator[RawCollection]:
    try:
        collection = client.get_or_create_collection(
            "raw", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        yield RawCollection(collection, client.get_max_batch_size())
    finally:
        client.close()
