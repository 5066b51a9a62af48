"""Pydantic models of the library, the CLI and the servers.

Field names and meanings follow the decision-trace contract; other fields are additions. Times are
timezone-aware UTC and serialise as ISO 8601; durations are milliseconds.
"""

from autotrace.models.approval_request import (
    ApprovalRequest,
)
from autotrace.models.decisions import (
    NOWHERE,
    Approval,
    ApprovalStatus,
    ApprovedTool,
    AutomationMode,
    Decision,
    DecisionCategory,
    DecisionEvent,
    DecisionStatus,
    DecisionTrace,
    Delivery,
    DeliveryStatus,
    Evaluation,
    Execution,
    FoundDecision,
    PolicyOutcome,
    RejectedAlternative,
    SignedVote,
    TraceLocation,
    Vote,
)
from autotrace.models.health import (
    Health,
)
from autotrace.models.rebuild_result import RebuildResult
from autotrace.models.statistics import (
    ToolStats,
    ToolStatsPage,
)
from autotrace.models.traces import (
    SENT_AS,
    CallStatus,
    CompletedTrace,
    RecallResult,
    RecordedStep,
    RecordedToolCall,
    StartedTrace,
    Step,
    ToolCall,
    ToolStatus,
    Trace,
    TraceStatus,
    TraceSummary,
)
from autotrace.models.verification import (
    Checkpoint,
    Receipt,
    Verification,
)

__all__ = [
    "NOWHERE",
    "SENT_AS",
    "Approval",
    "ApprovalRequest",
    "ApprovalStatus",
    "ApprovedTool",
    "AutomationMode",
    "CallStatus",
    "Checkpoint",
    "CompletedTrace",
    "Decision",
    "DecisionCategory",
    "DecisionEvent",
    "DecisionStatus",
    "DecisionTrace",
    "Delivery",
    "DeliveryStatus",
    "Evaluation",
    "Execution",
    "FoundDecision",
    "Health",
    "PolicyOutcome",
    "RebuildResult",
    "RecallResult",
    "Receipt",
    "RecordedStep",
    "RecordedToolCall",
    "RejectedAlternative",
    "SignedVote",
    "StartedTrace",
    "Step",
    "ToolCall",
    "ToolStats",
    "ToolStatsPage",
    "ToolStatus",
    "Trace",
    "TraceLocation",
    "TraceStatus",
    "TraceSummary",
    "Verification",
    "Vote",
]
