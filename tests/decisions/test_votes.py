"""A gate with approver keys: who writes into the store can approve nothing without a key."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import autotrace
from autotrace import active, tool
from autotrace.capture.approvals.decision_block import decision
from autotrace.capture.approvals.gate import use_decision
from autotrace.decision_requests import ApprovalAnswer, DecisionRequest
from autotrace.decisions import hash_chain, votes
from autotrace.decisions.receipts import ReceiptSigner
from autotrace.decisions.state_machine import Draft
from autotrace.errors import (
    ApprovalPending,
    ApprovalRefused,
    DamagedDecisionError,
    DecisionStateError,
    InvalidArgumentError,
    SigningKeyError,
)
from autotrace.models import ApprovalRequest, DecisionTrace
from autotrace.settings import load_settings
from tests.decisions.agents import Agent, Ran, agent_in, open_store, pending, refused

from .store_writer import StoreWriter

ADA, BOB, EVE = (
    ReceiptSigner(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2, 3)
)


class Gated:
    """An agent whose tool accepts votes of ada and bob alone, and an attacker on its store."""

    def __init__(self, agent: Agent, place: Path) -> None:
        self.agent, self.deciding, self.ran = agent, agent.deciding, Ran()
        self.attacker = StoreWriter(agent.deciding, place)

    def tool(self, **request: Any) -> Callable[..., str]:
        keys = request.pop("approver_keys", [ADA.public_key, BOB.public_key])

        @tool(
            requires_approval=True,
            wait=False,
            approval=ApprovalRequest(approver_keys=keys, **request),
        )
        def pay(amount: int) -> str:
            self.ran.append(amount)
            return f"paid {amount}"

        return pay

    def shown(self, decision_id: str) -> DecisionTrace:
        return self.deciding.trace(decision_id)

    def vote(
        self,
        decision_id: str,
        signer: ReceiptSigner = ADA,
        approver: str = "ada",
        *,
        granted: bool = True,
    ) -> None:
        """Cast a signed vote, as a person does."""
        signed = votes.sign(
            self.shown(decision_id), signer, granted=granted, approver=approver
        ).model_dump()
        self.deciding.resolve(
            decision_id, ApprovalAnswer(granted=granted, approver=approver, **signed)
        )

    def forge(self, decision_id: str, *facts: dict[str, Any]) -> None:
        """Write votes straight into the store, in a chain that holds, with the ledger gone."""
        events = self.attacker.events(decision_id)
        drafts = [
            Draft(
                "approval_granted",
                {"approver": "ada", "has_rationale": True, "head": self.shown(decision_id).head}
                | each,
                {"rationale": "yes"},
            )
            for each in facts
        ]
        at_ns = events[-1]["at_ns"]
        events += hash_chain.link(decision_id, events[-1], drafts, by="ada", at_ns=at_ns)
        self.attacker.write(decision_id, events, anew=True)
        self.attacker.forget_ledger()


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    deciding, told = open_store(tmp_path / "store")
    with agent_in(str(tmp_path / "store"), deciding, told, name="bot") as agent:
        yield Gated(agent, tmp_path / "store")
    deciding.shut_down(30)


def facts_of(signer: ReceiptSigner, data: dict[str, Any]) -> dict[str, Any]:
    return {"public_key": signer.public_key, "signature": signer.sign(data)}


def statement(gated: Gated, decision_id: str, **changes: Any) -> dict[str, Any]:
    shown = gated.shown(decision_id)
    assert shown.approval is not None
    return {
        "kind": "autotrace-vote/1",
        "decision_id": decision_id,
        "head": shown.head,
        "arguments_sha256": shown.approval.arguments_sha256,
        "answer": "approve",
        "approver": "ada",
    } | changes


# --- what runs


def test_a_signed_vote_lets_the_call_run_once_and_stays_on_the_record(gated: Gated) -> None:
    pay = gated.tool()
    asked = pending(lambda: pay(5))
    gated.vote(asked)

    assert pay(5) == "paid 5"

    shown, found = gated.shown(asked), gated.deciding.check(asked)
    assert shown.approval is not None
    assert shown.approval.approver_keys == sorted([ADA.public_key, BOB.public_key])
    assert [(v.approver, v.public_key) for v in shown.approval.votes] == [("ada", ADA.public_key)]
    assert (found.ok, found.signed_votes) == (True, 1)
    assert pending(lambda: pay(5)) != asked


def test_two_people_with_keys_of_their_own_make_a_quorum_of_two(gated: Gated) -> None:
    pay = gated.tool(approvals_needed=2)
    asked = pending(lambda: pay(5))
    gated.vote(asked)
    assert pending(lambda: pay(5)) == asked
    gated.vote(asked, BOB, "bob")

    assert pay(5) == "paid 5"


def test_keys_of_the_setting_hold_for_gates_that_name_none(tmp_path: Path) -> None:
    deciding, told = open_store(tmp_path / "store", approver_keys=[BOB.public_key])
    with agent_in(str(tmp_path / "store"), deciding, told, name="bot") as agent:
        gated = Gated(agent, tmp_path / "store")
        plain, own = gated.tool(approver_keys=None), gated.tool(approver_keys=[ADA.public_key])
        first = pending(lambda: plain(1))
        gated.forge(first, facts_of(ADA, statement(gated, first)))
        assert refused(lambda: plain(1)) == "unsigned"
        gated.vote(pending(lambda: plain(1)), BOB, "bob")
        gated.vote(pending(lambda: own(2)), ADA)

        assert [plain(1), own(2)] == ["paid 1", "paid 2"]
    deciding.shut_down(30)


# --- what an attacker writes into the store

FORGED: dict[str, Callable[[Gated, str], list[dict[str, Any]]]] = {
    "unsigned": lambda gated, asked: [{}],
    "no head, as before votes named one": lambda gated, asked: [{"head": None}],
    "of a foreign key": lambda gated, asked: [facts_of(EVE, statement(gated, asked))],
    "of a foreign key, under a known one": lambda gated, asked: [
        facts_of(EVE, statement(gated, asked)) | {"public_key": ADA.public_key}
    ],
    "of another decision": lambda gated, asked: [
        facts_of(ADA, statement(gated, pending(lambda: gated.tool()(6))))
    ],
    "of other arguments": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, arguments_sha256="00" * 32))
    ],
    "of no call": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, arguments_sha256=None))
    ],
    "of another head": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, head=gated.shown(asked).events[0].hash))
    ],
    "of a rejection": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, answer="reject"))
    ],
    "of another approver": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, approver="bob"))
    ],
    "of the agent itself": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, approver="b\u043et")) | {"approver": "b\u043et"}
    ],
    "of another version": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, kind="autotrace-vote/2"))
    ],
    "which is not text": lambda gated, asked: [{"public_key": [1], "signature": {}}],
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_vote_runs_nothing_and_the_next_call_asks_anew(gated: Gated, forged: str) -> None:
    pay = gated.tool()
    asked = pending(lambda: pay(5))
    gated.forge(asked, *FORGED[forged](gated, asked))
    assert gated.shown(asked).status == "approved"

    assert refused(lambda: pay(5)) == "unsigned"

    ended = gated.shown(asked)
    assert (ended.status, ended.execution) == ("aborted", None)
    assert "0 of 1 votes needed are signed" in (ended.reason or "")
    again = pending(lambda: pay(5))
    assert again != asked
    gated.vote(again)
    assert (pay(5), gated.ran) == ("paid 5", [5])


TOO_FEW: dict[str, Callable[[Gated, str], list[dict[str, Any]]]] = {
    "one key twice": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked, approver=name)) | {"approver": name}
        for name in ("ada", "carol")
    ],
    "one person with two keys": lambda gated, asked: [
        facts_of(signer, statement(gated, asked, approver=name)) | {"approver": name}
        for signer, name in ((ADA, "ada"), (BOB, "Ad\u0430"))
    ],
    "one signed and one not": lambda gated, asked: [
        facts_of(ADA, statement(gated, asked)),
        {"approver": "bob"},
    ],
    "one vote twice": lambda gated, asked: [facts_of(ADA, statement(gated, asked))] * 2,
}


@pytest.mark.parametrize("forged", TOO_FEW)
def test_a_quorum_is_of_people_and_of_keys(gated: Gated, forged: str) -> None:
    pay = gated.tool(approvals_needed=2)
    asked = pending(lambda: pay(5))
    gated.forge(asked, *TOO_FEW[forged](gated, asked))

    assert (refused(lambda: pay(5)), gated.ran) == ("unsigned", [])


@pytest.mark.parametrize(
    ("request_", "lie"),
    [
        ({"approvals_needed": 2}, {"approvals_needed": 1}),
        ({}, {"approver_keys": [EVE.public_key]}),
        ({}, {"approver_keys": None}),
    ],
)
def test_what_the_store_says_of_quorum_and_keys_has_no_effect(
    gated: Gated, request_: dict[str, Any], lie: dict[str, Any]
) -> None:
    pay = gated.tool(**request_)
    asked = pending(lambda: pay(5))
    events = gated.attacker.events(asked)
    events[1]["facts"] = {**events[1]["facts"], **lie}
    gated.attacker.write(asked, events, anew=True)
    gated.attacker.forget_ledger()
    # The approver is shown the lie, and signs what is shown.
    signer = EVE if "approver_keys" in lie else ADA
    gated.vote(asked, signer)

    assert (refused(lambda: pay(5)), gated.ran) == ("unsigned", [])


@pytest.mark.parametrize("days", [-2, 2])
def test_an_approval_expires_by_the_gates_own_time(gated: Gated, days: int) -> None:
    pay = gated.tool(expires_in_seconds=3600)
    asked = pending(lambda: pay(5))
    events = gated.attacker.events(asked)
    events[1]["facts"] = {**events[1]["facts"], "expires_in_seconds": None}
    events[1]["at_ns"] += int(days * 86_400e9)
    gated.attacker.write(asked, events, anew=True)
    gated.attacker.forget_ledger()
    gated.vote(asked)

    assert (refused(lambda: pay(5)), gated.ran) == ("expired", [])
    assert pending(lambda: pay(5)) != asked


def test_a_vote_that_was_used_runs_no_later_call_of_the_same_arguments(gated: Gated) -> None:
    pay = gated.tool()
    used = pending(lambda: pay(5))
    gated.vote(used)
    pay(5)
    (old,) = [e for e in gated.attacker.events(used) if e["type"] == "approval_granted"]
    asked = pending(lambda: pay(5))
    gated.forge(asked, {**old["facts"]})
    assert refused(lambda: pay(5)) == "unsigned"
    # The whole history of the one, under the id of the other.
    asked = pending(lambda: pay(5))
    gated.attacker.write(asked, gated.attacker.events(used)[:3], anew=True)
    gated.attacker.forget_ledger()

    assert refused(lambda: pay(5)) == "unsigned"
    assert gated.ran == [5]


def test_a_decision_that_is_named_needs_signed_votes_too(gated: Gated) -> None:
    pay = gated.tool()
    asked = pending(lambda: pay(5))
    gated.forge(asked, {})

    def call() -> None:
        with use_decision(asked):
            pay(5)

    assert (refused(call), gated.ran) == ("unsigned", [])


@pytest.mark.parametrize("has_ledger", [True, False])
def test_nothing_runs_on_events_that_were_changed_under_their_old_hashes(
    gated: Gated, has_ledger: bool
) -> None:
    @tool(requires_approval=True, wait=False)
    def pay(amount: int) -> None:
        gated.ran.append(amount)

    asked = pending(lambda: pay(5))
    gated.agent.approve(asked)
    events = gated.attacker.events(asked)
    events[2]["facts"] = {**events[2]["facts"], "approver": "the CEO"}
    gated.attacker.write(asked, events, anew=False)
    if not has_ledger:
        gated.attacker.forget_ledger()

    with pytest.raises(DamagedDecisionError):
        pay(5)
    assert gated.ran == []


def test_an_approver_does_not_sign_for_arguments_that_are_not_shown(gated: Gated) -> None:
    pay = gated.tool()
    asked = pending(lambda: pay(5_000))
    events = gated.attacker.events(asked)
    content = events[1]["content"] or {}
    salt = events[1]["salt"] or ""
    events[1]["content"] = content | {"arguments": {"amount": 5}}
    events[1]["content_sha256"] = hash_chain._digest(salt, events[1]["content"])  # pyright: ignore[reportPrivateUsage]
    gated.attacker.write(asked, events, anew=True)
    gated.attacker.forget_ledger()

    with pytest.raises(ApprovalRefused, match="nothing was signed"):
        gated.vote(asked)
    gated.vote(asked, granted=False)  # whoever does not trust it says no


# --- rejections


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_rejection_ends_it_and_needs_no_key(gated: Gated, is_signed: bool) -> None:
    pay = gated.tool()
    asked = pending(lambda: pay(5))
    if is_signed:
        gated.vote(asked, granted=False)
    else:
        gated.agent.reject(asked)

    assert (refused(lambda: pay(5)), gated.ran) == ("rejected", [])
    found = gated.deciding.check(asked)
    assert (found.ok, found.signed_votes) == (True, int(is_signed))


# --- casting a vote


def test_a_vote_that_does_not_fit_is_refused_and_changes_nothing(gated: Gated) -> None:
    asked = pending(lambda: gated.tool(approvals_needed=2)(5))
    good = facts_of(ADA, statement(gated, asked))
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "autotrace approver init"),
        ({"signature": good["signature"]}, "public_key with it"),
        ({"public_key": ADA.public_key}, "public_key with it"),
        (facts_of(EVE, statement(gated, asked)), "one of the keys that the request names"),
        (good | {"public_key": BOB.public_key}, "over the canonical JSON"),
        (good | {"signature": "AAAA"}, "over the canonical JSON"),
        (facts_of(ADA, statement(gated, asked, answer="reject")), "over the canonical JSON"),
        (facts_of(ADA, statement(gated, asked, approver="bob")), "over the canonical JSON"),
    ]
    before = gated.shown(asked)
    for given, said in cases:
        with pytest.raises(InvalidArgumentError, match=said):
            gated.deciding.resolve(asked, ApprovalAnswer(granted=True, approver="ada", **given))
    with pytest.raises(InvalidArgumentError, match="over the canonical JSON"):
        gated.deciding.resolve(asked, ApprovalAnswer(granted=False, approver="ada", **good))
    assert gated.shown(asked) == before

    gated.vote(asked)
    with pytest.raises(InvalidArgumentError, match="a key of its own"):
        gated.vote(asked, ADA, "carol")
    gated.vote(asked)  # the same vote again changes nothing
    assert gated.shown(asked).status == "needs_approval"


def test_a_vote_for_what_was_shown_before_does_not_count(gated: Gated) -> None:
    asked = pending(lambda: gated.tool()(5))
    shown = gated.shown(asked)
    old = votes.sign(shown, ADA, granted=True, approver="ada")
    gated.deciding.add_context(asked, {"risk": 0.9}, by="bot")

    with pytest.raises(DecisionStateError, match="look at the decision again"):
        gated.deciding.resolve(
            asked, ApprovalAnswer(granted=True, approver="ada", **old.model_dump())
        )
    with pytest.raises(InvalidArgumentError, match="over the canonical JSON"):
        gated.deciding.resolve(
            asked,
            ApprovalAnswer(
                granted=True, approver="ada", **old.model_dump() | {"head": gated.shown(asked).head}
            ),
        )


def test_a_signature_is_kept_where_none_is_wanted_and_must_hold(gated: Gated) -> None:
    made = gated.deciding.create(DecisionRequest("a.b", "approve", actor="bot")).decision_id
    gated.deciding.request_approval(made, ApprovalRequest(), by="bot")
    wrong = facts_of(ADA, statement(gated, made, head="00"))
    with pytest.raises(InvalidArgumentError, match="over the canonical JSON"):
        gated.deciding.resolve(made, ApprovalAnswer(granted=True, approver="ada", **wrong))

    gated.vote(made, EVE, "eve")

    approval = gated.shown(made).approval
    assert approval is not None
    assert [vote.public_key for vote in approval.votes] == [EVE.public_key]


# --- verify and views


@pytest.mark.parametrize("change", [{"signature": "AAAA"}, {"signature": None, "public_key": None}])
def test_a_vote_whose_signature_is_exchanged_does_not_verify_or_show_a_key(
    gated: Gated, change: dict[str, Any]
) -> None:
    asked = pending(lambda: gated.tool()(5))
    gated.vote(asked)
    assert gated.deciding.verify(asked)
    events = gated.attacker.events(asked)
    events[2]["facts"] = {**events[2]["facts"], **change}
    gated.attacker.write(asked, events, anew=True)
    gated.attacker.forget_ledger()

    found, approval = gated.deciding.check(asked), gated.shown(asked).approval
    assert (found.ok, found.signed_votes) == (False, 0)
    assert events[2]["event_id"] in (found.problem or "")
    assert approval is not None
    assert [vote.public_key for vote in approval.votes] == [None]


def test_an_unsigned_vote_on_a_request_that_names_keys_does_not_verify(gated: Gated) -> None:
    asked = pending(lambda: gated.tool()(5))
    gated.forge(asked, {})

    problem = gated.deciding.check(asked).problem or ""
    assert "is not signed with a key that the request names" in problem


# --- decisions that are no call


def forged_block(gated: Gated, forge: Callable[[str], None]) -> DecisionTrace:
    """Ask in a block, and be refused once the store says that it is approved."""
    with decision("a.b", actor="bot") as d:
        d.request_approval(approver_keys=[ADA.public_key])
        forge(d.decision_id)
        assert refused(lambda: d.wait(timeout=0)) == "unsigned"
    return gated.shown(d.decision_id)


def test_a_block_goes_on_with_signed_votes_alone(gated: Gated) -> None:
    ended = forged_block(gated, lambda made: gated.forge(made, {}))
    assert ended.status == "aborted"

    with decision("a.b", actor="bot") as d:
        d.request_approval(approver_keys=[ADA.public_key])
        gated.vote(d.decision_id)
        d.wait(timeout=0)
        d.add_context({"went": "on"})  # what comes after an approval does not void it
    assert gated.shown(d.decision_id).status == "committed"


def test_a_block_that_has_asked_does_not_go_on_as_if_it_had_not(gated: Gated) -> None:
    def take_back(made: str) -> None:
        gated.attacker.write(made, gated.attacker.events(made)[:1], anew=True)
        gated.attacker.forget_ledger()

    assert forged_block(gated, take_back).status == "aborted"


def test_a_block_commits_with_signed_votes_alone(gated: Gated) -> None:
    with decision("a.b", actor="bot") as d:
        d.request_approval(approver_keys=[ADA.public_key])
        gated.forge(d.decision_id, {})
        with pytest.raises(DecisionStateError, match="0 of 1 votes needed are signed"):
            d.commit()
        d.abort()
    assert gated.shown(d.decision_id).status == "aborted"


# --- the keys of a gate


@pytest.mark.parametrize(
    "keys", [[], "abc", ["abc"], [7], 7, [base64.b64encode(bytes(31)).decode()]]
)
def test_a_gate_takes_public_keys_and_at_least_one(keys: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="one or more public keys"):
        ApprovalRequest(approver_keys=keys)
    if isinstance(keys, list):
        with pytest.raises(InvalidArgumentError, match=r"(?i)approver_keys"):
            load_settings(approver_keys=keys)


def test_a_key_counts_once_however_it_is_spelled() -> None:
    spelled = ADA.public_key[:-2] + chr(ord(ADA.public_key[-2]) + 1) + "="
    assert base64.b64decode(spelled) == base64.b64decode(ADA.public_key)

    request = ApprovalRequest(approver_keys=[ADA.public_key, spelled])
    assert request.approver_keys == (ADA.public_key,)


def test_two_decorators_leave_the_keys_that_both_name(gated: Gated) -> None:
    both = gated.tool()
    one = tool(
        requires_approval=True, approval=ApprovalRequest(approver_keys=[ADA.public_key]), wait=False
    )(both)
    asked = pending(lambda: one(5))
    shown = gated.shown(asked)
    assert shown.approval is not None
    assert shown.approval.approver_keys == [ADA.public_key]
    outer = tool(requires_approval=True, approval=ApprovalRequest(title="pay?"))(both)
    with pytest.raises(ApprovalPending):
        outer(6)
    assert (gated.agent.decisions[-1].approval or shown.approval).approver_keys == sorted(
        [ADA.public_key, BOB.public_key]
    )
    with pytest.raises(InvalidArgumentError, match="both decorators"):
        tool(approval=ApprovalRequest(approver_keys=[EVE.public_key]))(both)


# --- the approver's own key


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "autotrace" / "approver.key"


def test_answers_are_signed_by_whoever_has_a_key(gated: Gated, key_file: Path) -> None:
    assert ReceiptSigner.create(key_file)
    key = ReceiptSigner.load(key_file).public_key
    pay = gated.tool(approver_keys=[key])
    asked = pending(lambda: pay(5))

    answered = gated.deciding.answer(
        asked, ApprovalAnswer(granted=True, approver=" ada ", rationale="ok")
    )

    assert answered.approval is not None
    assert [vote.public_key for vote in answered.approval.votes] == [key]
    assert pay(5) == "paid 5"


def test_a_yes_to_what_was_added_after_the_request_is_not_signed_unseen(
    gated: Gated, key_file: Path
) -> None:
    ReceiptSigner.create(key_file)
    asked = pending(lambda: gated.tool(approver_keys=[ReceiptSigner.load(key_file).public_key])(5))
    gated.deciding.add_context(asked, {"risk": 0.9}, by="bot")

    with pytest.raises(DecisionStateError, match="look at the decision again"):
        gated.deciding.answer(asked, ApprovalAnswer(granted=True, approver="ada"))
    with pytest.raises(DecisionStateError, match="look at the decision again"):
        gated.deciding.answer(asked, ApprovalAnswer(granted=True, approver="ada", head="00"))
    head = gated.shown(asked).head
    assert (
        gated.deciding.answer(asked, ApprovalAnswer(granted=True, approver="ada", head=head)).status
        == "approved"
    )


def test_a_key_that_cannot_be_used_answers_nothing(
    gated: Gated, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pending(lambda: gated.tool()(5))
    key_file.parent.mkdir(parents=True)
    key_file.write_text("nothing")
    key_file.chmod(0o600)

    for prepare in (lambda: None, lambda: key_file.chmod(0o644), key_file.unlink):
        prepare()
        if not key_file.exists():  # a file that is named must be there
            gated.deciding, _ = open_store(gated.agent.store, approver_key=str(key_file))
        with pytest.raises(SigningKeyError, match=str(key_file)):
            gated.deciding.answer(asked, ApprovalAnswer(granted=True, approver="ada"))

    assert gated.shown(asked).status == "needs_approval"
    gated.deciding.shut_down(30)


def test_a_history_that_was_changed_gets_no_signature(gated: Gated, key_file: Path) -> None:
    ReceiptSigner.create(key_file)
    asked = pending(lambda: gated.tool()(5))
    events = gated.attacker.events(asked)
    events[1]["content"] = (events[1]["content"] or {}) | {"title": "pay 0.05"}
    gated.attacker.write(asked, events, anew=False)
    gated.attacker.forget_ledger()

    with pytest.raises(DamagedDecisionError):
        gated.deciding.answer(asked, ApprovalAnswer(granted=True, approver="ada"))
    assert (
        gated.deciding.answer(asked, ApprovalAnswer(granted=False, approver="ada")).status
        == "aborted"
    )


def test_a_key_given_in_place_of_its_file_is_refused_and_not_shown() -> None:
    secret = base64.b64encode(bytes(range(32))).decode()
    for text in (secret, f"-----BEGIN PRIVATE KEY-----\n{secret}"):
        with pytest.raises(InvalidArgumentError, match="not the key itself") as caught:
            load_settings(approver_key=text)
        assert secret not in str(caught.value)


def test_a_vote_is_signed_for_another_tool_to_send(
    gated: Gated, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgumentError, match="autotrace approver init"):
        autotrace.decisions.sign_vote(gated.shown(pending(lambda: gated.tool()(4))), "ada")
    ReceiptSigner.create(key_file)
    pay = gated.tool(approver_keys=[ReceiptSigner.load(key_file).public_key])
    asked = pending(lambda: pay(5))
    read = DecisionTrace.model_validate_json(gated.shown(asked).model_dump_json())

    vote = autotrace.decisions.sign_vote(read, "ada")
    gated.deciding.resolve(asked, ApprovalAnswer(granted=True, approver="ada", **vote.model_dump()))

    assert pay(5) == "paid 5"
    unasked = gated.deciding.create(DecisionRequest("a.b", actor="bot")).decision_id
    with pytest.raises(DecisionStateError, match="nobody has requested"):
        autotrace.decisions.sign_vote(gated.shown(unasked), "ada", key=str(key_file))


def test_the_library_signs(gated: Gated, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ReceiptSigner.create(key_file)
    monkeypatch.setattr(active.current, "open", lambda: gated.deciding)
    pay = gated.tool(approver_keys=[ReceiptSigner.load(key_file).public_key])
    autotrace.decisions.approve(pending(lambda: pay(5)), approver="ada")
    autotrace.decisions.reject(pending(lambda: pay(6)), approver="ada")

    assert pay(5) == "paid 5"
    assert refused(lambda: pay(6)) == "rejected"
    assert [found.signed_votes for found in gated.deciding.check_all()] == [1, 1]
