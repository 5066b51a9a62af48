"""Identity of a tool, so that no other tool uses its approval."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from autotrace.base.canonical_json import sha256_of
from autotrace.base.source_hash import noted, source_hash
from autotrace.capture.approvals import exact_types as exact
from autotrace.capture.approvals.exact_types import UnshowableError
from autotrace.capture.approvals.faithful_json import TYPE, Speller
from autotrace.capture.wrappers import PROXIES, Traced, original_of
from autotrace.encoding.introspect import attributes, kind_of

_MAX_LAYERS: Final = 20
_OURS: Final = "autotrace."

_IN_C: Final = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)
_WITHOUT_STATE: Final = (
    *(*PROXIES, *_IN_C, classmethod, staticmethod, functools.partial, type, type(None)),
)
"""Types that only lead to the callable they wrap, or have no Python code."""


def identity_of(function: Any) -> dict[str, Any]:
    """Return the identity of a callable: module, qualified name and source hash.

    The hash covers every function that the call runs through: a function and its wrappers, the
    function of a partial (whose arguments are those of the call), the `__call__` of an object.
    The hash is None if Python has no code of them.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
    """
    named: Any = None
    hashes: list[str] = []
    for each in _layers(function):
        hashes += _hashes(each)
        named = each if kind_of(each) in (FunctionType, *_IN_C) else named
    named = kind_of(function) if named is None else named
    module = getattr(named, "__module__", None) or getattr(
        getattr(named, "__objclass__", None), "__module__", None
    )
    return {
        "module": str(module),
        "qualname": str(named.__qualname__),
        "source_sha256": hashes[0] if len(hashes) == 1 else sha256_of(hashes) if hashes else None,
    }


def _layers(function: Any) -> Iterator[Any]:
    for _ in range(_MAX_LAYERS):
        yield function
        kind = kind_of(function)  # a proxy has the `__class__` of the object it wraps
        if issubclass(kind, Traced):
            function = original_of(function)
        elif issubclass(kind, functools.partial):
            function = function.func
        elif issubclass(kind, classmethod | staticmethod | MethodType):
            function = function.__func__
        elif issubclass(kind, PROXIES) or "__wrapped__" in getattr(function, "__dict__", {}):
            function = function.__wrapped__
        elif kind is FunctionType or issubclass(kind, (*_IN_C, type)):
            return
        else:
            function = inspect.getattr_static(kind, "__call__", None)


def _hashes(layer: Any) -> list[str]:
    """Return the hashes of a layer itself, without the layers below."""
    kind = kind_of(layer)
    if kind is FunctionType:
        return [source_hash(layer, _spelled)]
    if kind is MethodType:
        return [_state_hash(layer.__self__)]
    if issubclass(kind, BuiltinFunctionType):
        owner = layer.__self__
        return [] if owner is None or isinstance(owner, ModuleType) else [_state_hash(owner)]
    if issubclass(kind, PROXIES):
        wrapper: Any = getattr(layer, "_self_wrapper", None)
        is_foreign = kind_of(wrapper) is FunctionType and not wrapper.__module__.startswith(_OURS)
        return [source_hash(wrapper, _spelled)] if is_foreign else []
    return [] if issubclass(kind, _WITHOUT_STATE) else [_state_hash(layer)]


def _state_hash(holder: Any) -> str:
    """Return a hash of the state of an object that is the same in every process."""
    kind = kind_of(holder)
    name = f"{kind.__module__}.{kind.__qualname__}"
    call: Any = inspect.getattr_static(kind, "__call__", None)
    called = source_hash(call, _spelled) if type(call) is FunctionType else None
    try:
        state: Any = {"value": _spelled(holder)}
    except ValueError:
        held = attributes(holder, kind)
        state = {str(key): noted(item, _spelled) for key, item in held.items()}
        if issubclass(kind, type):
            state = {"class": f"{holder.__module__}.{holder.__qualname__}"}
    return sha256_of({"type": name, "state": state, "call": called})


class _SecretsLeftOut:
    """Hides secrets of the classes that declare them: this hash has no key."""

    def hides(self, path: str, key: str | None, value: Any) -> bool:
        return exact.is_secret(kind_of(value))

    def spans(self, text: str) -> Sequence[tuple[int, int]]:
        return ()

    def mark(self, path: str, json_value: Any, secret: Any) -> dict[str, Any]:
        return {TYPE: "hidden"}


def _spelled(value: Any) -> Any:
    speller = Speller(hiding=_SecretsLeftOut())
    try:
        return speller.place(value, "")
    except (UnshowableError, RuntimeError) as error:  # it changed while it was read
        raise ValueError(str(error)) from None
