"""CONTRIBUTING.md names the packages and modules that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_each_package_has_a_row() -> None:
    packages = {path.parent.name for path in (ROOT / "autotrace").glob("*/__init__.py")}
    rows = set(re.findall(r"(?m)^\| `(\w+)/` \|", GUIDE))
    assert rows == packages


def test_each_module_that_is_named_exists() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", GUIDE))
    modules = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("[as]*/**/*.py")]
    modules += [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")]
    missing = [n for n in named if not any(f"/{m}".endswith(f"/{n}") for m in modules)]
    assert missing == []
