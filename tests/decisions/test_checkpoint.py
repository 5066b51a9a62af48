"""A signed checkpoint that is kept elsewhere shows what was cut, exchanged or set back."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

import autotrace
from autotrace.cli.commands import app
from autotrace.decision_requests import ApprovalAnswer, DecisionRequest
from autotrace.decisions import hash_chain
from autotrace.decisions.api import Decisions
from autotrace.decisions.receipts import ReceiptSigner
from autotrace.errors import InvalidArgumentError
from autotrace.models import ApprovalRequest, Checkpoint
from autotrace.store import decision_log as store
from tests.conftest import Configure
from tests.embedders import HashEmbedder

from .deciding import open_deciding

KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


@pytest.fixture
def deciding(store_settings: dict[str, str]) -> Iterator[Decisions]:
    opened = open_deciding(store_settings)
    yield opened
    opened.shut_down(5)


def asked(deciding: Decisions) -> str:
    made = deciding.create(DecisionRequest("a.b", "approve", actor="bot")).decision_id
    request = ApprovalRequest(title="pay 10", message="for Jane Doe")
    deciding.request_approval(made, request, by="bot")
    return made


def ended(deciding: Decisions, by: str = "bot") -> str:
    made = deciding.create(DecisionRequest("a.b", "propose", actor="bot")).decision_id
    deciding.close(made, "commit", by=by)
    return made


def problems(deciding: Decisions, kept: Checkpoint | None) -> dict[str, str | None]:
    return {v.decision_id: v.problem for v in deciding.check_all(kept) if not v.ok}


def forget_ledger(deciding: Decisions) -> None:
    """Take away what the ledger names: by who can write files of the machine."""
    shutil.rmtree(deciding.event_store.ledger._folder)  # pyright: ignore[reportPrivateUsage]


def delete(deciding: Decisions, *record_ids: str) -> None:
    with deciding.event_store.connection.writing() as collections:
        collections.log.delete(list(record_ids))


def signed_again(kept: Checkpoint, key: Ed25519PrivateKey, **changes: Any) -> Checkpoint:
    data, signer = kept.checkpoint_data | changes, ReceiptSigner(key)
    claims = {"key_id": signer.key_id, "public_key": signer.public_key}
    return Checkpoint(checkpoint_data=data, signature=signer.sign(data), **claims)


def test_a_checkpoint_names_every_decision_in_the_order_of_the_ids(deciding: Decisions) -> None:
    ids = sorted([asked(deciding), ended(deciding), asked(deciding)])

    kept = deciding.checkpoint()

    decisions = kept.checkpoint_data["decisions"]
    assert [each["decision_id"] for each in decisions] == ids
    for each in decisions:
        events = deciding.event_store.read(each["decision_id"]).events
        assert (each["events"], each["head"]) == (len(events), events[-1]["hash"])
    assert kept.checkpoint_data["left_out"] == []


def test_what_goes_on_after_a_checkpoint_verifies(deciding: Decisions) -> None:
    waiting, done, erased = asked(deciding), ended(deciding), asked(deciding)
    kept = Checkpoint.model_validate_json(deciding.checkpoint().model_dump_json())

    deciding.resolve(waiting, ApprovalAnswer(granted=True, approver="ada"))
    deciding.close(waiting, "commit", by="bot")
    deciding.erase(erased, by="ada")
    asked(deciding)

    assert problems(deciding, kept) == {}
    assert deciding.check(done, None, kept).ok


def test_a_decision_that_was_deleted_with_its_ledger_is_named(deciding: Decisions) -> None:
    gone, stays = asked(deciding), asked(deciding)
    kept = deciding.checkpoint()
    forget_ledger(deciding)
    delete(deciding, *(f"{gone}/{n}" for n in range(9)))
    assert problems(deciding, None) == {}

    assert problems(deciding, kept) == {gone: "it is gone: the checkpoint names 2 events"}
    assert not deciding.check(gone, None, kept).ok
    assert deciding.check(stays, None, kept).ok


def test_a_history_that_was_cut_off_is_named(deciding: Decisions) -> None:
    cut = asked(deciding)
    kept = deciding.checkpoint()
    forget_ledger(deciding)
    delete(deciding, f"{cut}/1")
    assert problems(deciding, None) == {}

    expected = "its end was cut off: the checkpoint names 2 events, and there are 1"
    assert problems(deciding, kept) == {cut: expected}


def test_a_history_that_was_written_and_signed_again_is_named(deciding: Decisions) -> None:
    forged, stays = ended(deciding), ended(deciding)
    kept = deciding.checkpoint()
    log = deciding.event_store.read(forged)
    old_receipt = store.receipt_id(forged, log.events[-1]["event_id"])
    previous = ""
    for event in log.events:
        event["by"], event["previous"] = "the CEO", previous
        event["hash"] = previous = hash_chain._hash(forged, event)  # pyright: ignore[reportPrivateUsage]
    with deciding.event_store.connection.writing() as collections:
        store.replace(collections, forged, dict(enumerate(log.changes)))
        collections.log.delete([old_receipt])
    forget_ledger(deciding)
    deciding.event_store.ledger.note(forged, log.events)
    deciding.receipt(forged)
    assert problems(deciding, None) == {}

    expected = "it was written again: the checkpoint names another head of 2 events"
    assert problems(deciding, kept) == {forged: expected}
    assert deciding.check(stays, None, kept).ok


def test_a_store_folder_that_was_set_back_to_an_older_copy_is_seen(tmp_path: Path) -> None:
    place, copy = traced(tmp_path / "store"), tmp_path / "copy"
    first = open_deciding({"store": str(place)})
    ended(first)  # which makes the key: a store of another key refuses the checkpoint
    waiting = asked(first)
    first.shut_down(5)
    shutil.copytree(place, copy)
    second = open_deciding({"store": str(place)})
    second.resolve(waiting, ApprovalAnswer(granted=False, approver="ada"))
    later = asked(second)
    kept = second.checkpoint()
    second.shut_down(5)

    result = run(copy, "verify")
    against = run(copy, "verify", "--checkpoint", str(written(kept, tmp_path)), "--json")

    assert (result.exit_code, against.exit_code) == (0, 1)
    found = {v["decision_id"]: v["problem"] for v in json.loads(against.stdout)["verifications"]}
    assert found[waiting].startswith("its end was cut off: the checkpoint names ")
    assert found[later] == "it is gone: the checkpoint names 2 events"


def test_a_history_that_is_damaged_already_is_left_out_by_name(deciding: Decisions) -> None:
    cut, lost, whole = asked(deciding), asked(deciding), asked(deciding)
    delete(deciding, f"{cut}/1", f"{lost}/0", f"{lost}/1")

    data = deciding.checkpoint().checkpoint_data

    assert data["left_out"] == sorted([cut, lost])
    assert [each["decision_id"] for each in data["decisions"]] == [whole]


def test_a_store_without_a_ledger_has_checkpoints_too(deciding: Decisions) -> None:
    made = ended(deciding)
    forget_ledger(deciding)

    kept = deciding.checkpoint()

    assert [each["decision_id"] for each in kept.checkpoint_data["decisions"]] == [made]
    assert problems(deciding, kept) == {}


def _edited(kept: Checkpoint) -> Checkpoint:
    return kept.model_copy(update={"checkpoint_data": kept.checkpoint_data | {"decisions": []}})


def _foreign(kept: Checkpoint) -> Checkpoint:
    return signed_again(kept, OTHER_KEY, decisions=[])


def _foreign_under_our_id(kept: Checkpoint) -> Checkpoint:
    return _foreign(kept).model_copy(update={"key_id": kept.key_id})


def _foreign_under_our_key(kept: Checkpoint) -> Checkpoint:
    ours = {"key_id": kept.key_id, "public_key": kept.public_key}
    return _foreign(kept).model_copy(update=ours)


def _of_another_kind(kept: Checkpoint) -> Checkpoint:
    return signed_again(kept, KEY, kind="receipt")


REFUSED: list[tuple[Callable[[Checkpoint], Checkpoint], str]] = [
    (_edited, "it was changed, or forged"),
    (_foreign, "the setting receipt_keys names"),
    (_foreign_under_our_id, "the setting receipt_keys names"),
    (_foreign_under_our_key, "it was changed, or forged"),
    (_of_another_kind, "of the kind 'autotrace-checkpoint/1'"),
]


@pytest.mark.parametrize(("forge", "why"), REFUSED)
def test_a_checkpoint_that_no_trusted_key_has_signed_is_refused(
    tmp_path: Path, forge: Callable[[Checkpoint], Checkpoint], why: str
) -> None:
    deciding = open_deciding({"store": str(tmp_path / "store")}, receipt_key=pem(KEY))
    ended(deciding)
    kept = deciding.checkpoint()

    with pytest.raises(InvalidArgumentError, match=why):
        list(deciding.check_all(forge(kept)))

    assert problems(deciding, kept) == {}
    deciding.shut_down(5)


def test_a_checkpoint_of_another_machine_is_read_if_a_setting_trusts_its_key(
    tmp_path: Path,
) -> None:
    place, key = str(tmp_path / "store"), ReceiptSigner(OTHER_KEY).public_key
    deciding = open_deciding({"store": place})
    ended(deciding)
    kept = signed_again(deciding.checkpoint(), OTHER_KEY)
    deciding.shut_down(5)

    trusting = open_deciding({"store": place}, receipt_keys=[key])

    assert problems(trusting, kept) == {}
    trusting.shut_down(5)


def test_the_library_makes_and_checks_checkpoints(configure: Configure) -> None:
    configure()
    decisions = autotrace.decisions
    decisions.record(
        title="a queue", category="infra", context="load", decision="yes", rationale="bursts"
    )

    kept = decisions.checkpoint()

    assert decisions.verify_checkpoint(kept)
    assert [found.ok for found in decisions.check_all(kept)] == [True]


# --- the command line


def pem(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.private_bytes_raw()).decode()


def traced(place: Path) -> Path:
    """Make a store with a trace: one without any is none to the command line."""
    autotrace.configure(place, embedder=HashEmbedder(), flush_interval_ms=0, storing="thread")
    with autotrace.task("sell a printer"):
        pass
    assert autotrace.flush()
    autotrace.shutdown()
    return place


def written(kept: Checkpoint, folder: Path) -> Path:
    path = folder / "kept.json"
    path.write_text(kept.model_dump_json())
    return path


def run(place: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["decisions", *arguments, "--store", str(place)])


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[tuple[Path, Decisions]]:
    place = traced(tmp_path / "store")
    opened = open_deciding({"store": str(place)})
    yield place, opened
    opened.shut_down(5)


def test_what_the_command_prints_or_writes_is_what_verify_reads(
    embedded: tuple[Path, Decisions], tmp_path: Path
) -> None:
    place, deciding = embedded
    made, out, piped = asked(deciding), tmp_path / "out.json", tmp_path / "piped.json"

    to_file = run(place, "checkpoint", "--out", str(out))
    piped.write_text(run(place, "checkpoint").stdout)

    assert (to_file.exit_code, to_file.stdout) == (0, "")
    for kept in (out, piped):
        assert run(place, "verify", "--checkpoint", str(kept)).exit_code == 0
        assert run(place, "verify", made, "--checkpoint", str(kept)).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"store", "out.json", "piped.json"}


def test_verify_refuses_a_checkpoint_that_was_edited(
    embedded: tuple[Path, Decisions], tmp_path: Path
) -> None:
    place, deciding = embedded
    asked(deciding)
    edited = written(_edited(deciding.checkpoint()), tmp_path)
    nothing = tmp_path / "nothing.json"
    nothing.write_text("{}")

    results = [run(place, "verify", "--checkpoint", str(path)) for path in (edited, nothing)]

    assert [(result.exit_code, result.stdout) for result in results] == [(1, ""), (1, "")]
    assert results[0].stderr.startswith("error: checkpoint='a signature of other data")
    assert results[1].stderr.startswith("error: --checkpoint=")


def test_a_checkpoint_of_a_damaged_store_is_exit_code_1_and_says_which(
    embedded: tuple[Path, Decisions],
) -> None:
    place, deciding = embedded
    cut = asked(deciding)
    delete(deciding, f"{cut}/1")

    result = run(place, "checkpoint")

    assert result.exit_code == 1
    assert cut in result.stderr
    assert json.loads(result.stdout)["checkpoint_data"]["left_out"] == [cut]
