"""Record traces that clients report call by call, for every server.

Any worker, on any machine, takes the next call of a trace, as the registry of open traces
(store/open_traces.py) is shared. An acknowledged record is on disk; over a Chroma server it is also
in the store, unless that takes longer than the wait. A trace is completed once; the same completion
again records again, as the first worker may have died before it recorded.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, get_args

from autotrace import semconv
from autotrace.errors import (
    InvalidArgumentError,
    LimitExceededError,
    StepNotFoundError,
    StoreUnavailableError,
    TraceNotFoundError,
    TraceStateError,
)
from autotrace.ids import (
    SpanIds,
    format_step_id,
    format_tool_call_id,
    format_trace_id,
    parse_step_id,
)
from autotrace.memory import Memory
from autotrace.models import (
    CompletedTrace,
    RecordedStep,
    RecordedToolCall,
    StartedTrace,
    ToolStatus,
)
from autotrace.otlp.decode import Batch
from autotrace.server import remote_records
from autotrace.server.auth.principal import Principal
from autotrace.server.consistent_reads import (
    NOT_STORED_YET_MESSAGE,
    TraceReading,
    check_trace_id,
    hide_store_name,
)
from autotrace.server.open_trace_cleanup import ABANDONED_AFTER_S, KEPT_FOR_S, Tidier
from autotrace.server.otlp_access import OtlpAccess, SignerOfKey
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import MAX_DURATION_MS
from autotrace.store.connection import ServerOptions
from autotrace.store.open_traces import open_traces
from autotrace.store.times import utc

_MAX_OWNERS: Final = 10_000
"""Number of open traces whose agents are cached."""
_RETRY_AFTER_S: Final = 60.0


class _Owner(NamedTuple):
    """The owner of an open trace."""

    agent: str
    has_share: bool
    """Whether its records name the owner. Those that came without a key do not, nor those of a
    trace that an earlier release began."""

    def owned(self, record: SpanRecord, by: Principal) -> SpanRecord:
        """Return a record in the share of the owner."""
        return remote_records.came_with(record, by.key_id, self.agent) if self.has_share else record


class TraceService(TraceReading):
    """The traces of one memory, as servers offer them. Calls block.

    Each call that changes an open trace raises TraceNotFoundError for an unknown trace,
    NotPermittedError for another agent's, TraceStateError for one that is not open, and
    StoreUnavailableError if the store does not answer; nothing is recorded then.

    Args:
        memory: Memory that records the traces.
        max_open_per_key: Number of traces that one key may have open at once.
        wait_s: Seconds that a call waits at most for records to be stored.
        signer_of_key: Finds the signers of grants; default: no key grants.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        max_open_per_key: int = 1000,
        wait_s: float = 10.0,
        signer_of_key: SignerOfKey = lambda _key_id: None,
    ) -> None:
        super().__init__(memory, wait_s)
        self._max_open_per_key = max_open_per_key
        settings = memory.settings
        self._open = open_traces(settings.store, ServerOptions.of(settings))
        self._owners: OrderedDict[str, _Owner] = OrderedDict()
        self._owners_lock = threading.Lock()
        self._access = OtlpAccess(memory, self._open, signer_of_key)
        self._tidier = Tidier(memory, self._open, self._record)

    def start(
        self,
        task: str,
        session_id: str,
        *,
        triggered_by_memory_id: str | None = None,
        by: Principal,
    ) -> StartedTrace:
        """Begin a trace of the caller's agent.

        Raises:
            InvalidArgumentError: An argument is not allowed; names it.
            LimitExceededError: The key has too many open traces.
        """
        _check_text("task", task)
        _check_text("session_id", session_id)
        if self._open.open_count(by.key_id) >= self._max_open_per_key:
            msg = (
                f"this key has {self._max_open_per_key} traces open, which is the limit: "
                "complete some of them, or delete them"
            )
            raise LimitExceededError(msg, _RETRY_AFTER_S)
        ids, now_ns = remote_records.new_task(), time.time_ns()
        begun = remote_records.open_task_record(
            self.memory.recorder,
            ids,
            now_ns,
            task=task,
            session_id=session_id,
            agent=by.agent,
            triggered_by_memory_id=triggered_by_memory_id,
        )
        if by.sender is not None:
            begun = remote_records.came_with(begun, by.key_id, by.agent)
        trace_id = format_trace_id(*ids)
        opening = {"agent": by.agent, "key_id": by.key_id, "begun": begun}
        self._open.begin(trace_id, by.key_id, opening)
        try:
            self._record(begun, by)
        except StoreUnavailableError:
            self._open.remove([trace_id])  # no client learns of it
            raise
        self._remember(trace_id, opening)
        self._tidier.tidy_if_due()
        recorded: Any = begun.get("attributes", {})[semconv.TASK]
        return StartedTrace(trace_id=trace_id, task=recorded, created_at=utc(now_ns))

    def step(
        self,
        trace_id: str,
        thought: str,
        action: str,
        observations: Sequence[str] | None = None,
        *,
        by: Principal,
    ) -> RecordedStep:
        """Record a step of an open trace."""
        task, owner = self._open_task(trace_id, by, "a step")
        now_ns = time.time_ns()
        record = remote_records.step_record(
            self.memory.recorder,
            task,
            now_ns,
            thought=thought,
            action=action,
            observations=observations or (),
        )
        self._record(owner.owned(record, by), by)
        step_id = format_step_id(task.trace, record["id"])
        return RecordedStep(step_id=step_id, trace_id=trace_id, created_at=utc(now_ns))

    def tool_call(
        self,
        trace_id: str,
        tool_name: str,
        arguments: Mapping[str, Any],
        result: Any,
        duration_ms: int,
        status: ToolStatus,
        *,
        memory_id: str | None = None,
        step_id: str | None = None,
        by: Principal,
    ) -> RecordedToolCall:
        """Record a tool call that has ended, in its step or else the latest.

        Raises:
            InvalidArgumentError: An argument is not allowed; names it.
            StepNotFoundError: The trace has no such step.
        """
        _check_text("tool_name", tool_name)
        if status not in get_args(ToolStatus):
            raise InvalidArgumentError("status", status, get_args(ToolStatus))
        if type(duration_ms) is not int or not 0 <= duration_ms <= MAX_DURATION_MS:
            allowed = f"a whole number from 0 to {MAX_DURATION_MS}"
            raise InvalidArgumentError("duration_ms", duration_ms, allowed)
        task, owner = self._open_task(trace_id, by, "a tool call")
        parent = task if step_id is None else self._step(task, trace_id, step_id, by)
        now_ns = time.time_ns()
        record = remote_records.tool_call_record(
            self.memory.recorder,
            parent,
            now_ns,
            tool_name=tool_name,
            arguments=arguments,
            result=result,
            duration_ms=duration_ms,
            status=status,
            memory_id=memory_id,
        )
        self._record(owner.owned(record, by), by)
        return RecordedToolCall(
            tool_call_id=format_tool_call_id(record["id"]),
            trace_id=trace_id,
            step_id=step_id,
            created_at=utc(now_ns),
        )

    def complete(
        self, trace_id: str, outcome: str, success: bool, *, by: Principal
    ) -> CompletedTrace:
        """Complete a trace. The same call again gets the same response.

        Raises:
            TraceStateError: It is completed with another outcome.
            StoreUnavailableError: The store does not answer. The trace may be completed: ask again.
        """
        check_trace_id(trace_id)
        entry = self._open.find(trace_id)
        if entry is None:
            return self._completed_long_ago(trace_id, outcome, success, by)
        by.check_owns(entry.opening["agent"], trace_id)
        digest = _digest(outcome, success)
        closing = entry.closing
        if closing is None:
            mine = {
                "digest": digest,
                "outcome": self._outcome(outcome),
                "success": success,
                "ended_ns": time.time_ns(),
            }
            closing = self._open.complete(trace_id, entry.opening["key_id"], mine)
        if closing["digest"] != digest:
            raise TraceStateError(
                trace_id, "to complete it with another outcome or success", "it is completed"
            )
        self._record(remote_records.completed_task_record(entry.opening, closing), by)
        return CompletedTrace(
            trace_id=trace_id,
            success=closing["success"],
            outcome=closing["outcome"],
            completed_at=utc(closing["ended_ns"]),
        )

    def take_spans(self, batch: Batch, *, by: Principal) -> None:
        """Record spans of another program; they are on disk at the return.

        They are not forwarded to a collector, which could be this server. Spans that may not be
        recorded are rejected in the batch.

        Raises:
            StoreUnavailableError: Not all spans are recorded; to send the batch again is harmless.
        """
        batch.bound_times(time.time_ns())
        self._access.admit(batch, by)
        redactor = self.memory.recorder.encoder.redactor
        batch.records = [
            cast("SpanRecord", redactor.of_span(cast("dict[str, Any]", record)))
            for record in batch.records
        ]
        self.memory.record(batch.records, forward=False, sender=by.sender)

    def delete(self, trace_id: str, *, by: Principal) -> None:
        """Delete a trace, open or not, with all its records; its decisions stay.

        Later records of it are not kept.

        Raises:
            TraceNotFoundError: No trace has this id.
            NotPermittedError: It is another agent's.
            StoreUnavailableError: The store does not answer. It may be deleted in part: ask again.
        """
        check_trace_id(trace_id)
        entry = self._open.find(trace_id)
        if entry is not None:
            by.check_owns(entry.opening["agent"], trace_id)
        self._be_current(by)  # records that wait must not count as deleted
        # Located once, so that the trace that is deleted is the one that was checked.
        place = self.memory.reader.locate(trace_id, asked_by=by.agent)
        if entry is None:
            try:
                by.check_owns_trace(self.get(place.trace_id, by=by), trace_id)
            except TraceNotFoundError:
                raise TraceNotFoundError(trace_id) from None
        try:
            with hide_store_name():
                self.memory.delete_trace(trace_id, self._wait_s, place=place, lane=by.lane)
        except TraceNotFoundError:
            if not self.memory.catch_up(0.0):  # it may wait in another sender's backlog
                raise StoreUnavailableError(NOT_STORED_YET_MESSAGE) from None
            # Deleted by a process that died before it removed the trace from the registry.
            self._open.remove([trace_id])
            raise
        self._open.remove([trace_id])

    def tidy(
        self, kept_for_s: float = KEPT_FOR_S, abandoned_after_s: float = ABANDONED_AFTER_S
    ) -> None:
        """Tidy up the registry now; see `Tidier.tidy`."""
        self._tidier.tidy(kept_for_s, abandoned_after_s)

    def stop(self) -> None:
        """Close the registry; the memory is stopped by its owner."""
        self._open.stop()

    def _record(self, record: SpanRecord, by: Principal | None = None) -> None:
        """Record for a caller; None: for the sender that the record names."""
        self.memory.record([record], sender=None if by is None else by.sender)
        if not self.memory.settings.is_embedded:
            self.memory.pipeline.flush(self._wait_s, lane=None if by is None else by.lane)

    def _open_task(self, trace_id: str, by: Principal, what: str) -> tuple[SpanIds, _Owner]:
        """Return the task and owner of a trace that the caller may add to."""
        task = check_trace_id(trace_id)
        owner = self._owners.get(trace_id)
        if owner is None:
            entry = self._open.find(trace_id)
            if entry is None:
                raise self._not_open(trace_id, by, what)
            owner, is_open = self._remember(trace_id, entry.opening), entry.closing is None
        else:
            is_open = self._open.is_open(trace_id)
            if is_open is None:
                raise self._not_open(trace_id, by, what)
        by.check_owns(owner.agent, trace_id)
        if not is_open:
            raise TraceStateError(trace_id, what, "it is completed")
        return task, owner

    def _remember(self, trace_id: str, opening: Any) -> _Owner:
        owner = _Owner(opening["agent"], "owner" in opening["begun"])
        with self._owners_lock:
            self._owners[trace_id] = owner
            self._owners.move_to_end(trace_id)
            if len(self._owners) > _MAX_OWNERS:
                self._owners.popitem(last=False)
        return owner

    def _not_open(self, trace_id: str, by: Principal, what: str) -> Exception:
        """Return the error for a trace that the registry does not hold."""
        trace = self.get(trace_id, by=by)
        by.check_owns_trace(trace, trace_id)
        reason = (
            "the program that began it records it"
            if trace.status == "active"
            else f"it is {trace.status}"
        )
        return TraceStateError(trace_id, what, reason)

    def _completed_long_ago(
        self, trace_id: str, outcome: str, success: bool, by: Principal
    ) -> CompletedTrace:
        trace = self.get(trace_id, by=by)
        by.check_owns_trace(trace, trace_id)
        text = self._outcome(outcome)
        same = (trace.outcome, trace.success) == (text, success)
        if trace.completed_at is None or trace.status != "completed" or not same:
            raise self._not_open(trace_id, by, "to complete it")
        return CompletedTrace(
            trace_id=trace_id, success=success, outcome=text, completed_at=trace.completed_at
        )

    def _step(self, task: SpanIds, trace_id: str, step_id: str, by: Principal) -> SpanIds:
        step = parse_step_id(step_id)
        if step is None or step.trace != task.trace:
            raise StepNotFoundError(step_id, trace_id)
        # Steps of programs came as spans.
        if not remote_records.is_reported_step(step) and step_id not in {
            known.step_id for known in self.get(trace_id, by=by).steps
        }:
            raise StepNotFoundError(step_id, trace_id)
        return step

    def _outcome(self, outcome: str) -> str:
        return self.memory.recorder.encoder.text(outcome, path="outcome")


def _check_text(field: str, text: str) -> None:
    if not text.strip():
        raise InvalidArgumentError(field, text, "a text that is not empty")


def _digest(outcome: str, success: bool) -> str:
    return hashlib.sha256(json.dumps([outcome, success]).encode()).hexdigest()
