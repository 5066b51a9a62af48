"""Rules for the use of an approval: by the call that was approved, once. Pure functions."""

from __future__ import annotations

from autotrace.decision_requests import GatedCall
from autotrace.decisions.state_machine import CLAIMED, CLOSED, REFUSAL_TOLD, Draft, State, obstacle
from autotrace.errors import ApprovalPending, ApprovalRefused


def claim(state: State, call: GatedCall) -> list[Draft]:
    """Use an approval up for one run.

    Raises:
        ApprovalPending: The decision is not approved yet.
        ApprovalRefused: The call must not run.
    """
    if state.tool is not None:
        check_call(state, call)
    check_not_refused(state)
    if state.status != "approved":  # also if approval was never requested
        raise ApprovalPending(state.decision_id)
    if (held := obstacle(state)) is not None:
        raise ApprovalRefused(state.decision_id, "denied", held)
    facts = {"tool_name": call.tool["name"], "arguments_sha256": call.arguments_sha256}
    return [Draft(CLAIMED, facts)]


def check_call(state: State, call: GatedCall) -> None:
    """Raise ApprovalRefused unless the decision was opened for this call."""
    tool = state.tool
    if tool is None:
        why = "it was not opened for a tool call"
        raise ApprovalRefused(state.decision_id, "changed", why)
    if tool["name"] != call.tool["name"]:
        why = f"the tool differs from the tool to be approved, which is {tool['name']}"
        raise ApprovalRefused(state.decision_id, "changed", why)
    if tool["arguments_sha256"] != call.arguments_sha256:
        why = "the arguments, or the code of the tool, differ from those to be approved"
        if "source_sha256" not in tool:
            why += " (an older autotrace opened it, without a hash of the code: call again)"
        raise ApprovalRefused(state.decision_id, "changed", why)


def check_not_refused(state: State) -> None:
    """Raise ApprovalRefused unless a call runs on this decision now, or may do so later."""
    request, closed = state.request, state.closed
    if state.status == "committed":
        why = "its approval was used up by one run, or it was committed"
        raise ApprovalRefused(state.decision_id, "used", why)
    if request is not None and request.status == "rejected" and request.resolved_by is not None:
        answer = request.resolved_by
        rationale = (answer.content or {}).get("rationale")
        why = f"rejected by {answer.facts['approver']}" + (f": {rationale}" if rationale else "")
        raise ApprovalRefused(state.decision_id, "rejected", why)
    if request is not None and request.status == "expired":
        raise ApprovalRefused(state.decision_id, "expired", "the approval has expired")
    if state.claim is not None:
        if state.is_closed:
            raise ApprovalRefused(state.decision_id, "used", "its one run has failed")
        why = (
            f"{state.claim.by} claimed it and has not finished: the call runs at this moment, or "
            "its process died; find out whether it took effect, then end the decision with "
            f"`autotrace decisions abort {state.decision_id} --by NAME`"
        )
        raise ApprovalRefused(state.decision_id, "claimed", why)
    if closed is not None:
        reason = (closed.content or {}).get("reason")
        why = "it was aborted" + (f": {reason}" if reason else "")
        raise ApprovalRefused(state.decision_id, "aborted", why)


def abort(state: State, reason: str) -> list[Draft]:
    """Abort a decision whose votes do not count, so that the next call requests approval again."""
    if state.is_closed or state.claim is not None:
        return []
    return [Draft(REFUSAL_TOLD), Draft(CLOSED, {"action": "abort"}, {"reason": reason})]


def check_not_pending(state: State) -> None:
    """Raise ApprovalPending if the decision waits for an answer."""
    if state.status == "needs_approval":
        raise ApprovalPending(state.decision_id)


def is_spent(state: State) -> bool:
    """Return whether a tool call has used this decision up, so that the next call opens another."""
    return state.is_closed and (
        state.status == "committed" or state.told or state.claim is not None
    )
