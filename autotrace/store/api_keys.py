"""Where keys lie: a store of their own, beside that of traces, for all tenants in one.

| collection | id | holds |
|---|---|---|
| log | `{key id}` | the key's digest, whom it stands for, when it was made |
| log | `revoked/{key id}` | when it was revoked |
| state | `store` | schema version |
| state | `used/{key id}` | when it was last used, to the minute |

Nothing in the log is ever changed: Chroma's `add` leaves an id that exists as it is. In an embedded
store they have a folder of their own, so that neither traces nor decisions are opened for them; on
a Chroma server they are collections of the tenant and database that the settings name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from autotrace.store import schema
from autotrace.store.chroma_embedded import CHROMA_DIRECTORY
from autotrace.store.connection import Connection, ServerOptions, connect_to
from autotrace.store.schema import Collection, document_of, documents

FOLDER: Final = "keys"
"""Of an embedded store."""
SCHEMA_VERSION: Final = 1
_NO_SPACE: Final = "none"
_PAGE: Final = 5_000
_REVOKED: Final = "revoked/"
_USED: Final = "used/"


@dataclass(frozen=True)
class KeyCollections:
    """The collections of keys of one open store."""

    indexes: ClassVar[Mapping[str, str]] = {}

    log: Collection
    state: Collection


def exist(store: str) -> bool:
    """Tell whether there may be keys: of an embedded store whether any was ever made."""
    database = Path(store).expanduser() / FOLDER / CHROMA_DIRECTORY / "chroma.sqlite3"
    return "://" in store or database.is_file()


def connect_keys(store: str, *, server: ServerOptions | None = None) -> Connection[KeyCollections]:
    """Make the connection to the keys of a store; nothing is opened yet.

    Raises:
        InvalidArgumentError: The store is neither a path nor a URL.
    """
    place = store if "://" in store else f"{store}/{FOLDER}"
    return connect_to(place, _open, space=_NO_SPACE, server=server)


def _open(client: Any, store: str, space: str | None) -> KeyCollections:
    def collection(name: str) -> Collection:
        return cast(
            "Collection",
            client.get_or_create_collection(
                f"autotrace-key-{name}", configuration=schema.LOOKUP, embedding_function=None
            ),
        )

    state = collection("state")
    schema.check(state, store, space, SCHEMA_VERSION)
    return KeyCollections(log=collection("log"), state=state)


def add(collections: KeyCollections, key_id: str, key: Mapping[str, Any]) -> None:
    """Add a key."""
    schema.add(collections.log, {key_id: key})


def add_revocation(collections: KeyCollections, key_id: str, at_ns: int) -> None:
    """Revoke a key; that it is revoked already changes nothing."""
    schema.add(collections.log, {f"{_REVOKED}{key_id}": {"at_ns": at_ns}})


def read_all(collections: KeyCollections) -> tuple[dict[str, Any], dict[str, int]]:
    """Return every key by its id, and when those that are revoked were, in nanoseconds."""
    keys: dict[str, Any] = {}
    revoked: dict[str, int] = {}
    seen = 0
    while True:
        found = collections.log.get(limit=_PAGE, offset=seen, include=["metadatas"])
        for record_id, metadata in zip(found["ids"], found["metadatas"], strict=True):
            if record_id.startswith(_REVOKED):
                revoked[record_id.removeprefix(_REVOKED)] = document_of(metadata)["at_ns"]
            else:
                keys[record_id] = document_of(metadata)
        seen += len(found["ids"])
        if len(found["ids"]) < _PAGE:
            return keys, revoked


def read_uses(collections: KeyCollections, key_ids: list[str]) -> dict[str, int]:
    """Return when keys were last used, in minutes since 1970; those never used are left out."""
    found = documents(collections.state, [f"{_USED}{key_id}" for key_id in key_ids])
    return {record_id.removeprefix(_USED): use["minute"] for record_id, use in found.items()}


def put_uses(collections: KeyCollections, minutes: Mapping[str, int]) -> None:
    """Say when keys were last used, unless a later use is known."""
    known = read_uses(collections, list(minutes))
    later = {i: minute for i, minute in minutes.items() if minute > known.get(i, -1)}
    schema.upsert(collections.state, {f"{_USED}{i}": {"minute": m} for i, m in later.items()})
