"""Principals: whom a key stands for, and what that one may do (pure).

Every key reads the traces and the recorded decisions of its tenant, and records and opens decisions
under its own agent. It changes what belongs to its own agent; an admin's key changes anything of
its tenant. A recorded decision is superseded by its own agent, an approver or an admin. Envelopes
of other agents are looked at by approvers and admins; they answer approvals, and never those that
they have asked for. What another tenant has does not exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from autotrace.base.lookalikes import same_person
from autotrace.errors import DecisionNotFoundError, InvalidArgumentError, NotPermittedError
from autotrace.models import Decision, Trace

KeyRole = Literal["agent", "approver", "admin"]

DEFAULT_TENANT: Final = "default"
"""The tenant whose memory is the store that the settings name."""
LOCAL_KEY_ID: Final = "local"
"""Stands for the user of this machine, who needs no key."""
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{2,62}")


@dataclass(frozen=True)
class Principal:
    """Whom a key stands for.

    Args:
        key_id: The key; no secret.
        agent: The agent in whose name it records and asks.
        tenant: Whose memory it sees.
        role: What it may do beyond that.
    """

    key_id: str
    agent: str
    tenant: str
    role: KeyRole

    def owns(self, agent: str | None) -> bool:
        """Return whether this key may change records of an agent.

        Names are compared exactly: a name that looks like the owner's owns nothing.
        """
        return self.role == "admin" or self.agent == agent

    def check_owns(self, agent: str | None, what: str) -> None:
        """Pass if what an agent has made may be changed.

        Args:
            agent: Who made it; None: nobody in particular.
            what: What is to be changed, in words, with its id.

        Raises:
            NotPermittedError: It is another agent's.
        """
        if not self.owns(agent):
            msg = f"{what} belongs to another agent; this key is of the agent {self.agent!r}"
            raise NotPermittedError(msg)

    def check_owns_trace(self, trace: Trace, trace_id: str) -> None:
        """Pass if a trace may be changed.

        What came with a key is of the agent of that key, whatever it calls itself. A program on
        the store's machine is trusted with the store, and so with the agent's name that it gave.

        Raises:
            NotPermittedError: It is another agent's.
        """
        self.check_owns(trace.recorded_by or trace.agent, trace_id)

    def sees(self, decision: Decision) -> bool:
        """Tell whether a decision may be looked at: recorded ones are for every agent."""
        is_envelope = decision.category is None
        return self.role != "agent" or not is_envelope or decision.agent == self.agent

    def check_sees(self, decision: Decision) -> None:
        """Pass if a decision may be looked at.

        Raises:
            NotPermittedError: It is an envelope of another agent, and the key is an agent's.
        """
        if not self.sees(decision):
            self.check_owns(decision.agent, decision.decision_id)

    def check_supersedes(self, decision: Decision, store: str) -> None:
        """Raise unless a decision may be superseded with this key.

        An agent's key supersedes what its own agent has recorded; approvers and admins supersede
        every decision that they may see.

        Args:
            decision: What is to be superseded.
            store: Where it was looked for, for the error.

        Raises:
            DecisionNotFoundError: It may not be seen; the same error as for an unknown decision.
            NotPermittedError: It is another agent's, and the key is an agent's.
        """
        if not self.sees(decision):
            raise DecisionNotFoundError(decision.decision_id, store)
        if self.role == "agent":
            self.check_owns(decision.agent, decision.decision_id)

    def check_resolves(self, requester: str) -> None:
        """Pass if a request for approval may be answered.

        Args:
            requester: The agent that asks.

        Raises:
            NotPermittedError: The key is an agent's, or it is its own agent that asks.
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
        """Pass if what concerns the whole server, and so every tenant, may be seen.

        Raises:
            NotPermittedError: It is not the key of an admin of the default tenant.
        """
        if self.role != "admin" or self.tenant != DEFAULT_TENANT:
            msg = f"this is for admins of the tenant {DEFAULT_TENANT!r}, who run the server"
            raise NotPermittedError(msg)


def check_tenant(name: str) -> str:
    """Pass the name of a tenant.

    Raises:
        InvalidArgumentError: It cannot name one.
    """
    if not _TENANT.fullmatch(name):
        allowed = (
            "3 to 63 of a-z, 0-9, - and _, the first of them a letter or a digit: "
            "it names a folder, or a Chroma tenant"
        )
        raise InvalidArgumentError("tenant", name, allowed)
    return name
