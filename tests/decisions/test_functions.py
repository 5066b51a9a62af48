"""The names of `autotrace.decisions`, which load their modules at first use."""

from __future__ import annotations

from autotrace import decisions


def test_every_public_name_resolves() -> None:
    missing = [name for name in decisions.__all__ if not hasattr(decisions, name)]
    assert missing == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(decisions, "no_such_name")
