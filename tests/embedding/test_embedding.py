"""Embedders by import path: in the environment, as an argument, on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import autotrace
from autotrace.embedding.embedder import FunctionEmbedder
from autotrace.errors import InvalidArgumentError
from autotrace.settings import DEFAULT_EMBEDDER, load_settings
from autotrace.worker.wiring import choose_embedding
from tests.conftest import Configure
from tests.embedders import HashEmbedder

MODULE = """
from tests.embedders import HashEmbedder

class Holder:
    ready = HashEmbedder()

def make(): return HashEmbedder()
def make_with_a_default(words=2): return HashEmbedder()
def embed(texts): return [[1.0, 0.0]] * len(texts)
def broken(): raise RuntimeError("no key for the model")
number = 7
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agents_memory.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "agents_memory", raising=False)


@pytest.mark.parametrize("name", ["HashEmbedder", "Holder.ready", "make", "make_with_a_default"])
def test_an_import_path_names_an_instance_a_class_or_what_makes_one(name: str) -> None:
    chosen = choose_embedding(load_settings(), f"agents_memory:{name}")

    assert isinstance(chosen.embedder, HashEmbedder)
    assert chosen.spec == f"agents_memory:{name}"


def test_an_import_path_names_an_embedding_function() -> None:
    chosen = choose_embedding(load_settings(), "agents_memory:embed")

    assert isinstance(chosen.embedder, FunctionEmbedder)
    assert chosen.space == "agents_memory.embed"


def test_the_variable_names_the_embedder_and_an_argument_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUTOTRACE_EMBEDDER", "agents_memory:embed")

    assert choose_embedding(load_settings()).space == "agents_memory.embed"
    assert choose_embedding(load_settings(), "agents_memory:make").space == HashEmbedder.space
    given = choose_embedding(load_settings(), HashEmbedder())
    assert (given.space, given.spec) == (HashEmbedder.space, None)
    default = choose_embedding(load_settings(), DEFAULT_EMBEDDER)
    assert default.space == default.spec == DEFAULT_EMBEDDER


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:x", "ModuleNotFoundError"),
        ("agents_memory:nothing", "AttributeError"),
        ("agents_memory:broken", "no key for the model"),
        ("agents_memory:number", "an Embedder"),
        ("agents_memory", "colon"),
        (":embed", "colon"),
    ],
)
def test_what_cannot_be_imported_names_the_setting_the_reason_and_the_fix(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        autotrace.configure(embedder=name)
    assert caught.value.field == "embedder"
    assert autotrace.health().configured is False

    monkeypatch.setenv("AUTOTRACE_EMBEDDER", name)
    with pytest.raises(InvalidArgumentError) as caught:
        autotrace.configure()
    assert caught.value.field == "AUTOTRACE_EMBEDDER"
    for part in (name, reason, "package.module:attribute", "PYTHONPATH"):
        assert part in str(caught.value)


def test_the_command_line_honours_the_variable(configure: Configure, tmp_path: Path) -> None:
    store = configure(embedder="agents_memory:make")
    with autotrace.task("find a quiet place") as t:
        pass
    assert autotrace.flush()
    autotrace.shutdown()

    def command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "autotrace.cli", *arguments, "--store", str(store)],
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
            cwd=tmp_path,  # where the module is
            env=os.environ
            | {"AUTOTRACE_EMBEDDER": name, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    recalled = command("agents_memory:make", "recall", "a quiet place")
    assert t.trace_id in recalled.stdout, recalled.stderr
    rebuilt = command("agents_memory:embed", "rebuild")
    assert "space agents_memory.embed" in rebuilt.stdout, rebuilt.stderr
    looked_at = command("agents_memory:nothing", "doctor")
    assert (looked_at.returncode, looked_at.stderr) == (1, "")
    assert "AUTOTRACE_EMBEDDER" in looked_at.stdout
