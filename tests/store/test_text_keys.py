"""Texts that the embedder cannot tell apart share one vector, and stay apart in all else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autotrace
from autotrace import task
from autotrace.doctor import store_checks
from autotrace.doctor.check import DoctorCheck
from autotrace.embedding.minilm import MiniLmEmbedder
from autotrace.settings import load_settings
from autotrace.store import schema
from autotrace.store.text_keys import TextKeys
from autotrace.worker import rebuild as rebuilding
from autotrace.worker.wiring import open_connection
from tests.embedders import SmallEmbedder

MINILM = MiniLmEmbedder()
MANY = 1_500


class AsciiEmbedder(SmallEmbedder):
    """Knows words of ASCII alone, as small models know the scripts they were trained on."""

    def tokens(self, text: str) -> str:
        return re.sub(r"\S*[^\x00-\x7f]\S*", "[UNK]", text.lower())

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return super().embed([self.tokens(text) for text in texts])


def check_vectors(store: Path) -> DoctorCheck:
    connection = open_connection(load_settings(store=str(store)), None)
    try:
        return connection.read(lambda c: store_checks.check_vectors(c, "rebuild"))
    finally:
        connection.close()


def count_texts(store: Path) -> int:
    connection = open_connection(load_settings(store=str(store)), None)
    try:
        return connection.read(lambda c: c.succeeded.count())
    finally:
        connection.close()


def rebuild(store: Path) -> None:
    settings = load_settings(store=str(store))
    rebuilding.rebuild(open_connection(settings, None), AsciiEmbedder(), settings.spool_path)


def record(text: str, outcome: str = "done", *, success: bool = True) -> str:
    with task(text) as t:
        t.complete(outcome, success=success)
    return t.trace_id


def unread(number: int) -> str:
    return "ซ่อม" + "".join(chr(0x0E01 + int(digit)) for digit in str(number))


ENGLISH = [f"{verb} the {thing}" for verb in ("book", "fix", "send") for thing in ("trip", "desk")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "store"
    autotrace.configure(folder, embedder=AsciiEmbedder(), flush_interval_ms=0)
    yield folder
    autotrace.shutdown()


# --- keys of the default embedder

_SPECIAL = ["##x", "[CLS]", "[UNK]", "# #", "don't", "x" * 100, "x" * 101, "a_b", "\x1f", "\x7f"]
_WORDS = st.one_of(
    st.text(st.characters(max_codepoint=127), max_size=12), st.sampled_from(_SPECIAL)
)


@given(st.lists(_WORDS, max_size=8).map(" ".join))
def test_the_words_of_ascii_texts_are_those_of_the_tokenizer(text: str) -> None:
    loaded = MINILM._loaded()[1]  # pyright: ignore[reportPrivateUsage] - the way without a shortcut

    assert MINILM.tokens(text) == loaded.words(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Book a hotel", "book  a HOTEL"),
        ("café", "cafe"),
        ("จองร้านอาหาร", "ซ่อมฐานข้อมูล"),
        ("verify " + "a1" * 64, "verify " + "b2" * 64),
        ("deploy 🚀", "deploy 🐢"),
        ("flight " * 300 + "Lisbon", "flight " * 300 + "Oslo"),
    ],
)
def test_texts_with_one_vector_have_one_key(one: str, other: str) -> None:
    keys = TextKeys(MINILM)

    assert keys.of(one).key == keys.of(other).key
    assert np.allclose(*MINILM.embed([one, other]), atol=1e-5)


@pytest.mark.parametrize("one", ["café", "Book a hotel", "naïve Straße", "大人"])
def test_a_text_that_is_read_whole_needs_no_key_of_its_words(one: str) -> None:
    assert TextKeys(MINILM).of(one).words is None


@pytest.mark.parametrize("one", ["จองร้านอาหาร", "verify " + "a1" * 64, "flight " * 300 + "Oslo"])
def test_a_text_that_is_not_read_whole_has_a_key_of_its_words(one: str) -> None:
    assert TextKeys(MINILM).of(one).words is not None


# --- in a store


def test_tasks_that_are_not_read_hide_no_others(store: Path) -> None:
    before = autotrace.health().counters.get("unread_tasks", 0)
    for number in range(MANY):
        record(unread(number))
    for text in ENGLISH:
        record(text)
    assert autotrace.flush()

    # The same words in another order: the index is asked, and not the key.
    asked = {text: " ".join(reversed(text.split())) for text in ENGLISH}
    found = {text: [r.task for r in autotrace.recall(q, limit=1)] for text, q in asked.items()}

    assert found == {text: [text] for text in ENGLISH}
    assert autotrace.health().counters["unread_tasks"] - before == MANY
    assert check_vectors(store).status == "ok"


def test_the_task_in_the_very_words_comes_first_of_many_that_are_read_alike(store: Path) -> None:
    for number in range(MANY):
        record(unread(number), success=number % 2 == 0)
    assert autotrace.flush()

    for number in (0, 100, MANY - 2):
        found = autotrace.recall(unread(number), limit=2)
        assert [found[0].task, len(found)] == [unread(number), 2]
    assert autotrace.recall(unread(1), limit=1, success_only=False)[0].task == unread(1)


def test_of_texts_that_differ_in_case_alone_the_very_words_come_first(store: Path) -> None:
    for text in ("Deploy the App", "deploy the app", "DEPLOY THE APP"):
        record(text)
    assert autotrace.flush()

    for text in ("Deploy the App", "deploy the app", "DEPLOY THE APP"):
        assert [r.task for r in autotrace.recall(text, limit=1)] == [text]


def test_a_deleted_task_is_found_no_more_and_those_read_alike_are(store: Path) -> None:
    ids = [record(unread(number)) for number in range(3)]
    assert autotrace.flush()

    autotrace.delete_trace(ids[0])

    found = autotrace.recall(unread(0), limit=10)
    assert [r.trace_id for r in found] == [ids[2], ids[1]]


# --- stores of schema 2, whose keys are of the texts themselves


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    connection = open_connection(load_settings(store=str(folder)), None)
    with connection.writing() as collections:
        schema.upsert(
            collections.state,
            {schema.STORE_RECORD_ID: {"schema_version": 2, "space": AsciiEmbedder.space}},
        )
    connection.close()
    autotrace.configure(folder, embedder=AsciiEmbedder(), flush_interval_ms=0)
    return folder


def test_an_old_store_is_read_added_to_and_deleted_from_under_its_own_keys(old_store: Path) -> None:
    ids = [record(text) for text in ("Book a trip", "book a trip", "Book a trip")]
    assert autotrace.flush()

    before = [r.task for r in autotrace.recall("book a trip", limit=3)]
    autotrace.delete_trace(ids[0])
    after = {r.trace_id for r in autotrace.recall("book a trip", limit=3)}
    texts = count_texts(old_store)
    autotrace.shutdown()

    assert before == ["book a trip", "Book a trip", "Book a trip"]
    assert after == set(ids[1:])
    assert texts == 2


def test_the_doctor_finds_an_old_store_that_equal_vectors_spoil_and_a_rebuild_mends_it(
    old_store: Path,
) -> None:
    for number in range(MANY):
        record(unread(number))
    assert autotrace.flush()
    autotrace.shutdown()
    spoilt = check_vectors(old_store)

    rebuild(old_store)

    assert (spoilt.status, spoilt.fix) == ("error", "rebuild")
    assert spoilt.detail.startswith("1,500 task texts have one and the same vector")
    assert check_vectors(old_store).status == "ok"
    assert count_texts(old_store) == 1
