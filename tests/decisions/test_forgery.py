"""Who writes into Chroma, and has neither the ledger nor the key: `verify` fails closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from autotrace.decision_requests import ApprovalAnswer, DecisionRequest, GatedCall
from autotrace.decisions.api import Decisions
from autotrace.decisions.receipts import ReceiptSigner
from autotrace.errors import DamagedDecisionError, DecisionStateError
from autotrace.models import ApprovalRequest
from autotrace.store import decision_log as store
from autotrace.store import schema

from .deciding import open_deciding
from .store_writer import StoreWriter


class Forger(StoreWriter):
    """Changes what Chroma holds of a decision that was asked about, approved and committed."""

    def __init__(self, deciding: Decisions, place: Path) -> None:
        super().__init__(deciding, place)
        self.ids = [self._approved() for _ in "ab"]
        for each in self.ids:
            deciding.close(each, "commit", by="bot")

    def _approved(self) -> str:
        deciding = self.deciding
        made = deciding.create(DecisionRequest("a.b", "approve", actor="bot")).decision_id
        deciding.request_approval(made, ApprovalRequest(title="pay 10"), by="bot")
        deciding.resolve(made, ApprovalAnswer(granted=True, approver="ada"))
        return made

    def receipt_id(self, decision_id: str) -> str:
        return store.receipt_id(decision_id, self.events(decision_id)[-1]["event_id"])

    def put_receipt(self, decision_id: str, document: Any) -> None:
        with self.deciding.event_store.connection.writing() as collections:
            schema.upsert(collections.log, {self.receipt_id(decision_id): document})

    def get_receipt(self, decision_id: str) -> Any:
        record_id = self.receipt_id(decision_id)
        with self.deciding.event_store.connection.reading() as collections:
            return schema.documents(collections.log, [record_id])[record_id]


@pytest.fixture
def forger(tmp_path: Path) -> Iterator[Forger]:
    deciding = open_deciding({"store": str(tmp_path / "store")})
    yield Forger(deciding, tmp_path / "store")
    deciding.shut_down(5)


def _other_approver(forger: Forger) -> None:
    events = forger.events(forger.ids[0])
    events[2]["facts"] = {**events[2]["facts"], "approver": "the CEO"}
    forger.write(forger.ids[0], events, anew=True)


def _foreign_key(forger: Forger) -> None:
    _other_approver(forger)
    signer, receipt = ReceiptSigner(Ed25519PrivateKey.generate()), forger.get_receipt(forger.ids[0])
    receipt["receipt_data"]["head"] = forger.events(forger.ids[0])[-1]["hash"]
    receipt["signature"] = signer.sign(receipt["receipt_data"])
    receipt |= {"key_id": signer.key_id, "public_key": signer.public_key}
    forger.put_receipt(forger.ids[0], receipt)


def _foreign_key_under_our_id(forger: Forger) -> None:
    ours = forger.get_receipt(forger.ids[0])["key_id"]
    _foreign_key(forger)
    forger.put_receipt(forger.ids[0], forger.get_receipt(forger.ids[0]) | {"key_id": ours})


def _no_receipt(forger: Forger) -> None:
    forger.delete(forger.receipt_id(forger.ids[0]))


def _receipt_of_another(forger: Forger) -> None:
    forger.put_receipt(forger.ids[0], forger.get_receipt(forger.ids[1]))


def _cut(forger: Forger) -> None:
    forger.write(forger.ids[0], forger.events(forger.ids[0])[:-1], anew=False)


def _duplicated(forger: Forger) -> None:
    events = forger.events(forger.ids[0])
    forger.write(forger.ids[0], [*events[:2], *events[1:]], anew=False)


def _reordered(forger: Forger) -> None:
    events = forger.events(forger.ids[0])
    forger.write(forger.ids[0], [events[1], events[0], *events[2:]], anew=False)


SHOWN_BY_ALL: list[Callable[[Forger], None]] = [
    *(_other_approver, _foreign_key, _foreign_key_under_our_id, _no_receipt),
    *(_receipt_of_another, _cut, _duplicated, _reordered),
]


@pytest.mark.parametrize("has_ledger", [True, False])
@pytest.mark.parametrize("forge", SHOWN_BY_ALL)
def test_a_forged_decision_does_not_verify(
    forger: Forger, forge: Callable[[Forger], None], has_ledger: bool
) -> None:
    if not has_ledger:
        forger.forget_ledger()
    assert all(found.ok for found in forger.deciding.check_all())

    forge(forger)

    assert not forger.deciding.verify(forger.ids[0])
    bad = {found.decision_id: found.problem for found in forger.deciding.check_all()}
    assert bad[forger.ids[0]] is not None
    assert bad[forger.ids[1]] is None


@pytest.mark.parametrize("field", ["receipt_data", "signature", "key_id", "public_key"])
@pytest.mark.parametrize("value", [..., None, 1, "x", [], {}])
def test_a_damaged_receipt_does_not_verify_and_hides_no_other_decision(
    forger: Forger, field: str, value: Any
) -> None:
    damaged = forger.get_receipt(forger.ids[0])
    if value is ...:
        del damaged[field]
    else:
        damaged[field] = value
    forger.put_receipt(forger.ids[0], damaged)

    found = {each.decision_id: each for each in forger.deciding.check_all()}

    assert {each: made.ok for each, made in found.items()} == dict(
        zip(forger.ids, (False, True), strict=True)
    )
    assert "receipt" in str(found[forger.ids[0]].problem)
    assert not forger.deciding.verify(forger.ids[0])


def test_a_decision_that_is_gone_with_its_receipt_shows_by_the_ledger(forger: Forger) -> None:
    gone, receipt = forger.ids[0], forger.receipt_id(forger.ids[0])
    forger.delete(receipt, *(f"{gone}/{n}" for n in range(9)))

    assert not forger.deciding.verify(gone)
    bad = [each.decision_id for each in forger.deciding.check_all() if not each.ok]
    assert bad == [gone]


def test_an_open_decision_that_was_written_again_shows_by_the_ledger(forger: Forger) -> None:
    made = forger._approved()  # pyright: ignore[reportPrivateUsage]
    events = forger.events(made)
    events[1]["facts"] = {**events[1]["facts"], "approvals_needed": 1, "requester": "eve"}
    forger.write(made, events, anew=True)

    assert not forger.deciding.verify(made)


def test_a_used_approval_does_not_run_again_when_its_end_is_cut_off(forger: Forger) -> None:
    deciding = forger.deciding
    call = GatedCall("bot", {"name": "pay"}, "00")
    made = deciding.open_call(call).decision_id
    deciding.request_approval(made, ApprovalRequest(), by="bot")
    deciding.resolve(made, ApprovalAnswer(granted=True, approver="ada"))
    deciding.claim(made, call)
    deciding.close(made, "commit", by="bot")
    forger.delete(forger.receipt_id(made))
    forger.write(made, forger.events(made)[:3], anew=False)
    assert deciding.get(made).status == "approved"

    with pytest.raises(DamagedDecisionError):
        deciding.claim(made, call)

    assert deciding.get(made).execution is None


def test_a_missing_receipt_is_made_of_what_this_machine_recorded_and_of_nothing_else(
    forger: Forger,
) -> None:
    first, second = forger.ids
    for each in forger.ids:
        forger.delete(forger.receipt_id(each))
    events = forger.events(second)
    events[2]["facts"] = {**events[2]["facts"], "approver": "the CEO"}
    forger.write(second, events, anew=True)

    assert forger.deciding.receipt(first).receipt_data["head"] == (forger.events(first)[-1]["hash"])
    assert forger.deciding.verify(first)
    with pytest.raises(DecisionStateError, match="its receipt is missing"):
        forger.deciding.receipt(second)


def test_keys_of_other_machines_are_trusted_by_a_setting(forger: Forger) -> None:
    signer, receipt = ReceiptSigner(Ed25519PrivateKey.generate()), forger.get_receipt(forger.ids[0])
    receipt |= {
        "signature": signer.sign(receipt["receipt_data"]),
        "key_id": signer.key_id,
        "public_key": signer.public_key,
    }
    forger.put_receipt(forger.ids[0], receipt)

    found = forger.deciding.check(forger.ids[0])
    assert (found.ok, found.receipt) == (False, "unknown_key")
    place = str(forger.place)
    trusting = open_deciding({"store": place}, receipt_keys=[signer.public_key])
    found = trusting.check(forger.ids[0])
    trusting.shut_down(5)
    assert (found.ok, found.receipt) == (True, "valid")


def test_a_line_of_the_ledger_that_a_crash_cut_short_is_left_out(forger: Forger) -> None:
    for path in (forger.place / "ledger").iterdir():
        with path.open("ab") as file:
            file.write(f"{forger.ids[0]} 9 abc".encode())
    deciding, made = forger.deciding, forger._approved()  # pyright: ignore[reportPrivateUsage]
    deciding.close(made, "abort", by="bot")

    assert all(found.ok for found in forger.deciding.check_all())


def test_an_end_that_was_exchanged_shows_by_a_receipt_kept_elsewhere(forger: Forger) -> None:
    decision_id = forger.ids[0]
    kept = forger.deciding.receipt(decision_id)
    forger.forget_ledger()
    forger.delete(forger.receipt_id(decision_id))
    _cut(forger)
    still_open = forger.deciding.check(decision_id, kept)
    forger.deciding.close(decision_id, "abort", by="eve")

    assert still_open.problem == "there is a receipt of its end, and it has not ended"
    exchanged = forger.deciding.check(decision_id, kept)
    assert exchanged.problem == "the receipt has another status, closed_at, head"
