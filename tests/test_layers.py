"""Which package may import which: the directions of the design, held here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "autotrace"

BASE = {
    *(
        "settings",
        "errors",
        "models",
        "semconv",
        "signals",
        "canonical",
        "clock",
        "json_text",
        "names",
        "folders",
        "places",
    ),
    *("event_loops", "offload", "grants"),
    *("plain", "visible", "fingerprint"),
}
ALLOWED: dict[str, set[str]] = {
    "settings": {"errors", "folders", "models", "places", "semconv"},
    "errors": set(),
    "models": {"errors"},
    "semconv": set(),
    "signals": set(),
    "canonical": set(),
    "clock": set(),
    "json_text": set(),
    "names": set(),
    "folders": set(),
    "places": set(),
    "event_loops": set(),
    "offload": {"event_loops"},
    "grants": {"event_loops"},
    "plain": set(),
    "visible": set(),
    "fingerprint": {"canonical", "plain"},
    "capture": BASE,
    "store": BASE,
    "decisions": BASE | {"store"},
    "export": BASE | {"store", "decisions"},
    "retrieval": BASE | {"store"},
    "reader": BASE | {"store", "export", "retrieval"},
    "memory": BASE | {"capture", "decisions", "store", "export", "reader"},
    "access": BASE | {"store"},
    "runtime": BASE | {"capture", "decisions", "store", "export", "reader", "memory"},
    "service": BASE | {"access", "capture", "decisions", "store", "export", "reader", "memory"},
    "__init__": BASE | {"capture", "decisions", "export", "runtime"},
}
"""What each part may import of the others; parts not named here may import everything."""


def imports_of(path: Path) -> set[tuple[str, bool]]:
    """Return (module, whether at module level) of everything that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found: set[tuple[str, bool]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, id(node) in top) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add((node.module, id(node) in top))
            if node.module == "autotrace":
                found |= {(f"autotrace.{alias.name}", id(node) in top) for alias in node.names}
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_in_the_directions_of_the_design(path: Path) -> None:
    part = part_of(path)
    if part not in ALLOWED:
        return
    parts = {
        module.split(".")[1]
        for module, _ in imports_of(path)
        if (module.startswith("autotrace.") and (PACKAGE / module.split(".")[1]).exists())
        or (module.startswith("autotrace.") and (PACKAGE / f"{module.split('.')[1]}.py").exists())
    }
    assert parts - {part} <= ALLOWED[part], path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_chromadb_is_imported_in_the_store_alone_and_never_at_module_level(path: Path) -> None:
    chroma = {at_top for module, at_top in imports_of(path) if module.split(".")[0] == "chromadb"}
    assert True not in chroma
    if part_of(path) != "store":
        assert not chroma


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_terminal_is_the_clis_alone(path: Path) -> None:
    modules = {module.split(".")[0] for module, _ in imports_of(path)}
    if part_of(path) not in ("cli", "demo"):
        assert not modules & {"typer", "click", "rich"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_the_extra_for_servers_brings_is_imported_in_the_server_alone(path: Path) -> None:
    modules = {module.split(".")[0] for module, _ in imports_of(path)}
    if part_of(path) != "server":
        extra = {"fastapi", "mcp", "mcp_types", "prometheus_client", "starlette", "uvicorn"}
        assert not modules & extra


def test_every_string_that_leaves_the_process_is_spelled_in_one_file() -> None:
    prefixes = ("gen_ai.", "autotrace.step", "autotrace.tool", "AUTOTRACE_")
    spelled = [
        (str(path.relative_to(PACKAGE)), node.value)
        for path in FILES
        # records.py lists families of others, and keys.py what those families have.
        if path.name not in ("semconv.py", "records.py", "keys.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(prefixes)
        and " " not in node.value
        and "\n" not in node.value
    ]
    assert [s for s in spelled if not s[1].startswith("autotrace.tool_")] == []
