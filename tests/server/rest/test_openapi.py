"""The OpenAPI document is true: of what the server takes, and of what it answers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from autotrace.server.auth.api_keys import KeyRing
from autotrace.settings import load_settings
from tests.server.openapi import operations
from tests.server.serving import App, ServerProcess, environment, serving


def test_every_example_of_a_response_is_as_its_schema_says(app: App) -> None:
    document = app.http.get("/openapi.json").json()
    shown = 0
    for operation in operations(document):
        for response in operation.spec["responses"].values():
            for media in response.get("content", {}).values():
                if "example" in media:
                    schema = {"components": document["components"], **media["schema"]}
                    jsonschema_rs.validate(schema, media["example"])
                    shown += 1
    assert shown >= 8


def test_every_operation_and_every_field_is_described(app: App) -> None:
    document = app.http.get("/openapi.json").json()
    for operation in operations(document):
        assert operation.spec["summary"], operation
        assert operation.spec["description"], operation
        for parameter in operation.spec.get("parameters", ()):
            assert parameter["description"], operation
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Body"):
            for field, of in schema["properties"].items():
                assert of.get("description"), f"{name}.{field}"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--phases", "examples,coverage"), id="systematic"),
        pytest.param(("--max-examples", "50"), id="all", marks=pytest.mark.full_size),
    ],
)
def test_schemathesis_finds_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    with serving(
        tmp_path / "store",
        tmp_path / "log",
        AUTOTRACE_SERVER_REQUESTS_PER_SECOND="0",
        AUTOTRACE_SERVER_MAX_OPEN_TRACES="100000",
    ) as server:
        done = _schemathesis(server, tmp_path, *options)
        failures = [line for line in server.log() if line["level"] == "error"]

    assert done.returncode == 0, done.stdout
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None, done.stdout
    assert int(tested[1]) >= 15
    assert failures == []


def _admins_key(store: Path) -> str:
    ring = KeyRing.of(load_settings(store=str(store)))
    try:
        return ring.create("fuzzer", "default", "admin").key
    finally:
        ring.close()


def _schemathesis(
    server: ServerProcess, folder: Path, *options: str
) -> subprocess.CompletedProcess[Any]:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{server.url}/openapi.json", "--checks", "all"),
        *("--header", f"Authorization: Bearer {_admins_key(folder / 'store')}"),
        *("--seed", "1", "--no-color", "--suppress-health-check", "all", *options),
    ]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=500
    )


@pytest.mark.parametrize("path", ["/openapi.json", "/health", "/health/live"])
def test_what_needs_no_key_is_answered_without_one(app: App, path: str) -> None:
    assert app.http.get(path).status_code == 200
