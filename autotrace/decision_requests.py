"""Requests about decisions. The caller builds each of them once; all layers pass it on whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from autotrace.models import ApprovalRequest, AutomationMode

_MAX_INTENT_CHARS: Final = 256


@dataclass(frozen=True)
class DecisionRequest:
    """A decision to open.

    Args:
        intent: Label of the subject, such as `customer.order.create`.
        automation_mode: `propose`, `approve`, `override` or `autonomous`.
        actor: Requester. Default: the agent of the settings. With an API key, always its agent.
        label: Name that a client gives itself; recorded, without effect.
        instance: Run of the actor.
        version: Version of the actor.
        metadata: JSON object to record with the decision.
        key: Idempotency key, unique for this actor.
    """

    intent: str
    automation_mode: AutomationMode = "propose"
    actor: str | None = None
    label: str | None = None
    instance: str | None = None
    version: str | None = None
    metadata: Mapping[str, Any] | None = None
    key: str | None = None


@dataclass(frozen=True)
class GatedCall:
    """A tool call that runs only once it was approved.

    Args:
        actor: Agent that calls the tool.
        tool: `name` of the tool; `module`, `qualname` and `source_sha256` of its function.
        arguments_sha256: Hash of the tool and its arguments, to which the approval is bound.
        approval: Requirements of the gate for its approvers.
    """

    actor: str
    tool: Mapping[str, Any]
    arguments_sha256: str
    approval: ApprovalRequest | None = None


def tool_intent(tool_name: str) -> str:
    """Return the intent of decisions on calls of a tool."""
    return f"tool.{tool_name}"[:_MAX_INTENT_CHARS]


@dataclass(frozen=True)
class ApprovalAnswer:
    """An approver's answer to a request for approval.

    Args:
        granted: Whether the approver agrees.
        approver: Name of the approver. With an API key, always its agent.
        rationale: Reason.
        head: The `head` of the decision as the approver was shown it. Default: for an approval,
            the head of the request; for a rejection, the present one.
        signature: The approver's signature of this answer: see `votes.statement`.
        public_key: Public key that verifies the signature.
    """

    granted: bool
    approver: str
    rationale: str | None = None
    head: str | None = None
    signature: str | None = None
    public_key: str | None = None

    @property
    def operation(self) -> str:
        """Name of the operation, for errors and signatures: `approve` or `reject`."""
        return "approve" if self.granted else "reject"


@dataclass(frozen=True)
class DecisionEnd:
    """The end of a decision.

    Args:
        action: `commit`, or `abort`; `rollback` means abort.
        summary: JSON object with the result.
        reason: Reason.
        tool_calls: Calls made inside the decision: `tool_name`, `tool_call_id`, `status`,
            `duration_ms`.
        requested: The approval that the caller requested before, if any.
    """

    action: str
    summary: Mapping[str, Any] | None = None
    reason: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    requested: ApprovalRequest | None = None
