"""autotrace, as in its README: the embedded store, every default."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "autotrace-agents"
REQUIREMENTS = ("--editable", ".[offline]")


def start(place: Place) -> Recorder:
    """Record into a store of its own."""
    import autotrace

    autotrace.configure(place.folder / "store")
    return Recorder(
        tool=autotrace.tool,
        task=autotrace.task("Find out what tracing costs"),
        flush=_flush,
        close=_close,
    )


def _flush() -> None:
    import autotrace

    if not autotrace.flush(timeout=600):
        raise TimeoutError("autotrace.flush() did not store everything in 600 s")


def _close() -> None:
    import autotrace

    counters = autotrace.health().counters
    autotrace.shutdown()
    if counters:
        raise RuntimeError(f"something was dropped or failed: {counters}")


def delivered(place: Place) -> Iterator[bytes]:
    """Read every trace back through the library."""
    import autotrace

    autotrace.configure(place.folder / "store")
    _flush()  # what a killed process has left is taken in at the start, in the background
    page = autotrace.list_traces(limit=100)
    while page:
        for summary in page:
            yield autotrace.get_trace(summary.trace_id).model_dump_json().encode()
        page = autotrace.list_traces(limit=100, after=page[-1].trace_id)
    autotrace.shutdown()
