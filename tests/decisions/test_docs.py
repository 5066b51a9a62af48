"""The code of the guides runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["policies.md", "approval-routes.md", "approve.md", "recall.md", "test.md"]
)
def test_the_code_of_the_page_runs(name: str, tmp_path: Path) -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "guides" / name).read_text("utf-8"), re.DOTALL
    )
    assert blocks
    # A busy machine takes longer to store than a reader of the page is to wait.
    code = "\n".join(blocks).replace("autotrace.flush()", "autotrace.flush(timeout=500)")

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )

    assert (done.returncode, done.stderr) == (0, "")
