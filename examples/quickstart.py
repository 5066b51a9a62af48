"""An agent that learns which tools fail. No model, no network: run it as it is.

    python examples/quickstart.py [STORE]

It has several tools for each request, and some of them fail. autotrace records what it does; before
it acts, it recalls how similar requests went. What it learned stays in the folder STORE: run it a
second time and it knows from the start.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

import autotrace
from autotrace import RecallResult, Trace, step, task, tool

SIMILAR = 0.45
"""Tasks less similar than this teach nothing: 1 is the same text, unrelated ones are near 0."""


@tool  # Records arguments, result or error, and duration of each call; nothing else changes.
def city_map(request: str) -> str:
    raise ConnectionError("this month's quota is used up")


@tool
def city_guide(request: str) -> str:
    return "Osteria da Zoe, 300 m from here"


@tool
def live_rates(request: str) -> str:
    raise TimeoutError("no answer within 2 s")  # recorded as a timeout, not as an error


@tool
def bank_rates(request: str) -> str:
    return "1 EUR = 1.08 USD"


@tool
def book_online(request: str) -> str:
    raise LookupError("no table of that size")


@tool
def phone_restaurant(request: str) -> str:
    raise TimeoutError("nobody picks up")


@tool
def ask_front_desk(request: str) -> str:
    return "The back room is yours at 8 pm"


Tool = Callable[[str], str]
EAT = [city_map, city_guide]
PAY = [live_rates, bank_rates]
BOOK = [book_online, phone_restaurant, ask_front_desk]

NEW = {
    "Find an Italian restaurant near the conference venue": EAT,
    "Convert the hotel bill of 240 euros to US dollars": PAY,
    "Book a table for twelve people tonight": BOOK,
}
REWORDED = {
    "Where can we eat pasta close to the convention centre?": EAT,
    "How much is an invoice of 99 EUR in American money?": PAY,
    "Reserve dinner for a dozen guests this evening": BOOK,
}


def remember(request: str) -> list[RecallResult]:
    """Return what was asked before and means something similar, most similar first."""
    # success_only=False: from what failed there is something to learn, too.
    found = autotrace.recall(request, success_only=False, limit=5, agent="concierge")
    return [past for past in found if past.similarity >= SIMILAR]


def solve(request: str, tools: list[Tool], memories: list[RecallResult]) -> str:
    """Try two tools at most, first those that worked before. Returns the id of the trace."""
    worked: Counter[str] = Counter()
    for past in memories:
        for call in autotrace.get_trace(past.trace_id).tool_calls:
            worked[call.tool_name] += 1 if call.status == "success" else -1

    with task(request, agent="concierge") as t:
        for use in sorted(tools, key=lambda use: -worked[use.__name__])[:2]:
            with step(f"{use.__name__} may help", action=f"call {use.__name__}") as s:
                try:
                    t.complete(use(request))
                    break
                except (OSError, LookupError) as error:
                    s.observe(f"It did not: {error}")
        else:
            t.complete("Gave up after two tools", success=False)
    return t.trace_id


def main() -> None:
    """Let the agent work, and print what autotrace has recorded of it."""
    parser = argparse.ArgumentParser(description="An agent that learns which tools fail.")
    parser.add_argument("store", nargs="?", help="default: $AUTOTRACE_STORE, or ./.autotrace")
    autotrace.configure(parser.parse_args().store)  # Before this, decorators do nothing.

    console = Console(highlight=False)  # prints no colours where the output is not a terminal
    for title, requests in (("New requests", NEW), ("The same in other words", REWORDED)):
        console.rule(title, align="left")
        for request, tools in requests.items():
            memories = remember(request)
            trace_id = solve(request, tools, memories)
            autotrace.flush()  # Storing goes on in the background; what follows wants it done.
            show(console, autotrace.get_trace(trace_id), memories)

    table = Table("tool", "calls", "success rate", "errors", "timeouts", title="Statistics")
    for s in autotrace.tool_stats():
        row = (s.call_count, f"{s.success_rate:.0%}", s.error_count, s.timeout_count)
        table.add_row(s.tool_name, *map(str, row))
    console.print(table)
    store = autotrace.health().store
    command = Path(sys.executable).with_name("autotrace")
    console.print("\nRun this again: it remembers. Or look around with\n")
    console.print(f"  export AUTOTRACE_STORE={store}\n  {command} traces", soft_wrap=True)
    console.print(f'  {command} recall "a place to have dinner"', soft_wrap=True)


def show(console: Console, trace: Trace, memories: list[RecallResult]) -> None:
    """Print one request: what it brought to mind, which tools were called, what came of it."""
    console.print(f"[bold]{trace.task}")
    for past in memories[:1]:
        console.print(f"  recalls  {past.task} ({past.similarity:.2f} similar)")
    for call in trace.tool_calls:
        colour = "green" if call.status == "success" else "red"
        reason = "" if call.error is None else f": {call.error}"
        console.print(f"  calls    {call.tool_name} [{colour}]{call.status}[/]{reason}")
    console.print(f"  outcome  {trace.outcome}\n")


if __name__ == "__main__":
    try:
        main()
    except autotrace.AutotraceError as error:
        raise SystemExit(f"error: {error}") from None
