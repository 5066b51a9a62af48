"""Names that look alike on a screen are one person; names that do not are not."""

from __future__ import annotations

from string import ascii_lowercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrace.base.lookalikes import imitations_in, invisible_in, same_person, skeleton
from tests.growth import KIB, superlinear

INVISIBLE = {
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "combining grapheme joiner": "\u034f",
    "variation selector 16": "\ufe0f",
    "variation selector 17": "\U000e0100",
    "tag": "\U000e0041",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Hangul jungseong filler": "\u1160",
    "Khmer inherent vowel": "\u17b5",
    "Mongolian variation selector": "\u180d",
    "Mongolian vowel separator": "\u180e",
    "Arabic letter mark": "\u061c",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "word joiner": "\u2060",
    "invisible times": "\u2062",
    "interlinear annotation": "\ufff9",
    "shorthand format overlap": "\U0001bca0",
    "musical begin beam": "\U0001d173",
    "null notehead": "\U0001d159",
    "braille blank": "\u2800",
    "object replacement": "\ufffc",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000",
    "line separator": "\u2028",
    "NUL": "\x00",
    "private use": "\ue000",
    "byte order mark": "\ufeff",
}
ALIKE = {
    "case": "JOSÉ",
    "decomposed": "Jose\u0301",
    "accent twice": "José\u0301",
    "no accent": "Jose",
    "enclosing circle": "José\u20dd",
    "full width": "Ｊｏｓé",
    "mathematical": "𝓙𝓸𝓼𝓮",
    "Cyrillic o": "J\u043esé",
    "Cyrillic capital": "\u0408osé",
    "Greek omicron": "J\u03bfsé",
    "Armenian o": "J\u0585sé",
    "digit": "J0sé",
    "final dot": "José.",
    "quoted": "'José'",
    "space between": "Jo sé",
}
text = st.text(
    st.one_of(
        st.sampled_from([*INVISIBLE.values(), *"aAbBiIlL1|0oOmrnΝνΗηВвßſİıé\u0301\u0307\u3099.- "]),
        st.characters(),
    ),
    max_size=12,
)


@pytest.mark.parametrize("where", [0, 2, 4])
@pytest.mark.parametrize("what", INVISIBLE)
def test_a_character_that_shows_nothing_makes_no_other_person(what: str, where: int) -> None:
    name = "José"[:where] + INVISIBLE[what] + "José"[where:]
    assert same_person("José", name)
    assert invisible_in(name) == [INVISIBLE[what]]


@pytest.mark.parametrize("what", ALIKE)
def test_a_name_that_looks_alike_is_the_same_person(what: str) -> None:
    assert same_person("José", ALIKE[what])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("modern", "modem"),
        ("AI", "Al"),
        ("bot-1", "bot-l"),
        ("İris", "ıris"),
        ("Νat", "nat"),
        ("ΗAL", "hal"),
        ("pa\u03a5er", "PAYER"),
        ("ϲlaude", "claude"),
        ("Вера", "вера"),
        ("Вера", "Bepa"),
        ("Νίκος", "ΝΊΚΟΣ"),
        ("straße", "STRASSE"),
        ("Ada\u3164Lovelace", "Ada Lovelace"),
        ("e\u200d\u0301va", "éva"),
        ("\u0e17\u0e14", "\u0e17\u200b\u0e14"),
    ],
)
def test_names_that_look_alike_in_some_font_or_case_are_one_person(one: str, other: str) -> None:
    assert same_person(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("ada", "adam"), ("nat", "hat"), ("Nan", "Van"), ("yuri", "uri"), ("bot-1", "bot-2")),
        *(("Вера", "Вета"), ("か", "が"), ("राम", "रमा"), ("山田", "山口"), ("가나", "나가")),
        *(("a-b", "a.b"), ("...", "!"), ("Νίκος", "Νίκη")),
    ],
)
def test_names_that_differ_on_the_screen_are_two_people(one: str, other: str) -> None:
    assert not same_person(one, other)


def test_no_two_ascii_letters_are_one_but_those_that_look_alike() -> None:
    alike = [
        (a, b)
        for a in digits + ascii_lowercase
        for b in digits + ascii_lowercase
        if a < b and same_person(a, b)
    ]
    assert alike == [("0", "o"), ("1", "i"), ("1", "l"), ("i", "l")]


@given(text, text, text)
def test_to_be_the_same_person_is_an_equivalence(one: str, other: str, third: str) -> None:
    assert same_person(one, one)
    assert same_person(one, other) is same_person(other, one)
    if same_person(one, other) and same_person(other, third):
        assert same_person(one, third)


@given(text)
def test_a_skeleton_is_its_own(name: str) -> None:
    assert skeleton(skeleton(name)) == skeleton(name)


@given(text, st.sampled_from(list(INVISIBLE.values())), st.data())
def test_what_shows_nothing_changes_no_skeleton(
    name: str, invisible: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(name)))
    assert same_person(name, name[:at] + invisible + name[at:])


@pytest.mark.parametrize(
    "unit", ["a\u0301", "\u3099\u09bc", "\u0e38\u0e48", "ﷺ", "é", "\u200b", "か\u3099"]
)
def test_the_cost_of_a_long_name_grows_with_its_length(unit: str) -> None:
    sizes = (2 * KIB, 8 * KIB, 32 * KIB)
    assert superlinear(skeleton, lambda size: unit * (size // len(unit)), sizes) is None


def test_letters_of_another_script_in_a_latin_name_are_named() -> None:
    assert imitations_in("J\u043esé") == ["\u043e"]
    assert imitations_in("Νat") == ["Ν"]
    assert imitations_in("José") == []
    assert imitations_in("Вера") == []
    assert imitations_in("ロボット一号 AI") == []
    assert imitations_in("bot-7 Ω") == []
