"""Values that refuse, lie, change or recurse are recorded all the same."""

from __future__ import annotations

import collections
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.semconv import TRUNCATED

MARKER = TRUNCATED


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def make(counts: Counter[str]) -> Callable[..., Encoder]:
    """An encoder, with its limits, and with its counters in `counts`."""

    def count(name: str) -> None:
        counts[name] += 1

    def build(hook: Callable[[str, Any], Any] | None = None, **limits: int) -> Encoder:
        return Encoder(Redactor(hook=hook, count=count), **limits)

    return build


def record(value: Any, **options: Any) -> Any:
    """What a reader finds in the record of a value."""
    return json.loads(Encoder(Redactor()).json(value, **options))


class RaisingMessage(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


class RaisingAttributes:
    def __init__(self) -> None:
        self.fine = 1

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    __iter__ = __len__ = __hash__ = __eq__ = __getattribute__


class LyingDict(dict[str, Any]):
    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("asked")

    items = keys = values = get = copy = __iter__ = __len__ = __getitem__ = __contains__ = _raise


class LyingList(list[Any]):
    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("asked")

    __iter__ = __len__ = __getitem__ = __reversed__ = __eq__ = __repr__ = _raise


class LyingStr(str):
    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("asked")

    __len__ = __getitem__ = __str__ = __eq__ = __iter__ = encode = lower = _raise
    __hash__ = str.__hash__


class LyingMapping(collections.abc.Mapping[str, Any]):
    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            yield f"k{number}"
            number += 1

    def __getitem__(self, key: str) -> Any:
        return 1


class HostileMeta(type):
    def __hash__(cls) -> int:
        raise RuntimeError("no hash")

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Hostile(metaclass=HostileMeta):
    """Even its class cannot be looked at."""


def test_what_a_subclass_of_a_builtin_overrides_is_not_asked() -> None:
    value = {"d": LyingDict(a=1), "l": LyingList([1]), "s": LyingStr("text"), LyingStr("key"): 1}

    assert record(value) == {"d": {"a": 1}, "l": [1], "s": "text", "key": 1}


def test_a_value_whose_code_raises_is_named_and_counted(make: Any, counts: Counter[str]) -> None:
    shown = json.loads(make().json([RaisingMessage(), Hostile(), 1]))

    assert shown[0] == f"<{__name__}.RaisingMessage: RuntimeError raised when it was read>"
    assert shown[1] == f"<{__name__}.Hostile>"
    assert shown[2] == 1
    assert counts == {"unencodable": 1}


def test_an_object_that_refuses_every_question_is_shown_without_asking() -> None:
    assert record(RaisingAttributes())["attributes"] == {"fine": 1}


def test_a_tuple_whose_field_names_do_not_fit_is_an_array() -> None:
    class Row(tuple[int, ...]):
        _fields = ("a",)

    assert record(Row((1, 2))) == [1, 2]


def test_a_wrapper_of_itself_leaves_the_rest_readable() -> None:
    endless = collections.UserList[Any]()
    endless.data = endless
    shown = record({"endless": endless, "n": 1})

    assert shown == {"endless": "<collections.UserList>", "n": 1}


def test_a_mapping_that_lies_is_shown_by_what_it_holds() -> None:
    assert record(LyingMapping()) == f"<{__name__}.LyingMapping>"


def test_dicts_that_other_threads_change_are_recorded() -> None:
    value: dict[str, Any] = {"inner": {}}
    stop = threading.Event()

    def change() -> None:
        numbers = random.Random(0)
        while not stop.is_set():
            value["inner"][f"k{numbers.randrange(50)}"] = 1
            value["inner"].pop(f"k{numbers.randrange(50)}", None)

    encoder = Encoder(Redactor())
    thread = threading.Thread(target=change)
    thread.start()
    try:
        texts = [encoder.json(value) for _ in range(300)]
    finally:
        stop.set()
        thread.join()

    assert all(set(json.loads(text)) == {"inner"} for text in texts)


def test_an_interrupt_passes_through() -> None:
    class Interrupting(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    encoder = Encoder(Redactor())

    with pytest.raises(KeyboardInterrupt):
        encoder.json([Interrupting()])


def test_near_the_end_of_the_stack_there_is_still_valid_json(
    make: Any, counts: Counter[str]
) -> None:
    encoder = make()
    texts: list[str] = []

    def descend() -> None:
        texts.append(encoder.json({"a": [[[[object()]]]]}))
        texts.append(encoder.json(encoder.error(ValueError("x"))))
        descend()

    with pytest.raises(RecursionError):
        descend()

    assert all(json.loads(text) is not None for text in texts)
    assert counts["unencodable"] > 0
