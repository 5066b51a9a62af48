"""An agent that gives money back, and asks a person where it may not decide alone. No network.

    python examples/approve_refund.py [STORE]

A policy lets small refunds pass, refuses very large ones, and wants an exception for what lies
between. For that one the agent stops and prints a command: type it in a second terminal, and the
agent goes on within a moment. Answer `reject` in place of `approve`, and nothing is paid.
"""

import argparse
import getpass
import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import autotrace
from autotrace import ApprovalRefused, ApprovalRequest, policy, task, tool

CLI = Path(sys.executable).with_name("autotrace")
WAIT_S = 600
Outcome = Literal["allow", "deny", "requires_exception"]


@policy("refund_cap_v1")  # It sees its inputs and nothing else; its source is kept as its version.
def refund_cap(inputs: dict[str, Any]) -> tuple[Outcome, str]:
    """Say whether so much may be paid back, and why."""
    if inputs["amount"] <= 50:
        return "allow", "so little needs nobody"
    if inputs["amount"] > 500:
        return "deny", "nobody gets more than 500 back"
    return "requires_exception", "more than 50: a person decides"


# The body runs once, and only for exactly the arguments that were approved.
@tool(
    requires_approval="refund_cap_v1",
    wait=WAIT_S,
    approval=ApprovalRequest(title="Give money back", expires_in_seconds=WAIT_S),
)
def refund(order: str, amount: int) -> str:
    """Pay money back."""
    return f"paid {amount} back for {order}"


def ask(notice: dict[str, Any]) -> None:
    """Tell the person at the terminal what is asked, and how to answer."""
    store = shlex.quote(str(autotrace.health().store))
    command = f"{CLI} decisions %s {notice['decision_id']} --store {store}"
    person = f"--by {shlex.quote(getpass.getuser())}"
    print(f"\n  {notice['title']}: {notice['arguments']}. In a second terminal, type one of\n")
    print(f"  {command % 'show'}")
    print(f"  {command % 'approve'} {person}")
    print(f"  {command % 'reject'} {person} --why 'not this time'\n", flush=True)


def settle(order: str, amount: int) -> str:
    """Handle one complaint. Returns the id of its trace."""
    with task(f"The kettle of {order} is broken: give {amount} back", agent="refund-bot") as t:
        try:
            t.complete(refund(order, amount))
        except ApprovalRefused as refused:
            t.complete(f"not paid: {refused}", success=False)
    return t.trace_id


def main() -> None:
    """Let the agent work, and print what autotrace has recorded of its decisions."""
    parser = argparse.ArgumentParser(description="An agent that asks before it pays.")
    parser.add_argument("store", nargs="?", help="default: $AUTOTRACE_STORE, or ./.autotrace")
    autotrace.configure(parser.parse_args().store)
    autotrace.decisions.add_route("default", ask)  # or a Webhook, or Slack

    traces = [settle("order 1", 20), settle("order 2", 120), settle("order 3", 900)]
    autotrace.flush()
    for trace_id in traces:
        trace = autotrace.get_trace(trace_id)
        print(f"{trace.task}\n  {trace.outcome}")
        for decision in trace.decisions:
            proven = autotrace.decisions.verify(decision.decision_id)
            history = "its history verifies" if proven else "its history was changed"
            print(f"  {decision.status}, {decision.decision_id}, {history}")


if __name__ == "__main__":
    main()
