"""docs/explanation/security.md: each statement about who can do what names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
_NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_WHO = ("no key", "agent", "approver", "admin", "local user", "web page", "OTLP sender")


def _tests_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_named_test_exists() -> None:
    named = _NODE.findall(PAGE)
    missing = [(file, name) for file, name in named if name not in _tests_of(ROOT / file)]

    assert named
    assert missing == []


def test_every_row_of_a_table_of_powers_names_a_test() -> None:
    bare = [
        line
        for section in re.findall(r"^### (?:.+)\n\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
        for line in section.splitlines()[2:]
        if not _NODE.search(line)
    ]

    assert bare == []


def test_every_kind_of_caller_has_a_section() -> None:
    sections = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)

    assert [who for who in _WHO if who.casefold() not in map(str.casefold, sections)] == []
