"""Decision memory for AI agents.

Record what an agent was asked, thought, did and decided; recall it by meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotrace.capture.propagation import attach, detached, inject
from autotrace.capture.step import Step as StepHandle
from autotrace.capture.step import step
from autotrace.capture.task import Task as TaskHandle
from autotrace.capture.task import current_task, task
from autotrace.capture.tool import tool
from autotrace.capture.tool_call import tool_call
from autotrace.errors import (
    ApprovalPending,
    ApprovalRefused,
    AutotraceError,
    AutotraceWarning,
    DecisionNotFoundError,
    DecisionStateError,
    EmbedderUnavailableError,
    EmbeddingSpaceError,
    InvalidArgumentError,
    MissingExtraError,
    NotConfiguredError,
    NotConfiguredWarning,
    PolicyError,
    PolicyNotFoundError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    TraceNotFoundError,
)

if TYPE_CHECKING:
    from autotrace import decisions
    from autotrace.capture.approvals.decision_block import decision
    from autotrace.capture.approvals.gate import use_decision
    from autotrace.decisions.cedar_policies import cedar_policy
    from autotrace.decisions.policies import policy
    from autotrace.models import (
        ApprovalRequest,
        Decision,
        Health,
        RebuildResult,
        RecallResult,
        Step,
        ToolCall,
        ToolStats,
        Trace,
        TraceSummary,
    )
    from autotrace.runtime import (
        aconfigure,
        adelete_trace,
        aflush,
        aget_trace,
        ahealth,
        alist_traces,
        arebuild,
        arecall,
        ashutdown,
        atool_stats,
        configure,
        delete_trace,
        flush,
        get_trace,
        health,
        list_traces,
        rebuild,
        recall,
        shutdown,
        tool_stats,
    )
    from autotrace.worker.exporter import ChromaSpanExporter

__version__ = "0.1.0"

_MODULES_OF_NAMES = {
    "autotrace.capture.approvals.gate": ("use_decision",),
    "autotrace.capture.approvals.decision_block": ("decision",),
    "autotrace.decisions.cedar_policies": ("cedar_policy",),
    "autotrace.decisions.policies": ("policy",),
    "autotrace.worker.exporter": ("ChromaSpanExporter",),
    "autotrace.models": (
        *("ApprovalRequest", "Decision"),
        *("Health", "RebuildResult", "RecallResult"),
        *("Step", "ToolCall", "ToolStats", "Trace", "TraceSummary"),
    ),
    "autotrace.runtime": (
        *("aconfigure", "adelete_trace", "aflush", "aget_trace", "ahealth"),
        *("alist_traces", "arebuild", "arecall", "ashutdown", "atool_stats"),
        *("configure", "delete_trace", "flush", "get_trace", "health"),
        *("list_traces", "rebuild", "recall", "shutdown", "tool_stats"),
    ),
}
_LAZY = {name: module for module, names in _MODULES_OF_NAMES.items() for name in names}
"""Names whose modules are loaded when first used: a library that only decorates needs none."""

__all__ = [
    "ApprovalPending",
    "ApprovalRefused",
    "ApprovalRequest",
    "AutotraceError",
    "AutotraceWarning",
    "ChromaSpanExporter",
    "Decision",
    "DecisionNotFoundError",
    "DecisionStateError",
    "EmbedderUnavailableError",
    "EmbeddingSpaceError",
    "Health",
    "InvalidArgumentError",
    "MissingExtraError",
    "NotConfiguredError",
    "NotConfiguredWarning",
    "PolicyError",
    "PolicyNotFoundError",
    "RebuildResult",
    "RecallResult",
    "Step",
    "StepHandle",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "TaskHandle",
    "ToolCall",
    "ToolStats",
    "Trace",
    "TraceNotFoundError",
    "TraceSummary",
    "aconfigure",
    "adelete_trace",
    "aflush",
    "aget_trace",
    "ahealth",
    "alist_traces",
    "arebuild",
    "arecall",
    "ashutdown",
    "atool_stats",
    "attach",
    "cedar_policy",
    "configure",
    "current_task",
    "decision",
    "decisions",
    "delete_trace",
    "detached",
    "flush",
    "get_trace",
    "health",
    "inject",
    "list_traces",
    "policy",
    "rebuild",
    "recall",
    "shutdown",
    "step",
    "task",
    "tool",
    "tool_call",
    "tool_stats",
    "use_decision",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None and name != "decisions":
        msg = f"module 'autotrace' has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    if module is None:
        return importlib.import_module("autotrace.decisions")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value
