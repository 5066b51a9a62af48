"""`autotrace approver init` makes a key once, and answers are signed with it from then on."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import autotrace
from autotrace import task
from autotrace.cli.commands import app
from autotrace.decision_requests import DecisionRequest
from autotrace.decisions.receipts import ReceiptSigner
from autotrace.models import ApprovalRequest
from autotrace.settings import load_settings
from tests.decisions.deciding import open_deciding
from tests.embedders import HashEmbedder


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "40")
    return tmp_path / "config" / "autotrace" / "approver.key"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


@pytest.mark.skipif(os.name != "posix", reason="modes of files are those of POSIX")
def test_the_key_is_made_for_its_owner_alone(config: Path) -> None:
    before = os.umask(0)
    try:
        made = run("approver", "init")
    finally:
        os.umask(before)

    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700


def test_what_is_printed_can_be_copied_and_is_no_secret(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = run("approver", "init").stdout.splitlines()

    key = ReceiptSigner.load(config).public_key
    assert str(config) in lines
    (export,) = (line for line in lines if line.startswith("export "))
    name, _, value = export.removeprefix("export ").partition("=")
    monkeypatch.setenv(name, value.strip("'"))
    assert load_settings().approver_keys == [key]
    assert f'ApprovalRequest(approver_keys=["{key}"])' in lines
    private = config.read_text().splitlines()[1]
    assert private not in "".join(lines)


def test_a_key_that_is_there_is_left_as_it_is_and_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = json.loads(run("approver", "init", "--json").stdout)
    before = config.read_bytes()

    again = run("approver", "init")

    assert made == {"file": str(config), "public_key": ReceiptSigner.load(config).public_key}
    assert (again.exit_code, config.read_bytes()) == (1, before)
    assert "was not changed" in again.stderr
    assert made["public_key"] in again.stderr
    (tmp_path / "link").symlink_to(tmp_path / "not-mounted" / "key")
    for path, text in ((tmp_path / "damaged", b"x"), (tmp_path / "link", None)):
        if text is not None:
            path.write_bytes(text)
            path.chmod(0o600)
        monkeypatch.setenv("AUTOTRACE_APPROVER_KEY", str(path))
        refused = run("approver", "init")
        assert refused.exit_code == 1
        assert str(path) in refused.stderr.replace("\n", "")
    assert (tmp_path / "damaged").read_bytes() == b"x"
    assert (tmp_path / "link").is_symlink()


def test_answers_are_signed_once_there_is_a_key(config: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    key = json.loads(run("approver", "init", "--json").stdout)["public_key"]
    autotrace.configure(store, embedder=HashEmbedder(), flush_interval_ms=0, storing="thread")
    with task("sell a printer"):
        pass
    autotrace.shutdown()
    deciding = open_deciding({"store": store})
    made = [
        deciding.create(DecisionRequest("a.b", "approve", actor="bot")).decision_id
        for _ in range(2)
    ]
    for each in made:
        request = ApprovalRequest(approver_keys=[key])
        deciding.request_approval(each, request, by="bot")
    deciding.shut_down(5)

    yes = run("decisions", "approve", made[0], "--by", "ada", "--store", store)
    no = run("decisions", "reject", made[1], "--by", "ada", "--store", store)
    shown = run("decisions", "show", made[0], "--store", store)
    verified = run("decisions", "verify", "--store", store)

    assert (yes.exit_code, no.exit_code) == (0, 0), yes.output + no.output
    assert f"signed with {key}" in shown.stdout
    assert verified.exit_code == 0
    assert "2 signed votes" in verified.stdout
    config.unlink()
    deciding = open_deciding({"store": store})
    last = deciding.create(DecisionRequest("a.b", "approve", actor="bot")).decision_id
    request = ApprovalRequest(approver_keys=[key])
    deciding.request_approval(last, request, by="bot")
    deciding.shut_down(5)
    unsigned = run("decisions", "approve", last, "--by", "ada", "--store", store)
    assert unsigned.exit_code == 1
    assert "autotrace approver init" in unsigned.stderr.replace("\n", " ")
