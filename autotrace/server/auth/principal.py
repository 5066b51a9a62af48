"""The principal of an API key, and the permission checks. Pure.

Every key reads the traces and recorded decisions of its tenant, and records and opens decisions
under its own agent. It changes records of its own agent; an admin's key changes anything of its
tenant. A recorded decision is superseded by its own agent, an approver or an admin. Approvers and
admins see envelopes of other agents; they answer approvals that their own agent did not request.
Records of another tenant do not exist for a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from autotrace.base.lookalikes import same_person
from autotrace.errors import DecisionNotFoundError, InvalidArgumentError, NotPermittedError
from autotrace.models import Decision, Trace
from autotrace.spool.lanes import LOCAL_LANE, lane_of

KeyRole = Literal["agent", "approver", "admin"]

DEFAULT_TENANT: Final = "default"
"""Tenant whose memory is the store that the settings name."""
LOCAL_KEY_ID: Final = "local"
"""Key id of the user of this machine, who needs no key."""
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{2,62}")


@dataclass(frozen=True)
class Principal:
    """The agent, tenant and role behind an API key.

    Args:
        key_id: Id of the key; not secret.
        agent: Agent in whose name it records and asks.
        tenant: Tenant whose memory it sees.
        role: Further permissions.
    """

    key_id: str
    agent: str
    tenant: str
    role: KeyRole

    @property
    def sender(self) -> str | None:
        """Agent whose share takes records of this key; None: the record's own."""
        return None if self.key_id == LOCAL_KEY_ID else self.agent

    @property
    def lane(self) -> str:
        """Lane of the spool in which records that came with this key wait."""
        return LOCAL_LANE if self.sender is None else lane_of(self.sender)

    def owns(self, agent: str | None) -> bool:
        """Return whether this key may change records of an agent.

        Names are compared exactly: a name that looks like the owner's owns nothing.
        """
        return self.role == "admin" or self.agent == agent

    def check_owns(self, agent: str | None, what: str) -> None:
        """Raise NotPermittedError unless this key may change records of an agent.

        Args:
            agent: Agent that made the record, if one did.
            what: The record in words, with its id.
        """
        if not self.owns(agent):
            msg = f"{what} belongs to another agent; this key is of the agent {self.agent!r}"
            raise NotPermittedError(msg)

    def check_owns_trace(self, trace: Trace, trace_id: str) -> None:
        """Raise NotPermittedError unless this key may change a trace.

        A trace that came with a key belongs to the agent of that key. A program on the store's
        machine is trusted with the agent's name that it gave.
        """
        self.check_owns(trace.recorded_by or trace.agent, trace_id)

    def sees(self, decision: Decision) -> bool:
        """Return whether this key may see a decision: a recorded one always."""
        is_envelope = decision.category is None
        return self.role != "agent" or not is_envelope or decision.agent == self.agent

    def check_sees(self, decision: Decision) -> None:
        """Raise NotPermittedError unless this key may see a decision."""
        if not self.sees(decision):
            self.check_owns(decision.agent, decision.decision_id)

    def check_supersedes(self, decision: Decision, store: str) -> None:
        """Raise unless this key may supersede a decision.

        An agent's key supersedes decisions that its own agent recorded; approvers and admins
        supersede every decision that they may see.

        Args:
            decision: Decision to supersede.
            store: Name of its store, for the error.

        Raises:
            DecisionNotFoundError: The key may not see it; the same error as for an unknown one.
            NotPermittedError: It is another agent's, and the key is an agent's.
        """
        if not self.sees(decision):
            raise DecisionNotFoundError(decision.decision_id, store)
        if self.role == "agent":
            self.check_owns(decision.agent, decision.decision_id)

    def check_resolves(self, requester: str) -> None:
        """Raise NotPermittedError unless this key may answer a request.

        An agent's key answers none, and no key answers a request of its own agent.

        Args:
            requester: Agent that requested the approval.
        """
        if self.role == "agent":
            msg = (
                "approvals are answered with the key of an approver or an admin; this is an agent's"
            )
            raise NotPermittedError(msg)
        if same_person(self.agent, requester):
            msg = f"{self.agent!r} has asked for this approval, and so cannot answer it"
            raise NotPermittedError(msg)

    def require_operator(self) -> None:
        """Raise NotPermittedError unless an admin of the default tenant calls."""
        if self.role != "admin" or self.tenant != DEFAULT_TENANT:
            msg = f"this is for admins of the tenant {DEFAULT_TENANT!r}, who run the server"
            raise NotPermittedError(msg)


def check_tenant(name: str) -> str:
    """Return the name of a tenant; raise InvalidArgumentError if invalid."""
    if not _TENANT.fullmatch(name):
        allowed = (
            "3 to 63 of a-z, 0-9, - and _, the first of them a letter or a digit: "
            "it names a folder, or a Chroma tenant"
        )
        raise InvalidArgumentError("tenant", name, allowed)
    return name
