"""Find the task that a public trace id names.

`trace-{trace}-{span}` names a task by ids that any sender may repeat. It names, in this order, the
task of a program on this machine; the task of the agent that asks; the task of the share that
claimed the id first, the owner's before a guest's. Claims lie in the log and never change. A task
without its claim is shown under the id that the store keeps it under (spool/shares.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from autotrace.ids import parse_trace_id
from autotrace.spool.shares import Share
from autotrace.store import schema, trace_summaries
from autotrace.store.schema import Collections
from autotrace.store.trace_summaries import Origin, Summary

_PREFIX: Final = "task/"
"""Prefix of record ids of claims: no name of a share begins with a letter beyond f."""


class Located(NamedTuple):
    """The place of a task."""

    share: Share
    span: str
    """The span id of the task in the share."""

    @property
    def trace_id(self) -> str:
        """The id under which the store keeps the trace."""
        return self.share.trace_id(self.span)


def claim(collections: Collections, summaries: Mapping[str, Summary]) -> None:
    """Claim the public ids of tasks that keys of agents have sent."""
    claims = {
        _PREFIX + origin["public_id"]: {"owner": origin["owner"], "span": origin["span"]}
        for summary in summaries.values()
        if (origin := summary["origin"]) is not None
    }
    if claims:
        schema.add(collections.log, claims, collections.max_batch)


def keep_name(collections: Collections, located: Located) -> None:
    """Claim the store's id of a trace whose summary is about to be removed."""
    owner, span = located.share.owner, located.span
    schema.add(collections.log, {_PREFIX + located.trace_id: {"owner": owner, "span": span}})


def locate(collections: Collections, trace_id: str, agent: str | None = None) -> Located | None:
    """Return the place of the task of a trace; None if the id is malformed.

    `trace_id` is a public id, or the store's; `agent` is the agent that asks, if any.
    """
    ids = parse_trace_id(trace_id)
    if ids is None:
        return None
    trace, span = ids
    own = Share(trace, agent).trace_id(span)
    summaries = trace_summaries.get_summaries(collections, list({trace_id, own}))
    for known in (trace_id, own):
        if known in summaries:
            origin = summaries[known]["origin"]
            if origin is None:
                return Located(Share(trace), span)
            return Located(Share(trace, origin["owner"]), origin["span"])
    record_id = _PREFIX + trace_id
    claimed = schema.documents(collections.log, [record_id]).get(record_id)
    if claimed is None:
        return Located(Share(trace), span)
    share = Share(trace, claimed["owner"])
    if claimed["span"] != span and trace_summaries.get_summaries(
        collections, [share.trace_id(span)]
    ):
        return Located(share, span)  # a guest has claimed the id of a task of the owner
    return Located(share, claimed["span"])


def public_ids(collections: Collections, summaries: Mapping[str, Summary]) -> dict[str, str]:
    """Return the public id of each trace, by the store's id."""
    shown = {trace_id: trace_id for trace_id in summaries}
    wanted = {
        trace_id: origin["public_id"]
        for trace_id, summary in summaries.items()
        if (origin := summary["origin"]) is not None
    }
    if not wanted:
        return shown
    # An owner's task comes before those of guests with the same id.
    owned = {trace_id: _owned(summaries[trace_id]["origin"]) for trace_id in wanted}
    ids = {i for trace_id, each in wanted.items() for i in (each, owned[trace_id])}
    present = set(collections.summaries.get(ids=list(ids), include=[])["ids"])
    claims = schema.documents(collections.log, [_PREFIX + i for i in set(wanted.values())])
    for trace_id, each in wanted.items():
        claimed, origin = claims.get(_PREFIX + each), summaries[trace_id]["origin"]
        if claimed is None or origin is None or each in present:
            continue
        holder = owned[trace_id] if owned[trace_id] in present else None
        if claimed["owner"] == origin["owner"] and (
            holder == trace_id or (holder is None and claimed["span"] == origin["span"])
        ):
            shown[trace_id] = each
    return shown


def _owned(origin: Origin | None) -> str:
    """Return the store's id of the owner's task with this public id."""
    ids = None if origin is None else parse_trace_id(origin["public_id"])
    if origin is None or ids is None:
        return ""
    trace, span = ids
    return Share(trace, origin["owner"]).trace_id(span)
