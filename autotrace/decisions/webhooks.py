"""Webhooks that are told that approval is wanted.

A receiver checks the signature with `verify_webhook`, or by itself: it takes the header
`X-Autotrace-Timestamp`, refuses it if it is old, computes the HMAC-SHA256, with the shared secret,
of the timestamp, a full stop and the body as it came, and compares `sha256=` and its hex digits
with `X-Autotrace-Signature`. `X-Autotrace-Delivery` is the same for every attempt of one delivery.
"""

from __future__ import annotations

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

from autotrace.decisions.delivery import Attempt
from autotrace.decisions.posting import Post, post
from autotrace.decisions.slack import slack_message
from autotrace.errors import InvalidArgumentError
from autotrace.semconv import (
    WEBHOOK_DELIVERY_HEADER,
    WEBHOOK_SIGNATURE_HEADER,
    WEBHOOK_TIMESTAMP_HEADER,
)
from autotrace.settings import HIDDEN, HTTP_URL, is_http_url

TOLERANCE_S: Final = 300
"""How far a timestamp may be from now."""

_MAX_ATTEMPTS: Final = 20
_MAX_DIGITS: Final = 12
"""Of a timestamp: until the year 33,658."""
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_OURS: Final = frozenset(
    name.lower()
    for name in (
        *(WEBHOOK_TIMESTAMP_HEADER, WEBHOOK_SIGNATURE_HEADER, WEBHOOK_DELIVERY_HEADER),
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

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.url), str) or not is_http_url(self.url):
            raise InvalidArgumentError("url", HIDDEN, HTTP_URL)
        if self.timeout_ms < 1:
            raise InvalidArgumentError("timeout_ms", self.timeout_ms, "at least 1")
        if not 1 <= self.attempts <= _MAX_ATTEMPTS:
            raise InvalidArgumentError("attempts", self.attempts, f"1 to {_MAX_ATTEMPTS}")
        for name, value in (self.headers or {}).items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
                raise InvalidArgumentError("headers", name, "names of headers that are not ours")
            if not _HEADER_VALUE.fullmatch(value):
                raise InvalidArgumentError(f"the header {name}", HIDDEN, "printable ASCII")

    @abstractmethod
    def payload(self, notice: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON that is posted."""

    def proof(self, body: bytes) -> dict[str, str]:
        """Return the headers that say who sends a body, and when."""
        return {}

    def send(self, notice: dict[str, Any], delivery_id: str) -> Attempt:
        """Post a notice once."""
        body = json.dumps(self.payload(notice), separators=(",", ":")).encode("ascii")
        headers = {"Content-Type": "application/json", WEBHOOK_DELIVERY_HEADER: delivery_id}
        return post(
            Post(
                self.url,
                body,
                headers | self.proof(body),
                self.headers or {},
                self.timeout_ms,
                self.allow_private_redirects,
            )
        )

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        port = "" if parts.port is None else f":{parts.port}"
        return f"{type(self).__name__}({parts.hostname}{port})"


@dataclass(frozen=True, repr=False)
class Webhook(_HttpRoute):
    """A URL that a notice is posted to as JSON.

    Args:
        url: An http(s) URL. It may hold a token: nothing of it is ever shown but its host.
        timeout_ms: How long one attempt may take in all.
        attempts: How often to try in all: again after no answer, 408, 425, 429 and 5xx.
        allow_private_redirects: Whether a redirect (307 or 308) may lead to a private address.
        headers: More headers; a redirect to another server leaves them out.
        secret: Signs what is sent; None: it is not signed.

    Raises:
        InvalidArgumentError: One of them is not allowed.
    """

    _: KW_ONLY
    secret: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.secret is not None and not self.secret.strip():
            allowed = "a text that is not empty, or None to send without a signature"
            raise InvalidArgumentError("secret", self.secret, allowed)

    def payload(self, notice: dict[str, Any]) -> dict[str, Any]:
        """Return the notice as it is."""
        return notice

    def proof(self, body: bytes) -> dict[str, str]:
        """Return a timestamp and, with a secret, the signature."""
        timestamp = str(int(time.time()))
        headers = {WEBHOOK_TIMESTAMP_HEADER: timestamp}
        if self.secret is not None:
            headers[WEBHOOK_SIGNATURE_HEADER] = _signature(self.secret, timestamp, body)
        return headers


@dataclass(frozen=True, repr=False)
class SlackWebhook(_HttpRoute):
    """A Slack-compatible incoming webhook: as `Webhook`, in Slack's form and without a signature.

    Args:
        url: The webhook's URL, which holds its token: nothing of it is ever shown but its host.
        timeout_ms: How long one attempt may take in all.
        attempts: How often to try in all: again after no answer, 408, 425, 429 and 5xx.
        allow_private_redirects: Whether a redirect (307 or 308) may lead to a private address.
        headers: More headers; a redirect to another server leaves them out.

    Raises:
        InvalidArgumentError: One of them is not allowed.
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
    now_s: float | None = None,
) -> bool:
    """Return, at the receiver, whether a request is from a holder of the secret, and new.

    Args:
        secret: The shared secret. With an empty one no request is: anybody can sign with it.
        timestamp: The header `X-Autotrace-Timestamp`.
        body: The body as it came.
        signature: The header `X-Autotrace-Signature`.
        tolerance_s: How far the timestamp may be from now, in seconds.
        now_s: What time it is, in seconds since 1970; None: ask the clock.
    """
    if not secret.strip():
        return False
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_DIGITS):
        return False
    now_s = time.time() if now_s is None else now_s
    expected = _signature(secret, timestamp, body)
    is_ours = hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
    return is_ours and abs(now_s - int(timestamp)) <= tolerance_s


def _signature(secret: str, timestamp: str, body: bytes) -> str:
    signed = timestamp.encode("ascii") + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
