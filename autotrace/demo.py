"""The agent of `autotrace demo`: a small help desk, recorded and recalled.

It needs no network, model or key. Two of its five tasks fail, so that the statistics show failures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import autotrace
from autotrace import Trace, step, task, tool
from autotrace.models import RecallResult, ToolStats, TraceSummary

AGENT: Final = "concierge"
REQUEST: Final = "Where can we eat pasta close to the trade fair?"
"""Has almost no word in common with the similar past task."""

_PLACES: Final = {
    "Trattoria Milano": {"kind": "italian", "rating": 4.7, "minutes": 4, "seats": 6},
    "Perbacco": {"kind": "italian", "rating": 4.5, "minutes": 9, "seats": 0},
    "Golden Dragon": {"kind": "chinese", "rating": 4.2, "minutes": 3, "seats": 20},
}
_ORDERS: Final = {"A-1042": {"item": "headphones", "price": 89.0, "paid": True}}


class FullyBookedError(Exception):
    """A restaurant has no table."""


def _ask(service: str) -> None:
    """Wait a tenth of the time that such a service takes."""
    time.sleep({"places": 0.042, "maps": 0.018, "shop": 0.006, "carrier": 0.1}[service])


@tool
def search_places(kind: str, limit: int = 10) -> list[str]:
    """Find restaurants of a kind, the best first."""
    _ask("places")
    matching = [name for name, place in _PLACES.items() if place["kind"] == kind]
    return sorted(matching, key=lambda name: -float(_PLACES[name]["rating"]))[:limit]


@tool
def walking_minutes(place: str) -> int:
    """Return how far a place is on foot."""
    _ask("maps")
    return int(_PLACES[place]["minutes"])


@tool
def book_table(place: str, people: int) -> str:
    """Book a table."""
    _ask("places")
    seats = int(_PLACES[place]["seats"])
    if people > seats:
        raise FullyBookedError(f"{place} has {seats} seats left, {people} are wanted")
    return f"table for {people} at {place}"


@tool
def look_up_order(order: str) -> dict[str, Any]:
    """Look an order up."""
    _ask("shop")
    return _ORDERS[order]


@tool(redact=["account"])
def refund(order: str, account: str) -> dict[str, Any]:
    """Pay the price of an order back."""
    _ask("shop")
    return {"order": order, "amount": _ORDERS[order]["price"]}


@tool
def track_parcel(parcel: str) -> str:
    """Ask the carrier where a parcel is."""
    _ask("carrier")
    raise TimeoutError(f"the carrier did not answer about {parcel} in time")


def _find_place(session: str) -> None:
    with task(
        "Find Italian restaurants near the conference venue", session_id=session, agent=AGENT
    ) as work:
        with step("I do not know the area, so I search first", action="search_places"):
            names = search_places("italian")
        with step("They all have good ratings; the nearest one wins") as thinking:
            nearest = min(names, key=walking_minutes)
            thinking.observe(f"{nearest} is the nearest of {len(names)}")
        work.complete(f"{nearest}: best rated, and only a few minutes to walk")


def _book_for_eight(session: str) -> None:
    with (
        task("Book a table for eight at Trattoria Milano", session_id=session, agent=AGENT),
        step("I ask for one large table", action="book_table"),
    ):
        book_table("Trattoria Milano", 8)


def _pay_back(session: str) -> None:
    with task(
        "Give the customer the money for order A-1042 back", session_id=session, agent=AGENT
    ) as work:
        with step("Nothing is paid back before I know that it was paid"):
            order = look_up_order("A-1042")
        with step("It was paid, so I refund it", action="refund"):
            paid = refund("A-1042", account="DE89 3704 0044 0532 0130 00")
        work.complete(f"{paid['amount']:.2f} EUR for the {order['item']} are on their way")


def _find_parcel(session: str) -> None:
    with (
        task("Tell the customer when parcel 77 arrives", session_id=session, agent=AGENT) as work,
        step("The carrier knows", action="track_parcel"),
    ):
        try:
            track_parcel("77")
        except TimeoutError:
            work.complete("The carrier does not answer; try again later", success=False)


def _answer_from_memory(session: str) -> list[RecallResult]:
    with task(REQUEST, session_id=session, agent=AGENT) as work:
        with step("Have I done something like this before?") as remembering:
            known = autotrace.recall(REQUEST, limit=1)
            remembering.observe(f"{known[0].task}: {known[0].outcome}")
        with step("That worked, so I go the same way"):
            nearest = min(search_places("italian"), key=walking_minutes)
        work.complete(nearest)
    return known


class Demo(NamedTuple):
    """Result of the demonstration."""

    traces: list[TraceSummary]
    """The tasks, newest first."""
    trace: Trace
    """The trace of the first task."""
    request: str
    """The last task, in other words than the first."""
    recalled: list[RecallResult]
    """Traces that the agent recalled for the last task."""
    tool_stats: list[ToolStats]


def run(session: str, say: Callable[[str], None] = lambda _: None) -> Demo:
    """Run the tasks of the agent, after `autotrace.configure()`.

    Args:
        session: Id of the session of the tasks.
        say: Called with the current stage.

    Raises:
        StoreError: The records cannot be read back.
    """
    say("the agent works")
    _find_place(session)
    with contextlib.suppress(FullyBookedError):
        _book_for_eight(session)
    _pay_back(session)
    _find_parcel(session)
    say("what it did is stored")
    autotrace.flush()
    recalled = _answer_from_memory(session)
    autotrace.flush()
    traces = autotrace.list_traces(session_id=session)
    return Demo(
        traces=traces,
        trace=autotrace.get_trace(traces[-1].trace_id),
        request=REQUEST,
        recalled=recalled,
        tool_stats=autotrace.tool_stats(),
    )
