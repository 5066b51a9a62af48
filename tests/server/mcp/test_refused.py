"""Refusals towards clients that have shaken hands: errors under their ids, and no status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp.client import Client

from autotrace.server.request_body import MCP_PATHS
from tests.server.mcp.conftest import Api, Running, open_api
from tests.server.mcp.test_clients import MODES, over_http, refusal

MAX_BODY_BYTES = 20_000
BOTH = {"Accept": "application/json, text/event-stream"}
HANDSHAKES = {
    "revision": {"MCP-Protocol-Version": "2025-06-18", "Accept": "*/*"},
    "session": {"Mcp-Session-Id": "s", "Accept": "*/*"},
    "before revisions were named": {"Accept": "text/event-stream;q=1, Application/JSON"},
    "newest": BOTH | {"MCP-Protocol-Version": "2026-07-28"},
}
"""What clients of each revision say with every request."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    store = tmp_path_factory.mktemp("small") / "store"
    with open_api(store, max_body_bytes=MAX_BODY_BYTES, max_json_depth=8) as opened:
        yield opened


def post(api: Api, body: bytes, headers: dict[str, str], path: str = "/mcp") -> httpx.Response:
    own = {"Authorization": f"Bearer {api.keys['bot']}", "Content-Type": "application/json"}
    return api.client.post(path, content=body, headers=own | headers)


def step_of(trace_id: str, request_id: Any = 1, thought: str = "t", **last: Any) -> bytes:
    arguments = {"trace_id": trace_id, "thought": thought, "action": "a"}
    params = {"name": "trace_step", "arguments": arguments}
    message = {"method": "tools/call", "params": params, "jsonrpc": "2.0", "id": request_id}
    return json.dumps(message | last).encode()


@pytest.mark.parametrize("handshake", HANDSHAKES)
def test_another_agents_trace_is_an_error_in_200_to_a_client_and_403_to_a_plain_post(
    api: Api, handshake: str
) -> None:
    theirs = api.call("trace_start", by="other", task="t", session_id="s")["trace_id"]

    plain = post(api, step_of(theirs), {"Accept": "*/*"})
    answer = post(api, step_of(theirs), HANDSHAKES[handshake])

    assert plain.status_code == 403
    if handshake != "newest":  # which needs more than a header
        assert answer.status_code == 200
        assert answer.json() == plain.json()


@pytest.mark.parametrize("path", MCP_PATHS)
@pytest.mark.parametrize("handshake", HANDSHAKES)
def test_a_body_that_is_too_large_is_an_error_under_the_id_of_the_request(
    small: Api, handshake: str, path: str
) -> None:
    long = {"thought": 'x"id":9}' * MAX_BODY_BYTES}
    behind = step_of("t", "q", **long)
    before = json.dumps({"jsonrpc": "2.0", "id": -7, "method": "m", "params": long}).encode()

    for body, request_id in ((behind, "q"), (before, -7)):
        answer = post(small, body, HANDSHAKES[handshake], path)
        assert answer.status_code == 200
        assert answer.json() == {
            "jsonrpc": "2.0",
            "id": request_id,
            "error": {
                "code": -32600,
                "message": "Invalid Request",
                "data": f"the body is larger than {MAX_BODY_BYTES} bytes",
            },
        }
        assert post(small, body, {"Accept": "*/*"}, path).status_code == 413


def test_what_cannot_be_answered_under_an_id_keeps_its_status(small: Api) -> None:
    params = {"a": "x" * MAX_BODY_BYTES}
    unknown = {"method": "m", "params": params, "id": 5, "jsonrpc": "2.0", "more": {"id": 6}}

    assert post(small, json.dumps(unknown).encode(), BOTH).status_code == 413
    assert post(small, b"x" * 2 * MAX_BODY_BYTES, BOTH).status_code == 413


def test_json_that_is_too_deep_is_an_error_under_the_id(small: Api) -> None:
    body = step_of("t", 3, params="DEEP").replace(b'"DEEP"', b'{"a":' * 9 + b"1" + b"}" * 9)

    answer = post(small, body, BOTH)

    assert (answer.status_code, answer.json()["id"]) == (200, 3)
    assert answer.json()["error"]["data"] == "the JSON is nested deeper than 8"
    assert post(small, body, {}).status_code == 422


def test_a_key_that_asks_too_often_is_told_so_under_the_id(tmp_path: Path) -> None:
    with open_api(tmp_path / "store", requests_per_second=0.001, request_burst=3) as hasty:
        ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
        ready = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'
        for _ in range(3):
            assert post(hasty, ping, BOTH).json() == {"jsonrpc": "2.0", "id": 1, "result": {}}

        answer = post(hasty, ping, BOTH)

        assert (answer.status_code, answer.json()["id"]) == (200, 1)
        assert answer.json()["error"]["code"] == -32603
        assert "asks for more than" in answer.json()["error"]["data"]
        assert int(answer.headers["Retry-After"]) > 0
        assert post(hasty, ping, {"Accept": "*/*"}).status_code == 429
        # Nothing is answered to these, and a status would end the session.
        noticed = post(hasty, ready, BOTH)
        assert (noticed.status_code, noticed.content) == (202, b"")


def test_a_missing_key_and_a_foreign_page_get_their_statuses(api: Api) -> None:
    ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'

    assert post(api, ping, BOTH | {"Authorization": "Bearer atk_no"}).status_code == 401
    assert post(api, ping, BOTH | {"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("mode", MODES)
def test_the_session_of_the_official_client_goes_on_after_a_refusal(
    server: Running, mode: str
) -> None:
    async def work(client: Client) -> None:
        arguments = {"trace_id": "t", "thought": "x" * 2_000_000, "action": "a"}
        code, _, data = await refusal(client, "trace_step", **arguments)
        assert (code, data) == (-32600, "the body is larger than 1048576 bytes")
        assert (await client.call_tool("tool_stats", {})).structured_content is not None

    async def running() -> None:
        async with over_http(server, mode)() as client:
            await work(client)

    anyio.run(running)


def test_initialize_is_negotiated_whatever_revision_the_header_names(api: Api) -> None:
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}

    for revision in ("2099-01-01", "2026-07-28", "2025-06-18"):
        answer = post(api, json.dumps(body).encode(), BOTH | {"MCP-Protocol-Version": revision})
        assert answer.json()["result"]["protocolVersion"] == "2025-06-18"


def test_types_are_read_whatever_their_case(api: Api) -> None:
    ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'

    answer = post(api, ping, {"Content-Type": "Application/JSON; charset=UTF-8"})

    assert answer.json() == {"jsonrpc": "2.0", "id": 1, "result": {}}


def test_half_a_character_and_nan_are_taken(api: Api) -> None:
    body = (
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "trace_start",'
        b' "arguments": {"task": "Plan \\ud83c", "session_id": "s", "more": NaN}}}'
    )

    for sent in (body, b"\xef\xbb\xbf" + body):
        answer = post(api, sent, {"Accept": "*/*"}).json()
        assert answer["result"]["structuredContent"]["task"] == "Plan \ufffd"


def test_a_response_of_the_client_is_acknowledged(api: Api) -> None:
    for response in (b'{"jsonrpc":"2.0","id":5,"result":{}}', b'{"jsonrpc":"2.0","method":"n"}'):
        answer = post(api, response, BOTH)
        assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize("request_id", ["1.0", "1.5", "99999999999999999999"])
def test_a_number_that_is_no_id_is_refused_under_itself(api: Api, request_id: str) -> None:
    body = b'{"jsonrpc": "2.0", "id": %b, "method": "ping"}' % request_id.encode()

    for headers in ({"Accept": "*/*"}, BOTH):
        answer = post(api, body, headers).json()
        assert answer["id"] == float(request_id)
        assert answer["error"]["data"] == "id must be a string or a whole number"


def test_each_request_of_a_batch_is_refused_under_its_id(api: Api) -> None:
    ping = {"jsonrpc": "2.0", "method": "ping"}
    batch = json.dumps([ping | {"id": 1}, ping, ping | {"id": "b"}]).encode()

    answer = post(api, batch, BOTH)

    assert answer.status_code == 200
    assert [each["id"] for each in answer.json()] == [1, "b"]
    assert {each["error"]["code"] for each in answer.json()} == {-32600}
    assert post(api, batch, {"Accept": "*/*"}).json()["id"] is None
