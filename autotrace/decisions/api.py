"""The one class behind the library, the CLI, REST and MCP.

`Decisions` belongs to the program that opened the store, which may do everything. `for_caller`
returns the same decisions bound to an API key: each method then raises NotPermittedError unless
the key allows it, and records the agent of the key as the actor.
"""

from __future__ import annotations

import builtins
import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autotrace.decision_requests import ApprovalAnswer
from autotrace.decisions import queries, to_models, votes
from autotrace.decisions.commands import DecisionCommands
from autotrace.decisions.queries import DecisionFilter
from autotrace.decisions.receipts import approver_of
from autotrace.errors import StoreError
from autotrace.models import DecisionTrace

if TYPE_CHECKING:
    from autotrace.models import (
        Checkpoint,
        Decision,
        DecisionCategory,
        DecisionStatus,
        FoundDecision,
        Receipt,
        TraceLocation,
        Verification,
    )
    from autotrace.server.auth.principal import Principal


class Decisions(DecisionCommands):
    """The decisions of one store. Any thread may use it."""

    def for_caller(self, caller: Principal, place: TraceLocation) -> Decisions:
        """Return these decisions bound to a caller, who opens new ones in a place of a trace."""
        bound = copy.copy(self)
        bound._caller, bound._place = caller, place
        return bound

    def shut_down(self, timeout_s: float) -> bool:
        """Finish deliveries and release the store; a later call opens it again.

        Returns:
            Whether every notice was delivered, or has failed for good.
        """
        done = self._deliveries.drain(timeout_s)
        self.event_store.connection.close()
        return done

    # --- reading

    def get(self, decision_id: str) -> Decision:
        """Return a decision in its current state.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: The key may not see it.
            StoreError: The store cannot be read.
        """
        decision = queries.to_decisions(self.event_store, [self.event_store.read(decision_id)])[0]
        if self._caller is not None:
            self._caller.check_sees(decision)
        return decision

    def trace(self, decision_id: str) -> DecisionTrace:
        """Return a decision with its history, oldest event first.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: The key may not see it.
            StoreError: The store cannot be read.
        """
        return self._trace(decision_id)

    def trace_for_approver(self, decision_id: str) -> DecisionTrace:
        """Return a decision like `trace`, but only if its history verifies.

        Raises:
            DamagedDecisionError: The history was changed.
        """
        return self._trace(decision_id, whole=True)

    def _trace(self, decision_id: str, *, whole: bool = False) -> DecisionTrace:
        log = self.event_store.read(decision_id, whole=whole)
        decision = queries.to_decisions(self.event_store, [log])[0]
        if self._caller is not None:
            self._caller.check_sees(decision)
        events = [to_models.to_event(event) for event in log.events]
        return DecisionTrace(**dict(decision), events=events)

    def list(
        self,
        *,
        status: DecisionStatus | None = None,
        category: DecisionCategory | None = None,
        actor: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> builtins.list[Decision]:
        """Return a page of decisions, newest first.

        Decisions that the key may not see are left out and do not count.

        Args:
            status: Only decisions of this status.
            category: Only decisions recorded in this category.
            actor: Only decisions that this actor requested.
            limit: Size of a page, 1 to 1000.
            after: Id of the last decision of the previous page.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            DecisionNotFoundError: `after` is not a decision of the store.
            StoreError: The store cannot be read.
        """
        wanted = DecisionFilter(self._sees, status, category, actor)
        return queries.find_page(self.event_store, wanted, limit, after)

    def pending(self) -> builtins.list[Decision]:
        """Return every decision that waits for an answer, oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        return [*filter(self._sees, queries.find_pending(self.event_store))]

    def search(
        self,
        query: str | None = None,
        *,
        category: DecisionCategory | None = None,
        tags: Sequence[str] = (),
        status: DecisionStatus | None = None,
        limit: int = 20,
    ) -> builtins.list[FoundDecision]:
        """Return decisions of similar meaning, most similar first.

        A decision just made is found after `autotrace.flush()`. Decisions that the key may not see
        are left out and do not count.

        Args:
            query: Text to search for; None: the newest decisions first.
            category: Only decisions recorded in this category.
            tags: Only decisions that have all of these tags.
            status: Only decisions of this status.
            limit: Maximum number of results, 1 to 100.

        Raises:
            InvalidArgumentError: An argument has a value that is not allowed.
            StoreError: The store cannot be read.
        """
        wanted = DecisionFilter(self._sees, status, category, tags=tags)
        return queries.find_similar(self.event_store, wanted, limit, query, self._embed)

    def _embed(self, text: str) -> Any:
        if self._embedding is None:
            msg = "the store was opened without an embedder"
            raise StoreError(msg)
        return self._embedding.embedder.embed([text])[0]

    def existing(self, decision_ids: Sequence[str]) -> builtins.list[Decision]:
        """Return those of some decisions that exist and that the caller may see, oldest first."""
        logs = self.event_store.read_all(decision_ids).values()
        return [*filter(self._sees, queries.oldest_first(self.event_store, iter(logs)))]

    def newest_ids(self, limit: int) -> builtins.list[str]:
        """Return the ids of the newest decisions, newest first."""
        self._check_program("listing all ids")
        return queries.newest_ids(self.event_store, limit)

    # --- answering

    def approve(
        self,
        decision_id: str,
        approver: str,
        rationale: str | None = None,
        *,
        head: str | None = None,
    ) -> Decision:
        """Approve the request of a decision; signed, if this user has an approver's key.

        Args:
            decision_id: The decision.
            approver: Name of the approver. A name that looks like the requester's is refused; a
                repeated approval, also under a name that looks alike, changes nothing.
            rationale: Why.
            head: The `head` of the decision as the approver was shown it. Default: the head of the
                request, so that an approval of later additions has to name it.

        Returns:
            The decision; it still waits if more approvers are needed.

        Raises:
            DecisionNotFoundError: No decision has this id.
            DecisionStateError: No request waits: it was answered, has expired, or was never made;
                or the head has moved.
            ApprovalRefused: The approver is the requester, or has a name that looks like it.
            InvalidArgumentError: The approver has no name, or the request requires a rationale or
                a signature.
            NotPermittedError: An API key is given.
            StoreError: The answer cannot be stored, or the approver's key cannot be read.
        """
        return self.answer(decision_id, ApprovalAnswer(True, approver, rationale, head))

    def reject(
        self,
        decision_id: str,
        approver: str,
        rationale: str | None = None,
        *,
        head: str | None = None,
    ) -> Decision:
        """Reject the request of a decision, which ends it; signed and raising as `approve`.

        Args:
            decision_id: The decision.
            approver: Name of the approver. A name that looks like the requester's is refused.
            rationale: Why; the requester gets it, and it stays on the trace.
            head: The `head` of the decision as the approver was shown it. Default: the current one.
        """
        return self.answer(decision_id, ApprovalAnswer(False, approver, rationale, head))

    def answer(self, decision_id: str, answer: ApprovalAnswer) -> Decision:
        """Answer a request, signed if the approver on this machine has a key; see `approve`.

        Raises:
            SigningKeyError: The approver's key cannot be used.
            DamagedDecisionError: The history was changed, so that an approval is not signed.
        """
        self._check_program("a signature of this machine's approver")
        if (signer := approver_of(self._settings)) is not None:
            shown = self._trace(decision_id, whole=answer.granted)
            if answer.head in (None, shown.head):  # an answer to another head is refused
                vote = votes.sign(shown, signer, granted=answer.granted, approver=answer.approver)
                answer = replace(answer, signature=vote.signature, public_key=vote.public_key)
        return self.resolve(decision_id, answer)

    # --- proof

    def receipt(self, decision_id: str) -> Receipt:
        """Return the signed statement of how a decision has ended.

        Raises:
            DecisionNotFoundError: No decision has this id.
            NotPermittedError: The key may not see it.
            DecisionStateError: It has not ended; or it has no receipt, and the ledger of this
                machine does not name its end.
            StoreError: The store or the signing key cannot be read.
        """
        if self._caller is not None:
            self.get(decision_id)
        return self._proof.receipt(decision_id)

    def verify(self, decision_id: str) -> bool:
        """Return whether the history of a decision and its receipt are as they were written.

        Raises:
            DecisionNotFoundError: No decision has this id.
            StoreError: The store cannot be read.
        """
        return self.check(decision_id).ok

    def check(
        self,
        decision_id: str,
        receipt: Receipt | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Verification:
        """Verify the history of a decision and its receipt; name the first event that was changed.

        Args:
            decision_id: The decision.
            receipt: A receipt kept elsewhere, which shows whether the end was exchanged. Default:
                the one in the store.
            checkpoint: A checkpoint kept elsewhere, which the history must continue.

        Raises:
            DecisionNotFoundError: No decision has this id.
            InvalidArgumentError: The checkpoint is not signed by a trusted key.
            NotPermittedError: An API key is given.
            StoreError: The store cannot be read.
        """
        self._check_program("verifying")
        return self._proof.check(decision_id, receipt, checkpoint)

    def check_all(self, checkpoint: Checkpoint | None = None) -> builtins.list[Verification]:
        """Verify every decision that the store, its ledger or a checkpoint names.

        Args:
            checkpoint: A checkpoint kept elsewhere, which the histories must continue.

        Raises:
            InvalidArgumentError: The checkpoint is not signed by a trusted key.
            NotPermittedError: An API key is given.
            StoreError: The store cannot be read.
        """
        self._check_program("verifying")
        return self._proof.check_all(checkpoint)

    def verify_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Return whether every decision verifies and continues the checkpoint.

        Raises:
            InvalidArgumentError: The checkpoint is not signed by a trusted key.
            NotPermittedError: An API key is given.
            StoreError: The store cannot be read.
        """
        return all(found.ok for found in self.check_all(checkpoint))

    def checkpoint(self) -> Checkpoint:
        """Sign the number of events and the head of every decision, in the order of their ids.

        A decision whose chain does not hold, or lacks events that the ledger names, is left out
        by name: a checkpoint vouches for no history that does not verify.

        Raises:
            NotPermittedError: An API key is given.
            SigningKeyError: The key cannot be read.
            StoreError: The store cannot be read.
        """
        self._check_program("a checkpoint")
        return self._proof.checkpoint()
