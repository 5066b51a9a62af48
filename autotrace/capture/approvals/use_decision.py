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
    """A decision that the next call has to be about."""

    __slots__ = ("decision_id", "runs")

    def __init__(self, decision_id: str) -> None:
        super().__init__(current.recorder, _USE_KEY)
        self.decision_id = decision_id
        self.runs = False
        """Whether the call is under way: what it calls in turn is not meant."""


def use_here() -> Use | None:
    """Return the innermost block whose decision the next call uses."""
    found = effective_context().get(_USE_KEY)
    return found if isinstance(found, Use) and not found.ended and not found.runs else None


@contextlib.contextmanager
def use_decision(decision_id: str) -> Generator[None]:
    """Run, inside the block, the very call for which a decision was opened.

    ```python
    try:
        place_order(items)                 # @tool(requires_approval=True, wait=False)
    except ApprovalPending as pending:
        save(pending.decision_id)
    ...
    with autotrace.use_decision(decision_id):   # later, in any process
        place_order(items)
    ```

    Without it, a call finds the decision that is open on the same arguments, and asks if there
    is none. Inside it, a call that requires approval never asks: with other arguments, of
    another tool, a second time, or after the approval was rejected or has expired, it raises
    ApprovalRefused naming why.

    Args:
        decision_id: The decision.
    """
    enclosure = Use(decision_id)
    enclosure.enter()
    try:
        yield
    finally:
        enclosure.leave()
