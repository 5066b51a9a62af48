"""The doctor finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

import autotrace
from autotrace import task, tool_call
from autotrace.decision_requests import DecisionRequest
from autotrace.decisions.api import Decisions
from autotrace.doctor import DoctorCheck, diagnose, diagnosis, store_checks
from autotrace.models import ApprovalRequest
from autotrace.settings import Settings, load_settings
from autotrace.spool.files import SPOOL_VERSION, encode_line
from autotrace.spool.writer import SpoolWriter
from autotrace.store import decision_log, schema
from autotrace.store.task_index import TextIndex
from autotrace.worker.rebuild import rebuild
from autotrace.worker.wiring import open_connection, open_decision_index
from tests.decisions.deciding import open_deciding
from tests.embedders import HashEmbedder

NAMES = [
    "versions", "embedder", "folder", "disk", "spool", "cursor", "set aside",
    "erased content",
    "store", "schema", "records", "timeline", "index", "vectors", "query", "decisions",
]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A healthy store of a few traces."""
    found = load_settings(store=str(tmp_path / "store"))
    autotrace.configure(found.store, embedder=HashEmbedder(), flush_interval_ms=0)
    for n in range(6):
        with task(f"carry parcel {n}") as t, tool_call("lift", {"n": n}):
            t.complete("carried", success=n % 2 == 0)
    assert autotrace.flush()
    autotrace.shutdown()
    for spool in [path for path in found.spool_path.iterdir() if path.is_dir()]:
        shutil.rmtree(spool)  # it is stored; the next process would remove it
    return found


def look(settings: Settings, embedder: Any = None) -> dict[str, DoctorCheck]:
    return {check.name: check for check in diagnose(settings, embedder or HashEmbedder())}


def only_wrong(checks: dict[str, DoctorCheck]) -> DoctorCheck:
    """Return the one check that is not ok; it says what to do."""
    (wrong,) = [check for check in checks.values() if check.status != "ok"]
    assert wrong.fix
    return wrong


def test_a_healthy_store_is_ok_in_everything(settings: Settings) -> None:
    checks = look(settings)

    assert list(checks) == NAMES
    assert {check.status for check in checks.values()} == {"ok"}
    assert {check.fix for check in checks.values()} == {None}
    assert autotrace.__version__ in checks["versions"].detail
    assert "chromadb 1." in checks["versions"].detail
    assert checks["embedder"].detail == "test-hash, 384 dimensions"
    assert checks["records"].detail.endswith("succeeded 3, failed 3, state 2")
    assert checks["timeline"].detail == "the newest 6 traces are listed"
    assert checks["index"].detail == "6 of 6 texts found"


def test_it_changes_nothing(settings: Settings) -> None:
    connection = open_connection(settings, None)
    before = connection.generation(), sorted(p.name for p in settings.spool_path.iterdir())

    look(settings)

    assert before == (
        connection.generation(),
        sorted(p.name for p in settings.spool_path.iterdir()),
    )


def test_no_store_is_an_error_and_none_is_made(tmp_path: Path) -> None:
    wrong = only_wrong(look(load_settings(store=str(tmp_path / "none"))))

    assert (wrong.name, wrong.status) == ("store", "error")
    assert list(tmp_path.iterdir()) == []


def test_a_misspelled_variable_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTRACE_REDACT_KEY", "hidden value")

    found = {check.name: check for check in diagnose(load_settings(store=str(tmp_path / "none")))}

    assert (found["environment"].status, found["environment"].detail) == (
        "warning",
        "AUTOTRACE_REDACT_KEY names no setting; a similar one is AUTOTRACE_REDACT_KEYS",
    )


def test_what_is_only_in_the_spool_yet_is_a_warning_and_left_there(tmp_path: Path) -> None:
    settings = load_settings(store=str(tmp_path / "store"))
    writer = SpoolWriter(settings.spool_path, count=lambda _: None)
    writer.write({"trace": "1" * 32, "id": "2" * 16, "name": "x"})
    writer.close()

    checks = look(settings)

    assert checks["spool"].status == checks["store"].status == "warning"
    assert "0 live and 1 dead" in checks["spool"].detail
    assert "autotrace traces --store" in (checks["spool"].fix or "")
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == ["spool"]


def test_a_process_that_records_is_counted_and_its_backlog_no_fault(settings: Settings) -> None:
    writer = SpoolWriter(settings.spool_path, count=lambda _: None)
    writer.write({"trace": "1" * 32, "id": "2" * 16, "name": "x"})

    with FileLock(settings.spool_path / "drain.lock"):
        checks = look(settings)
    writer.close()

    assert {check.status for check in checks.values()} == {"ok"}
    assert "1 live and 0 dead" in checks["spool"].detail
    if sys.platform == "linux":
        assert f"process {os.getpid()} (" in checks["spool"].detail
    assert not checks["spool"].detail.startswith("0 bytes")


def test_a_spool_of_a_newer_version_is_a_warning(settings: Settings) -> None:
    directory = settings.spool_path / "0001-1-abc"
    directory.mkdir()
    header: Any = {"autotrace_spool": SPOOL_VERSION + 1}
    (directory / "00000001.log").write_bytes(encode_line(header))

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("spool", "warning")
    assert wrong.fix == "pip install -U autotrace-agents"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"writer": "w"}', '{"batch": 1}'])
def test_a_damaged_cursor_is_a_warning(settings: Settings, content: str) -> None:
    (settings.spool_path / "cursor.json").write_text(content)

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("cursor", "warning")


def test_records_that_were_set_aside_are_a_warning_with_their_sizes(settings: Settings) -> None:
    bad = settings.spool_path / "bad"
    bad.mkdir()
    (bad / "damaged.log").write_bytes(b"x" * 1234)

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("set aside", "warning")
    assert "damaged.log 1,234 bytes" in wrong.detail

    (bad / "unstored.log").write_bytes(b"{}\n" * 3)
    wrong = only_wrong(look(settings))
    assert "refused 3 records" in wrong.detail
    assert f"autotrace rebuild --store {settings.store}" in str(wrong.fix)


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
def test_a_folder_that_others_may_read_is_a_warning_whose_fix_works(settings: Settings) -> None:
    Path(settings.store).chmod(0o755)

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("folder", "warning")
    assert wrong.fix is not None
    assert os.system(wrong.fix) == 0
    assert look(settings)["folder"].status == "ok"


@pytest.mark.parametrize(
    ("free_bytes", "status"), [(1, "error"), (500 * 1024**2, "warning"), (2 * 1024**3, "ok")]
)
def test_a_full_disk_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free_bytes: int, status: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_bytes))

    assert look(settings)["disk"].status == status


def test_a_lock_that_somebody_keeps_is_an_error_that_names_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "_LOCK_PATIENCE_S", 0)

    with FileLock(Path(settings.store) / "store.lock"):
        wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("store", "error")
    if sys.platform == "linux":
        assert wrong.detail.startswith(f"process {os.getpid()} (")


def test_a_database_that_cannot_be_opened_is_an_error(settings: Settings) -> None:
    (Path(settings.store) / "chroma" / "chroma.sqlite3").write_text("no database, but a letter")

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("store", "error")


def test_a_server_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    wrong = only_wrong(look(load_settings(store="http://127.0.0.1:9", spool=str(tmp_path))))

    assert (wrong.name, wrong.status) == ("store", "error")
    assert "chroma run" in (wrong.fix or "")


def test_weights_that_are_nowhere_are_an_error_with_the_way_to_get_them(tmp_path: Path) -> None:
    settings = load_settings(
        store=str(tmp_path), embedding_model_path=str(tmp_path / "no weights here")
    )

    checks = {check.name: check for check in diagnose(settings)}

    assert checks["embedder"].status == "error"
    assert "model.onnx" in (checks["embedder"].fix or "")


def test_the_default_embedder_says_where_its_weights_are_from(settings: Settings) -> None:
    checks = {check.name: check for check in diagnose(settings)}

    assert checks["embedder"].status == "ok"
    assert checks["embedder"].detail.startswith("all-MiniLM-L6-v2, 384 dimensions from ")


def test_an_embedder_that_fails_is_an_error_and_the_rest_is_still_looked_at(
    settings: Settings,
) -> None:
    class Broken(HashEmbedder):
        def embed(self, texts: Sequence[str]) -> list[list[float]]:
            raise ConnectionError("no route")

    checks = look(settings, Broken())

    assert only_wrong(checks).detail == "ConnectionError: no route"
    assert checks["index"].detail == "6 of 6 texts found"
    assert "query" not in checks


def test_another_embedder_is_an_error_that_names_both_spaces(settings: Settings) -> None:
    class Other(HashEmbedder):
        space = "test-other"

    wrong = only_wrong(look(settings, Other()))

    assert (wrong.name, wrong.status) == ("schema", "error")
    assert "test-hash" in wrong.detail
    assert "test-other" in wrong.detail
    assert f"autotrace rebuild --store {settings.store}" in (wrong.fix or "")


def put_record(settings: Settings, record: dict[str, Any]) -> None:
    connection = open_connection(settings, None)
    with connection.writing() as collections:
        schema.upsert(collections.state, {schema.STORE_RECORD_ID: record})
    connection.close()


def test_a_newer_schema_is_an_error(settings: Settings) -> None:
    put_record(settings, {"schema_version": schema.SCHEMA_VERSION + 1, "space": "test-hash"})

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("schema", "error")
    assert wrong.fix == "pip install -U autotrace-agents"


def test_an_interrupted_rebuild_is_an_error(settings: Settings) -> None:
    put_record(settings, {"schema_version": 1, "space": "test-hash", "rebuilding": True})

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("schema", "error")
    assert "interrupted" in wrong.detail


@pytest.fixture
def opened(settings: Settings) -> Iterator[schema.Collections]:
    connection = open_connection(settings, None)
    with connection.writing() as collections:
        yield collections
    connection.close()


def test_a_vector_that_is_another_than_the_embedder_makes_is_an_error(
    opened: schema.Collections,
) -> None:
    got = opened.succeeded.get(limit=1, include=["metadatas"])
    other = HashEmbedder().embed(["something else"])
    opened.succeeded.upsert(got["ids"], embeddings=other, metadatas=got["metadatas"])

    check = store_checks.check_index(opened, HashEmbedder(), "rebuild")

    assert check.status == "error"
    assert check.detail.endswith("1 have another vector than the embedder makes")


def test_a_vector_that_the_index_has_lost_is_an_error(
    opened: schema.Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(index: TextIndex, vector: Any, *, limit: int) -> Any:
        return [] if index.prefix == "s" else search(index, vector, limit=limit)

    search = store_checks.task_index.nearest
    monkeypatch.setattr(store_checks.task_index, "nearest", blind)

    check = store_checks.check_index(opened, HashEmbedder(), "rebuild")

    assert (check.status, check.fix) == ("error", "rebuild")
    assert check.detail == "of 6 task texts 3 are not found by their own vector"


def test_many_traces_of_one_task_are_no_fault(tmp_path: Path) -> None:
    settings = load_settings(store=str(tmp_path / "store"))
    autotrace.configure(settings.store, embedder=HashEmbedder(), flush_interval_ms=0)
    for _ in range(120):
        with task("the same again"):
            pass
    autotrace.flush()
    autotrace.shutdown()

    assert look(settings)["index"].status == "ok"


def test_a_lost_summary_is_an_error_whose_fix_works(settings: Settings) -> None:
    connection = open_connection(settings, None)
    with connection.writing() as collections:
        collections.summaries.delete(collections.summaries.get()["ids"][:1])
    connection.close()

    wrong = only_wrong(look(settings))
    rebuild(open_connection(settings, None), HashEmbedder(), settings.spool_path)

    assert (wrong.name, wrong.status) == ("timeline", "error")
    assert wrong.detail == "1 of the newest 6 traces cannot be listed or recalled"
    assert wrong.fix == f"autotrace rebuild --store {settings.store}"
    assert {check.status for check in look(settings).values()} == {"ok"}


@pytest.fixture
def asked(settings: Settings) -> Iterator[tuple[Decisions, str]]:
    """A decision of the store that waits for its answer."""
    deciding = open_deciding(settings.model_dump())
    decision_id = deciding.create(
        DecisionRequest("refund.grant", "approve", actor="bot")
    ).decision_id
    deciding.request_approval(decision_id, ApprovalRequest(), by="bot")
    yield deciding, decision_id
    deciding.event_store.connection.close()


def test_decisions_that_wait_are_counted(settings: Settings, asked: tuple[Decisions, str]) -> None:
    found = look(settings)["decisions"]

    assert (found.status, found.detail) == ("ok", "1 wait for an answer; 1 of 1 histories verify")


def test_a_decision_whose_history_was_changed_is_an_error(
    settings: Settings, asked: tuple[Decisions, str]
) -> None:
    deciding, decision_id = asked
    with deciding.event_store.connection.writing() as collections:
        (change,) = schema.documents(collections.log, [f"{decision_id}/0"]).values()
        change[0]["by"] = "somebody else"
        schema.upsert(collections.log, {f"{decision_id}/0": change})

    wrong = only_wrong(look(settings))

    assert (wrong.name, wrong.status) == ("decisions", "error")
    assert decision_id in wrong.detail
    assert "autotrace decisions verify" in (wrong.fix or "")


def test_decisions_of_another_space_are_an_error_that_a_rebuild_mends(
    settings: Settings, asked: tuple[Decisions, str]
) -> None:
    deciding, _ = asked
    with deciding.event_store.connection.writing() as collections:
        record = {"schema_version": decision_log.SCHEMA_VERSION, "space": "another"}
        schema.upsert(collections.state, {schema.STORE_RECORD_ID: record})
    wrong = only_wrong(look(settings))
    assert (wrong.name, wrong.status) == ("decisions", "error")
    assert "another" in wrong.detail

    embedder = HashEmbedder()
    index = open_decision_index(settings, embedder, lambda _: None)
    rebuild(open_connection(settings, None), embedder, settings.spool_path, decisions=index)

    assert {check.status for check in look(settings).values()} == {"ok"}
