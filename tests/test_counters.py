"""Every counter is explained in the docs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_counter_is_in_the_docs() -> None:
    code = "\n".join(p.read_text("utf-8") for p in (ROOT / "autotrace").rglob("*.py"))
    counters = set(re.findall(r"""(?:count|add|_count)\(\s*"([a-z_]+)\"""", code))
    docs = (ROOT / "docs" / "explanation" / "storage.md").read_text(encoding="utf-8")

    assert len(counters) > 10
    assert {name for name in counters if f"`{name}`" not in docs} == set()
