"""`autotrace backup` and `autotrace restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autotrace.cli.command_options import JsonOption, StoreOption
from autotrace.cli.open_store import existing_store
from autotrace.cli.terminal import Screen, busy, print_json
from autotrace.settings import load_settings

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The archive (.tar.gz).")]


def backup(file: FileArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Write the store into an archive, while programs record into it.

    It holds stored and waiting records, decisions, keys and tenants. Keep it where only you can
    read it.
    """
    from autotrace.worker.backup import back_up

    settings = existing_store(store)
    with busy(f"backing up {settings.store}"):
        size_bytes = back_up(settings, file)
    if as_json:
        print_json({"store": settings.store, "file": str(file), "size_bytes": size_bytes})
    else:
        Screen().line(f"{settings.store} is backed up: {file}, {size_bytes:,} bytes")


def restore(file: FileArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Create a store from an archive; its folder must not exist yet."""
    from autotrace.worker.backup import restore as restore_from

    settings = load_settings(store=store)
    with busy(f"restoring {settings.store}"):
        restore_from(settings, file)
    if as_json:
        print_json({"store": settings.store, "file": str(file)})
    else:
        Screen().line(f"{settings.store} is restored from {file}")
