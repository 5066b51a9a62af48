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
_SLACK_HEADER_CHARACTERS: Final = 150
_SLACK_TEXT_CHARACTERS: Final = 3_000
"""What Slack takes in a block; it refuses a message that has more."""
_SLACK_ARGUMENTS_CHARACTERS: Final = 2_000


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
        if self.secret is not None and not self.secret:
            raise InvalidArgumentError("secret", self.secret, "a text that is not empty, or None")

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
    """Tell, at the receiver, whether a request is from a holder of the secret, and new.

    Args:
        secret: The shared secret.
        timestamp: The header `X-Autotrace-Timestamp`.
        body: The body as it came.
        signature: The header `X-Autotrace-Signature`.
        tolerance_s: How far the timestamp may be from now, in seconds.
        now_s: What time it is, in seconds since 1970; None: ask the clock.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_DIGITS):
        return False
    now_s = time.time() if now_s is None else now_s
    expected = _signature(secret, timestamp, body)
    is_ours = hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))
    return is_ours and abs(now_s - int(timestamp)) <= tolerance_s


def slack_message(notice: Mapping[str, Any]) -> dict[str, Any]:
    """Spell a notice as a message for a Slack-compatible webhook."""
    title = str(notice.get("title") or f"Approval wanted: {notice['intent']}")
    facts = [f"*Decision* {_escaped(notice['decision_id'])} ({_escaped(notice['intent'])})"]
    facts.append(f"*Asked by* {_escaped(notice['requester'])}")
    if notice.get("expires_at"):
        facts.append(f"*Expires* {_escaped(notice['expires_at'])}")
    if notice.get("approvals_needed", 1) > 1:
        facts.append(f"*Approvals needed* {notice['approvals_needed']}")
    if notice.get("require_rationale"):
        facts.append("*A reason is required*")
    answer = notice["answer"]
    sections = [
        *([_escaped(notice["message"])] if notice.get("message") else []),
        "\n".join(facts),
        *([_arguments(notice["arguments"])] if notice.get("arguments") is not None else []),
        f"```{_escaped(answer['approve'])}\n{_escaped(answer['reject'])}```",
    ]
    header = {"type": "plain_text", "text": _cut(title, _SLACK_HEADER_CHARACTERS)}
    return {
        "text": _cut(f"{_escaped(title)}: {_escaped(answer['approve'])}", _SLACK_TEXT_CHARACTERS),
        "blocks": [
            {"type": "header", "text": header},
            *(
                {
                    "type": "section",
                    "text": {"type": "mrkdwn", "text": _cut(section, _SLACK_TEXT_CHARACTERS)},
                }
                for section in sections
            ),
        ],
    }


def _arguments(arguments: Any) -> str:
    text = json.dumps(arguments, ensure_ascii=False, indent=1)
    return f"```{_cut(_escaped(text), _SLACK_ARGUMENTS_CHARACTERS)}```"


def _escaped(text: Any) -> str:
    """Take from text what Slack would take for a mention or a link."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _signature(secret: str, timestamp: str, body: bytes) -> str:
    signed = timestamp.encode("ascii") + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
