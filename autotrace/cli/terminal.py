"""Standard output and standard error: coloured on a terminal, plain elsewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

import orjson
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from autotrace.cli.formatting import one_line

_UNBOUNDED: Final = 1_000_000
"""Columns of a pipe or a file, whose reader breaks the lines."""
_COMPLAINT_CHARACTERS: Final = 2_000
_C1_CONTROL: Final = re.compile("[\x7f-\x9f]")


def is_plain(stream: TextIO) -> bool:
    """Return whether a stream takes no colours and box characters."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return True
    return not stream.isatty() and not os.environ.get("FORCE_COLOR")


@dataclass
class Node:
    """A line of a tree, and the nodes below it."""

    text: Text
    children: list[Node] = field(default_factory=list["Node"])


class Screen:
    """Standard output for a person."""

    def __init__(self) -> None:
        stream = sys.stdout
        self.plain = is_plain(stream)
        self.bounded = stream.isatty()
        self._console = Console(
            file=stream,
            force_terminal=not self.plain,
            color_system=None if self.plain else "auto",
            width=None if self.bounded else _UNBOUNDED,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def line(
        self, text: str | Text = "", *, style: str = "", indent: int = 0, hang: int = 0
    ) -> None:
        """Print text, wrapped to the width of the terminal.

        Args:
            text: One or more lines.
            style: Style of a text that has none.
            indent: Columns to the left of it.
            hang: Further columns to the left of all but the first line.
        """
        text = Text(text, style) if isinstance(text, str) else text
        lines = list(text.split("\n", allow_blank=True))
        if self.bounded:
            width = max(20, self._console.width - indent - hang)
            lines = [part for line in lines for part in line.wrap(self._console, width)]
        for number, line in enumerate(lines):
            line.rstrip()
            self.whole(line, indent=indent + (hang if number else 0))

    def cut(self, text: Text, *, indent: int = 0) -> None:
        """Print one line, cut to the width of the terminal."""
        text = text.copy()
        if self.bounded:
            text.truncate(max(1, self._console.width - indent), overflow="ellipsis")
        self.whole(text, indent=indent)

    def whole(self, text: str | Text, *, style: str = "", indent: int = 0) -> None:
        """Print one line that is never broken, so that an id can be copied."""
        text = Text(text, style) if isinstance(text, str) else text
        self._console.print(Text.assemble(" " * indent, text), soft_wrap=True)

    def facts(self, facts: Iterable[str | None], *, indent: int = 0) -> None:
        """Print the facts that are not None, as many on a line as fit the terminal."""
        line = ""
        for fact in filter(None, facts):
            longer = f"{line}  {fact}" if line else fact
            if line and self.bounded and cell_len(longer) > self._console.width - indent:
                self.line(line, style="dim", indent=indent)
                longer = fact
            line = longer
        self.line(line, style="dim", indent=indent)

    def tree(self, nodes: list[Node]) -> None:
        """Print trees: with guides in a terminal, else indented."""
        if self.plain:
            self._indented(nodes, 0)
            return
        tree = Tree("", hide_root=True, guide_style="dim")
        _grow(tree, nodes)
        self._console.print(tree)

    def _indented(self, nodes: list[Node], indent: int) -> None:
        for node in nodes:
            self.line(node.text, indent=indent)
            self._indented(node.children, indent + 2)

    def table(self, heads: list[str], rows: list[list[str | Text]]) -> None:
        """Print a table without lines: the first column to the left, the others to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for number, head in enumerate(heads):
            table.add_column(
                head, justify="right" if number else "left", no_wrap=bool(number), overflow="fold"
            )
        for row in rows:
            table.add_row(*row)
        self._console.print(table)


def _grow(tree: Tree, nodes: list[Node]) -> None:
    for node in nodes:
        _grow(tree.add(node.text), node.children)


def print_json(document: Any) -> None:
    """Print a JSON document in UTF-8, independent of the encoding of the terminal."""
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    # JSON escapes only the first 32 controls, and some terminals obey others.
    text = _C1_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    typer.echo(text.encode())


def complain(kind: str, message: str) -> None:
    """Print one line to standard error."""
    typer.echo(f"{kind}: {one_line(message, _COMPLAINT_CHARACTERS)}", err=True)


@contextmanager
def busy(what: str) -> Generator[Callable[[str], None]]:
    """Show on standard error, if it is a terminal, that a command is busy.

    Yields:
        A function that changes the text.
    """
    if is_plain(sys.stderr):
        yield lambda _: None
        return
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with console.status(Text(what)) as status:
        yield lambda text: status.update(Text(text))


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """Show on standard error, if it is a terminal, the progress of a command.

    Yields:
        A function that takes the number of done and of all items.
    """
    if is_plain(sys.stderr):
        yield lambda _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
