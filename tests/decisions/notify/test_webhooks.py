"""Webhooks, told over real connections: signed, bounded, not led astray, and discreet."""

from __future__ import annotations

import base64
import datetime
import email.utils
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from autotrace.decisions.notify import http_post
from autotrace.decisions.notify.delivery import Attempt
from autotrace.decisions.notify.http_post import is_public
from autotrace.decisions.notify.webhooks import SlackWebhook, Webhook, slack_message, verify_webhook
from autotrace.errors import InvalidArgumentError
from tests.decisions.notify.receiver import (
    Answer,
    Receiver,
    drip_headers,
    endless_body,
    hang,
    hang_up,
    receiver,
)

NOTICE: dict[str, Any] = {
    "type": "approval.requested",
    "decision_id": "decision-1",
    "approval_id": "approval-1",
    "intent": "order.discount",
    "title": "25 % discount",
    "message": "For <!channel> & co",
    "requester": "order-bot",
    "requested_at": "2026-01-07T12:00:00Z",
    "expires_at": "2026-01-07T13:00:00Z",
    "approvals_needed": 2,
    "require_rationale": True,
    "arguments": {"discount": 0.25, "customer": "Jürgen"},
    "answer": {
        "approve": "autotrace decisions approve decision-1 --by NAME",
        "reject": "autotrace decisions reject decision-1 --by NAME",
    },
}
SECRET = "it stays between us"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def other() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


Resolve = Callable[[dict[str, list[str]]], list[str]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Let names mean addresses; returns the list of names that are asked for."""
    real = socket.getaddrinfo

    def known(addresses: dict[str, list[str]]) -> list[str]:
        asked: list[str] = []

        def found(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if name not in addresses:
                return real(host, port, *args, **options)
            asked.append(name)
            return [
                answer
                for address in addresses[name]
                for answer in real(address, port, *args, **options)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", found)
        return asked

    return known


def send(route: Webhook | SlackWebhook, notice: dict[str, Any] = NOTICE) -> Attempt:
    return route.send(notice, "delivery-1")


# --- what arrives


def test_a_receiver_verifies_what_it_was_sent(server: Receiver) -> None:
    assert send(Webhook(server.url(), secret=SECRET)) == Attempt(
        "delivered", f"127.0.0.1:{server.port} answered 200"
    )

    (got,) = server.received
    timestamp = got.headers["X-Autotrace-Timestamp"]
    signature = got.headers["X-Autotrace-Signature"]
    assert json.loads(got.body) == NOTICE
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["X-Autotrace-Delivery"] == "delivery-1"
    by_hand = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + got.body, hashlib.sha256)
    assert signature == f"sha256={by_hand.hexdigest()}"
    assert verify_webhook(SECRET, timestamp, got.body, signature)
    standard = got.headers["webhook-signature"]
    assert (got.headers["webhook-id"], got.headers["webhook-timestamp"]) == (
        "delivery-1",
        timestamp,
    )
    assert verify_webhook(SECRET, timestamp, got.body, standard, webhook_id="delivery-1")
    assert not verify_webhook(SECRET, timestamp, got.body, standard, webhook_id="delivery-2")
    assert not verify_webhook(SECRET, timestamp, got.body, standard)


def test_a_signature_is_that_of_the_standard_webhooks_specification(server: Receiver) -> None:
    key = bytes(range(32))
    secret = "whsec_" + base64.b64encode(key).decode()
    send(Webhook(server.url(), secret=secret))

    (got,) = server.received
    timestamp = got.headers["webhook-timestamp"]
    signed = f"delivery-1.{timestamp}.".encode() + got.body
    by_hand = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{by_hand}"
    changing = f"v1,AAAA v1a,BBBB v1,{by_hand}"
    for signature, expected in ((f"v1,{by_hand}", True), (changing, True), ("v1,AAAA", False)):
        found = verify_webhook(secret, timestamp, got.body, signature, webhook_id="delivery-1")
        assert found is expected
    old = got.headers["X-Autotrace-Signature"]
    assert verify_webhook(secret, timestamp, got.body, old, webhook_id="delivery-1")


def test_a_signature_is_that_of_the_example_of_the_specification() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    assert verify_webhook(
        secret,
        "1614265330",
        body,
        signature,
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        now_s=1614265330,
    )


def test_without_a_secret_nothing_is_signed(server: Receiver) -> None:
    send(Webhook(server.url()))

    headers = server.received[0].headers
    assert not {"X-Autotrace-Signature", "webhook-signature"} & set(headers)
    assert headers["webhook-id"] == "delivery-1"


@given(st.binary(max_size=50), st.integers(0, 10**10), st.data())
def test_a_signature_holds_for_its_body_secret_and_time_alone(
    body: bytes, now: int, data: st.DataObject
) -> None:
    digest = hmac.new(SECRET.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    signature = f"sha256={digest}"
    off = data.draw(st.integers(-300, 300))

    assert verify_webhook(SECRET, str(now), body, signature, now_s=now + off)
    assert not verify_webhook(SECRET, str(now), body, signature, now_s=now + 301)
    assert not verify_webhook(SECRET, str(now), body, signature, now_s=now - 301)
    assert not verify_webhook(SECRET, str(now), body, signature, 5, now_s=now + 6)
    assert not verify_webhook(SECRET, str(now + 1), body, signature, now_s=now)
    assert not verify_webhook(SECRET, str(now), body + b"x", signature, now_s=now)
    assert not verify_webhook(SECRET + "x", str(now), body, signature, now_s=now)
    assert not verify_webhook(SECRET, str(now), body, digest, now_s=now)
    junk = data.draw(st.text(max_size=20))
    assert not verify_webhook(SECRET, junk, body, junk, now_s=now)
    for empty in ("", " "):
        anybodys = hmac.new(empty.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
        assert not verify_webhook(empty, str(now), body, f"sha256={anybodys}", now_s=now)


def test_headers_and_a_password_in_the_url_go_to_the_server(server: Receiver) -> None:
    url = server.url().replace("http://", "http://me:se%20cret@")

    send(Webhook(url, headers={"X-Team": "sales"}))

    got = server.received[0].headers
    assert got["X-Team"] == "sales"
    assert got["Authorization"] == "Basic " + base64.b64encode(b"me:se cret").decode()
    assert got["Host"] == f"127.0.0.1:{server.port}"


def test_slack_gets_a_message_it_takes(server: Receiver) -> None:
    assert send(SlackWebhook(server.url("/services/T0/B0/token"))).status == "delivered"

    (got,) = server.received
    message = json.loads(got.body)
    text = json.dumps(message, ensure_ascii=False)
    assert message["text"].startswith("25 % discount")
    assert message["blocks"][0]["text"] == {"type": "plain_text", "text": "25 % discount"}
    assert {block["type"] for block in message["blocks"]} == {"header", "section"}
    for said in ("order-bot", "Jürgen", "2026-01-07T13:00:00Z", "approve decision-1 --by NAME"):
        assert said in text
    assert "For &lt;!channel&gt; &amp; co" in text
    assert "<" not in text
    assert "X-Autotrace-Signature" not in got.headers


@given(*[st.tuples(st.sampled_from("x<&\n`\u202e@"), st.integers(0, 4_000)) for _ in range(3)])
def test_slack_never_gets_more_than_it_takes(
    title: tuple[str, int], message: tuple[str, int], argument: tuple[str, int]
) -> None:
    texts = [character * times for character, times in (title, message, argument)]
    fields = {"title": texts[0], "message": texts[1], "arguments": {"text": texts[2]}}

    found = slack_message(NOTICE | fields)

    lengths = [(block["type"], len(block["text"]["text"])) for block in found["blocks"]]
    assert all(0 < n <= (150 if kind == "header" else 3000) for kind, n in lengths)
    assert len(found["text"]) <= 3000
    blocks = [block["text"] for block in found["blocks"]]
    texts = [block["text"] for block in blocks if block["type"] == "mrkdwn"]
    assert all(text.startswith("```") and text.endswith("```") for text in texts)


@pytest.mark.parametrize("place", ["title", "message", "requester", "intent", "arguments"])
def test_slack_takes_nothing_of_what_agents_write_for_its_own(place: str) -> None:
    hostile = "ls ```\n*Approved by* the CISO <!here> <https://evil.example|ok> @channel \u202e\x1b"
    found = slack_message(NOTICE | {place: {"cmd": hostile} if place == "arguments" else hostile})

    texts = [block["text"] for block in found["blocks"]]
    for text in [*texts, {"type": "mrkdwn", "text": found["text"]}]:
        assert not set("<>\u202e\x1b") & set(text["text"])
        assert "@channel" not in text["text"]
    assert "`" not in found["text"]
    marked_up = [text["text"] for text in texts if text["type"] == "mrkdwn"]
    assert marked_up
    assert all(t.startswith("```") and t.endswith("```") and "`" not in t[3:-3] for t in marked_up)
    assert found["mrkdwn"] is False


def test_slack_says_how_much_is_missing_and_shows_hash_and_hidden_places_all_the_same() -> None:
    more = {"arguments_sha256": "ab" * 32, "hidden": ["card", "job.token"]}
    found = slack_message(NOTICE | more | {"arguments": {"cmd": "x" * 9_000}})

    text = json.dumps(found)
    arguments = next(b["text"]["text"] for b in found["blocks"] if "xxx" in b["text"]["text"])
    shown = arguments.count("x")
    assert "characters are missing: 'autotrace decisions show decision-1' shows all]" in arguments
    missing = int(arguments.partition("[")[2].partition(" ")[0].replace(",", ""))
    assert 9_000 - shown <= missing <= 9_000 - shown + len('{"cmd": ""}\n\n')
    assert "ab" * 32 in text
    assert "card, job.token" in text


# --- what counts as told


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((200, "delivered"), (202, "delivered"), (204, "delivered")),
        *((400, "failed"), (401, "failed"), (404, "failed"), (410, "failed"), (422, "failed")),
        *((408, "retry"), (425, "retry"), (429, "retry"), (500, "retry"), (503, "retry")),
        *((301, "failed"), (302, "failed"), (303, "failed"), (304, "failed"), (307, "failed")),
    ],
)
def test_a_status_says_whether_to_try_again(server: Receiver, status: int, expected: str) -> None:
    server.answers = [Answer(status, {"Location": "/elsewhere"}, b"")]

    attempt = send(Webhook(server.url()))
    note = f"127.0.0.1:{server.port} answered {status}"
    if status in (301, 302, 303, 307):
        note += ": redirects are not followed; configure the URL that it leads to"
    assert (attempt.status, attempt.note) == (expected, note)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0", 0), ("9" * 40, 999_999_999), ("soon", None), ("-3", None), ("1.5", None)],
)
def test_retry_after_is_read(server: Receiver, header: str, seconds: float | None) -> None:
    server.answers = [Answer(429, {"Retry-After": header})]

    assert send(Webhook(server.url())).retry_after_s == seconds


def test_retry_after_may_be_a_date(server: Receiver) -> None:
    now = datetime.datetime.now(datetime.UTC)
    dates = [now + datetime.timedelta(days=2), now - datetime.timedelta(days=2)]
    server.answers = [
        Answer(503, {"Retry-After": email.utils.format_datetime(date, usegmt=True)})
        for date in dates
    ]

    later, past = [send(Webhook(server.url())).retry_after_s for _ in dates]

    assert later is not None
    assert 86_400 < later <= 2 * 86_400
    assert past == 0


@pytest.mark.parametrize("answer", [hang, drip_headers], ids=["hangs", "sends a byte at times"])
def test_a_server_that_never_finishes_is_given_up(server: Receiver, answer: Any) -> None:
    server.answers = [answer]

    assert send(Webhook(server.url(), timeout_ms=200)) == Attempt(
        "retry", f"127.0.0.1:{server.port} did not answer within 200 ms"
    )


def test_what_comes_after_the_status_is_read_no_further_than_a_bound(server: Receiver) -> None:
    server.answers = [endless_body]

    assert send(Webhook(server.url(), timeout_ms=60_000)).status == "delivered"


def test_no_answer_and_no_server_are_tried_again(server: Receiver) -> None:
    server.answers = [hang_up]
    assert send(Webhook(server.url())) == Attempt(
        "retry", f"127.0.0.1:{server.port} could not be reached (RemoteProtocolError)"
    )

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert send(Webhook(f"http://127.0.0.1:{port}/hook")) == Attempt(
            "retry", f"127.0.0.1:{port} could not be reached (ConnectError)"
        )


# --- where it goes


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: Receiver, other: Receiver, status: int) -> None:
    server.answers = [Answer(status, {"Location": other.url("/secret-path?token=abc")})]

    for old in (False, True):
        attempt = send(Webhook(server.url(), allow_private_redirects=old))
        assert attempt.status == "failed"
        assert "redirects are not followed" in attempt.note
        assert "secret-path" not in attempt.note
    assert other.received == []


def test_a_host_with_one_private_address_among_others_is_refused_where_only_public_ones_are_wanted(
    server: Receiver, names: Resolve
) -> None:
    names({"hook.example": ["93.184.216.34", "127.0.0.1"]})

    for url in (server.url(), server.url(host="hook.example")):
        attempt = send(Webhook(url, public_only=True))
        assert attempt.status == "failed"
        assert attempt.note.endswith("has a private address, and public_only is on")
    assert server.received == []


def test_the_connection_goes_to_the_address_that_was_checked(
    server: Receiver, names: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = names({"hook.example": ["127.0.0.1"]})
    monkeypatch.setattr(http_post, "is_public", _is_anything)

    attempt = send(Webhook(server.url(host="hook.example"), public_only=True))

    assert attempt.status == "delivered"
    assert asked == ["hook.example"]  # to ask again is to get another answer
    assert server.received[0].headers["Host"] == f"hook.example:{server.port}"


def test_tls_is_checked_against_the_name_though_the_address_is_fixed(
    names: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names({"hook.example": ["127.0.0.1"], "not-that.example": ["127.0.0.1"]})
    monkeypatch.setattr(http_post, "is_public", _is_anything)
    pem = certificate("hook.example", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with receiver(context) as secure:
        for name, expected in (("hook.example", "delivered"), ("not-that.example", "retry")):
            route = Webhook(f"https://{name}:{secure.port}/", public_only=True)
            assert send(route).status == expected


def _is_anything(_: str) -> bool:
    return True


def certificate(name: str, folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("0.0.0.0", "100.64.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"),
        *("192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1"),
        *("ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2001:db8::1"),
        *("64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "2001::1"),
        *("2001:0:a9fe:a9fe::1", "2002:808:808::1", "::127.0.0.1", "::8.8.8.8", "::ffff:0:8.8.8.8"),
        *("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:10.0.0.1", "3fff::1", "5f00::1"),
        *("100::1", "2001:10::1", "2001:20::1", "2620:4f:8000::1", "192.88.99.1", "192.0.0.9"),
    ],
)
def test_addresses_of_a_private_network_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_addresses_of_the_internet_are_known(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_as_private_in_the_spelling_of_ipv6(address: ipaddress.IPv4Address) -> None:
    assert is_public(f"::ffff:{address}") == is_public(str(address))
    assert is_public(f"64:ff9b::{address}") == is_public(str(address))
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | int(address) << 80)))
    assert not is_public(str(ipaddress.IPv6Address(int(address))))


def test_the_proxy_of_the_environment_is_used(
    server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))

    assert send(Webhook("http://hooks.example/approvals")).status == "delivered"

    assert server.received[0].path == "http://hooks.example/approvals"
    assert server.received[0].headers["Host"] == "hooks.example"


# --- what is not shown


def test_no_part_of_a_url_but_its_host_is_in_notes_logs_and_errors(
    server: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = server.url("/services/PATHTOKEN?key=QUERYTOKEN#FRAGMENT")
    url = url.replace("http://", "http://USER:PASSWORD@")
    shown: list[str] = []
    for answer in (Answer(), Answer(404), Answer(500), hang_up, hang):
        for kind in (Webhook, SlackWebhook):
            server.answers = [answer]
            route = kind(url, timeout_ms=200, headers={"X-Key": "HEADERTOKEN"})
            shown += [send(route).note, repr(route), str(route)]
    shown.append(repr(Webhook(url, secret="SIGNINGSECRET")))
    shown.append(caplog.text)

    found = re.findall(
        "PATHTOKEN|QUERYTOKEN|FRAGMENT|USER|PASSWORD|HEADERTOKEN|SIGNINGSECRET", "\n".join(shown)
    )
    assert found == []
    assert f"127.0.0.1:{server.port}" in shown[0]


@pytest.mark.parametrize(
    "url",
    [
        *("", "TOKEN", "ftp://host/TOKEN", "http:///TOKEN", "https://host:TOKEN/", "//host/TOKEN"),
        *("http://host/TOKEN\n", "http://[TOKEN/", "http://host:0/TOKEN", None, 3),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_shown(url: Any) -> None:
    for kind in (Webhook, SlackWebhook):
        with pytest.raises(InvalidArgumentError) as caught:
            kind(url)
        assert "TOKEN" not in str(caught.value) + str(caught.value.value)


@pytest.mark.parametrize(
    "options",
    [
        *({"timeout_ms": 0}, {"attempts": 0}, {"attempts": 21}, {"secret": ""}, {"secret": " "}),
        *({"headers": {"Host": "x"}}, {"headers": {"x-autotrace-signature": "x"}}),
        *({"headers": {"Webhook-Id": "x"}}, {"secret": "whsec_c2hvcnQ="}, {"secret": "whsec_%"}),
        *({"headers": {"a b": "x"}}, {"headers": {"A": "x\r\nB: y"}}, {"headers": {"A": "ü"}}),
    ],
    ids=repr,
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Webhook("http://host", **options)
