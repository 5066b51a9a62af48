"""Decision memory for AI agents.

Record what an agent was asked, thought, did and decided; recall it by meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotrace.capture.propagation import attach, inject
from autotrace.capture.step import Step as StepHandle
from autotrace.capture.step import step
from autotrace.capture.task import Task as TaskHandle
from autotrace.capture.task import current_task, task
from autotrace.capture.tool import tool
from autotrace.capture.tool_call import tool_call
from autotrace.errors import (
    AutotraceError,
    AutotraceWarning,
    EmbedderUnavailableError,
    EmbeddingSpaceError,
    InvalidArgumentError,
    MissingExtraError,
    NotConfiguredError,
    NotConfiguredWarning,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    TraceNotFoundError,
)

if TYPE_CHECKING:
    from autotrace.export.exporter import ChromaSpanExporter
    from autotrace.models import (
        Health,
        RecallResult,
        Step,
        ToolCall,
        ToolStats,
        Trace,
        TraceSummary,
    )
    from autotrace.runtime import (
        configure,
        flush,
        get_trace,
        health,
        list_traces,
        recall,
        shutdown,
        tool_stats,
    )

__version__ = "0.1.0"

_MODULES_OF_NAMES = {
    "autotrace.export.exporter": ("ChromaSpanExporter",),
    "autotrace.models": (
        *("Health", "RecallResult", "Step", "ToolCall", "ToolStats", "Trace", "TraceSummary"),
    ),
    "autotrace.runtime": (
        *("configure", "flush", "get_trace", "health"),
        *("list_traces", "recall", "shutdown", "tool_stats"),
    ),
}
_LAZY = {name: module for module, names in _MODULES_OF_NAMES.items() for name in names}
"""Names whose modules are loaded when first used: a library that only decorates needs none."""

__all__ = [
    "AutotraceError",
    "AutotraceWarning",
    "ChromaSpanExporter",
    "EmbedderUnavailableError",
    "EmbeddingSpaceError",
    "Health",
    "InvalidArgumentError",
    "MissingExtraError",
    "NotConfiguredError",
    "NotConfiguredWarning",
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
    "attach",
    "configure",
    "current_task",
    "flush",
    "get_trace",
    "health",
    "inject",
    "list_traces",
    "recall",
    "shutdown",
    "step",
    "task",
    "tool",
    "tool_call",
    "tool_stats",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        msg = f"module 'autotrace' has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value
