"""Keys: made, listed, revoked, and recognised.

A key is `atk_{id}_{secret}`; its secret has 256 random bits. What is stored is the SHA-256 of it:
nothing slower is needed where there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

from autotrace.access.principal import Principal, Role, check_tenant
from autotrace.errors import InvalidArgumentError, KeyNotFoundError
from autotrace.settings import Settings
from autotrace.store import keys as store
from autotrace.store.connection import Connection, ServerOptions
from autotrace.store.keys import KeyCollections

KEY_PREFIX: Final = "atk_"
_KEY: Final = re.compile(r"atk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_MAX_AGENT_CHARS: Final = 256
_MAX_AGE_S: Final = 1.0
"""How old what is known may be where a store cannot tell that it has changed."""
_NS_PER_S: Final = 1_000_000_000
_S_PER_MINUTE: Final = 60
_NO_DIGEST: Final = "0" * 64


class NewKey(NamedTuple):
    """A key that was just made: the only time that it is seen whole."""

    key: str
    key_id: str


class KeyInfo(BaseModel):
    """What is known of a key; nothing of it opens anything."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    agent: str
    tenant: str
    role: Role
    created_at: datetime
    last_used_at: datetime | None = None
    """To the minute, and some minutes late."""
    revoked_at: datetime | None = None


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
        connection: Where they lie.
        clock_s: Tells the time, in seconds since 1970.
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

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """Return the keys of the store that settings name; nothing is opened yet."""
        return cls(store.connect_keys(settings.store, server=ServerOptions.of(settings)))

    def create(self, agent: str, tenant: str, role: Role) -> NewKey:
        """Make a key.

        Args:
            agent: In whose name it records and asks.
            tenant: Whose memory it sees.
            role: What else it may do.

        Raises:
            InvalidArgumentError: One of them is not allowed.
            StoreError: The store does not take it.
        """
        agent = agent.strip()
        if not agent or len(agent) > _MAX_AGENT_CHARS or not agent.isprintable():
            allowed = f"a name of 1 to {_MAX_AGENT_CHARS} characters that can be printed"
            raise InvalidArgumentError("agent", agent, allowed)
        if role not in get_args(Role):
            raise InvalidArgumentError("role", role, get_args(Role))
        key_id = secrets.token_hex(_ID_BYTES)
        key = f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        record = {
            "sha256": _digest(key),
            "agent": agent,
            "tenant": check_tenant(tenant),
            "role": role,
            "created_ns": int(self._clock_s() * _NS_PER_S),
        }
        with self._connection.writing() as collections:
            store.add(collections, key_id, record)
        return NewKey(key, key_id)

    def list(self) -> list[KeyInfo]:
        """Return what is known of every key, those revoked too, the oldest first.

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
            )
            for key_id, key in keys.items()
        ]
        return sorted(found, key=lambda key: (key.created_at, key.key_id))

    def revoke(self, key_id: str) -> KeyInfo:
        """Have a key open nothing any more. To revoke it again changes nothing.

        Raises:
            KeyNotFoundError: There is none with this id.
            StoreError: The store does not take it.
        """
        if all(key.key_id != key_id for key in self.list()):
            raise KeyNotFoundError(key_id)
        with self._connection.writing() as collections:
            store.add_revocation(collections, key_id, int(self._clock_s() * _NS_PER_S))
        return next(key for key in self.list() if key.key_id == key_id)

    @property
    def is_current(self) -> bool:
        """Whether a key can be recognised without looking into the store."""
        return self._is_current(self._known)

    def _is_current(self, known: _Known | None) -> bool:
        if known is None:
            return False
        if self._connection.exclusive:
            return known.mark == self._connection.generation()
        return 0 <= self._clock_s() - known.at_s < _MAX_AGE_S

    def authenticate(self, presented: str) -> Principal | None:
        """Return whom a key stands for; None if it is none, unknown, or revoked.

        Raises:
            StoreError: The store cannot be read.
        """
        parts = _KEY.fullmatch(presented)
        known = self._current()
        key_id = "" if parts is None else parts[1]
        key = known.keys.get(key_id)
        # Compared also where there is nothing to compare with, so that time tells nothing.
        expected = _NO_DIGEST if key is None else key["sha256"]
        is_same = hmac.compare_digest(_digest(presented), expected)
        if key is None or not is_same or key_id in known.revoked:
            return None
        self._used[key_id] = int(self._clock_s()) // _S_PER_MINUTE
        return Principal(key_id, key["agent"], key["tenant"], key["role"])

    def refresh(self) -> None:
        """Look into the store.

        Raises:
            StoreError: It cannot be read.
        """
        with self._lock:
            self._read()

    def _current(self) -> _Known:
        known = self._known
        if known is not None and self._is_current(known):
            return known
        with self._lock:
            # Another thread may have looked while this one waited.
            known = self._known
            return known if known is not None and self._is_current(known) else self._read()

    def _read(self) -> _Known:
        # The mark first: what is written while this reads shows as a change afterwards.
        mark, at_s = self._connection.generation(), self._clock_s()
        keys, revoked = self._connection.read(store.read_all)
        self._known = _Known(keys, revoked, mark, at_s)
        return self._known

    def save_uses(self) -> None:
        """Store when keys were last used; not for the path of a request.

        Raises:
            StoreError: The store does not take it; the next call tries again.
        """
        used = dict(self._used)
        new = {key_id: m for key_id, m in used.items() if m != self._saved.get(key_id)}
        if new:
            with self._connection.writing() as collections:
                store.put_uses(collections, new)
            self._saved |= new

    def close(self) -> None:
        """Let go of the store. A later use opens it again."""
        self._connection.close()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _time_of(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
