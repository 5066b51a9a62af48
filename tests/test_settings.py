"""Settings: arguments win over the environment, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

import autotrace
from autotrace import ChromaSpanExporter
from autotrace.errors import InvalidArgumentError
from autotrace.settings import ServerSettings, Settings, load_server_settings, load_settings

DOCS = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"


def test_every_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTRACE_STORE", "http://127.0.0.1:8000")
    monkeypatch.setenv("AUTOTRACE_MAX_VALUE_BYTES", "1000")
    monkeypatch.setenv("AUTOTRACE_CAPTURE_RESULT", "false")
    monkeypatch.setenv("AUTOTRACE_REDACT_KEYS", '["card_number"]')

    settings = load_settings()

    assert settings.model_dump(
        include={"store", "max_value_bytes", "capture_result", "redact_keys"}
    ) == {
        "store": "http://127.0.0.1:8000",
        "max_value_bytes": 1000,
        "capture_result": False,
        "redact_keys": ["card_number"],
    }


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTRACE_AGENT", "from-environment")

    assert load_settings(agent="from-argument").agent == "from-argument"
    assert load_settings().agent == "from-environment"


def test_a_bad_argument_is_named_with_what_is_allowed() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings(max_value_bytes=3)

    assert caught.value.field == "max_value_bytes"
    assert "greater than or equal to 256" in str(caught.value)


def test_a_bad_variable_is_named_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTRACE_FLUSH_INTERVAL_MS", "soon")

    with pytest.raises(InvalidArgumentError) as caught:
        load_settings()

    assert caught.value.field == "AUTOTRACE_FLUSH_INTERVAL_MS"


def test_an_unknown_setting_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings(flush_intervall_ms=3)

    assert "flush_interval_ms" in str(caught.value)


def test_a_misspelled_setting_is_refused_with_similar_names() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings(flush_intervall_ms=3)

    assert "flush_interval_ms" in str(caught.value)
    assert "chroma_tenant" not in str(caught.value)


def test_a_variable_that_is_nearly_a_setting_is_named_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("STOER", "Redact_Key", "SERVER_PROT"):
        monkeypatch.setenv(f"AUTOTRACE_{name}", "hidden value")
    # A program's own, and those that Kubernetes sets for services of such names.
    for name in ("KEY", "STORE_2", "STORE2", "AGENT_ID", "SERVER_URL", "SERVER_KEYS", "MODE"):
        monkeypatch.setenv(f"AUTOTRACE_{name}", "hidden value")
    for name in ("PORT", "SERVICE_HOST", "SERVER_PORT_80_TCP", "SERVER_SERVICE_PORT"):
        monkeypatch.setenv(f"AUTOTRACE_{name}", "hidden value")

    autotrace.configure(tmp_path)
    notes = autotrace.health().notes
    autotrace.shutdown()

    assert notes == [
        "AUTOTRACE_Redact_Key names no setting; a similar one is AUTOTRACE_REDACT_KEYS",
        "AUTOTRACE_SERVER_PROT names no setting; a similar one is AUTOTRACE_SERVER_PORT",
        "AUTOTRACE_STOER names no setting; a similar one is AUTOTRACE_STORE",
    ]


@pytest.mark.parametrize("store", [3, b"store", ["store"]])
def test_a_store_that_is_not_a_path_is_refused(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for refused in (lambda: autotrace.configure(store), lambda: ChromaSpanExporter(store)):
        with pytest.raises(InvalidArgumentError, match="it must be a folder"):
            refused()
    assert list(tmp_path.iterdir()) == []


def test_a_server_has_a_spool_folder_named_after_it() -> None:
    assert load_settings(store="http://db:8000").spool_path.name == "spool-db-8000"
    assert load_settings(store="/data/x").spool_path == Path("/data/x/spool").resolve()
    assert load_settings(store="x", spool="/tmp/elsewhere").spool_path == Path("/tmp/elsewhere")


def test_tenants_and_databases_of_a_server_have_spools_of_their_own() -> None:
    """What waits in one spool is stored in one place."""
    db = "http://db:8000"
    places = [("default_tenant", "default_database")]
    places += [("acme", "default_database"), ("default_tenant", "acme"), ("a-b", "c"), ("a", "b-c")]
    places += [("a/b", "c"), ("a", "b/c"), ("x" * 300, "y"), ("x" * 300, "z")]
    found = [load_settings(store=db, chroma_tenant=t, chroma_database=d) for t, d in places]

    names = [settings.spool_path.name for settings in found]

    assert names[0] == "spool-db-8000"
    assert names[1].startswith("spool-db-8000-acme-default-database-")
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < 200
    assert {settings.spool_path.parent for settings in found} == {Path(".autotrace").resolve()}
    assert len({settings.receipt_key_path for settings in found}) == len(names)


def test_headers_with_a_token_are_not_shown() -> None:
    settings = load_settings(chroma_headers={"Authorization": "Bearer abcdef"})

    assert "abcdef" not in repr(settings)


@pytest.mark.parametrize("kind", [Settings, ServerSettings])
def test_every_setting_is_in_the_docs_with_its_default(kind: type[BaseSettings]) -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, field in kind.model_fields.items():
        assert f"`{name}`" in text, f"{name} is missing in {DOCS.name}"
        if isinstance(field.default, int | str) and not isinstance(field.default, bool):
            assert str(field.default) in text.replace(",", ""), f"default of {name}"


def test_a_secret_is_not_shown_when_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTRACE_CHROMA_HEADERS", "Bearer abcdef")
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings()
    assert (caught.value.field, "abcdef" in str(caught.value)) == (
        "AUTOTRACE_CHROMA_HEADERS",
        False,
    )

    monkeypatch.delenv("AUTOTRACE_CHROMA_HEADERS")
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings(chroma_headers="Bearer abcdef")
    assert "abcdef" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("approval_webhook_url", "hooks.example.com/TOKEN"),
        ("approval_slack_url", "ftp://hooks.example.com/TOKEN"),
        ("approval_webhook_url", {"url": "TOKEN"}),
        ("approval_webhook_secret", ["TOKEN"]),
    ],
)
def test_a_route_that_is_refused_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings(**{name: value})
    assert caught.value.field == name
    assert "TOKEN" not in str(caught.value)

    if isinstance(value, str):
        monkeypatch.setenv(f"AUTOTRACE_{name.upper()}", value)
        with pytest.raises(InvalidArgumentError, match=f"AUTOTRACE_{name.upper()}") as caught:
            load_settings()
        assert "TOKEN" not in str(caught.value)


def test_routes_for_approval_are_not_shown() -> None:
    url = "https://me:TOKEN@hooks.example.com/TOKEN"
    webhook = load_settings(approval_webhook_url=url, approval_webhook_secret="TOKEN")
    slack = load_settings(approval_slack_url=url)

    assert webhook.approval_webhook_url == slack.approval_slack_url == url
    assert "TOKEN" not in repr(webhook) + repr(slack)


def test_there_is_one_default_route() -> None:
    url = "https://hooks.example.com/TOKEN"

    with pytest.raises(InvalidArgumentError, match="beside approval_webhook_url") as caught:
        load_settings(approval_webhook_url=url, approval_slack_url=url)
    assert "TOKEN" not in str(caught.value)


def test_a_store_that_another_process_makes_meanwhile_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looks = tmp_path / "store", []
    exists, is_dir = Path.exists, Path.is_dir

    def looked(look: Any) -> Any:
        def answer(path: Path, **options: Any) -> bool:
            seen = look(path, **options)
            if path == store.resolve() and not looks:
                looks.append(path)
                store.mkdir()
            return seen

        return answer

    monkeypatch.setattr(Path, "exists", looked(exists))
    monkeypatch.setattr(Path, "is_dir", looked(is_dir))
    assert load_settings(store=str(store)).store == str(store)
    assert looks == [store]


def test_a_server_s_settings_are_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTRACE_SERVER_PORT", "9000")
    monkeypatch.setenv("AUTOTRACE_SERVER_CORS_ORIGINS", '["https://a.example.com"]')

    settings = load_server_settings(workers=2)

    assert (settings.port, settings.workers) == (9000, 2)
    assert settings.cors_origins == ["https://a.example.com"]
    assert load_server_settings(port=0).port == 0
    monkeypatch.setenv("AUTOTRACE_SERVER_PORT", "a lot")
    with pytest.raises(InvalidArgumentError, match="AUTOTRACE_SERVER_PORT"):
        load_server_settings()


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_loopback_is_told_by_the_address(host: str, is_loopback: bool) -> None:
    assert load_server_settings(host=host).is_loopback is is_loopback
