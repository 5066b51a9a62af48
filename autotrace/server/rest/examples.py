"""Examples in the OpenAPI document: the contract's, with our fields."""

from __future__ import annotations

from typing import Any, Final

Example = dict[str, Any]

TRACE_ID: Final = "trace-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
STEP_ID: Final = "step-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8"
CALL_ID: Final = "call-7a085853722dc6d2"
HEAD: Final = "9f2c4e0b7a6d1c83f5e2b9a407d6c1385e9f0a2b4c6d8e1f3a5b7c9d0e2f4a6b"
DECISION_ID: Final = "decision-634166ed0c3a4b7f9d21e8a5c07b64f3"
_TASK: Final = "Find Italian restaurants near conference venue"
_STARTED_AT: Final = "2026-04-23T12:00:00Z"
_STEPPED_AT: Final = "2026-04-23T12:00:05Z"
_CALLED_AT: Final = "2026-04-23T12:00:06Z"
_COMPLETED_AT: Final = "2026-04-23T12:00:08Z"

STARTED: Final[Example] = {
    "trace_id": TRACE_ID,
    "task": "Find the best Italian restaurants near the conference venue",
    "status": "active",
    "created_at": _STARTED_AT,
}
STEP: Final[Example] = {"step_id": STEP_ID, "trace_id": TRACE_ID, "created_at": _STEPPED_AT}
TOOL_CALL: Final[Example] = {
    "tool_call_id": CALL_ID,
    "trace_id": TRACE_ID,
    "step_id": STEP_ID,
    "created_at": _CALLED_AT,
}
COMPLETED: Final[Example] = {
    "trace_id": TRACE_ID,
    "status": "completed",
    "success": True,
    "outcome": "Found top 3 Italian restaurants with ratings above 4.5.",
    "completed_at": _COMPLETED_AT,
}
TRACE: Final[Example] = {
    "trace_id": TRACE_ID,
    "task": _TASK,
    "status": "completed",
    "success": True,
    "outcome": "Found top 3 restaurants...",
    "steps": [
        {
            "step_id": STEP_ID,
            "thought": "I need to search for Italian restaurants...",
            "action": "call web_search",
            "observations": ["Found 15 results"],
            "tool_calls": [
                {
                    "tool_call_id": CALL_ID,
                    "tool_name": "web_search",
                    "arguments": {"query": "Italian restaurants near Moscone Center SF"},
                    "result": {"results": ["Trattoria Milano", "Perbacco", "Coqueta"]},
                    "duration_ms": 420,
                    "status": "success",
                    "ended_as": "success",
                    "started_at": _STEPPED_AT,
                    "ended_at": _CALLED_AT,
                }
            ],
            "created_at": _STEPPED_AT,
        }
    ],
    "created_at": _STARTED_AT,
    "completed_at": _COMPLETED_AT,
    "session_id": "session-abc123",
    "agent": "concierge",
}
RECALL: Final[Example] = {
    "results": [
        {
            "trace_id": TRACE_ID,
            "task": _TASK,
            "outcome": "Found top 3 restaurants with 4.5+ ratings",
            "similarity": 0.91,
            "tool_sequence": ["web_search", "maps_api"],
            "success": True,
            "created_at": _STARTED_AT,
        }
    ],
    "count": 1,
}
TOOL_STATS: Final[Example] = {
    "tool_stats": [
        {
            "tool_name": "web_search",
            "call_count": 142,
            "success_rate": 0.97,
            "avg_duration_ms": 380,
            "min_duration_ms": 120,
            "max_duration_ms": 2100,
            "p50_duration_ms": 350,
            "p95_duration_ms": 900,
            "p99_duration_ms": 1800,
            "error_count": 3,
            "timeout_count": 1,
            "cancelled_count": 0,
            "paused_count": 0,
            "error_types": {"ConnectionError": 3, "timeout": 1},
            "last_used_at": _CALLED_AT,
        }
    ],
    "count": 8,  # of which one is shown
}
TRACES: Final[Example] = {
    "traces": [
        {
            "trace_id": TRACE_ID,
            "task": _TASK,
            "status": "completed",
            "success": True,
            "outcome": "Found top 3 restaurants...",
            "tool_sequence": ["web_search"],
            "step_count": 1,
            "tool_call_count": 1,
            "created_at": _STARTED_AT,
            "completed_at": _COMPLETED_AT,
        }
    ],
    "count": 1,
    "next": None,
}
