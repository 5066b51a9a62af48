"""How settings become the decisions of a store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from autotrace.decisions import policies
from autotrace.decisions.api import Decisions
from autotrace.decisions.approvals import Send
from autotrace.decisions.event_store import DecisionEventStore, EventContext, Log
from autotrace.decisions.ledger import Ledger
from autotrace.decisions.notify.delivery import Deliveries
from autotrace.decisions.notify.routes import route_named
from autotrace.decisions.queries import DecisionLibrary
from autotrace.decisions.receipts import ReceiptSigner, approver_of, verify_signature
from autotrace.decisions.service import DecisionService
from autotrace.decisions.verification import DecisionProof
from autotrace.semconv import DEFAULT_ACTOR
from autotrace.settings import Settings
from autotrace.store.connection import ServerOptions
from autotrace.store.decision_log import connect_decisions

Note = Callable[[str, str, BaseException], None]


def make_deciding(
    settings: Settings,
    recording: EventContext,
    *,
    space: str | None,
    embed: Callable[[str], Any],
    count: Callable[[str], None],
    note: Note,
) -> Decisions:
    """Make the decisions of the store that settings name; nothing is opened yet.

    Args:
        settings: Names the store.
        recording: Makes values fit to be kept, and spans of events.
        space: The embedding space of the store; None accepts any.
        embed: Makes the vector of a text.
        count: Counts by name.
        note: Keeps and logs a failure.
    """
    connection = connect_decisions(settings.store, space=space, server=ServerOptions.of(settings))
    signer = functools.cache(lambda: _signer(settings))

    def sign(log: Log) -> Mapping[str, Any] | None:
        try:
            return proof.sign(log)
        except Exception as error:  # noqa: BLE001 - a decision ends with or without a receipt
            count("unsigned_decisions")
            note("receipt", f"a decision has ended without a receipt: {error}", error)
            return None

    deliveries = Deliveries(count=count)

    def route(name: str | None) -> Send | None:
        sender = route_named(name, settings)
        return None if sender is None else functools.partial(deliveries.deliver, sender)

    # Beside the key that signs: a client of Chroma reaches neither.
    ledger = Ledger(settings.receipt_key_path.with_name("ledger"))
    book = DecisionEventStore(connection, recording, ledger=ledger, sign=sign)
    library = DecisionLibrary(book, embed=embed)
    proof = DecisionProof(
        book, signer=signer, is_signed=verify_signature, trusted=settings.receipt_keys
    )
    service = DecisionService(
        book,
        evaluate=policies.evaluate,
        route=route,
        enforce_modes=settings.enforce_modes,
        approver_keys=settings.approver_keys,
    )
    return Decisions(
        service,
        library,
        proof,
        deliveries,
        settings.agent or DEFAULT_ACTOR,
        lambda: approver_of(settings),
    )


def _signer(settings: Settings) -> ReceiptSigner:
    if settings.receipt_key is not None:
        return ReceiptSigner.from_setting(settings.receipt_key)
    return ReceiptSigner.load_or_create(settings.receipt_key_path)
