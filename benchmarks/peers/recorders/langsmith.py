"""LangSmith: `@traceable` under a client with every default."""

from __future__ import annotations

import os

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "langsmith"
REQUIREMENTS = ("langsmith",)
ANSWERS = {
    "/info": {
        "version": "0.12.0",
        "instance_flags": {"zstd_compression_enabled": True},
        "batch_ingest_config": {
            "use_multipart_endpoint": True,
            "size_limit": 100,
            "size_limit_bytes": 20_971_520,
            "scale_up_nthreads_limit": 16,
            "scale_up_qsize_trigger": 1000,
            "scale_down_nempty_trigger": 4,
        },
    }
}


def start(place: Place) -> Recorder:
    """Set up the client."""
    os.environ.update(
        LANGSMITH_TRACING="true", LANGSMITH_API_KEY="none", LANGSMITH_ENDPOINT=place.sink
    )
    import langsmith

    client = langsmith.Client()
    langsmith.configure(client=client, enabled=True, project_name="bench")
    return Recorder(
        tool=langsmith.traceable(run_type="tool"),
        task=langsmith.traceable(run_type="chain"),
        flush=client.flush,
        close=client.cleanup,
    )
