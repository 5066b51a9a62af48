"""Webhooks for requests for approval, signed as in Standard Webhooks 1.0.

A receiver verifies a request with `verify_webhook`, or with any library of that specification. The
headers `X-Autotrace-…` serve receivers of earlier releases.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from autotrace.decisions.notify.delivery import Attempt
from autotrace.decisions.notify.http_post import Post, post
from autotrace.decisions.notify.slack import slack_message
from autotrace.errors import InvalidArgumentError
from autotrace.semconv import (
    OLD_WEBHOOK_DELIVERY,
    OLD_WEBHOOK_SIGNATURE,
    OLD_WEBHOOK_TIMESTAMP,
    WEBHOOK_ID,
    WEBHOOK_SIGNATURE,
    WEBHOOK_TIMESTAMP,
)
from autotrace.settings import HIDDEN, HTTP_URL, WEBHOOK_SIGNED_WITH, is_http_url, webhook_key

TOLERANCE_S: Final = 300
"""Maximum difference of a timestamp from now."""

_MAX_ATTEMPTS: Final = 20
_MAX_DIGITS: Final = 12
"""Of a timestamp: until the year 33,658."""
_MAX_SIGNATURES: Final = 16
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_OURS: Final = frozenset(
    name.lower()
    for name in (
        *(WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE),
        *(OLD_WEBHOOK_DELIVERY, OLD_WEBHOOK_TIMESTAMP, OLD_WEBHOOK_SIGNATURE),
        *("Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection"),
    )
)


@dataclass(frozen=True, repr=False)
class _HttpRoute(ABC):
    url: str
    _: KW_ONLY
    timeout_ms: int = 5_000
    attempts: int = 4
    allow_private_redirects: bool = False
    headers: Mapping[str, str] | None = None
    public_only: bool = False

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.url), str) or not is_http_url(self.url):
            raise InvalidArgumentError("url", HIDDEN, HTTP_URL)
        if self.timeout_ms < 1:
            raise InvalidArgumentError("timeout_ms", self.timeout_ms, "at least 1")
        if not 1 <= self.attempts <= _MAX_ATTEMPTS:
            raise InvalidArgumentError("attempts", self.attempts, f"1 to {_MAX_ATTEMPTS}")
        for name, value in (self.headers or {}).items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
                raise InvalidArgumentError(
                    "headers", name, "names of headers that autotrace does not set"
                )
            if not _HEADER_VALUE.fullmatch(value):
                raise InvalidArgumentError(f"the header {name}", HIDDEN, "printable ASCII")

    @abstractmethod
    def payload(self, notice: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON to post."""

    def proof(self, delivery_id: str, body: bytes) -> dict[str, str]:
        """Return the headers that prove the sender and the time."""
        del delivery_id, body
        return {}

    def send(self, notice: dict[str, Any], delivery_id: str) -> Attempt:
        """Post a notice once."""
        body = json.dumps(self.payload(notice), separators=(",", ":")).encode("ascii")
        headers = {
            "Content-Type": "application/json",
            WEBHOOK_ID: delivery_id,
            OLD_WEBHOOK_DELIVERY: delivery_id,
        }
        return post(
            Post(
                self.url,
                body,
                headers | self.proof(delivery_id, body),
                self.headers or {},
                self.timeout_ms,
                self.public_only,
            )
        )

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{type(self).__name__}({parts.hostname}{port})"


@dataclass(frozen=True, repr=False)
class Webhook(_HttpRoute):
    """A URL to which notices are posted as JSON.

    Args:
        url: An http(s) URL. It may hold a token: only its host is ever shown.
        timeout_ms: Time limit of one attempt.
        attempts: Maximum number of attempts. No response, 408, 425, 429 and 5xx are retried.
        allow_private_redirects: No effect: redirects are not followed.
        headers: More headers.
        public_only: Whether to refuse a host that has a private address, for a URL that is not
            yours. The connection then goes to an address that was checked.
        secret: Secret for signatures: any text, or `whsec_` and 24 to 64 random bytes in base64, as
            in the specification; None: notices are not signed.

    Raises:
        InvalidArgumentError: An argument has a value that is not allowed.
    """

    _: KW_ONLY
    secret: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.secret is not None and webhook_key(self.secret) is None:
            allowed = f"{WEBHOOK_SIGNED_WITH}, or None to send without a signature"
            raise InvalidArgumentError("secret", HIDDEN, allowed)

    def payload(self, notice: dict[str, Any]) -> dict[str, Any]:
        """Return the notice as it is."""
        return notice

    def proof(self, delivery_id: str, body: bytes) -> dict[str, str]:
        """Return a timestamp and, with a secret, the signatures."""
        timestamp = str(int(time.time()))
        headers = {WEBHOOK_TIMESTAMP: timestamp, OLD_WEBHOOK_TIMESTAMP: timestamp}
        key = None if self.secret is None else webhook_key(self.secret)
        if self.secret is not None and key is not None:
            headers[WEBHOOK_SIGNATURE] = _standard_signature(key, delivery_id, timestamp, body)
            headers[OLD_WEBHOOK_SIGNATURE] = _signature(self.secret, timestamp, body)
        return headers


@dataclass(frozen=True, repr=False)
class SlackWebhook(_HttpRoute):
    """A Slack-compatible incoming webhook.

    It takes the arguments of `Webhook` but `secret`: messages are not signed.
    """

    def payload(self, notice: dict[str, Any]) -> dict[str, Any]:
        """Return the notice as a message."""
        return slack_message(notice)


def verify_webhook(
    secret: str,
    timestamp: str,
    body: bytes,
    signature: str,
    tolerance_s: float = TOLERANCE_S,
    *,
    webhook_id: str | None = None,
    now_s: float | None = None,
) -> bool:
    """Return, at the receiver, whether a holder of the secret sent a request, and recently.

    Args:
        secret: The shared secret. An empty one verifies nothing: anybody can sign with it.
        timestamp: The header `webhook-timestamp`, or `X-Autotrace-Timestamp`.
        body: The body as received.
        signature: The header `webhook-signature`, or `X-Autotrace-Signature`.
        tolerance_s: Maximum difference of the timestamp from now, in seconds.
        webhook_id: The header `webhook-id`, which `webhook-signature` covers.
        now_s: Current time in seconds since 1970; None: that of the clock.
    """
    key = webhook_key(secret)
    if key is None:
        return False
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_DIGITS):
        return False
    now_s = time.time() if now_s is None else now_s
    expected = [_signature(secret, timestamp, body)]
    if webhook_id is not None:
        expected.append(_standard_signature(key, webhook_id, timestamp, body))
    # A sender that changes its secret sends several signatures.
    given = [each.encode("utf-8", "replace") for each in signature.split(" ")[:_MAX_SIGNATURES]]
    is_ours = any(hmac.compare_digest(e.encode(), g) for e in expected for g in given)
    return is_ours and abs(now_s - int(timestamp)) <= tolerance_s


def _signature(secret: str, timestamp: str, body: bytes) -> str:
    signed = timestamp.encode("ascii") + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _standard_signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{webhook_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")
