"""`use_decision`: a block whose gated call uses the decision that it names, or is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Final

from opentelemetry import context as otel_context

from autotrace.capture.approvals.decision_scope import ContextScope
from autotrace.capture.operation import effective_context
from autotrace.capture.recorder import current

_USE_KEY: Final = otel_context.create_key("autotrace-use")
"""Context key of the innermost `use_decision` block."""


class Use(ContextScope):
    """The decision that the next call must use."""

    __slots__ = ("decision_id", "runs")

    def __init__(self, decision_id: str) -> None:
        super().__init__(current.recorder, _USE_KEY)
        self.decision_id = decision_id
        self.runs = False
        """Whether the call runs: its own calls do not use the decision."""


def use_here() -> Use | None:
    """Return the innermost block whose decision the next call uses."""
    found = effective_context().get(_USE_KEY)
    return found if isinstance(found, Use) and not found.ended and not found.runs else None


@contextlib.contextmanager
def use_decision(decision_id: str) -> Generator[None]:
    """Run, inside the block, the call for which a decision was opened.

    ```python
    try:
        place_order(items)                 # @tool(requires_approval=True, wait=False)
    except ApprovalPending as pending:
        save(pending.decision_id)
    ...
    with autotrace.use_decision(decision_id):   # later, in any process
        place_order(items)
    ```

    Without it, a call uses the open decision on the same arguments, and requests approval if there
    is none. Inside it, a call never requests approval: with other arguments, of another tool, a
    second time, or after the approval was rejected or has expired, it raises ApprovalRefused.

    Args:
        decision_id: The decision.
    """
    scope = Use(decision_id)
    scope.enter()
    try:
        yield
    finally:
        scope.leave()
