"""Count phrases in code and Markdown that hide the actor or the object of a sentence.

Counted are docstrings and comments of a package, and the whole text of a group of Markdown files. A
group passes if none of its rates, per 1,000 words, is over `LIMITS`.

    python scripts/prose.py          exit 1 and name each group that is over a limit
    python scripts/prose.py GROUP    list each place in a group: a package, root, docs/guides, *.md
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ROOT = REPOSITORY / "autotrace"
MARKDOWN = {
    "*.md": ("*.md", "docs/*.md", "examples/*.md", "benchmarks/**/*.md", "tests/*.md"),
    "docs/guides": ("docs/guides/*.md",),
    "docs/reference": ("docs/reference/*.md",),
    "docs/explanation": ("docs/explanation/*.md",),
}
"""Patterns of the files of each group."""
PHRASES = {
    "what is": r"\bwhat (?:is|are|was|were|has|have|had)\b",
    "told": r"\b(?:tells?|told|says?|said|hears?|heard)\b",
    "is no": r"\b(?:is|are|was|were) no \w",
    "anew": r"\b(?:for ever|anew|amid|lest|beside|thereby|whoever|whatever)\b",
}
LIMITS = {"what is": 0.2, "told": 0.6, "is no": 0.4, "anew": 0.2}
"""Highest rate per 1,000 words."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each docstring and comment of a module, or of a Markdown file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield 1, source
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
            case _:
                pass
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def groups() -> dict[str, list[Path]]:
    """Return the modules of each package, those of the root as one, and the Markdown files."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        found.setdefault(parts[0] if len(parts) > 1 else "root", []).append(path)
    for group, patterns in MARKDOWN.items():
        found[group] = sorted({path for pattern in patterns for path in REPOSITORY.glob(pattern)})
    return found


def rates(paths: list[Path]) -> dict[str, float]:
    """Return how often each phrase occurs per 1,000 words."""
    prose = [text for path in paths for _, text in texts(path)]
    words = sum(len(text.split()) for text in prose) or 1
    return {
        name: round(1000 * sum(len(re.findall(p, t, re.I)) for t in prose) / words, 2)
        for name, p in PHRASES.items()
    }


def main(*names: str) -> int:
    """Print what is over a limit; return the exit code."""
    if names:
        for path in groups()[names[0]]:
            for line, text in texts(path):
                for phrase in PHRASES.values():
                    for match in re.finditer(phrase, text, re.I):
                        at = line + text.count("\n", 0, match.start())
                        near = text[max(0, match.start() - 40) : match.end() + 40]
                        print(f"{path.relative_to(REPOSITORY)}:{at}: {' '.join(near.split())}")
        return 0
    failed = 0
    for group, paths in groups().items():
        for phrase, rate in rates(paths).items():
            if rate > LIMITS[phrase]:
                failed = 1
                print(f"{group}: {phrase!r} {rate} per 1,000 words, at most {LIMITS[phrase]}")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
