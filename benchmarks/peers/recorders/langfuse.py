"""Langfuse: `@observe` under a client with every default."""

from __future__ import annotations

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "langfuse"
REQUIREMENTS = ("langfuse",)


def start(place: Place) -> Recorder:
    """Set up the client."""
    from langfuse import Langfuse, observe

    client = Langfuse(public_key="pk-lf-none", secret_key="sk-lf-none", base_url=place.sink)
    return Recorder(
        tool=observe(as_type="tool"),
        task=observe(as_type="agent"),
        flush=client.flush,
        close=client.shutdown,
    )
