"""A store is a folder or the URL of a Chroma server; what is nearly a URL is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import autotrace
from autotrace.base.store_location import why_not_a_place
from autotrace.errors import InvalidArgumentError
from autotrace.settings import load_settings

MEANT = {
    "localhost:8000": "http://localhost:8000",
    "127.0.0.1:8000": "http://127.0.0.1:8000",
    "chroma:8000/": "http://chroma:8000/",
    "db.example.com:443": "http://db.example.com:443",
    "my_host:1": "http://my_host:1",
    "[::1]:8000": "http://[::1]:8000",
    "//127.0.0.1:8000": "http://127.0.0.1:8000",
    "http:/127.0.0.1:8000": "http://127.0.0.1:8000",
    "http:127.0.0.1:8000": "http://127.0.0.1:8000",
    r"http:\\127.0.0.1:8000": "http://127.0.0.1:8000",
    "HTTPS:chroma": "http://chroma",
    "http:": "http://host:port",
    "http://127.0.0.1:8000/chroma": "http://127.0.0.1:8000",
    "https://db:8000?x=1": "https://db:8000",
}


@pytest.mark.parametrize(("store", "meant"), MEANT.items())
def test_what_is_nearly_a_url_is_refused_with_the_url_that_was_meant(
    store: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidArgumentError) as caught:
        autotrace.configure(store)

    assert str(caught.value).startswith("store=")
    assert meant in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "store",
    [
        *("", " ", " /tmp/store", "/tmp/store\n", "/tmp/a\x00b", "\u00a0store"),
        *("file:///tmp/x", "s3://bucket/x", "sqlite:///x.db", "chroma://127.0.0.1:8000", "://x"),
        *(
            "http://",
            "http:///x",
            "http://:8000",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:port",
        ),
        *("http://127.0.0.1:0", "http://[::1", "http://127.0.0.1:-1"),
    ],
)
def test_what_is_no_place_is_refused_with_what_is(store: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Chroma server") as caught:
        load_settings(store=store)

    assert str(caught.value).startswith("store=")


@pytest.mark.parametrize(
    "store",
    [
        *("store", "./localhost:8000", "/tmp/localhost:8000", "~/x", "a b", "C:\\store", "C:store"),
        *("run:1:2", "my:store", "8000", "数据", "http", "https-store", "x/http:"),
        *(
            "http://db:8000",
            "https://db",
            "HTTP://DB:8000/",
            "http://[::1]:8000",
            "http://10.0.0.1",
        ),
    ],
)
def test_folders_and_servers_are_places(store: str) -> None:
    assert why_not_a_place(store) is None


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        load_settings(store="http://me:geheim@db:8000")

    assert "geheim" not in str(caught.value)
    assert "http://(not shown)@db:8000" in str(caught.value)
    assert "chroma_headers" in str(caught.value)


def test_a_proxy_that_is_asked_in_vain_is_named() -> None:
    proxy = {"HTTP_PROXY": "http://me:geheim@127.0.0.1:9", "NO_PROXY": ""}
    asked = [
        str(Path(sys.executable).with_name("autotrace")),
        "traces",
        "--store",
        "http://chroma.invalid:8000",
    ]

    answer = subprocess.run(asked, env=os.environ | proxy, capture_output=True, text=True)

    assert answer.returncode == 1
    assert "the proxy http://(not shown)@127.0.0.1:9" in answer.stderr
    assert "geheim" not in answer.stderr
