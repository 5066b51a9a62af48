"""Errors as values: what every one of them must be, whatever it is about."""

from __future__ import annotations

import inspect
import pickle

import pytest

from autotrace import errors


def _one_of(kind: type[errors.AutotraceError]) -> errors.AutotraceError:
    given = {
        name: 1.5 if name == "retry_after_s" else f"some {name}"
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if name not in ("self", "args", "kwargs") and parameter.default is parameter.empty
    }
    if kind is errors.EmbedderUnavailableError:
        return errors.EmbedderUnavailableError("space", [("here", "not there")], "fix it")
    has_own = "__init__" in vars(kind)
    return kind(**given) if has_own else kind("what went wrong")  # type: ignore[arg-type] # by name


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.AutotraceError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_goes_from_process_to_process_as_it_is(kind: type[errors.AutotraceError]) -> None:
    error = _one_of(kind)

    again = pickle.loads(pickle.dumps(error))

    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
