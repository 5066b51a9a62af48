"""Configuring again: with the same, spelled in another way, and with something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import autotrace
from autotrace.runtime import runtime_or_raise
from tests.embedders import HashEmbedder


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    autotrace.shutdown(timeout=5)


def configure(store: str | Path, **settings: Any) -> None:
    autotrace.configure(store, **{"embedder": HashEmbedder(), "flush_interval_ms": 0} | settings)


def runtime() -> object:
    return runtime_or_raise("a test")


@pytest.mark.parametrize("spelling", ["x/store", "./x/../x/store", "~/x/store", "x/store/", "link"])
def test_the_same_store_in_another_spelling_changes_nothing(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x" / "store").mkdir(parents=True)
    (tmp_path / "link").symlink_to("x/store")
    configure(tmp_path / "x" / "store")
    before = runtime()

    configure(spelling)

    assert runtime() is before


def test_the_same_server_in_another_spelling_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    configure("http://127.0.0.1:9")
    before = runtime()
    configure("HTTP://127.0.0.1:9/")

    assert runtime() is before


def test_a_new_embedder_of_the_same_space_and_type_changes_nothing(tmp_path: Path) -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0]] * len(texts)

    for make in (HashEmbedder, lambda: embed, lambda: "tests.embedders:HashEmbedder"):
        configure(tmp_path, embedder=make())
        before = runtime()
        configure(tmp_path, embedder=make())
        assert runtime() is before


def test_what_is_really_different_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(HashEmbedder):
        pass

    configure(tmp_path)
    seen = [runtime()]
    for changed in (
        {"agent": "concierge"},
        {"embedder": Other()},
        {"embedder": "tests.embedders:HashEmbedder"},
        {"redact": lambda path, value: value},  # pyright: ignore[reportUnknownLambdaType] - any hook
        {"spool": str(tmp_path / "elsewhere")},
    ):
        configure(tmp_path, **changed)
        assert runtime() not in seen
        seen.append(runtime())

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    configure("store")
    monkeypatch.chdir(tmp_path / "two")
    configure("store")
    assert autotrace.health().store == str(tmp_path / "two" / "store")
