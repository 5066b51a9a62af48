"""`autotrace decisions`: a person in another terminal sees, answers and proves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

import autotrace
from autotrace import task
from autotrace.cli.commands import app
from autotrace.decision_requests import ApprovalAnswer, DecisionRequest, GatedCall
from autotrace.decisions.api import Decisions
from autotrace.decisions.polling import until_answered
from autotrace.models import ApprovalRequest, Decision, DecisionTrace, TraceLocation, Verification
from autotrace.store import schema
from tests.decisions.deciding import Kept, open_deciding
from tests.embedders import HashEmbedder

from .conftest import EMBEDDER, HOSTILE, environment, process

pytestmark = pytest.mark.xdist_group("cli_decisions")
"""Of one worker, which makes what they share once."""

LONG = "a long reason " * 200


@dataclass
class Decided:
    """A store in which an agent has decided."""

    store: Path
    deciding: Decisions
    trace_id: str
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def ask(self, title: str = "25 % discount", **options: Any) -> str:
        deciding = self.deciding
        made = deciding.create(DecisionRequest("order.create", "approve", actor="order-bot"))
        request = ApprovalRequest(title=title, **options)
        deciding.request_approval(made.decision_id, request, by="order-bot")
        return made.decision_id

    def claimed(self) -> str:
        """Return a decision whose agent has died within the call that was approved."""
        deciding = self.deciding
        call = GatedCall("order-bot", {"name": "refund"}, LONG)
        made = deciding.open_call(call)
        request = ApprovalRequest(title="refund")
        deciding.request_approval(made.decision_id, request, by="order-bot")
        deciding.resolve(made.decision_id, ApprovalAnswer(granted=True, approver="ada"))
        deciding.claim(made.decision_id, call)
        return made.decision_id

    def get(self, decision_id: str) -> Decision:
        return self.deciding.get(decision_id)

    def run(self, *arguments: str, **environment: str) -> Result:
        return self.invoke("decisions", *arguments, **environment)

    def invoke(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--store", str(self.store)], env=environment)

    def answer(self, *arguments: str) -> Any:
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def process(self, *arguments: str, **changes: str) -> Any:
        store = ("--store", str(self.store))
        return process("decisions", *arguments, *store, env=environment(**changes))


def a_store(path: Path) -> Decided:
    autotrace.configure(path, embedder=HashEmbedder(), flush_interval_ms=0, storing="thread")
    with task("sell a printer") as t:
        pass
    assert autotrace.flush()
    autotrace.shutdown()
    otel_trace, span = t.trace_id.split("-")[1:]
    deciding = open_deciding({"store": str(path)})
    kept = cast("Kept", deciding.event_store.recording)
    kept.here = TraceLocation(t.trace_id, (otel_trace, span))
    return Decided(path, deciding, t.trace_id)


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decided]:
    """Decisions of every kind, which no test changes."""
    made = a_store(tmp_path_factory.mktemp("decided") / "store")
    deciding = made.deciding
    made.ids["asked"] = made.ask(message="for a good customer", arguments={"why": LONG})
    mail = deciding.create(DecisionRequest("mail.send", "propose", actor="mailer", key="mail-1"))
    made.ids["sent"] = deciding.close(mail.decision_id, "commit", by="mailer").decision_id
    made.ids["recorded"] = deciding.record(
        title="Put a queue before the shop",
        category="architecture",
        context="orders come in bursts",
        decision="a queue",
        rationale="nothing may be lost",
        alternatives_considered=[{"option": "more servers", "rejected_because": "too dear"}],
        tags=["orders", "load"],
        actor="ada",
    ).decision_id
    made.ids["rejected"] = made.ask("99 % discount")
    deciding.resolve(
        made.ids["rejected"], ApprovalAnswer(granted=False, approver="ada", rationale="too much")
    )
    hostile = ApprovalRequest(title=HOSTILE, message=HOSTILE, arguments={HOSTILE: HOSTILE})
    made.ids["hostile"] = deciding.create(
        DecisionRequest(HOSTILE, "approve", actor=HOSTILE)
    ).decision_id
    deciding.request_approval(made.ids["hostile"], hostile, by=HOSTILE)
    deciding.add_context(made.ids["hostile"], {HOSTILE: HOSTILE}, summary=HOSTILE, by=HOSTILE)
    yield made
    made.deciding.event_store.connection.close()


@pytest.fixture(scope="module")
def open_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decided]:
    """A store in which tests make decisions of their own."""
    made = a_store(tmp_path_factory.mktemp("changing") / "store")
    yield made
    made.deciding.event_store.connection.close()


# --- looking


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["hostile", "rejected", "recorded", "sent", "asked"]),
        (["--limit", "2"], ["hostile", "rejected"]),
        (["--pending"], ["asked", "hostile"]),
        (["--status", "aborted"], ["rejected"]),
        (["--category", "architecture"], ["recorded"]),
        (["--category", "infra"], []),
    ],
    ids=str,
)
def test_decisions_are_listed_and_filtered(
    decided: Decided, filters: list[str], expected: list[str]
) -> None:
    document = decided.answer(*filters)

    assert [d["decision_id"] for d in document["decisions"]] == [decided.ids[n] for n in expected]
    assert document["count"] == len(expected)
    assert set(document) == {"decisions", "count"}


def test_the_next_page_goes_on_after_the_last_decision_of_the_one_before(decided: Decided) -> None:
    seen: list[str] = []
    page = decided.answer("--limit", "2")
    while page["count"]:
        seen += [decision["decision_id"] for decision in page["decisions"]]
        page = decided.answer("--limit", "2", "--after", seen[-1])

    assert seen == list(reversed(decided.ids.values()))


def test_show_is_the_decision_with_its_history_as_the_library_returns_it(decided: Decided) -> None:
    for decision_id in decided.ids.values():
        expected = decided.deciding.trace(decision_id)
        assert decided.answer("show", decision_id) == json.loads(expected.model_dump_json())
    assert {"events", *Decision.model_fields} == set(DecisionTrace.model_fields)


def test_the_beginning_of_an_id_is_enough_if_it_says_which(decided: Decided) -> None:
    asked = decided.ids["asked"]

    assert decided.answer("show", asked[: len("decision-") + 8])["decision_id"] == asked
    assert decided.answer("show", asked.removeprefix("decision-")[:8])["decision_id"] == asked
    result = decided.run("show", "decision-")
    assert result.exit_code == 1
    assert "5 ids begin with it" in result.stderr


def test_what_runs_and_is_hidden_is_listed_with_the_hash_and_the_function(
    open_store: Decided,
) -> None:
    deciding = open_store.deciding
    code = {"module": "shop.tools", "qualname": "pay", "source_sha256": "cd" * 32}
    call = GatedCall("bot", {"name": "pay", **code}, "ab" * 32)
    decision_id = deciding.open_call(call).decision_id
    shown = ApprovalRequest(arguments={"to": "bob"}, hidden=("card", "job.token"))
    deciding.request_approval(decision_id, shown, by="bot")

    printed = open_store.run("show", decision_id).stdout

    assert "hidden, and part of what runs: card, job.token\n" in printed
    assert "runs shop.tools.pay\n" in printed
    assert "ab" * 32 in printed
    assert "cd" * 32 in printed


def test_what_is_to_be_approved_is_shown_whole(decided: Decided) -> None:
    printed = decided.run("show", decided.ids["asked"]).stdout

    assert LONG in printed
    assert "for a good customer\n" in printed
    assert "asked by order-bot" in printed


def test_a_list_says_how_each_stands(decided: Decided) -> None:
    lines = decided.run().stdout.splitlines()

    assert [line.split("  ")[0] for line in lines if line[0] != " "] == [
        "needs_approval", "rejected", "committed", "committed", "needs_approval",
    ]  # fmt: skip
    assert "    rejected by ada: too much" in lines
    ids = [line.strip() for line in lines if line.strip().startswith("decision-")]
    assert ids == list(reversed(decided.ids.values()))


def test_a_record_is_shown_with_what_was_not_chosen(decided: Decided) -> None:
    printed = decided.run("show", decided.ids["recorded"]).stdout

    for line in (
        "Put a queue before the shop",
        "context: orders come in bursts",
        "rationale: nothing may be lost",
        "not chosen: more servers: too dear",
    ):
        assert line in printed.splitlines()


@pytest.mark.parametrize("arguments", [["show"], ["--pending"], ["show", "--json"]], ids=str)
def test_nothing_that_was_written_steers_the_terminal(
    decided: Decided, arguments: list[str]
) -> None:
    shown = [decided.ids["hostile"]] if "show" in arguments else []

    printed = decided.run(*arguments, *shown).stdout

    assert "red" in printed
    assert not [c for c in printed if (ord(c) < 0x20 and c != "\n") or 0x7F <= ord(c) < 0xA0]
    assert "--json" in arguments or "\u202e" not in printed


def test_a_store_without_decisions_has_none(tmp_path: Path) -> None:
    empty = a_store(tmp_path / "store")

    assert empty.answer() == {"decisions": [], "count": 0}
    assert empty.run().stdout == "no decisions\n"
    assert empty.run("verify").stdout == "no decisions\n"


# --- answering


def test_an_agent_that_waits_goes_on_when_another_process_approves(open_store: Decided) -> None:
    asked = open_store.ask()
    book = open_store.deciding.event_store
    started, states = threading.Event(), list[str]()

    def wait() -> None:
        looks = until_answered(book, asked, 60)
        pause = threading.Event()
        try:
            while True:
                seconds = next(looks)
                started.set()
                pause.wait(seconds)
        except StopIteration as ended:
            states.append(ended.value.state.status)

    agent = threading.Thread(target=wait)
    agent.start()
    assert started.wait(500)
    result = open_store.process("approve", asked, "--by", "ada", "--why", "within budget")
    agent.join(500)

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:2] == ["approved        25 % discount", f"    {asked}"]
    assert result.stdout.splitlines()[-1] == "    approved by ada: within budget"
    assert states == ["approved"]


def test_a_rejection_from_the_command_line_is_on_the_trace(open_store: Decided) -> None:
    asked = open_store.ask()

    rejected = open_store.answer("reject", asked, "--by", "ada", "--why", "too much")

    assert rejected == json.loads(open_store.get(asked).model_dump_json())
    assert (rejected["status"], rejected["approval"]["rationale"]) == ("aborted", "too much")
    show = ("show", open_store.trace_id, *EMBEDDER)
    listed = json.loads(open_store.invoke("traces", "--json", *EMBEDDER).stdout)["traces"]
    shown = json.loads(open_store.invoke(*show, "--json").stdout)
    printed = open_store.invoke(*show).stdout
    assert asked in listed[0]["rejected_decisions"]
    assert rejected in shown["decisions"]
    assert (shown["decisions_error"], shown["steps"]) == (None, [])
    assert "    rejected by ada: too much" in printed.splitlines()
    assert " rejected decision" in open_store.invoke("traces", *EMBEDDER).stdout


def test_an_answer_needs_no_embedder(open_store: Decided) -> None:
    asked = open_store.ask()

    result = open_store.run(
        "approve", asked, "--by", "ada", AUTOTRACE_EMBEDDER="no_such_module:at_all"
    )

    assert (result.exit_code, result.stderr) == (0, "")
    assert open_store.get(asked).status == "approved"


def test_a_second_approver_may_be_needed(open_store: Decided) -> None:
    asked = open_store.ask(approvals_needed=2)

    first = open_store.run("approve", asked, "--by", "ada")
    again = open_store.run("approve", asked, "--by", "ada")
    second = open_store.run("approve", asked, "--by", "bob")

    assert "1 more approval needed" in first.stdout
    assert "1 more approval needed" in again.stdout
    assert second.stdout.startswith("approved ")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (["approve", "--by", "order-bot"], "the requester"),
        (["approve", "--by", "ada"], "rationale"),
        (["approve", "--by", "ada", "--why", " "], "rationale"),
        (["commit", "--by", "ada"], "waits for approval"),
    ],
    ids=str,
)
def test_an_answer_that_is_not_allowed_is_one_line_and_changes_nothing(
    open_store: Decided, answer: list[str], said: str
) -> None:
    asked = open_store.ask(require_rationale=True)

    result = open_store.run(answer[0], asked, *answer[1:])

    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert open_store.get(asked).status == "needs_approval"


def test_an_answer_is_given_once(open_store: Decided) -> None:
    asked = open_store.ask()
    open_store.answer("reject", asked, "--by", "ada")

    result = open_store.run("approve", asked, "--by", "bob")

    assert result.exit_code == 1
    assert "'ada' has rejected it" in result.stderr


@pytest.mark.parametrize(("action", "status"), [("commit", "committed"), ("abort", "aborted")])
def test_what_a_crash_left_claimed_is_ended_by_a_person(
    open_store: Decided, action: str, status: str
) -> None:
    claimed = open_store.claimed()
    assert open_store.run("--status", "approved").stdout.startswith("claimed ")

    ended = open_store.answer(action, claimed, "--by", "ada", "--why", "the money has gone out")

    assert ended["status"] == open_store.get(claimed).status == status


# --- finding


def test_decisions_are_found_by_meaning(open_store: Decided) -> None:
    asked = open_store.ask("Give back the money for the kettle")
    open_store.answer("reject", asked, "--by", "ada", "--why", "kettles are fine")

    found = open_store.answer("search", "money for a kettle", *EMBEDDER, "--limit", "1")
    none = open_store.answer("search", "money", *EMBEDDER, "--status", "committed", "--tag", "x")
    printed = open_store.run("search", "money for a kettle", *EMBEDDER, "--limit", "1").stdout

    assert [d["decision_id"] for d in found["decisions"]] == [asked]
    assert found["decisions"][0]["decision"]["approval"]["rationale"] == "kettles are fine"
    assert none == {"decisions": [], "count": 0}
    assert printed.splitlines()[1:3] == ["      rejected: kettles are fine", f"      {asked}"]


def test_a_rebuild_embeds_decisions_anew(tmp_path: Path) -> None:
    moved = a_store(tmp_path / "store")
    asked = moved.ask("Give back the money for the kettle")
    other = ("--embedder", "tests.embedders:SmallEmbedder")

    document = json.loads(moved.invoke("rebuild", "--json", *other).stdout)

    assert (document["traces"], document["decisions"]) == (1, 1)
    found = moved.answer("search", "money", *other)
    assert [d["decision_id"] for d in found["decisions"]] == [asked]


# --- proving


def test_a_history_that_was_not_touched_verifies(decided: Decided) -> None:
    every = decided.answer("verify")
    one = decided.run("verify", decided.ids["sent"])

    assert {v["decision_id"] for v in every["verifications"]} == set(decided.ids.values())
    assert all(set(v) == set(Verification.model_fields) for v in every["verifications"])
    assert one.stdout == "ok   1 decision\n    2 events  1 valid receipt\n"


def test_a_history_that_was_changed_is_named_by_its_first_bad_event(tmp_path: Path) -> None:
    touched = a_store(tmp_path / "store")
    good, bad = touched.ask(), touched.ask()
    connection = touched.deciding.event_store.connection
    with connection.writing() as collections:
        (change,) = schema.documents(collections.log, [f"{bad}/1"]).values()
        change[0]["facts"]["requester"] = "somebody else"
        schema.upsert(collections.log, {f"{bad}/1": change})

    result = touched.run("verify")
    document = json.loads(touched.run("verify", "--json").stdout)

    assert result.exit_code == touched.run("verify", bad).exit_code == 1
    assert touched.run("verify", good).exit_code == 0
    assert f"    {bad}\n    first bad event {change[0]['event_id']}\n" in result.stdout
    assert {v["decision_id"]: v["ok"] for v in document["verifications"]} == {
        good: True,
        bad: False,
    }


def test_a_receipt_that_was_kept_elsewhere_is_checked(decided: Decided, tmp_path: Path) -> None:
    kept = tmp_path / "receipt.json"
    kept.write_text(decided.run("receipt", decided.ids["sent"], "--json").stdout)
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{}")

    right = decided.run("verify", decided.ids["sent"], "--receipt", str(kept))
    wrong = decided.run("verify", decided.ids["rejected"], "--receipt", str(kept))
    unreadable = decided.run("verify", decided.ids["sent"], "--receipt", str(damaged))

    assert [r.exit_code for r in (right, wrong, unreadable)] == [0, 1, 1]
    assert wrong.stdout.startswith("bad ")
    assert unreadable.stderr.startswith("error: --receipt=")


def test_a_receipt_is_printed_whole(decided: Decided) -> None:
    document = decided.answer("receipt", decided.ids["sent"])
    printed = decided.run("receipt", decided.ids["sent"]).stdout

    assert document["receipt_data"]["status"] == document["status"] == "committed"
    assert f"signature {document['signature']}" in printed.splitlines()
    assert decided.run("receipt", decided.ids["asked"]).exit_code == 1


def test_what_was_written_can_be_erased_and_the_history_verifies(open_store: Decided) -> None:
    asked = open_store.ask("Refund for Jane Doe", message="Jane Doe, 5 High Street")

    open_store.answer("erase", asked, "--by", "ada", "--why", "she has asked for it")

    assert "Jane" not in open_store.run("show", asked, "--json").stdout
    assert "content erased" in open_store.run("show", asked).stdout
    assert open_store.answer("verify", asked)["verifications"][0]["erased_events"] > 0


# --- using it wrongly


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["traces", "--status", "lost"], "--status"),
        (["decisions", "--status", "lost"], "--status"),
        (["decisions", "search", "x", "--category", "lost"], "--category"),
        (["keys", "create", "--agent", "a", "--role", "lost"], "--role"),
    ],
    ids=str,
)
def test_a_value_that_is_not_a_choice_is_refused_in_one_sentence(
    arguments: list[str], option: str
) -> None:
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert f"Invalid value for '{option}': 'lost' is not one of '" in result.stderr


@pytest.mark.parametrize("command", ["approve", "reject", "commit", "abort", "erase"])
@pytest.mark.parametrize("by", [[], ["--by", " "]], ids=["none", "blank"])
def test_who_answers_must_be_named(decided: Decided, command: str, by: list[str]) -> None:
    result = decided.run(command, decided.ids["asked"], *by)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--by: give your name" in result.stderr
    assert decided.get(decided.ids["asked"]).status == "needs_approval"


@pytest.mark.parametrize(
    "usage",
    [
        ["--status", "done"],
        ["--category", "weather"],
        ["--limit", "0"],
        ["--pending", "--status", "open"],
        ["show"],
        ["search"],
        ["search", "x", "--limit", "101"],
        ["verify", "--receipt", __file__],
        ["frobnicate"],
    ],
    ids=str,
)
def test_wrong_usage_is_exit_code_2(decided: Decided, usage: list[str]) -> None:
    result = decided.run(*usage)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    "command",
    [["show"], ["approve", "--by", "ada"], ["verify"], ["receipt"], ["erase", "--by", "ada"]],
    ids=lambda command: command[0],
)
def test_an_unknown_decision_is_one_line_and_exit_code_1(
    decided: Decided, command: list[str]
) -> None:
    unknown = "decision-" + "0" * 32

    result = decided.run(command[0], unknown, *command[1:])

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: no decision '{unknown}' in ")
    assert result.stderr.count("\n") == 1


def test_without_a_store_there_is_nothing_to_answer_and_none_is_made(tmp_path: Path) -> None:
    result = process("decisions", "--pending", cwd=tmp_path)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: no store at {tmp_path / '.autotrace'} ")
    assert list(tmp_path.iterdir()) == []
