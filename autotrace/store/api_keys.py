"""Store the API keys of all tenants in their own collections.

Records of the log never change: `{key id}` holds the digest and agent of a key, `revoked/{key id}`
the time of its revocation. `used/{key id}` in `state` is the minute of its last use. An embedded
store keeps them in a separate folder, so that reading them opens neither traces nor decisions; on a
Chroma server they are collections of the tenant and database in the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from autotrace.store import schema
from autotrace.store.chroma_embedded import may_exist
from autotrace.store.connection import Connection, ServerOptions, connect_to
from autotrace.store.schema import Collection, documents, documents_in, open_collection, pages

FOLDER: Final = "keys"
"""Folder in an embedded store."""
SCHEMA_VERSION: Final = 1
_NO_SPACE: Final = "none"
_REVOKED: Final = "revoked/"
_USED: Final = "used/"


@dataclass(frozen=True)
class KeyCollections:
    """Hold the collections of keys of one open store."""

    indexes: ClassVar[Mapping[str, str]] = {}

    log: Collection
    state: Collection


def exist(store: str) -> bool:
    """Return whether keys may exist; see `may_exist`."""
    return may_exist(store, FOLDER)


def connect_keys(store: str, *, server: ServerOptions | None = None) -> Connection[KeyCollections]:
    """Make the connection to the keys of a store without opening it.

    Raises:
        InvalidArgumentError: The store is neither a path nor a URL.
    """
    place = store if "://" in store else f"{store}/{FOLDER}"
    return connect_to(place, _open, space=_NO_SPACE, server=server)


def _open(client: Any, store: str, space: str | None) -> KeyCollections:
    state = open_collection(client, "autotrace-key-state", schema.LOOKUP)
    schema.check(state, store, space, SCHEMA_VERSION)
    return KeyCollections(open_collection(client, "autotrace-key-log", schema.LOOKUP), state)


def add(collections: KeyCollections, key_id: str, key: Mapping[str, Any]) -> None:
    """Add a key."""
    schema.add(collections.log, {key_id: key})


def add_revocation(collections: KeyCollections, key_id: str, at_ns: int) -> None:
    """Revoke a key unless it is revoked."""
    schema.add(collections.log, {f"{_REVOKED}{key_id}": {"at_ns": at_ns}})


def read_all(collections: KeyCollections) -> tuple[dict[str, Any], dict[str, int]]:
    """Return every key, and the time of each revocation in ns, by key id."""
    keys: dict[str, Any] = {}
    revoked: dict[str, int] = {}
    for page in pages(collections.log, ["metadatas"]):
        for record_id, document in documents_in(page).items():
            if record_id.startswith(_REVOKED):
                revoked[record_id.removeprefix(_REVOKED)] = document["at_ns"]
            else:
                keys[record_id] = document
    return keys, revoked


def read_uses(collections: KeyCollections, key_ids: list[str]) -> dict[str, int]:
    """Return the minute since 1970 of the last use of each used key."""
    found = documents(collections.state, (f"{_USED}{key_id}" for key_id in key_ids))
    return {record_id.removeprefix(_USED): use["minute"] for record_id, use in found.items()}


def put_uses(collections: KeyCollections, minutes: Mapping[str, int]) -> None:
    """Store the minutes of uses that are later than the stored ones."""
    known = read_uses(collections, list(minutes))
    later = {i: minute for i, minute in minutes.items() if minute > known.get(i, -1)}
    schema.upsert(collections.state, {f"{_USED}{i}": {"minute": m} for i, m in later.items()})
