"""Create, list, revoke and authenticate API keys.

A key is `atk_{id}_{secret}{checksum}`; its secret has 256 random bits. The store holds the SHA-256
of the key: a slower hash adds nothing where there is nothing to guess. The checksum, the CRC-32 of
the characters before it, detects a mistyped key without the store; older keys have none.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import secrets
import string
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

from autotrace.base.grants import GrantSigner, secret_of_key
from autotrace.base.lookalikes import imitations_in, invisible_in, same_person
from autotrace.errors import InvalidArgumentError, KeyNotFoundError
from autotrace.server.auth.principal import KeyRole, Principal, check_tenant
from autotrace.settings import Settings
from autotrace.store import api_keys as store
from autotrace.store.api_keys import KeyCollections
from autotrace.store.connection import Connection, ServerOptions

KEY_PREFIX: Final = "atk_"
_KEY: Final = re.compile(r"(atk_([0-9a-f]{12})_[A-Za-z0-9_-]{43})([0-9A-Za-z]{6})?")
_CHECKSUM_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHECKSUM_CHARS: Final = 6
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_MAX_AGENT_CHARS: Final = 256
_MAX_AGE_S: Final = 1.0
"""Age at which keys are read again from a store that cannot report changes."""
_NS_PER_S: Final = 1_000_000_000
_S_PER_MINUTE: Final = 60
_MAX_EXPIRY_S: Final = 100 * 365 * 86_400
_NO_DIGEST: Final = "0" * 64

_log = logging.getLogger("autotrace.access")


class NewKey(NamedTuple):
    """A key that was just created: the only time that it is shown whole."""

    key: str
    key_id: str


class KeyInfo(BaseModel):
    """Facts about a key, without its secret."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    agent: str
    tenant: str
    role: KeyRole
    created_at: datetime
    last_used_at: datetime | None = None
    """To the minute, and some minutes late."""
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    """Time from which it is invalid; None: it does not expire."""

    def is_usable(self, now: datetime) -> bool:
        """Return whether the key is valid at a time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True)
class _Known:
    """All keys as they were at one moment."""

    keys: Mapping[str, Any]
    revoked: Mapping[str, int]
    mark: str
    at_s: float


class KeyRing:
    """The keys of a store, for all its tenants. Any thread may use it.

    Args:
        connection: Connection to their collections.
        clock_s: Returns the time in seconds since 1970.
    """

    def __init__(
        self,
        connection: Connection[KeyCollections],
        *,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._clock_s = clock_s
        self._known: _Known | None = None
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}
        self._saved: dict[str, int] = {}
        self._expired: set[str] = set()
        """Keys whose expiry is in the log."""

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """Return the keys of the store that settings name; nothing is opened yet."""
        return cls(store.connect_keys(settings.store, server=ServerOptions.of(settings)))

    def create(
        self, agent: str, tenant: str, role: KeyRole, *, expires_in_s: float | None = None
    ) -> NewKey:
        """Create a key.

        Args:
            agent: Agent in whose name it records and asks.
            tenant: Tenant whose memory it sees.
            role: Further permissions.
            expires_in_s: Seconds until it becomes invalid; None: it does not expire.

        Raises:
            InvalidArgumentError: A value is not allowed, or the agent looks like another one of
                the tenant that has a key.
            StoreError: The store does not accept it.
        """
        agent = _checked_agent(agent)
        check_tenant(tenant)
        if role not in get_args(KeyRole):
            raise InvalidArgumentError("role", role, get_args(KeyRole))
        if expires_in_s is not None and not 0 < expires_in_s <= _MAX_EXPIRY_S:
            allowed = f"more than 0 and at most {_MAX_EXPIRY_S} seconds (100 years), or None"
            raise InvalidArgumentError("expires_in_s", expires_in_s, allowed)
        key_id = secrets.token_hex(_ID_BYTES)
        body = f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        key = body + _checksum(body)
        now_s = self._clock_s()
        record: dict[str, Any] = {
            "sha256": _digest(key),
            "agent": agent,
            "tenant": tenant,
            "role": role,
            "created_ns": int(now_s * _NS_PER_S),
        }
        if expires_in_s is not None:
            record["expires_ns"] = int((now_s + expires_in_s) * _NS_PER_S)
        with self._connection.writing() as collections:
            keys, revoked = store.read_all(collections)
            _check_distinct(agent, tenant, [k for i, k in keys.items() if i not in revoked])
            store.add(collections, key_id, record)
        return NewKey(key, key_id)

    def list(self) -> list[KeyInfo]:
        """Return all keys, revoked ones too, the oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._connection.reading() as collections:
            keys, revoked = store.read_all(collections)
            minutes = store.read_uses(collections, list(keys))
        found = [
            KeyInfo(
                key_id=key_id,
                agent=key["agent"],
                tenant=key["tenant"],
                role=key["role"],
                created_at=_time_of(key["created_ns"] / _NS_PER_S),
                last_used_at=_time_of(_S_PER_MINUTE * m) if (m := minutes.get(key_id)) else None,
                revoked_at=_time_of(at / _NS_PER_S) if (at := revoked.get(key_id)) else None,
                expires_at=_time_of(end / _NS_PER_S) if (end := key.get("expires_ns")) else None,
            )
            for key_id, key in keys.items()
        ]
        return sorted(found, key=lambda key: (key.created_at, key.key_id))

    def revoke(self, key_id: str) -> KeyInfo:
        """Revoke a key. To revoke it again changes nothing.

        Raises:
            KeyNotFoundError: No key has this id.
            StoreError: The store does not accept it.
        """
        if all(key.key_id != key_id for key in self.list()):
            raise KeyNotFoundError(key_id)
        with self._connection.writing() as collections:
            store.add_revocation(collections, key_id, int(self._clock_s() * _NS_PER_S))
        return next(key for key in self.list() if key.key_id == key_id)

    @property
    def is_current(self) -> bool:
        """Whether a key can be authenticated without a read of the store."""
        return self._is_current(self._known)

    def _is_current(self, known: _Known | None) -> bool:
        if known is None:
            return False
        if self._connection.exclusive:
            return known.mark == self._connection.generation()
        return 0 <= self._clock_s() - known.at_s < _MAX_AGE_S

    def authenticate(self, presented: str) -> Principal | None:
        """Return the principal of a key; None if the key is invalid.

        Raises:
            StoreError: The store cannot be read.
        """
        parts = _KEY.fullmatch(presented)
        if parts is None or (parts[3] is not None and parts[3] != _checksum(parts[1])):
            return None
        known = self._current()
        key_id = parts[2]
        key = known.keys.get(key_id)
        # Compared also without a key, so that the duration does not show whether there is one.
        expected = _NO_DIGEST if key is None else key["sha256"]
        is_same = hmac.compare_digest(_digest(presented), expected)
        if key is None or not is_same or key_id in known.revoked:
            return None
        if self._is_expired(key):
            self._log_expired(key_id, key)
            return None
        self._used[key_id] = int(self._clock_s()) // _S_PER_MINUTE
        return Principal(key_id, key["agent"], key["tenant"], key["role"])

    def _is_expired(self, key: Mapping[str, Any]) -> bool:
        return self._clock_s() * _NS_PER_S >= key.get("expires_ns", math.inf)

    def _log_expired(self, key_id: str, key: Mapping[str, Any]) -> None:
        if key_id not in self._expired:
            self._expired.add(key_id)
            since = _time_of(key["expires_ns"] / _NS_PER_S).isoformat(timespec="seconds")
            _log.warning(
                "the key %s of the agent %r was presented, which has expired at %s; "
                "`autotrace keys create` makes another",
                *(key_id, key["agent"], since),
            )

    def signer(self, key_id: str) -> tuple[Principal, GrantSigner] | None:
        """Return the principal of a key and its signer; None if it is invalid.

        Raises:
            StoreError: The store cannot be read.
        """
        known = self._current()
        key = known.keys.get(key_id)
        if key is None or key_id in known.revoked or self._is_expired(key):
            return None
        principal = Principal(key_id, key["agent"], key["tenant"], key["role"])
        return principal, GrantSigner(key_id, secret_of_key(key["sha256"]))

    def refresh(self) -> None:
        """Read the keys again; raise StoreError if the store cannot be read."""
        with self._lock:
            self._read()

    def _current(self) -> _Known:
        known = self._known
        if known is not None and self._is_current(known):
            return known
        with self._lock:
            # Another thread may have read them while this one waited.
            known = self._known
            return known if known is not None and self._is_current(known) else self._read()

    def _read(self) -> _Known:
        # The mark first, so that a write during this read shows as a change afterwards.
        mark, at_s = self._connection.generation(), self._clock_s()
        keys, revoked = self._connection.read(store.read_all)
        self._known = _Known(keys, revoked, mark, at_s)
        return self._known

    def save_uses(self) -> None:
        """Store when keys were last used; not for the path of a request.

        Raises:
            StoreError: The store does not accept it; the next call tries again.
        """
        used = dict(self._used)
        new = {key_id: m for key_id, m in used.items() if m != self._saved.get(key_id)}
        if new:
            with self._connection.writing() as collections:
                store.put_uses(collections, new)
            self._saved |= new

    def close(self) -> None:
        """Close the connection. A later use opens it again."""
        self._connection.close()


def _checked_agent(agent: str) -> str:
    """Return the name of an agent without the space around it.

    Raises:
        InvalidArgumentError: The name is invisible in part, or looks like another one.
    """
    agent = agent.strip()
    allowed = f"a name of 1 to {_MAX_AGENT_CHARS} characters that can be printed"
    if not agent or len(agent) > _MAX_AGENT_CHARS:
        raise InvalidArgumentError("agent", agent[: _MAX_AGENT_CHARS + 1], allowed)
    if found := invisible_in(agent):
        allowed += f", without {_named(found)}, which shows nothing; leave it out"
        raise InvalidArgumentError("agent", ascii(agent), allowed)
    # NFC, as different sequences of characters show the same name.
    if not agent.isprintable() or not unicodedata.is_normalized("NFC", agent):
        allowed += ", in the normal form NFC; type it again, or normalize it"
        raise InvalidArgumentError("agent", ascii(agent), allowed)
    if found := imitations_in(agent):
        allowed += (
            f", whose letters are of one script where they look alike: {_named(found)} looks like "
            "a Latin letter; use that one"
        )
        raise InvalidArgumentError("agent", ascii(agent), allowed)
    return agent


def _named(characters: list[str]) -> str:
    first = characters[0]
    return f"U+{ord(first):04X} {unicodedata.name(first, '')}".strip()


def _check_distinct(agent: str, tenant: str, keys: list[Mapping[str, Any]]) -> None:
    """Raise InvalidArgumentError if the name looks like another agent's.

    Names that differ in case alone are allowed, though they count as one person.
    """
    for key in keys:
        other = key["agent"]
        if key["tenant"] != tenant or other.casefold() == agent.casefold():
            continue
        if same_person(other, agent):
            allowed = (
                f"a name that does not look like {other!r}, which has a key of this tenant; use "
                "that name, or one that differs in more than accents or similar letters"
            )
            raise InvalidArgumentError("agent", agent, allowed)


def _checksum(body: str) -> str:
    """Return the CRC-32 of the rest of a key, in six digits of base 62."""
    number = zlib.crc32(body.encode("ascii"))
    digits: list[str] = []
    for _ in range(_CHECKSUM_CHARS):
        number, digit = divmod(number, len(_CHECKSUM_DIGITS))
        digits.append(_CHECKSUM_DIGITS[digit])
    return "".join(reversed(digits))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _time_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
