"""Text and exceptions become bounded text without secrets."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.semconv import REDACTED


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


class Word(str):
    """Text of another class, which does not show itself."""

    def __str__(self) -> str:
        raise RuntimeError("asked")

    __len__ = __getitem__ = __str__


def test_text_stays_text_and_anything_else_becomes_json() -> None:
    encoder = Encoder(Redactor())

    assert encoder.text("plain text") == "plain text"
    assert encoder.text(Word("sub")) == "sub"
    assert encoder.text({"a": 1}) == '{"a":1}'
    assert encoder.text(None) == "null"
    assert encoder.text("lone \ud800") == "lone \\ud800"
    assert encoder.text("my password: hunter2") == f"my password: {REDACTED}"


def test_text_that_was_cut_says_so(make: Any, counts: Counter[str]) -> None:
    text = "thought " * 1000

    shown = make(max_value_bytes=500).text(text)

    digest = hashlib.sha256(text.encode()).hexdigest()
    assert shown.endswith(f"… [cut by autotrace: 8000 characters in full, sha256 {digest}]")
    assert text.startswith(shown.split("…")[0])
    assert counts == {"truncated": 1}


# --- errors


class CustomError(Exception):
    """An error of this module."""


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_an_error_has_its_qualified_name_message_and_stack() -> None:
    encoder = Encoder(Redactor())
    error = raised(CustomError("broken"))

    kind, message, stack = encoder.error(error)

    assert kind == f"{__name__}.CustomError"
    assert message == "broken"
    assert encoder.error(KeyError("k"))[:2] == ("KeyError", "'k'")
    lines = stack.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "raise error from cause" in stack
    assert lines[-1] == f"{__name__}.CustomError: broken"


def test_a_chain_of_errors_reads_as_python_prints_it() -> None:
    try:
        try:
            raised(ValueError("first"))
            raise ValueError("first")
        except ValueError:
            raise CustomError("second") from KeyError("cause")
    except CustomError as error:
        shown = Encoder(Redactor()).error(error)[2]
        printed = "".join(traceback.format_exception(error))

    marks_under_the_source = re.compile(r"^ +[~^]+\n", re.MULTILINE)
    assert shown == marks_under_the_source.sub("", printed)


def test_secrets_are_taken_out_of_message_and_stack() -> None:
    error = raised(CustomError("login with hunter2 and token=abc failed"), ValueError("hunter2"))

    _, message, stack = Encoder(Redactor()).error(error, ["hunter2"])

    assert message == f"login with {REDACTED} and token={REDACTED} failed"
    assert "hunter2" not in stack
    assert f"ValueError: {REDACTED}" in stack


def test_a_secret_across_the_cut_of_a_message_is_taken_out() -> None:
    secret = "s3cr3t-" * 200
    encoder = Encoder(Redactor(), max_value_bytes=2000)

    for start in range(500, 2000, 100):
        _, message, _ = encoder.error(ValueError("x" * start + secret + "y" * 5000), [secret])
        assert "s3cr3t" not in message


def test_what_led_to_an_error_is_left_out_where_it_was_suppressed() -> None:
    try:
        try:
            raise ValueError("first")
        except ValueError:
            raise CustomError("second") from None
    except CustomError as error:
        stack = Encoder(Redactor()).error(error)[2]

    assert "second" in stack
    assert "first" not in stack


def test_a_chain_without_end_shows_the_last_sixteen() -> None:
    error: BaseException = ValueError("first")
    for number in range(100):
        following = CustomError(f"number {number}")
        following.__context__ = error
        error = following

    stack = Encoder(Redactor()).error(error)[2]

    assert stack.count("During handling") == 15
    assert stack.endswith("number 99\n")
    assert "number 83" not in stack


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__

    @property
    def __traceback__(self) -> Any:
        raise RuntimeError("no trace")

    __cause__ = __context__ = __notes__ = __traceback__


def test_an_error_that_cannot_say_what_it_is_is_recorded(make: Any, counts: Counter[str]) -> None:
    kind, message, stack = make().error(raised(Unspeakable()))

    assert kind == f"{__name__}.Unspeakable"
    assert message == "<RuntimeError raised when the message was read>"
    assert "raise error from cause" in stack
    assert counts == {"unencodable": 1}


def test_errors_of_any_size_are_bounded() -> None:
    def recurse() -> None:
        recurse()

    error: BaseException = ValueError("x" * 1_000_000)
    for number in range(2000):
        following = CustomError(f"{number}")
        following.__context__ = error
        error = following
    try:
        recurse()
    except RecursionError as caught:
        deep = caught
    group = ExceptionGroup("many", [ValueError(str(number)) for number in range(1000)])
    encoder = Encoder(Redactor(), max_value_bytes=20_000)

    for each in (error, deep, group, ValueError("y" * 1_000_000)):
        _, message, stack = encoder.error(each)
        assert len(message.encode()) <= 20_000
        assert len(stack.encode()) <= 20_000
        assert type(each).__name__ in stack


def first(depth: int) -> None:
    second(depth - 1)


def second(depth: int) -> None:
    if depth <= 0:
        raise ValueError("at the bottom")
    first(depth - 1)


def test_a_stack_has_the_outermost_and_the_innermost_frames() -> None:
    with pytest.raises(ValueError, match="bottom") as caught:
        first(300)

    stack = Encoder(Redactor()).error(caught.value)[2]
    assert stack.count("  File ") == 25
    assert "test_a_stack_has_the_outermost_and_the_innermost_frames" in stack
    assert "  [278 frames left out]\n" in stack
    assert stack.endswith('    raise ValueError("at the bottom")\nValueError: at the bottom\n')


def test_a_short_stack_reads_as_python_prints_it() -> None:
    def repeat(times: int) -> None:
        if times:
            repeat(times - 1)
        raise ValueError("at the bottom")

    for times in range(10):
        with pytest.raises(ValueError, match="bottom") as caught:
            repeat(times)
        stack = Encoder(Redactor()).error(caught.value)[2]
        steps = traceback.StackSummary.extract(traceback.walk_tb(caught.value.__traceback__))
        assert stack.splitlines()[1:-1] == "".join(steps.format()).splitlines()


def test_an_error_that_rises_is_not_formatted_again_at_each_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract = traceback.StackSummary.extract
    formatted: list[Any] = []

    def counted(frames: Any, **options: Any) -> Any:
        found = extract(frames, **options)
        formatted.extend(found)
        return found

    monkeypatch.setattr(traceback.StackSummary, "extract", counted)
    encoder = Encoder(Redactor())

    def rise(levels: int) -> None:
        try:
            if levels == 0:
                raise ValueError("at the bottom")
            rise(levels - 1)
        except ValueError as error:
            encoder.error(error)
            raise

    with pytest.raises(ValueError, match="bottom"):
        rise(100)

    assert len(formatted) == len({(step.filename, step.lineno) for step in formatted}) <= 4


def test_a_group_shows_its_members_and_notes() -> None:
    member = ValueError("inner")
    member.add_note("see the manual")

    stack = Encoder(Redactor()).error(ExceptionGroup("outer", [member]))[2]

    assert "ExceptionGroup: outer (1 sub-exception)" in stack
    assert "  | ValueError: inner" in stack
    assert "  | see the manual" in stack


def test_encoding_imports_no_package_that_the_program_does_not_use() -> None:
    code = (
        "import sys\n"
        "import autotrace.encoding.encoder as e, autotrace.encoding.redaction as r\n"
        "before = set(sys.modules)\n"
        "e.Encoder(r.Redactor()).json([object(), 1.5, {1}])\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert not new & {'numpy', 'pydantic', 'attr', 'attrs', 'pandas'}, new\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
