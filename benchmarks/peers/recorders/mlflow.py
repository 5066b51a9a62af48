"""MLflow Tracing: `@trace`, sent to a tracking server."""

from __future__ import annotations

import os

from benchmarks.peers.contract import Place, Recorder

DISTRIBUTION = "mlflow-tracing"
REQUIREMENTS = ("mlflow-tracing",)
ANSWERS = {
    "/version": "3.17.2",
    "/mlflow/traces": {
        "trace": {
            "trace_info": {
                "trace_id": "tr-none",
                "trace_location": {
                    "type": "MLFLOW_EXPERIMENT",
                    "mlflow_experiment": {"experiment_id": "1"},
                },
                "request_time": "2026-01-01T00:00:00Z",
                "state": "OK",
                # As a server answers that keeps spans itself: they need not be uploaded again.
                "tags": {"mlflow.trace.spansLocation": "TRACKING_STORE"},
            }
        }
    },
}


def start(place: Place) -> Recorder:
    """Set it up."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow
    from mlflow.entities.trace_location import MlflowExperimentLocation

    mlflow.set_tracking_uri(place.sink)
    mlflow.tracing.set_destination(MlflowExperimentLocation(experiment_id="1"))
    return Recorder(
        tool=mlflow.trace(span_type="TOOL"),
        task=mlflow.trace(span_type="AGENT"),
        flush=mlflow.flush_trace_async_logging,
        close=lambda: mlflow.flush_trace_async_logging(terminate=True),
    )
