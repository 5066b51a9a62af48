"""Tenants: each has a memory of its own, opened when it is asked for, and never stopped in use."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest

import autotrace
from autotrace.errors import InvalidArgumentError
from autotrace.server.tenants import Tenant, Tenants, prepare, settings_of
from autotrace.settings import Settings, load_settings
from tests.embedders import HashEmbedder


class FakeTenant:
    """A tenant that keeps what was done to it."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings = name, settings
        self.memory = self
        self.stopped = threading.Event()

    def start(self) -> None:
        pass

    def stop(self, timeout_s: float) -> bool:
        self.stopped.set()
        return timeout_s > 0


@pytest.fixture
def opened() -> list[FakeTenant]:
    return []


@pytest.fixture
def tenants(tmp_path: Path, opened: list[FakeTenant]) -> Tenants:
    def open_tenant(name: str, settings: Settings) -> Tenant:
        opened.append(FakeTenant(name, settings))
        return cast("Tenant", opened[-1])

    return Tenants(load_settings(store=str(tmp_path / "store")), open_tenant, max_open=2)


def use(tenants: Tenants, name: str) -> FakeTenant:
    with tenants.lease(name) as tenant:
        return cast("FakeTenant", tenant)


def test_a_tenant_is_opened_once(tenants: Tenants, opened: list[FakeTenant]) -> None:
    assert use(tenants, "acme") is use(tenants, "acme")
    assert [tenant.name for tenant in opened] == ["acme"]


def test_the_one_that_was_longest_idle_is_stopped_for_another(tenants: Tenants) -> None:
    first, second = use(tenants, "first"), use(tenants, "second")
    use(tenants, "first")

    use(tenants, "third")

    assert second.stopped.wait(500)
    assert not first.stopped.is_set()
    assert use(tenants, "first") is first
    assert use(tenants, "second") is not second


def test_one_in_use_is_not_stopped(tenants: Tenants) -> None:
    with tenants.lease("first") as first:
        for name in ("second", "third", "fourth"):
            use(tenants, name)
        assert not cast("FakeTenant", first).stopped.is_set()
        assert use(tenants, "first") is first


def test_whoever_asks_at_once_gets_the_same(tmp_path: Path) -> None:
    opening, opened = threading.Event(), list[FakeTenant]()

    def open_slowly(name: str, settings: Settings) -> Tenant:
        opened.append(FakeTenant(name, settings))
        opening.wait(500)
        return cast("Tenant", opened[-1])

    tenants = Tenants(load_settings(store=str(tmp_path / "store")), open_slowly)
    found: list[FakeTenant] = []
    threads = [
        threading.Thread(target=lambda: found.append(use(tenants, "acme"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    opening.set()
    for thread in threads:
        thread.join(500)

    assert found == opened * 8


def test_one_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    failures = [RuntimeError("not now")]

    def open_tenant(name: str, settings: Settings) -> Tenant:
        if failures:
            raise failures.pop()
        return cast("Tenant", FakeTenant(name, settings))

    tenants = Tenants(load_settings(store=str(tmp_path / "store")), open_tenant)
    with pytest.raises(RuntimeError):
        use(tenants, "acme")
    assert use(tenants, "acme").name == "acme"


def test_to_stop_stops_all_and_says_whether_all_is_stored(tenants: Tenants) -> None:
    both = [use(tenants, "first"), use(tenants, "second")]

    assert tenants.stop(30) is True

    assert all(tenant.stopped.is_set() for tenant in both)
    use(tenants, "first")
    assert tenants.stop(0) is False


@pytest.mark.parametrize("name", ["", "..", "a/b", "Acme", "x" * 64, "de", "acme\n", "-acme"])
def test_what_can_name_no_tenant_is_refused(tenants: Tenants, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="tenant"):
        use(tenants, name)


def test_the_default_tenant_has_the_store_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(store=str(tmp_path / "store"))

    assert settings_of(settings, "default") is settings
    acme = settings_of(settings, "acme")
    assert acme.store_path == settings.store_path / "tenants" / "acme"
    assert acme.spool_path == acme.store_path / "spool"


@pytest.mark.parametrize("chroma_tenant", ["default_tenant", "acme"])
def test_no_tenant_is_another_name_of_the_default_one(chroma_tenant: str) -> None:
    settings = load_settings(store="http://db:8000", chroma_tenant=chroma_tenant)

    for use in (settings_of, prepare):
        with pytest.raises(InvalidArgumentError, match="tenant"):
            use(settings, chroma_tenant)
    assert settings_of(settings, "other").chroma_tenant == "other"


@pytest.mark.parametrize(
    "given", [{"store": "http://db:8000"}, {"store": "http://db:8000", "spool": "/tmp/s"}, {}]
)
def test_no_tenant_s_spool_lies_in_another_s(tmp_path: Path, given: dict[str, Any]) -> None:
    settings = load_settings(**({"store": str(tmp_path), "spool": str(tmp_path / "sp")} | given))
    paths = [settings_of(settings, name).spool_path for name in ("default", "acme", "acme-2")]

    assert len(set(paths)) == 3
    assert not [(a, b) for a in paths for b in paths if a in b.parents]


def test_a_tenant_of_a_chroma_server_is_the_chroma_tenant_of_that_name(
    server: Any, tmp_path: Path
) -> None:
    settings = load_settings(store=server.url, spool=str(tmp_path / "spool"))
    prepare(settings, "acme-made")
    prepare(settings, "acme-made")  # what is there already stays

    own = settings_of(settings, "acme-made")
    assert own.chroma_tenant == "acme-made"
    autotrace.configure(
        server.url, chroma_tenant="acme-made", spool=str(own.spool_path), embedder=HashEmbedder()
    )
    try:
        with autotrace.task("in a tenant of its own") as t:
            pass
        assert autotrace.flush()
        assert autotrace.get_trace(t.trace_id).task == "in a tenant of its own"
    finally:
        autotrace.shutdown()
