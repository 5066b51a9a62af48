"""The decisions in use: set by `autotrace.configure()`, looked up by each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from autotrace.errors import NotConfiguredError

if TYPE_CHECKING:
    from autotrace.decisions.notify.delivery import Deliveries
    from autotrace.decisions.queries import DecisionLibrary
    from autotrace.decisions.receipts import ReceiptSigner
    from autotrace.decisions.service import DecisionService
    from autotrace.decisions.verification import DecisionProof
    from autotrace.models import Decision


class Decisions:
    """What one configuration has set up for decisions."""

    def __init__(
        self,
        service: DecisionService,
        library: DecisionLibrary,
        proof: DecisionProof,
        deliveries: Deliveries,
        actor: str,
        signer: Callable[[], ReceiptSigner | None],
    ) -> None:
        self.service = service
        self.library = library
        self.proof = proof
        self.actor = actor
        """Who asks where nobody is named."""
        self._deliveries = deliveries
        self._signer = signer

    def answer(
        self,
        decision_id: str,
        *,
        granted: bool,
        approver: str,
        rationale: str | None = None,
        head: str | None = None,
    ) -> Decision:
        """Answer a request for approval, signed if the approver has a key.

        See `DecisionService.resolve`.

        Raises:
            SigningKeyError: The approver's key cannot be used.
            DamagedDecisionError: The history was changed: a yes to it is not signed.
        """
        # Not needed to import the library.
        from autotrace.decisions import votes

        signer, signed = self._signer(), {}
        if signer is not None:
            shown = self.library.trace(decision_id, whole=granted)
            if head in (None, shown.head):  # to another head the answer is refused
                vote = votes.sign(shown, signer, granted=granted, approver=approver)
                signed = vote.model_dump(include={"signature", "public_key"})
        return self.service.resolve(
            decision_id,
            granted=granted,
            approver=approver,
            rationale=rationale,
            head=head,
            **signed,
        )

    def close(self, timeout_s: float) -> bool:
        """Finish what is being delivered, and let go of the store; a later use opens it again.

        Returns:
            Whether everything was delivered, or has failed for good.
        """
        done = self._deliveries.drain(timeout_s)
        self.service.book.connection.close()
        return done


class _Current:
    open: Callable[[], Decisions] | None = None
    """Makes them at first use."""


current: Final = _Current()


def deciding_or_raise(what: str) -> Decisions:
    """Return the decisions in use.

    Raises:
        NotConfiguredError: `autotrace.configure()` was not called; names what was asked for.
    """
    if current.open is None:
        raise NotConfiguredError(what)
    return current.open()
