"""The state machine, by itself: what follows from what, and that nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from autotrace.decision_requests import ApprovalAnswer, DecisionEnd, GatedCall
from autotrace.decisions import approval_use, hash_chain, state_machine
from autotrace.decisions.hash_chain import StoredEvent
from autotrace.decisions.state_machine import Draft, State
from autotrace.errors import (
    ApprovalPending,
    ApprovalRefused,
    AutotraceError,
    DecisionStateError,
    InvalidArgumentError,
)

SECOND_NS = 10**9


class Life:
    """A decision that is lived through by hand."""

    def __init__(self, mode: str = "approve", **facts: object) -> None:
        self.now_ns = 1_000 * SECOND_NS
        self.stored: list[StoredEvent] = []
        self._append(
            [Draft("created", {"intent": "a.b", "automation_mode": mode, "actor": "bot"} | facts)]
        )

    def _append(self, drafts: list[Draft]) -> None:
        last = self.stored[-1] if self.stored else None
        self.stored += hash_chain.link("decision-1", last, drafts, by="x", at_ns=self.now_ns)

    @property
    def state(self) -> State:
        return state_machine.fold_events(
            "decision-1", [hash_chain.to_event(event) for event in self.stored]
        )

    def end_what_is_over(self) -> None:
        self._append(state_machine.expire(self.state, self.now_ns))

    def ask(
        self, *, needed: int = 1, expires_in_s: int | None = None, reason: bool = False
    ) -> None:
        self.end_what_is_over()
        facts = {
            "approval_id": "approval-1",
            "requester": "bot",
            "require_rationale": reason,
            "approvals_needed": needed,
            "expires_in_seconds": expires_in_s,
            "route": None,
            "notifies": False,
        }
        self._append(state_machine.request_approval(self.state, Draft("approval_requested", facts)))

    def answer(
        self,
        approver: str,
        *,
        granted: bool = True,
        why: str | None = None,
        head: str | None = None,
    ) -> None:
        self.end_what_is_over()
        self._append(
            state_machine.resolve(self.state, ApprovalAnswer(granted, approver, why, head))
        )

    def add_context(self, about: str) -> None:
        self._append(
            state_machine.add_once(self.state, Draft("context_added", {}, {"context": about}))
        )

    def deliver(self) -> None:
        self._append([Draft("approval_delivery", {"status": "delivered"}, {"note": ""})])

    def evaluate(self, outcome: str, policy_id: str = "p") -> None:
        self.end_what_is_over()
        facts = {"policy_id": policy_id, "version": "0", "outcome": outcome}
        self._append(state_machine.add(self.state, Draft("policy_evaluated", facts)))

    def claim(self, tool: str = "pay", arguments: str = "00") -> None:
        self.end_what_is_over()
        self._append(approval_use.claim(self.state, GatedCall("bot", {"name": tool}, arguments)))

    def close(self, action: str, *, reason: str | None = None, enforce: bool = False) -> None:
        self.end_what_is_over()
        end = DecisionEnd(action, reason=reason)
        self._append(state_machine.close(self.state, end, enforce_modes=enforce))


def test_it_is_committed_without_asking_unless_something_stands_against_it() -> None:
    life = Life("propose")

    life.close("commit")

    assert life.state.status == "committed"


def test_an_approval_is_waited_for_and_then_allows_the_commit() -> None:
    life = Life()
    life.ask()
    assert life.state.status == "needs_approval"
    with pytest.raises(DecisionStateError, match="waits for approval"):
        life.close("commit")

    life.answer("ada")
    life.close("commit")

    assert life.state.status == "committed"


@pytest.mark.parametrize("granted", [True, False])
@pytest.mark.parametrize(
    "name",
    ["bot", "BOT ", " \uff42\uff4f\uff54", "b\u200bo\u00adt\x00", "b\u034fot", "b\u043et", "b0t."],
)
def test_who_asks_cannot_answer_however_the_name_is_spelled(granted: bool, name: str) -> None:
    life = Life()
    life.ask()

    with pytest.raises(ApprovalRefused) as refused:
        life.answer(name, granted=granted)

    assert refused.value.reason == "own"
    assert life.state.status == "needs_approval"


@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_request_is_answered_once(first: bool, second: bool) -> None:
    life = Life()
    life.ask()
    life.answer("ada", granted=first)
    before = life.state

    with pytest.raises(DecisionStateError, match="'ada' has"):
        life.answer("bob", granted=second)

    assert life.state == before


def test_several_approvers_are_different_people_and_one_rejection_ends_it() -> None:
    life = Life()
    life.ask(needed=3)
    life.answer("ada")
    before = life.state
    for again in ("ada", "Ada", "ad\u0430", "ada\u034f", "a\u0301da."):
        life.answer(again)
    assert life.state == before, "a yes that is repeated changes nothing"
    life.answer("bob")
    assert life.state.status == "needs_approval"

    life.answer("eve", granted=False)

    assert life.state.status == "aborted"
    assert life.state.request is not None
    assert life.state.request.status == "rejected"


def test_a_request_that_wants_a_reason_gets_one() -> None:
    life = Life()
    life.ask(reason=True)

    with pytest.raises(InvalidArgumentError, match="rationale"):
        life.answer("ada", why="  ")
    life.answer("ada", why="within budget")

    assert life.state.status == "approved"


def test_a_request_ends_at_its_time_and_the_answer_comes_too_late() -> None:
    life = Life()
    life.ask(expires_in_s=60)
    life.now_ns += 60 * SECOND_NS

    with pytest.raises(DecisionStateError, match="has expired"):
        life.answer("ada")

    assert life.state.status == "aborted"
    assert life.state.request is not None
    assert life.state.request.status == "expired"


def test_an_answer_in_time_stays_though_its_time_is_over_later() -> None:
    life = Life()
    life.ask(expires_in_s=60)
    life.answer("ada")
    life.now_ns += 60 * SECOND_NS

    life.close("commit")

    assert life.state.status == "committed"


def test_an_approval_of_a_call_that_nobody_used_ends_at_its_time() -> None:
    life = Life(tool={"name": "pay", "arguments_sha256": "00"})
    life.ask(expires_in_s=60)
    life.answer("ada")
    life.now_ns += 60 * SECOND_NS

    with pytest.raises(ApprovalRefused) as refused:
        life.claim()

    assert refused.value.reason == "expired"
    assert life.state.status == "aborted"


@pytest.mark.parametrize(
    ("mode", "approved_why", "outcome", "commits"),
    [
        ("approve", None, "allow", True),
        ("approve", "because", "requires_exception", True),
        ("approve", None, "requires_exception", True),
        ("approve", "because", "deny", False),
        ("override", "because", "deny", True),
        ("override", None, "deny", False),
    ],
)
def test_what_a_policy_says_is_answered_by_a_later_approval(
    mode: str, approved_why: str | None, outcome: str, commits: bool
) -> None:
    life = Life(mode)
    life.evaluate(outcome)
    life.evaluate("allow", "another")
    life.ask()
    life.answer("ada", why=approved_why)

    if commits:
        life.close("commit")
    else:
        with pytest.raises(DecisionStateError, match="denies it"):
            life.close("commit")


@pytest.mark.parametrize("outcome", ["deny", "requires_exception"])
def test_an_approval_that_came_before_a_policy_spoke_does_not_answer_it(outcome: str) -> None:
    life = Life("override")
    life.ask()
    life.answer("ada", why="because")
    life.evaluate(outcome)

    with pytest.raises(DecisionStateError, match="policy 'p'"):
        life.close("commit")
    life.close("abort")

    assert life.state.status == "aborted"


@pytest.mark.parametrize("mode", ["propose", "approve"])
def test_enforced_modes_want_an_approval(mode: str) -> None:
    life = Life(mode)
    with pytest.raises(DecisionStateError, match="enforce_modes"):
        life.close("commit", enforce=True)

    life.ask()
    life.answer("ada")
    life.close("commit", enforce=True)

    assert life.state.status == "committed"


def test_the_call_that_ended_it_may_be_repeated_and_no_other() -> None:
    life = Life()
    life.close("abort", reason="too late")
    events = len(life.stored)

    life.close("abort", reason="too late")

    assert len(life.stored) == events
    for action, reason in (("abort", "other"), ("abort", None), ("commit", "too late")):
        with pytest.raises(DecisionStateError, match="not by this call"):
            life.close(action, reason=reason)


def test_an_approval_is_used_up_by_one_run_of_just_that_call() -> None:
    life = Life(tool={"name": "pay", "arguments_sha256": "00"})
    with pytest.raises(ApprovalPending):
        life.claim()
    life.ask()
    with pytest.raises(ApprovalPending):
        life.claim()
    life.answer("ada")
    for tool, arguments in (("pay", "11"), ("refund", "00")):
        with pytest.raises(ApprovalRefused) as changed:
            life.claim(tool, arguments)
        assert changed.value.reason == "changed"

    life.claim()
    with pytest.raises(ApprovalRefused) as again:
        life.claim()
    assert again.value.reason == "claimed"
    life.close("commit")
    with pytest.raises(ApprovalRefused) as used:
        life.claim()
    assert used.value.reason == "used"


def test_an_approval_of_what_a_policy_denies_is_not_claimed() -> None:
    life = Life(tool={"name": "pay", "arguments_sha256": "00"})
    life.evaluate("deny")
    life.ask()
    life.answer("ada", why="please")

    with pytest.raises(ApprovalRefused, match="denies it") as refused:
        life.claim()

    assert refused.value.reason == "denied"
    assert life.state.claim is None


def test_a_decision_has_a_bounded_number_of_events_and_can_always_be_ended() -> None:
    life = Life()
    while len(life.stored) < state_machine.MAX_EVENTS:
        life.evaluate("allow")

    with pytest.raises(DecisionStateError, match="1000 events"):
        life.evaluate("allow")
    life.close("commit")

    assert life.state.status == "committed"


@hypothesis_settings(max_examples=30, stateful_step_count=25)
class AnyLife(RuleBasedStateMachine):
    """Whatever is done in whatever order: the promises of the contract hold."""

    @initialize(
        mode=st.sampled_from(["propose", "approve", "override", "autonomous"]),
        tool=st.booleans(),
    )
    def begin(self, mode: str, tool: bool) -> None:
        bound = {"tool": {"name": "pay", "arguments_sha256": "00"}} if tool else {}
        self.life = Life(mode, **bound)
        self.before = self.life.state
        self.denied = self.excepted = self.approved_after = False
        self.claims = 0

    def _try(self, act: object, *arguments: object, **options: object) -> bool:
        self.before = self.life.state
        events = len(self.life.stored)
        try:
            act(*arguments, **options)  # type: ignore[operator]
        except AutotraceError:
            ended = [e["type"] for e in self.life.stored[events:]]
            assert ended in ([], ["approval_expired"]), "what raises changes nothing"
            return False
        return len(self.life.stored) > events

    @rule(
        needed=st.integers(1, 2), expires_in_s=st.none() | st.integers(1, 5), reason=st.booleans()
    )
    def ask(self, needed: int, expires_in_s: int | None, reason: bool) -> None:
        self._try(self.life.ask, needed=needed, expires_in_s=expires_in_s, reason=reason)

    @rule(
        approver=st.sampled_from(["ada", "bob", "bot", "ADA"]),
        granted=st.booleans(),
        why=st.none() | st.just("because"),
    )
    def answer(self, approver: str, granted: bool, why: str | None) -> None:
        if self._try(self.life.answer, approver, granted=granted, why=why):
            assert approver != "bot"
            assert self.before.status == "needs_approval"
            if granted and self.life.state.status == "approved":
                self.approved_after = True

    @rule(outcome=st.sampled_from(["allow", "deny", "requires_exception"]))
    def evaluate(self, outcome: str) -> None:
        if self._try(self.life.evaluate, outcome) and outcome != "allow":
            self.denied = self.denied or outcome == "deny"
            self.excepted = True
            self.approved_after = False

    @rule(arguments=st.sampled_from(["00", "11"]))
    def claim(self, arguments: str) -> None:
        if self._try(self.life.claim, "pay", arguments) and (
            self.life.state.claim is not self.before.claim
        ):
            self.claims += 1
            assert self.before.status == "approved"
            assert self.before.tool is None or arguments == "00"

    @rule(action=st.sampled_from(["commit", "abort"]), enforce=st.booleans())
    def close(self, action: str, enforce: bool) -> None:
        self._try(self.life.close, action, enforce=enforce)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.life.now_ns += seconds * SECOND_NS

    @invariant()
    def what_is_final_stays(self) -> None:
        if hasattr(self, "life") and self.before.is_closed:
            assert self.life.state.status == self.before.status
            assert self.life.state.closed == self.before.closed

    @invariant()
    def nothing_is_committed_against_a_policy(self) -> None:
        if hasattr(self, "life") and self.life.state.status == "committed":
            if self.excepted:
                assert self.approved_after
            if self.denied:
                assert self.life.state.mode == "override"

    @invariant()
    def one_run_at_most(self) -> None:
        assert not hasattr(self, "life") or self.claims <= 1

    @invariant()
    def the_chain_holds(self) -> None:
        if hasattr(self, "life"):
            assert hash_chain.check("decision-1", self.life.stored) is None


test_any_life = AnyLife.TestCase


# --- the head: what an answer refers to


@pytest.mark.parametrize("granted", [True, False])
def test_an_answer_to_what_has_changed_since_is_refused_with_both_heads(granted: bool) -> None:
    life = Life()
    life.ask()
    shown = life.state.head
    life.add_context("ten times as much")

    with pytest.raises(DecisionStateError) as refused:
        life.answer("ada", granted=granted, head=shown)

    assert shown in str(refused.value)
    assert life.state.head in str(refused.value)
    life.answer("ada", granted=granted, head=life.state.head)
    assert life.state.status == ("approved" if granted else "aborted")


def test_a_yes_without_a_head_is_to_the_request_and_a_no_needs_none() -> None:
    life = Life()
    life.ask()
    life.add_context("ten times as much")

    with pytest.raises(DecisionStateError, match="none was given"):
        life.answer("ada")

    life.answer("ada", granted=False)
    assert life.state.status == "aborted"


def test_notices_votes_and_words_said_before_do_not_move_the_head() -> None:
    life = Life()
    life.add_context("ten")
    life.ask(needed=2)
    head = life.state.head

    life.deliver()
    life.add_context("ten")
    life.answer("ada", head=head)
    life.answer("bob", head=head)

    assert life.state.status == "approved"
    assert [vote.event.facts["head"] for vote in life.state.request.votes] == [head, head]  # type: ignore[union-attr]


def test_a_yes_to_an_earlier_head_does_not_count_towards_a_quorum() -> None:
    life = Life()
    life.ask(needed=2)
    life.answer("ada")
    life.add_context("ten times as much")
    life.answer("bob", head=life.state.head)
    assert life.state.status == "needs_approval"

    life.answer("ada", head=life.state.head)

    assert life.state.status == "approved"
