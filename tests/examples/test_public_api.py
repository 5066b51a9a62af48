"""The examples show how to use the library, so they use nothing that is not public."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import autotrace

from .conftest import EXAMPLES

SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def names_used(tree: ast.AST) -> Iterator[str]:
    """Yield every name of the library that a program uses, as `autotrace.<name>`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name != "autotrace")
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_example_uses_public_names_only(script: Path) -> None:
    public = {f"autotrace.{name}" for name in autotrace.__all__}

    used = set(names_used(ast.parse(script.read_text(encoding="utf-8"))))

    ours = {name for name in used if name.split(".")[0] == "autotrace"}
    assert ours <= public


def test_there_are_examples_and_they_use_the_library() -> None:
    used = {name for script in SCRIPTS for name in names_used(ast.parse(script.read_text("utf-8")))}

    assert {"autotrace.configure", "autotrace.recall", "autotrace.tool"} <= used
