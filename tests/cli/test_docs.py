"""`docs/reference/cli.md` names every command and option, and none that is not there."""

from __future__ import annotations

import re
from typing import Any

from typer.main import get_command

from autotrace.cli.commands import app
from autotrace.doctor import diagnose
from autotrace.settings import load_settings
from tests.embedders import HashEmbedder

from .conftest import REPOSITORY, Recorded

GROUPS = ("approver", "decisions", "keys")
TEXT = (REPOSITORY / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def test_every_command_and_option_is_documented_and_no_other() -> None:
    root: Any = get_command(app)
    groups = {name: command for name, command in root.commands.items() if name in GROUPS}
    below = {f"{g} {n}": c for g, group in groups.items() for n, c in group.commands.items()}
    # What does nothing by itself has no line of its own.
    commands = root.commands | below
    commands = {n: c for n, c in commands.items() if not getattr(c, "no_args_is_help", False)}
    options = {
        option
        for command in [root, *commands.values()]
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }

    assert set(re.findall(r"`(--[a-z]+)", TEXT)) | {"--version", "--debug"} == options
    documented = re.findall(r"^\| `([a-z]+(?: [a-z]+)?)(?: [A-Z]+)?` \|", TEXT, re.MULTILINE)
    assert set(documented) == set(commands)


def test_every_check_of_the_doctor_is_documented(recorded: Recorded) -> None:
    section = TEXT.partition("## The doctor")[2].partition("## Rebuilding")[0]

    documented = re.findall(r"^\| ([a-z ]+) \|", section, re.MULTILINE)

    checks = diagnose(load_settings(store=str(recorded.store)), HashEmbedder())
    assert documented[1:] == [check.name for check in checks]
