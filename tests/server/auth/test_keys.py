"""Keys: shown once, stored hashed, recognised and revoked in every process at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from autotrace.errors import InvalidArgumentError, KeyNotFoundError
from autotrace.server.auth.api_keys import KeyRing
from autotrace.server.auth.principal import Principal
from autotrace.settings import Settings, load_settings
from autotrace.store.api_keys import add, connect_keys
from autotrace.store.connection import ServerOptions

REPOSITORY = Path(__file__).parents[3]

REVOKE = """
import sys
from autotrace.server.auth.api_keys import KeyRing
from autotrace.settings import load_settings

KeyRing.of(load_settings(store=sys.argv[1])).revoke(sys.argv[2])
"""


@pytest.fixture
def settings(store_settings: dict[str, str]) -> Settings:
    return load_settings(**store_settings)


class OpenRing(Protocol):
    """Opens the keys of a store, which are let go of after the test."""

    def __call__(self, settings: Settings, **options: Any) -> KeyRing: ...


@pytest.fixture
def open_ring() -> Iterator[OpenRing]:
    with contextlib.ExitStack() as stack:

        def opened(settings: Settings, **options: Any) -> KeyRing:
            connection = connect_keys(settings.store, server=ServerOptions.of(settings))
            ring = KeyRing(connection, **options)
            stack.callback(ring.close)
            return ring

        yield opened


@pytest.fixture
def embedded(tmp_path: Path) -> Settings:
    return load_settings(store=str(tmp_path / "store"))


def test_a_key_stands_for_whom_it_was_made_for(settings: Settings, open_ring: OpenRing) -> None:
    ring = open_ring(settings)

    made = ring.create("concierge", "acme", "approver")

    assert made.key.startswith(f"atk_{made.key_id}_")
    assert ring.authenticate(made.key) == Principal(made.key_id, "concierge", "acme", "approver")
    assert open_ring(settings).authenticate(made.key) == ring.authenticate(made.key)


def test_what_is_no_key_is_nobody(embedded: Settings, open_ring: OpenRing) -> None:
    ring = open_ring(embedded)
    made, other = (ring.create("a", "default", "agent") for _ in range(2))
    secret = made.key.rpartition("_")[2]

    for presented in (
        "",
        "atk_",
        made.key_id,
        made.key[:-1],
        made.key + "x",
        made.key[:-6],
        made.key[:-1] + ("A" if made.key[-1] != "A" else "B"),
        made.key.upper(),
        f" {made.key}",
        f"{made.key}\n",
        f"atk_{other.key_id}_{secret}",
        f"atk_{'0' * 12}_{secret}",
        "\udc80" * 60,
    ):
        assert ring.authenticate(presented) is None, presented


def test_a_revoked_key_is_nobody_and_stays_in_the_list(
    settings: Settings, open_ring: OpenRing
) -> None:
    ring = open_ring(settings)
    kept, revoked = (ring.create(name, "default", "agent") for name in ("kept", "revoked"))
    assert ring.authenticate(revoked.key) is not None

    first = ring.revoke(revoked.key_id)
    ring.refresh()

    assert ring.authenticate(revoked.key) is None
    assert ring.authenticate(kept.key) is not None
    assert [(key.agent, key.revoked_at is None) for key in ring.list()] == [
        ("kept", True),
        ("revoked", False),
    ]
    assert ring.revoke(revoked.key_id) == first  # when it was revoked does not change


def test_a_process_sees_at_once_what_another_has_revoked(
    embedded: Settings, open_ring: OpenRing
) -> None:
    ring = open_ring(embedded)
    made = ring.create("a", "default", "agent")
    assert ring.authenticate(made.key) is not None
    assert ring.is_current

    command = [sys.executable, "-c", REVOKE, embedded.store, made.key_id]
    subprocess.run(command, check=True, cwd=REPOSITORY, timeout=500, env=dict(os.environ))

    assert not ring.is_current
    assert ring.authenticate(made.key) is None


def test_a_chroma_server_is_asked_again_after_a_second(
    server: Any, tmp_path: Path, open_ring: OpenRing
) -> None:
    server.create_database("keys-age")
    settings = load_settings(
        store=server.url, chroma_database="keys-age", spool=str(tmp_path / "spool")
    )
    now = [1_000.0]
    ring = open_ring(settings)
    watching = open_ring(settings, clock_s=lambda: now[0])
    made = ring.create("a", "default", "agent")
    assert watching.authenticate(made.key) is not None
    ring.revoke(made.key_id)

    now[0] += 0.5
    assert watching.is_current
    now[0] += 0.5
    assert not watching.is_current
    assert watching.authenticate(made.key) is None


def test_no_secret_is_stored(embedded: Settings, open_ring: OpenRing) -> None:
    ring = open_ring(embedded)
    made = ring.create("a", "default", "agent")
    ring.authenticate(made.key)
    ring.save_uses()
    ring.close()

    secret = made.key.rpartition("_")[2].encode()
    files = [path for path in embedded.store_path.rglob("*") if path.is_file()]
    assert any(made.key_id.encode() in path.read_bytes() for path in files)
    assert [path for path in files if secret in path.read_bytes()] == []


def test_a_key_is_told_with_nothing_that_opens(embedded: Settings, open_ring: OpenRing) -> None:
    ring = open_ring(embedded)
    made = ring.create("a", "default", "admin")

    told = json.dumps([key.model_dump(mode="json") for key in ring.list()])

    assert made.key_id in told
    assert made.key.rpartition("_")[2] not in told
    assert "sha256" not in told


def test_when_a_key_was_last_used_is_known_to_the_minute(
    settings: Settings, open_ring: OpenRing
) -> None:
    now = [1_790_000_000.0]
    first = open_ring(settings, clock_s=lambda: now[0])
    other = open_ring(settings, clock_s=lambda: now[0])
    made = first.create("a", "default", "agent")
    assert first.list()[0].last_used_at is None

    now[0] += 119
    other.authenticate(made.key)
    now[0] -= 60
    first.authenticate(made.key)
    other.save_uses()
    first.save_uses()  # earlier than what is known, and so of no account

    used = first.list()[0].last_used_at
    assert used is not None
    assert used.timestamp() == 1_790_000_119 // 60 * 60


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("agent", ("", "default", "agent")),
        ("agent", ("a" * 257, "default", "agent")),
        ("agent", ("a\nb", "default", "agent")),
        ("agent", ("a\u200bb", "default", "agent")),
        ("agent", ("a\u034fb", "default", "agent")),
        ("agent", ("a\ufe0f", "default", "agent")),
        ("agent", ("a\u3164", "default", "agent")),
        ("agent", ("a\u2800b", "default", "agent")),
        ("agent", ("a\u00a0b", "default", "agent")),
        ("agent", ("Jose\u0301", "default", "agent")),
        ("agent", ("J\u043es", "default", "agent")),
        ("agent", ("\ue000", "default", "agent")),
        ("tenant", ("a", "../elsewhere", "agent")),
        ("tenant", ("a", "Acme", "agent")),
        ("tenant", ("a", "ab", "agent")),
        ("tenant", ("a", "acme\n", "agent")),
        ("role", ("a", "default", "owner")),
    ],
)
def test_a_key_that_cannot_be_made_names_the_field(
    embedded: Settings, open_ring: OpenRing, field: str, arguments: tuple[str, str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        open_ring(embedded).create(*arguments)
    assert caught.value.field == field
    assert not (embedded.store_path / "keys").exists()


@pytest.mark.parametrize("name", ["Jose", "J0sé", "José.", "\u0408\u043e\u0455\u0435"])
def test_an_agent_that_looks_like_another_one_of_the_tenant_gets_no_key(
    embedded: Settings, open_ring: OpenRing, name: str
) -> None:
    ring = open_ring(embedded)
    first = ring.create("José", "acme", "agent")

    with pytest.raises(InvalidArgumentError, match="does not look like 'José'"):
        ring.create(name, "acme", "approver")

    again = ring.create("José", "acme", "approver")
    ring.create(name, "default", "agent")  # another tenant's
    for key in (first, again):
        ring.revoke(key.key_id)
    ring.create(name, "acme", "agent")


def test_a_name_in_one_script_may_look_like_one_in_another(
    embedded: Settings, open_ring: OpenRing
) -> None:
    ring = open_ring(embedded)
    for name in (
        "\u0412\u0435\u0440\u0430",
        "ロボット一号 AI",
        "José",
        "Ada Lovelace",
        "bot-7",
        "Νίκος",
    ):
        made = ring.create(f" {name} ", "default", "agent")
        known = ring.authenticate(made.key)
        assert known is not None
        assert known.agent == name


def test_a_mistyped_key_is_refused_without_the_store(
    embedded: Settings, open_ring: OpenRing
) -> None:
    made = open_ring(embedded).create("a", "default", "agent")
    fresh = open_ring(embedded)
    for at in range(len("atk_"), len(made.key)):
        typed = "b" if made.key[at] == "a" else "a"
        assert fresh.authenticate(made.key[:at] + typed + made.key[at + 1 :]) is None
    assert not fresh.is_current
    assert fresh.authenticate(made.key) is not None


def test_a_key_without_a_checksum_still_opens(embedded: Settings, open_ring: OpenRing) -> None:
    ring = open_ring(embedded)
    ring.create("a", "default", "agent")
    old = "atk_0123456789ab_" + "A-_b" * 10 + "xyz"
    record = {
        "sha256": hashlib.sha256(old.encode()).hexdigest(),
        "agent": "old",
        "tenant": "default",
        "role": "agent",
        "created_ns": 1,
    }
    with connect_keys(embedded.store).writing() as collections:
        add(collections, "0123456789ab", record)
    ring.refresh()

    assert ring.authenticate(old) == Principal("0123456789ab", "old", "default", "agent")
    assert [key.expires_at for key in ring.list()] == [None, None]


def test_a_key_opens_nothing_once_it_has_expired_and_the_log_says_so(
    settings: Settings, open_ring: OpenRing, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_790_000_000.0]
    ring = open_ring(settings, clock_s=lambda: now[0])
    made = ring.create("nightly", "default", "agent", expires_in_s=60)
    now[0] += 59
    assert ring.authenticate(made.key) is not None

    now[0] += 1
    assert [ring.authenticate(made.key) for _ in range(3)] == [None] * 3

    (said,) = [r.getMessage() for r in caplog.records if r.name == "autotrace.access"]
    assert f"the key {made.key_id} of the agent 'nightly'" in said
    assert "2026-09-21T14:14:20+00:00" in said
    assert made.key not in said
    (listed,) = ring.list()
    assert listed.expires_at is not None
    assert listed.expires_at.timestamp() == 1_790_000_060


@pytest.mark.parametrize("expires_in_s", [0, -1, float("nan"), float("inf"), 1e12])
def test_an_expiry_that_is_none_makes_no_key(
    embedded: Settings, open_ring: OpenRing, expires_in_s: float
) -> None:
    with pytest.raises(InvalidArgumentError, match="expires_in_s"):
        open_ring(embedded).create("a", "default", "agent", expires_in_s=expires_in_s)


def test_an_unknown_key_cannot_be_revoked(embedded: Settings, open_ring: OpenRing) -> None:
    with pytest.raises(KeyNotFoundError, match="autotrace keys list"):
        open_ring(embedded).revoke("nobody")
