"""Another process that uses the store of the test, and does what it is told."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import autotrace
from autotrace import task
from autotrace.settings import load_settings
from autotrace.store import task_index, vector_journal
from autotrace.store.connection import connect
from autotrace.worker.rebuild import rebuild
from autotrace.worker.wiring import open_connection
from tests.embedders import SmallEmbedder
from tests.faults.processes import nursery, start


class Other:
    """The test's end of it.

    Args:
        store: The store that it uses; another one when this is changed.
    """

    def __init__(self, store: str) -> None:
        self.store = store
        self._pipe, its_end = nursery().Pipe()
        self.process = start(_obey, its_end)
        its_end.close()

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Have it call one of the functions below, and wait for what it returns."""
        self._pipe.send((name, (self.store, *arguments), options))
        return self._pipe.recv()

    def end(self) -> None:
        """Have it end, unless it has."""
        if not self._pipe.closed:
            with contextlib.suppress(OSError):
                self._pipe.send(None)
            self.process.join()
            self._pipe.close()


@contextlib.contextmanager
def another_process(store: str) -> Iterator[Other]:
    other = Other(store)
    try:
        yield other
    finally:
        other.end()


def _obey(pipe: Connection) -> None:
    while (told := pipe.recv()) is not None:
        name, arguments, options = told
        pipe.send(globals()[name](*arguments, **options))
    autotrace.shutdown()


def record(store: str, tasks: Sequence[str], *, success: bool = True, agent: str = "other") -> None:
    """Record tasks of these texts, and see them stored by this process."""
    autotrace.configure(store, embedder=SmallEmbedder(), flush_interval_ms=0, storing="thread")
    for text in tasks:
        with task(text, agent=agent) as t:
            t.complete("done", success=success)
    assert autotrace.flush(timeout=500), autotrace.health()


def delete(store: str, task_text: str) -> None:
    """Delete the traces of a text."""
    autotrace.configure(store, embedder=SmallEmbedder(), flush_interval_ms=0, storing="thread")
    for found in autotrace.list_traces(limit=1000):
        if found.task == task_text:
            autotrace.delete_trace(found.trace_id)


def add(store: str, keys: Sequence[str], vectors: Any, *, keep_open: bool = False) -> None:
    """Store vectors under their keys."""
    connection = connect(store, space=SmallEmbedder.space)
    with connection.writing() as collections:
        if keys:
            metadatas = [{"first": f"1 {key}"} for key in keys]
            collections.succeeded.add(list(keys), embeddings=vectors, metadatas=metadatas)
    if not keep_open:
        connection.close()


def nearest(store: str, vector: Any, limit: int) -> list[tuple[str, float]]:
    """Ask a client that has just been opened; return keys and similarities."""
    connection = connect(store, space=SmallEmbedder.space)
    with connection.reading(fresh=True) as collections:
        found = task_index.nearest(
            task_index.of_tasks(collections, success=True), vector, limit=limit
        )
    connection.close()
    return [(text.key, text.similarity) for text in found]


def build_anew(store: str) -> int:
    """Rebuild the store; return how many traces there are."""
    autotrace.shutdown()
    settings = load_settings(store=store)
    return rebuild(open_connection(settings, None), SmallEmbedder(), settings.spool_path).traces


def keep_at_most(store: str, limit_bytes: int) -> None:
    """From now on begin an epoch with every so many bytes."""
    vector_journal.MAX_BYTES = limit_bytes  # type: ignore[misc] - final, but for this test


def become_older(store: str) -> None:
    """From now on be as a version that writes down nothing, and whose mark names no epoch."""
    nothing: Any = lambda *_: None  # noqa: E731 - in place of two methods
    vector_journal.Journal.ensure = vector_journal.Journal.add = nothing
    vector_journal.Journal.epoch = property(lambda _: "", nothing)  # type: ignore[assignment] - the same


def die_in_add(store: str, text: str) -> None:
    """Die with a new text written down, and before Chroma has it."""
    from chromadb.api.models.Collection import Collection

    add_really = Collection.add

    def dying(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.name == "autotrace-succeeded":
            os._exit(9)
        add_really(self, *args, **kwargs)

    Collection.add = dying
    record(store, [text])
