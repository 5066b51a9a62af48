"""Decide which spans over OTLP are recorded, and in whose share.

* Events of decisions are rejected: a sender could report events that never happened.
* Spans with a grant (base/grants.py) go into the share of the grantor, as those of a guest.
* Other spans of an open trace that another agent began over REST or MCP are rejected.
* All others go into the share of the key's own agent. See docs/reference/otlp.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from autotrace.base import grants
from autotrace.ids import format_trace_id
from autotrace.memory import Memory
from autotrace.otlp.decode import Batch
from autotrace.server import remote_records
from autotrace.server.auth.principal import Principal
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import role_of
from autotrace.store.open_traces import OpenTraces

OF_ANOTHER: Final = (
    "of a trace that belongs to another agent (what `autotrace.inject()` returns there, sent on as "
    "`traceparent` and `tracestate`, lets others add to it)"
)


SignerOfKey = Callable[[str], tuple[Principal, grants.GrantSigner] | None]
"""Returns the principal of a key id and the signer of its grants; None for an invalid key."""


class _Grantor(NamedTuple):
    agent: str | None
    """The agent of a key; None: a program on this machine."""


class OtlpAccess:
    """Admits spans into the traces of one memory. Any thread may use it."""

    def __init__(self, memory: Memory, open_traces: OpenTraces, signer_of_key: SignerOfKey) -> None:
        self._memory = memory
        self._open_traces = open_traces
        self._signer_of_key = signer_of_key

    def admit(self, batch: Batch, by: Principal) -> None:
        """Reject spans in a batch, and give each other its sender and its owner."""
        batch.reject("that are events of decisions", lambda r: role_of(r) == "decision")
        given = {(r["grant"], r["trace"]): None for r in batch.records if "grant" in r}
        checked = {(grant, trace): self._check(grant, trace, by.tenant) for grant, trace in given}
        granted = {key: grantor for key, grantor in checked.items() if grantor is not None}
        openings = _openings(batch, self._open_traces)

        def is_of_another(record: SpanRecord) -> bool:
            opening = openings.get(record["trace"])
            if opening is None or (record.get("grant", ""), record["trace"]) in granted:
                return False
            return opening["agent"] != by.agent

        batch.reject(OF_ANOTHER, is_of_another)
        for record in batch.records:
            grantor = granted.get((record.pop("grant", ""), record["trace"]))
            owner = by.agent if grantor is None else grantor.agent
            record["sender"] = {"key": by.key_id, "agent": by.agent}
            if owner is not None:
                record["owner"] = owner

    def _check(self, grant: str, trace: str, tenant: str) -> _Grantor | None:
        """Return the grantor of a grant that is valid for trace and tenant."""
        name = grants.signer_in(grant)
        if name is None:
            return None
        if name == grants.LOCAL:
            signer, grantor = self._local_signer(), _Grantor(None)
        else:
            known = self._signer_of_key(name)
            if known is None or known[0].tenant != tenant:
                return None
            signer, grantor = known[1], _Grantor(known[0].agent)
        valid = signer is not None and grants.holds(grant, trace, signer, time.time())
        return grantor if valid else None

    def _local_signer(self) -> grants.GrantSigner | None:
        path = self._memory.settings.grant_key_path
        try:
            return grants.local_signer(path) if path is not None and path.exists() else None
        except (OSError, ValueError) as error:
            counters = self._memory.counters
            counters.add("unchecked_grants")
            counters.record_failure("grants", f"grants of programs are not valid: {error}", error)
            return None


def _openings(batch: Batch, open_traces: OpenTraces) -> Mapping[str, Any]:
    """Return the openings of those traces that the registry holds."""
    traces = {record["trace"]: None for record in batch.records}
    named = {format_trace_id(*remote_records.task_in(trace)): trace for trace in traces}
    openings = open_traces.openings(list(named))
    return {named[trace_id]: opening for trace_id, opening in openings.items()}
