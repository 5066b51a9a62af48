"""What the package shows, and what importing it loads."""

from __future__ import annotations

import subprocess
import sys
import types

import autotrace

HEAVY = (
    "chromadb",
    "onnxruntime",
    "tokenizers",
    "numpy",
    "typer",
    "rich",
    "fastapi",
    "uvicorn",
    "mcp",
    "pydantic_settings",
    "autotrace.cli",
    "autotrace.runtime",
)


def test_all_is_sorted_and_complete() -> None:
    assert sorted(autotrace.__all__) == list(autotrace.__all__)
    for name in autotrace.__all__:
        assert getattr(autotrace, name) is not None
    public = {
        name
        for name, value in vars(autotrace).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public - set(autotrace.__all__) <= {"TYPE_CHECKING", "Any", "annotations"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(autotrace, "no_such_name")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, autotrace; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_configuring_loads_no_chroma_and_no_model() -> None:
    code = (
        "import sys, tempfile, autotrace\n"
        "autotrace.configure(tempfile.mkdtemp())\n"
        "print([m for m in ('chromadb', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
