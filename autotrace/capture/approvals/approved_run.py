"""The one run that an approval allows: its beginning, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autotrace.base.clock import elapsed_ns
from autotrace.capture.approvals.decision_access import (
    abort_reason,
    report_unclosed_decision,
)
from autotrace.capture.approvals.use_decision import Use

if TYPE_CHECKING:
    from autotrace.decisions.service import DecisionService


class ApprovedRun:
    """The one run that a decision allows, under way.

    No method raises an `Exception`: what the body did has happened, whether or not it can be
    written down.

    Args:
        service: Where the decision is.
        decision_id: The decision.
        actor: Who asked.
        secrets: Texts to take out of an error.
        used: The `use_decision` block that named the decision, if one did.
    """

    def __init__(
        self,
        service: DecisionService,
        decision_id: str,
        actor: str,
        secrets: list[str],
        used: Use | None = None,
    ) -> None:
        self.decision_id = decision_id
        self._service = service
        self._actor = actor
        self._secrets = secrets
        self._used = used
        self._started_ns = elapsed_ns()
        if used is not None:
            used.runs = True

    def succeed(self) -> None:
        """Commit: the body has returned."""
        duration_ms = (elapsed_ns() - self._started_ns) // 1_000_000
        self._close("commit", summary={"status": "success", "duration_ms": duration_ms})

    def fail(self, error: BaseException) -> None:
        """Abort: the body has raised."""
        self._close("abort", reason=abort_reason(error, self._secrets))

    def give_up(self, reason: str) -> None:
        """Abort: the body has not run, and will not."""
        self._close("abort", reason=reason)

    def _close(
        self, action: str, *, summary: Mapping[str, Any] | None = None, reason: str | None = None
    ) -> None:
        try:
            self._service.close(
                self.decision_id, action, by=self._actor, summary=summary, reason=reason
            )
        except Exception as error:  # noqa: BLE001 - the decision stays claimed, which is true too
            report_unclosed_decision(self.decision_id, error)
        finally:
            if self._used is not None:
                self._used.runs = False
