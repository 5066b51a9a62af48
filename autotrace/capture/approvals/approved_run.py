"""The one run that an approval allows: its beginning, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotrace.base.clock import elapsed_ns
from autotrace.capture.approvals.decision_access import abort_reason, report_unclosed_decision
from autotrace.capture.approvals.use_decision import Use
from autotrace.decision_requests import DecisionEnd

if TYPE_CHECKING:
    from autotrace.decisions.api import Decisions


class ApprovedRun:
    """The one run that a decision allows.

    No method raises an `Exception`: the body has run, whether or not its end can be stored.

    Args:
        decisions: The decisions in use.
        decision_id: The decision.
        actor: Requester.
        secrets: Texts to remove from an error.
        used: The `use_decision` block that named the decision, if any.
    """

    def __init__(
        self,
        decisions: Decisions,
        decision_id: str,
        actor: str,
        secrets: list[str],
        used: Use | None = None,
    ) -> None:
        self.decision_id = decision_id
        self._decisions = decisions
        self._actor = actor
        self._secrets = secrets
        self._used = used
        self._started_ns = elapsed_ns()
        if used is not None:
            used.runs = True

    def succeed(self) -> None:
        """Commit: the body has returned."""
        duration_ms = (elapsed_ns() - self._started_ns) // 1_000_000
        self._end(DecisionEnd("commit", {"status": "success", "duration_ms": duration_ms}))

    def fail(self, error: BaseException) -> None:
        """Abort: the body has raised."""
        self.give_up(abort_reason(error, self._secrets))

    def give_up(self, reason: str) -> None:
        """Abort for a reason: the body has raised, or will not run."""
        self._end(DecisionEnd("abort", reason=reason))

    def _end(self, end: DecisionEnd) -> None:
        try:
            self._decisions.end(self.decision_id, end, by=self._actor)
        except Exception as error:  # noqa: BLE001 - the decision stays claimed, which is correct too
            report_unclosed_decision(self.decision_id, error)
        finally:
            if self._used is not None:
                self._used.runs = False
