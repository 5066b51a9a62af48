"""Traces told of from elsewhere, call by call: what every server offers of them.

Any worker, on any machine, takes the next call of a trace that another one has started: what they
must agree on is in the registry of open traces (store/open_traces.py), everything else is in the
spool, and in the store soon after.

* What was acknowledged is on disk. Over a Chroma server it is also in the store, unless that takes
  longer than is waited for, since the next to ask may be another machine.
* A trace is completed once, whoever races. The same completion again gets the same answer; and
  records again, as the process that was first may have died in between.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast, get_args

from autotrace import semconv
from autotrace.base import grants
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
    parse_trace_id,
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
from autotrace.server.auth.principal import LOCAL_KEY_ID, Principal
from autotrace.server.consistent_reads import (
    NOT_STORED_YET_MESSAGE,
    TraceReading,
    hide_store_name,
    lane_for,
    sender_for,
)
from autotrace.server.open_trace_cleanup import ABANDONED_AFTER_S, KEPT_FOR_S, Tidier
from autotrace.server.otlp_access import Grantor, admit
from autotrace.spool.span_records import SpanRecord
from autotrace.spool.span_roles import MAX_DURATION_MS
from autotrace.store.connection import ServerOptions
from autotrace.store.open_traces import open_traces
from autotrace.store.times import utc

_MAX_KNOWN: Final = 10_000
"""Of how many open traces the agent is remembered, to spare a look."""
_RETRY_AFTER_S: Final = 60.0


SignerOfKey = Callable[[str], tuple[Principal, grants.GrantSigner] | None]


def _no_signer(key_id: str) -> None:
    """Know no key."""
    del key_id


class _Owner(NamedTuple):
    """Whose an open trace is."""

    agent: str
    has_share: bool
    """Whether its records say so. Those that came without a key do not, nor those of a trace that
    an earlier release began."""


class TraceService(TraceReading):
    """The traces of one memory, as servers offer them. Any thread may use it; calls block.

    Args:
        memory: Where traces are recorded and read.
        max_open_per_key: How many traces one key may have open at once.
        wait_s: How long a call waits at most for the store to take in what was recorded.
        signer_of_key: Returns whom a key stands for, and what its grants are signed with.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        max_open_per_key: int = 1000,
        wait_s: float = 10.0,
        signer_of_key: SignerOfKey = _no_signer,
    ) -> None:
        super().__init__(memory, wait_s)
        self._max_open_per_key = max_open_per_key
        settings = memory.settings
        self._open = open_traces(settings.store, ServerOptions.of(settings))
        self._known: OrderedDict[str, _Owner] = OrderedDict()
        self._known_lock = threading.Lock()
        self._signer_of_key = signer_of_key
        self._tidier = Tidier(memory, self._open, self._record)

    def start(
        self,
        task: str,
        session_id: str,
        *,
        triggered_by_memory_id: str | None = None,
        by: Principal,
    ) -> StartedTrace:
        """Begin a trace, of the agent that asks.

        Args:
            task: What the agent is asked to do.
            session_id: The session or conversation it belongs to.
            triggered_by_memory_id: Id of a memory that led to it.
            by: Who asks.

        Raises:
            InvalidArgumentError: An argument is not allowed; names it.
            LimitExceededError: The key has too many open traces.
            StoreUnavailableError: The store does not answer; nothing is recorded.
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
        begun = remote_records.task_begun(
            self.memory.recorder,
            ids,
            now_ns,
            task=task,
            session_id=session_id,
            agent=by.agent,
            triggered_by_memory_id=triggered_by_memory_id,
        )
        if by.key_id != LOCAL_KEY_ID:
            begun = remote_records.came_with(begun, by.key_id, by.agent)
        trace_id = format_trace_id(*ids)
        opening = {"agent": by.agent, "key_id": by.key_id, "begun": begun}
        self._open.begin(trace_id, by.key_id, opening)
        try:
            self._record(begun, by)
        except StoreUnavailableError:
            self._open.remove([trace_id])  # nobody learns of it
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
        observations: Sequence[str] = (),
        *,
        by: Principal,
    ) -> RecordedStep:
        """Record a step of an open trace.

        Args:
            trace_id: The trace.
            thought: The agent's reasoning at this step.
            action: What it decided to do.
            observations: What it observed.
            by: Who asks.

        Raises:
            TraceNotFoundError: There is no such trace.
            NotPermittedError: It is another agent's.
            TraceStateError: It is not open.
            StoreUnavailableError: The store does not answer; nothing is recorded.
        """
        task, owner = self._open_task(trace_id, by, "a step")
        now_ns = time.time_ns()
        record = remote_records.step_told(
            self.memory.recorder,
            task,
            now_ns,
            thought=thought,
            action=action,
            observations=observations,
        )
        self._record(_of(record, owner, by), by)
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
        """Record a tool call that has just ended.

        Args:
            trace_id: The trace.
            tool_name: Name of the tool.
            arguments: By name.
            result: What it returned; of a failed call what there is.
            duration_ms: How long it took.
            status: How it ended.
            memory_id: Id of a memory that it used or made.
            step_id: The step that it belongs to. Default: the latest one told of.
            by: Who asks.

        Raises:
            InvalidArgumentError: An argument is not allowed; names it.
            TraceNotFoundError: There is no such trace.
            StepNotFoundError: The trace has no such step.
            NotPermittedError: It is another agent's.
            TraceStateError: It is not open.
            StoreUnavailableError: The store does not answer; nothing is recorded.
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
        record = remote_records.tool_call_told(
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
        self._record(_of(record, owner, by), by)
        return RecordedToolCall(
            tool_call_id=format_tool_call_id(record["id"]),
            trace_id=trace_id,
            step_id=step_id,
            created_at=utc(now_ns),
        )

    def complete(
        self, trace_id: str, outcome: str, success: bool, *, by: Principal
    ) -> CompletedTrace:
        """Complete a trace. The same again changes nothing and gets the same answer.

        Args:
            trace_id: The trace.
            outcome: What came of it.
            success: Whether the task was solved.
            by: Who asks.

        Raises:
            TraceNotFoundError: There is no such trace.
            NotPermittedError: It is another agent's.
            TraceStateError: It is completed, with another outcome.
            StoreUnavailableError: The store does not answer. Ask again: it may be completed.
        """
        if parse_trace_id(trace_id) is None:
            raise TraceNotFoundError(trace_id)
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
        self._record(remote_records.task_completed(entry.opening, closing), by)
        return CompletedTrace(
            trace_id=trace_id,
            success=closing["success"],
            outcome=closing["outcome"],
            completed_at=utc(closing["ended_ns"]),
        )

    def take_spans(self, batch: Batch, *, by: Principal) -> None:
        """Record spans that a program has made: on disk when this returns.

        They are not passed on to a collector, which could be this server. Times in the future are
        bounded (`Batch.bound_times`).

        Args:
            batch: The spans. Those that may not be taken in are rejected in it; see otlp_access.py.
            by: Whose program it is.

        Raises:
            StoreUnavailableError: Not all of it is recorded; to send it again does no harm.
        """
        batch.bound_times(time.time_ns())
        admit(batch, self._open, functools.partial(self._grantor, by.tenant), by)
        redactor = self.memory.recorder.encoder.redactor
        batch.records = [
            cast("SpanRecord", redactor.of_span(cast("dict[str, Any]", record)))
            for record in batch.records
        ]
        self.memory.record(batch.records, forward=False, sender=sender_for(by))

    def _grantor(self, tenant: str, grant: str, trace: str) -> Grantor | None:
        """Return who has granted to add to an OpenTelemetry trace; None if nobody of the tenant."""
        name = grants.signer_in(grant)
        if name is None:
            return None
        if name == grants.LOCAL:
            signer = self._local_signer()
            if signer is None:
                return None
            grantor = Grantor(None)
        else:
            known = self._signer_of_key(name)
            if known is None or known[0].tenant != tenant:
                return None
            grantor, signer = Grantor(known[0].agent), known[1]
        return grantor if grants.holds(grant, trace, signer, time.time()) else None

    def _local_signer(self) -> grants.GrantSigner | None:
        path = self.memory.settings.grant_key_path
        try:
            return grants.local_signer(path) if path is not None and path.exists() else None
        except (OSError, ValueError) as error:
            self.memory.counters.add("unchecked_grants")
            self.memory.counters.record_failure(
                "grants", f"grants of programs are not valid: {error}", error
            )
            return None

    def delete(self, trace_id: str, *, by: Principal) -> None:
        """Delete a trace, open or not, and all that was recorded in it.

        Its decisions stay. What is told of it afterwards is not kept.

        Args:
            trace_id: The trace.
            by: Who asks.

        Raises:
            TraceNotFoundError: There is no such trace.
            NotPermittedError: It is another agent's.
            StoreUnavailableError: The store does not answer. Ask again: it may be deleted in part.
        """
        if parse_trace_id(trace_id) is None:
            raise TraceNotFoundError(trace_id)
        entry = self._open.find(trace_id)
        if entry is not None:
            by.check_owns(entry.opening["agent"], trace_id)
        self._be_current(by)  # a record that waits must not be taken for deleted
        # Once for both: what is deleted is what was checked.
        place = self.memory.reader.locate(trace_id, asked_by=by.agent)
        if entry is None:
            try:
                by.check_owns_trace(self.get(place.trace_id, by=by), trace_id)
            except TraceNotFoundError:
                raise TraceNotFoundError(trace_id) from None
        try:
            with hide_store_name():
                self.memory.delete_trace(trace_id, self._wait_s, place=place, lane=lane_for(by))
        except TraceNotFoundError:
            if not self.memory.catch_up(0.0):  # it may wait in another sender's backlog
                raise StoreUnavailableError(NOT_STORED_YET_MESSAGE) from None
            # Deleted by a process that has died before it could have the registry forget it.
            self._open.remove([trace_id])
            raise
        self._open.remove([trace_id])

    def tidy(
        self, kept_for_s: float = KEPT_FOR_S, abandoned_after_s: float = ABANDONED_AFTER_S
    ) -> None:
        """Tidy up the registry, as `start` has it done now and then; see `Tidier.tidy`."""
        self._tidier.tidy(kept_for_s, abandoned_after_s)

    def stop(self) -> None:
        """Let go of the registry; the memory is stopped by who made it."""
        self._open.stop()

    def _record(self, record: SpanRecord, by: Principal | None = None) -> None:
        """Record, for who asks; None: for whom the record says."""
        self.memory.record([record], sender=None if by is None else sender_for(by))
        if not self.memory.settings.is_embedded:
            lane = None if by is None else lane_for(by)
            self.memory.pipeline.flush(self._wait_s, lane=lane)

    def _open_task(self, trace_id: str, by: Principal, what: str) -> tuple[SpanIds, _Owner]:
        """Return the task of a trace that is open and may be added to, and whose it is."""
        task = parse_trace_id(trace_id)
        if task is None:
            raise TraceNotFoundError(trace_id)
        owner = self._known.get(trace_id)
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
        with self._known_lock:
            self._known[trace_id] = owner
            self._known.move_to_end(trace_id)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return owner

    def _not_open(self, trace_id: str, by: Principal, what: str) -> Exception:
        """Say why a trace cannot be added to that the registry does not know."""
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
        # Other steps than those told of have come as spans.
        if not remote_records.is_told_step(step) and step_id not in {
            known.step_id for known in self.get(trace_id, by=by).steps
        }:
            raise StepNotFoundError(step_id, trace_id)
        return step

    def _outcome(self, outcome: str) -> str:
        return self.memory.recorder.encoder.text(outcome, path="outcome")


def _of(record: SpanRecord, owner: _Owner, by: Principal) -> SpanRecord:
    """Return a record as one of an open trace, in the name of its agent."""
    return remote_records.came_with(record, by.key_id, owner.agent) if owner.has_share else record


def _check_text(field: str, text: str) -> None:
    if not text.strip():
        raise InvalidArgumentError(field, text, "a text that is not empty")


def _digest(outcome: str, success: bool) -> str:
    return hashlib.sha256(json.dumps([outcome, success]).encode()).hexdigest()
