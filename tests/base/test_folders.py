"""A store that others can write to, or that is somebody else's, is refused with what mends it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

import autotrace
from autotrace.errors import AutotraceError, InvalidArgumentError
from autotrace.server.auth.api_keys import KeyRing
from autotrace.settings import load_settings
from tests.embedders import HashEmbedder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes say nothing on Windows")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives a folder away"
)
SOMEBODY = 54_321


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "a store"
    autotrace.configure(store=store, embedder=HashEmbedder(), storing="thread")
    with autotrace.task("t"):
        pass
    autotrace.shutdown()
    ring = KeyRing.of(load_settings(store=str(store)))
    ring.create("bot", "acme", "agent")
    ring.close()
    (store / "tenants" / "acme").mkdir(parents=True, mode=0o700)
    return store


def refusal(store: Path, **settings: str) -> str:
    with pytest.raises(InvalidArgumentError) as refused:
        load_settings(store=str(store), **settings)
    return str(refused.value)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o775, 0o757, 0o720, 0o702, 0o1777])
def test_a_store_that_others_can_write_to_is_refused_until_it_is_mended(
    store: Path, mode: int
) -> None:
    store.chmod(mode)

    said = refusal(store)
    (command,) = re.findall(r"`(chmod [^`]+)`", said)
    subprocess.run(shlex.split(command), check=True)

    assert f"{mode:04o}" in said
    assert load_settings(store=str(store)).store_path == store


@pytest.mark.parametrize(
    "place",
    ["spool", "keys", "keys/chroma", "chroma", "tenants", "tenants/acme", "chroma/chroma.sqlite3"],
)
def test_what_others_can_reach_and_write_in_a_store_is_refused(store: Path, place: str) -> None:
    (store / "spool").mkdir(exist_ok=True)
    (store / place).chmod(0o777)
    assert load_settings(store=str(store)).store_path == store, "out of reach in a private folder"

    store.chmod(0o755)

    assert str(store / place) in refusal(store)


@as_root
@pytest.mark.parametrize("place", [".", "keys", "chroma/chroma.sqlite3"])
def test_a_store_of_another_user_is_refused_also_for_root(store: Path, place: str) -> None:
    store.chmod(0o755)
    os.chown(store / place, SOMEBODY, SOMEBODY)

    said = refusal(store)
    (command,) = re.findall(r"`(chown [^`]+)`", said)
    subprocess.run(shlex.split(command), check=True)

    assert f"belongs to the user {SOMEBODY}" in said
    load_settings(store=str(store))


@as_root
def test_a_link_of_another_user_to_a_store_is_refused(store: Path, tmp_path: Path) -> None:
    link = tmp_path / ".autotrace"
    link.symlink_to(store)
    load_settings(store=str(link))
    os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)

    assert f"belongs to the user {SOMEBODY}" in refusal(link)


def test_a_link_to_a_store_that_others_can_write_to_is_refused(store: Path, tmp_path: Path) -> None:
    link = tmp_path / ".autotrace"
    link.symlink_to(store)
    store.chmod(0o777)

    assert "0777" in refusal(link)


def test_a_spool_elsewhere_is_looked_at_too(store: Path, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    spool.chmod(0o777)

    assert str(spool) in refusal(store, spool=str(spool))


def test_nothing_is_opened_in_a_folder_that_was_opened_to_others_meanwhile(store: Path) -> None:
    ring = KeyRing.of(load_settings(store=str(store)))
    (store / "keys").chmod(0o777)

    with pytest.raises(AutotraceError, match="chmod -R go-w"):
        ring.list()


def test_the_folder_of_the_current_directory_is_refused_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".autotrace").mkdir()
    (tmp_path / ".autotrace").chmod(0o777)

    with pytest.raises(InvalidArgumentError, match="0777"):
        load_settings()
    with pytest.raises(InvalidArgumentError, match="0777"):
        autotrace.configure()


def test_a_folder_that_we_make_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ring = KeyRing.of(load_settings(store=str(tmp_path / "new")))
        ring.create("bot", "default", "agent")
        ring.close()
    finally:
        os.umask(before)

    load_settings(store=str(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_folder_in_a_store_that_cannot_be_listed_is_passed_over(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.chmod(0o755)
    lost = store / "lost+found"
    lost.mkdir(0o700)
    scandir = os.scandir

    def listing(path: Path | str) -> Any:
        if Path(path) == lost:
            raise PermissionError(13, "Permission denied")  # as for any user but root
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listing)

    assert load_settings(store=str(store)).store_path == store


def test_a_store_that_cannot_be_listed_is_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.chmod(0o755)

    def listing(_: Path | str) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", listing)

    assert "a folder that can be read (Permission denied)" in refusal(store)
