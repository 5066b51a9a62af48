"""Tenants and databases of one Chroma server, as programs that use them see them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import autotrace
from autotrace import task
from autotrace.store.chroma_tenant import ensure_tenant
from autotrace.store.connection import ServerOptions
from tests.embedders import HashEmbedder
from tests.servers import ChromaServer

REPOSITORY = Path(__file__).parents[2]
DYING = """
import os, sys, autotrace
from tests.embedders import HashEmbedder

autotrace.configure(sys.argv[1], embedder=HashEmbedder(), flush_interval_ms=3_600_000)
with autotrace.task("of the first tenant"):
    pass
os._exit(9)
"""


def test_programs_of_two_tenants_in_one_folder_store_nothing_for_each_other(
    server: ChromaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for tenant in ("first", "second"):
        ensure_tenant(server.url, ServerOptions(tenant=tenant))
    monkeypatch.setenv("AUTOTRACE_CHROMA_TENANT", "first")
    left = subprocess.run(
        [sys.executable, "-c", DYING, server.url],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert left.returncode == 9

    def tasks_of(tenant: str) -> list[str]:
        monkeypatch.setenv("AUTOTRACE_CHROMA_TENANT", tenant)
        autotrace.configure(server.url, embedder=HashEmbedder(), flush_interval_ms=0)
        with task(f"a task of the {tenant}"):
            pass
        try:
            assert autotrace.flush(timeout=500)
            return [found.task for found in autotrace.list_traces()]
        finally:
            autotrace.shutdown()

    assert tasks_of("second") == ["a task of the second"]
    assert tasks_of("first") == ["a task of the first", "of the first tenant"]


@pytest.mark.parametrize("missing", [{"chroma_tenant": "nobody"}, {"chroma_database": "nothing"}])
def test_a_tenant_or_database_that_is_not_there_is_named_with_what_makes_it(
    server: ChromaServer, tmp_path: Path, missing: dict[str, str]
) -> None:
    autotrace.configure(
        server.url, embedder=HashEmbedder(), spool=str(tmp_path / "spool"), **missing
    )

    with pytest.raises(autotrace.StoreUnavailableError) as caught:
        autotrace.list_traces()

    (name,) = missing.values()
    assert f"{name!r}" in str(caught.value)
    assert "autotrace keys create --tenant" in str(caught.value)
    assert "chroma run" not in str(caught.value)
    autotrace.shutdown()
