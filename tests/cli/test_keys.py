"""`autotrace keys`: made once, listed, revoked."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from autotrace.cli.commands import app
from autotrace.server.auth.api_keys import KeyRing
from autotrace.server.auth.principal import Principal
from autotrace.settings import load_settings


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def keys(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--store", str(store)])


def answer(store: Path, *arguments: str) -> Any:
    result = keys(store, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def principal(store: Path, key: str) -> Principal | None:
    ring = KeyRing.of(load_settings(store=str(store)))
    try:
        return ring.authenticate(key)
    finally:
        ring.close()


def test_a_key_is_made_listed_and_revoked(store: Path) -> None:
    made = answer(store, "create", "--agent", "ada", "--role", "approver", "--tenant", "acme")
    assert set(made) == {"key", "key_id"}
    assert principal(store, made["key"]) == Principal(made["key_id"], "ada", "acme", "approver")

    listed = answer(store, "list")
    assert listed["count"] == 1
    assert listed["keys"][0]["key_id"] == made["key_id"]
    assert listed["keys"][0]["revoked_at"] is None
    assert made["key"] not in json.dumps(listed)

    assert answer(store, "revoke", made["key_id"])["revoked_at"] is not None
    assert principal(store, made["key"]) is None
    assert answer(store, "list")["keys"][0]["revoked_at"] is not None


def test_a_person_gets_the_key_alone_on_its_line(store: Path) -> None:
    made = keys(store, "create", "--agent", "ada")

    assert made.exit_code == 0
    (key,) = made.stdout.splitlines()
    assert principal(store, key) is not None
    table = keys(store, "list").stdout
    assert "ada" in table
    assert "never" in table
    assert key not in table
    assert "is revoked" in keys(store, "revoke", key.split("_")[1]).stdout


def test_the_first_key_of_a_store_names_it_as_another_store_may_be_meant(store: Path) -> None:
    first, second = (keys(store, "create", "--agent", name) for name in ("ada", "bob"))

    note = f"note: this is the first key of {store}; it opens no other store\n"
    assert (first.stderr, second.stderr) == (note, "")


def test_a_key_that_expires_says_so_in_the_list(store: Path) -> None:
    answer(store, "create", "--agent", "ada", "--role", "approver", "--expires", "90d")
    answer(store, "create", "--agent", "bot")

    ada, bot = answer(store, "list")["keys"]
    table = keys(store, "list").stdout

    lasts = datetime.fromisoformat(ada["expires_at"]) - datetime.fromisoformat(ada["created_at"])
    assert lasts == timedelta(days=90)
    assert bot["expires_at"] is None
    for said in ("role", "expires", "last used", "approver", ada["expires_at"][:10]):
        assert said in table


def test_a_whole_key_is_revoked_and_never_repeated(store: Path) -> None:
    key = answer(store, "create", "--agent", "ada")["key"]
    unknown = f"atk_{'0' * 12}_{'A' * 43}"

    refused = keys(store, "revoke", unknown)
    revoked = keys(store, "revoke", key)

    assert "no key '000000000000'" in refused.stderr
    assert "A" * 43 not in refused.output
    assert revoked.exit_code == 0
    assert key not in revoked.output
    assert principal(store, key) is None


def test_where_no_key_was_made_there_is_none_and_nothing_is_made(store: Path) -> None:
    assert answer(store, "list") == {"keys": [], "count": 0}
    assert keys(store, "list").stdout.startswith("no keys in ")
    assert "autotrace keys list" in keys(store, "revoke", "0123456789ab").stderr
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create",), 2, "--agent"),
        (("create", "--agent", "a", "--role", "owner"), 2, "--role"),
        (("create", "--agent", "a", "--tenant", "../up"), 1, "tenant='../up' is not allowed"),
        (("create", "--agent", " "), 1, "agent"),
        (("create", "--agent", "a", "--role", "owner"), 2, "'agent', 'approver', 'admin'"),
        (("create", "--agent", "a\u034fb"), 1, "U+034F COMBINING GRAPHEME JOINER"),
        (("create", "--agent", "J\u043ese"), 1, "U+043E CYRILLIC SMALL LETTER O looks like"),
        (("create", "--agent", "a", "--expires", "soon"), 1, "30m, 12h, 90d, 52w"),
        (("create", "--agent", "a", "--expires", "0d"), 1, "--expires='0d'"),
        (("revoke", "0123456789ab"), 1, "autotrace keys list"),
    ],
)
def test_what_is_wrong_is_named(
    store: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = keys(store, *arguments)

    assert result.exit_code == code
    assert said in result.stderr
