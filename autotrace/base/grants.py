"""Grants: entries of W3C `tracestate` that let other senders add to a trace.

`autotrace.inject()` signs one; a server checks it on each span that arrives over OTLP. A grant
names its signer and when it expires, and holds for one OpenTelemetry trace.
See docs/reference/otlp.md.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

from autotrace.base.event_loops import off_loop

ENTRY: Final = "autotrace"
"""The key of the entry in `tracestate`."""
LIFETIME_S: Final = 24 * 60 * 60
LOCAL: Final = "local"
"""The signer of a program that records into a store on its own machine."""
KEY: Final = re.compile(r"atk_([0-9a-f]{12})_[A-Za-z0-9_-]+")
"""A key of a server, with the id that names it."""
HEADER_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
"""The stock variables that hold the key with which spans are sent; the first with one counts."""
_GRANT: Final = re.compile(r"1\.([0-9a-f]{12}|local)\.([0-9a-f]{1,10})\.([A-Za-z0-9_-]{43})")
_SECRET_BYTES: Final = 32


class GrantSigner(NamedTuple):
    """Who grants."""

    name: str
    """The id of a key, or `local`."""
    secret: bytes

    def grant(self, trace: str, now_s: float) -> str:
        """Return the grant to add to an OpenTelemetry trace, given in hex."""
        expires = f"{int(now_s) + LIFETIME_S:x}"
        return f"1.{self.name}.{expires}.{_signature(self.secret, self.name, trace, expires)}"


def signer_of_key(key: str) -> GrantSigner | None:
    """Return the signer of a server's key; None if the text is not a key."""
    named = KEY.fullmatch(key)
    return None if named is None else GrantSigner(named[1], secret_of_key(_sha256(key)))


def secret_of_key(key_sha256: str) -> bytes:
    """Return the secret that signs the grants of a key, from its SHA-256 on the server."""
    return hmac.digest(bytes.fromhex(key_sha256), b"autotrace grant", "sha256")


def local_signer(path: Path) -> GrantSigner:
    """Return the signer of a store's own machine; make the file of its secret if it is missing.

    Raises:
        OSError: The file cannot be read or made.
        ValueError: It has other content.
    """
    if not path.exists():
        _create(path)
    secret = path.read_bytes()
    if len(secret) != _SECRET_BYTES:
        msg = f"{path} must hold {_SECRET_BYTES} bytes: move it away, so that a new one is made"
        raise ValueError(msg)
    return GrantSigner(LOCAL, secret)


def signer_of(key_path: Path | None) -> GrantSigner | None:
    """Return the signer of this program; None without a key and a store on this machine.

    Raises:
        OSError: The file of the local secret cannot be read or made.
        ValueError: It has other content.
    """
    for variable in HEADER_VARIABLES:
        named = KEY.search(unquote(os.environ.get(variable, "")))
        if named is not None:
            return signer_of_key(named[0])
    return None if key_path is None else local_signer(key_path)


def signer_in(grant: str) -> str | None:
    """Return the signer that a grant names; None if the text is not a grant."""
    parts = _GRANT.fullmatch(grant)
    return None if parts is None else parts[1]


def holds(grant: str, trace: str, signer: GrantSigner, now_s: float) -> bool:
    """Return whether a signer has made a grant for a trace, and it has not expired."""
    parts = _GRANT.fullmatch(grant)
    if parts is None or parts[1] != signer.name:
        return False
    expected = _signature(signer.secret, signer.name, trace, parts[2])
    return hmac.compare_digest(expected, parts[3]) and now_s < int(parts[2], 16)


def grant_in(tracestate: str) -> str | None:
    """Return the grant that a `tracestate` header carries, as it stands there; it may be none."""
    for member in tracestate.split(",", 32)[:32]:
        name, _, value = member.strip().partition("=")
        if name == ENTRY:
            return value
    return None


class Granting:
    """Grants for the traces of one program, signed by the result of `find_signer`. Thread-safe."""

    def __init__(self, find_signer: Callable[[], GrantSigner | None]) -> None:
        self._find_signer = find_signer
        self._found: tuple[GrantSigner | None] | None = None

    def added_to(self, tracestate: str, trace: str) -> str:
        """Return a `tracestate` with a grant for an OpenTelemetry trace, if one can be made.

        A program that sends its spans to a server with the grant of another passes that one on, as
        its spans are in the other's share. One that records into a store on its machine does not.
        """
        if self._found is None:
            self._found = (off_loop(self._find_signer),)
        (signer,) = self._found
        if signer is None or (signer.name != LOCAL and grant_in(tracestate) is not None):
            return tracestate
        others = [m for m in tracestate.split(",") if m.strip() and not _is_ours(m)]
        return ",".join([f"{ENTRY}={signer.grant(trace, time.time())}", *others[:31]])


def _is_ours(member: str) -> bool:
    return member.strip().partition("=")[0] == ENTRY


def _signature(secret: bytes, name: str, trace: str, expires: str) -> str:
    signed = hmac.digest(secret, f"{name} {trace} {expires}".encode(), "sha256")
    return base64.urlsafe_b64encode(signed).rstrip(b"=").decode("ascii")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _create(path: Path) -> None:
    """Make the file, at once whole, unless another process is first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
