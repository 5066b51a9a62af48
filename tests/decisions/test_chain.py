"""The chain of events: every change of what was stored shows, and erasing content does not."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from autotrace.base.canonical_json import canonical
from autotrace.decisions import hash_chain
from autotrace.decisions.hash_chain import StoredEvent
from autotrace.decisions.state_machine import Draft

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=3)
DRAFTS = st.lists(
    st.builds(Draft, st.sampled_from(["created", "context_added"]), OBJECTS, st.none() | OBJECTS),
    min_size=1,
    max_size=5,
)


def linked(drafts: list[Draft]) -> list[StoredEvent]:
    """Events as they come back from the store."""
    events = hash_chain.link("decision-1", None, drafts, by="bot", at_ns=1_767_787_200_000_000_001)
    return orjson.loads(orjson.dumps(events))


@given(DRAFTS)
def test_what_was_stored_is_found_as_it_was(drafts: list[Draft]) -> None:
    assert hash_chain.check("decision-1", linked(drafts)) is None


@given(DRAFTS, st.data())
def test_a_changed_field_of_any_event_shows_at_that_event(
    drafts: list[Draft], data: st.DataObject
) -> None:
    events = linked(drafts)
    changed = data.draw(st.integers(0, len(events) - 1))
    event: Any = events[changed]
    name = data.draw(st.sampled_from(sorted(event)))
    value = data.draw(JSON.filter(lambda v: canonical(v) != canonical(event[name])))
    before = copy.deepcopy(event)
    event[name] = value

    found = hash_chain.check("decision-1", events)

    if name == "salt" and before["content"] is None:
        return  # a salt without content is no part of anything
    assert found is not None
    # A changed hash shows at the event itself, as it is no longer the hash of its fields.
    assert found.event_id == str(event["event_id"])


@given(DRAFTS.filter(lambda drafts: len(drafts) > 1), st.data())
def test_an_event_left_out_or_moved_shows(drafts: list[Draft], data: st.DataObject) -> None:
    events = linked(drafts)
    number = data.draw(st.integers(0, len(events) - 2))

    without = events[:number] + events[number + 1 :]
    swapped = [*events[:number], events[number + 1], events[number], *events[number + 2 :]]

    assert hash_chain.check("decision-1", without) is not None
    assert hash_chain.check("decision-1", swapped) is not None


@given(DRAFTS.filter(lambda drafts: len(drafts) > 1), st.data())
def test_an_event_replaced_by_one_that_is_whole_in_itself_shows_at_the_next(
    drafts: list[Draft], data: st.DataObject
) -> None:
    events = linked(drafts)
    number = data.draw(st.integers(0, len(events) - 2))
    before = events[number - 1] if number else None
    (events[number],) = hash_chain.link("decision-1", before, [drafts[number]], by="eve", at_ns=0)

    found = hash_chain.check("decision-1", events)

    assert found is not None
    assert found.event_id == events[number + 1]["event_id"]


@given(DRAFTS)
def test_events_of_one_decision_are_not_those_of_another(drafts: list[Draft]) -> None:
    assert hash_chain.check("decision-2", linked(drafts)) is not None


@given(DRAFTS, st.data())
def test_erased_content_leaves_the_chain_whole_if_an_event_says_so(
    drafts: list[Draft], data: st.DataObject
) -> None:
    events = linked(drafts)
    with_content = [e["sequence"] for e in events if e["content"] is not None]
    gone = data.draw(st.sets(st.sampled_from(with_content))) if with_content else set()
    said = Draft("content_erased", {"sequences": sorted(gone)})
    last = hash_chain.link("decision-1", events[-1], [said], by="ada", at_ns=0)
    erased = [hash_chain.erased(e) if e["sequence"] in gone else e for e in events]

    assert hash_chain.check("decision-1", [*erased, *last]) is None
    if gone:
        unsaid = hash_chain.check("decision-1", erased)
        assert unsaid is not None
        assert "no event records" in unsaid.problem


def test_short_content_cannot_be_guessed_from_its_digest() -> None:
    drafts = [
        Draft("created", {}, {"answer": "yes"}),
        Draft("context_added", {}, {"answer": "yes"}),
    ]

    one, other = linked(drafts)

    assert one["content_sha256"] != other["content_sha256"]


def test_no_two_values_are_spelled_alike() -> None:
    alike: list[list[Any]] = [
        [2**60, {"autotrace.number": str(2**60)}, str(2**60)],
        [float("nan"), {"autotrace.number": "nan"}],
        [{"autotrace.number": "1"}, {"autotrace.number": {"autotrace.number": "1"}}],
    ]
    for values in alike:
        assert len({canonical(value) for value in values}) == len(values)
