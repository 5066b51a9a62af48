"""An attacker who can write files of the store and its Chroma, and has no key."""

from __future__ import annotations

import shutil
from pathlib import Path

from autotrace.decisions import hash_chain
from autotrace.decisions.api import Decisions
from autotrace.store import decision_log as store


class StoreWriter:
    """Changes what a store holds of decisions."""

    def __init__(self, deciding: Decisions, place: Path) -> None:
        self.deciding, self.place = deciding, place

    def forget_ledger(self) -> None:
        """Leave a store as an earlier version wrote it."""
        shutil.rmtree(self.place / "ledger")

    def events(self, decision_id: str) -> list[hash_chain.StoredEvent]:
        return self.deciding.event_store.read(decision_id).events

    def write(self, decision_id: str, events: list[hash_chain.StoredEvent], *, anew: bool) -> None:
        """Put these events, one a change, in place of those that there are."""
        old, previous = len(self.events(decision_id)), ""
        for event in events if anew else ():
            event["previous"] = previous
            event["hash"] = previous = hash_chain._hash(decision_id, event)  # pyright: ignore[reportPrivateUsage]
        with self.deciding.event_store.connection.writing() as collections:
            store.replace(collections, decision_id, {n: [e] for n, e in enumerate(events)})
            gone = [f"{decision_id}/{n}" for n in range(len(events), old)]
            if gone:
                collections.log.delete(gone)

    def delete(self, *record_ids: str) -> None:
        with self.deciding.event_store.connection.writing() as collections:
            collections.log.delete(list(record_ids))
