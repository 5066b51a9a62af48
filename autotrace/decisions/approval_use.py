"""Rules for the use of an approval: by one call, the one that was approved, and once.

Pure functions over the state of a decision, like those of state_machine.py.
"""

from __future__ import annotations

from autotrace.decisions.state_machine import CLAIMED, CLOSED, REFUSAL_TOLD, Draft, State, obstacle
from autotrace.errors import ApprovalPending, ApprovalRefused


def claim(state: State, *, tool_name: str, arguments_sha256: str) -> list[Draft]:
    """Use an approval up for one run.

    Raises:
        ApprovalPending: It has not been approved yet.
        ApprovalRefused: It may not run: names why.
    """
    if state.tool is not None:
        check_call(state, tool_name=tool_name, arguments_sha256=arguments_sha256)
    check_not_refused(state)
    if state.status != "approved":
        raise ApprovalPending(state.decision_id)  # or nobody was asked, which is no yes either
    if (held := obstacle(state)) is not None:
        raise ApprovalRefused(state.decision_id, "denied", held)
    return [Draft(CLAIMED, {"tool_name": tool_name, "arguments_sha256": arguments_sha256})]


def check_call(state: State, *, tool_name: str, arguments_sha256: str) -> None:
    """Pass the call of a tool for which a decision was opened.

    Raises:
        ApprovalRefused: It was opened for another one, or for none.
    """
    tool = state.tool
    if tool is None:
        why = "it was opened for no call of a tool"
        raise ApprovalRefused(state.decision_id, "changed", why)
    if tool["name"] != tool_name:
        why = f"the tool differs from what was to be approved, which is {tool['name']}"
        raise ApprovalRefused(state.decision_id, "changed", why)
    if tool["arguments_sha256"] != arguments_sha256:
        why = "the arguments, or the code of the tool, differ from what was to be approved"
        if "source_sha256" not in tool:
            why += " (or an older autotrace has asked, which bound no code: call again to ask)"
        raise ApprovalRefused(state.decision_id, "changed", why)


def check_not_refused(state: State) -> None:
    """Pass a decision that is approved and unused, or may still be.

    Raises:
        ApprovalRefused: It never will be: names why.
    """
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
            f"it was claimed by {state.claim.by} and has not finished: it runs at this moment, or "
            "its process died within it; see whether it took effect, then end it with "
            f"`autotrace decisions abort {state.decision_id} --by NAME`"
        )
        raise ApprovalRefused(state.decision_id, "claimed", why)
    if closed is not None:
        reason = (closed.content or {}).get("reason")
        why = "it was aborted" + (f": {reason}" if reason else "")
        raise ApprovalRefused(state.decision_id, "aborted", why)


def refuse(state: State, reason: str) -> list[Draft]:
    """Abort a decision whose approval is not accepted, so that the next call asks anew."""
    if state.is_closed or state.claim is not None:
        return []
    return [Draft(REFUSAL_TOLD), Draft(CLOSED, {"action": "abort"}, {"reason": reason})]


def check_not_pending(state: State) -> None:
    """Pass a decision that waits for no answer.

    Raises:
        ApprovalPending: It does.
    """
    if state.status == "needs_approval":
        raise ApprovalPending(state.decision_id)


def is_spent(state: State) -> bool:
    """Tell whether a decision on a tool call has answered a call, so that the next asks anew."""
    return state.is_closed and (
        state.status == "committed" or state.told or state.claim is not None
    )
