"""Which package may import which. Each rule is one test that lists every offender."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "autotrace"

_ROOT = {"active", "decision_requests", "errors", "ids", "models", "semconv"}
_RECORDING = _ROOT | {"base", "encoding", "settings", "spool", "capture"}
_STORING = _ROOT | {"base", "encoding", "settings", "spool", "store", "embedding", "decisions"}
_WIRED = _STORING | {"capture", "dialects", "otlp", "traces", "worker"}
ALLOWED: dict[str, set[str]] = {
    "active": {"errors"},
    "decision_requests": {"models"},
    "errors": set(),
    "semconv": set(),
    "ids": {"semconv"},
    "base": set(),
    "models": {"errors"},
    "settings": _ROOT | {"base"},
    "encoding": _ROOT | {"base"},
    "spool": _ROOT | {"base"},
    "capture": _RECORDING,
    "embedding": _ROOT | {"base"},
    "store": _ROOT | {"base", "embedding", "settings"},
    "decisions": _ROOT | {"base", "encoding", "settings", "store"},
    "dialects": _ROOT | {"base", "spool"},
    "otlp": _ROOT | {"base", "settings", "spool"},
    "traces": _STORING | {"dialects"},
    "worker": _STORING | {"dialects", "traces"},
    "memory": _WIRED,
    "testing": _WIRED,
    "runtime": _WIRED | {"memory"},
    "__init__": _WIRED | {"runtime"},
    "doctor": _WIRED | {"__init__"},
    "server": _WIRED | {"__init__", "memory"},
    "demo": {"__init__", "models"},
    "pytest_plugin": {"testing"},
    "cli": _WIRED | {"__init__", "demo", "doctor", "memory", "server"},
}
"""What each package and root module may import of the others."""


@cache
def trees() -> dict[Path, ast.Module]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}


@cache
def imports() -> list[tuple[Path, str, bool]]:
    """Return (file, module, whether at module level) of each import that runs."""
    found: list[tuple[Path, str, bool]] = []
    for path, tree in trees().items():
        top = {id(node) for node in tree.body}
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Import):
                found += [(path, alias.name, id(node) in top) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "autotrace":
                found += [(path, f"autotrace.{a.name}", id(node) in top) for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.append((path, node.module, id(node) in top))
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_part(module: str) -> str:
    """Return the package or root module that an import of `module` loads."""
    name = module.partition(".")[2].partition(".")[0]
    is_part = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
    return name if name and is_part else "__init__"


def importers(*packages: str) -> set[str]:
    """Return the parts that import one of these third-party packages."""
    return {part_of(path) for path, module, _ in imports() if module.split(".")[0] in packages}


def test_imports_follow_the_directions_of_the_design() -> None:
    offenders = {
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path, module, _ in imports()
        if module.split(".")[0] == "autotrace"
        and imported_part(module) != part_of(path)
        and imported_part(module) not in ALLOWED[part_of(path)]
    }
    assert sorted(offenders) == []


def test_no_packages_import_each_other() -> None:
    edges: dict[str, set[str]] = {}
    for path, module, _ in imports():
        if module.split(".")[0] == "autotrace" and imported_part(module) != part_of(path):
            edges.setdefault(part_of(path), set()).add(imported_part(module))
    reached = {part: set(parts) for part, parts in edges.items()}
    for middle in edges:
        for part in edges:
            if middle in reached[part]:
                reached[part] |= reached[middle]
    assert [part for part in edges if part in reached[part]] == []


def test_chromadb_is_imported_by_the_store_and_the_model_files_when_needed() -> None:
    at_import = [
        str(path.relative_to(PACKAGE))
        for path, module, at_top in imports()
        if at_top and module.split(".")[0] == "chromadb"
    ]
    assert at_import == []
    assert importers("chromadb") == {"store", "embedding"}


def test_the_terminal_belongs_to_the_cli() -> None:
    assert importers("typer", "click", "rich") <= {"cli", "demo"}


def test_packages_of_the_server_extra_are_imported_by_the_server_alone() -> None:
    extra = ("fastapi", "mcp", "mcp_types", "prometheus_client", "starlette", "uvicorn")
    assert importers(*extra) == {"server"}


def test_strings_that_leave_the_process_are_written_in_one_file() -> None:
    prefixes = ("gen_ai.", "autotrace.step", "autotrace.tool", "AUTOTRACE_")
    # span_records.py lists families of others' keys; attribute_keys.py lists the keys.
    exempt = ("semconv.py", "span_records.py", "attribute_keys.py")
    offenders = [
        (str(path.relative_to(PACKAGE)), node.value)
        for path, tree in trees().items()
        if path.name not in exempt
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(prefixes)
        and not {" ", "\n"} & set(node.value)
        and not node.value.startswith("autotrace.tool_")
    ]
    assert offenders == []
