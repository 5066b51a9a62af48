"""Bind arguments to parameter names, prepared once at decoration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from autotrace.capture.wrappers import signature_of

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_RECEIVERS = (("self",), ("cls",))


class ArgumentNames:
    """Parameter names of a function; binds faster than `Signature.bind`.

    Defaults are included, `self` and `cls` are not. Extra keyword arguments keep their names; those
    with the name of a positional-only parameter are grouped under the `**` parameter. If the
    arguments do not match the signature, those that do are recorded; the function itself raises the
    TypeError.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
    """

    __slots__ = (
        "bound_names", "defaults", "has_receiver", "keyword_rest", "names", "positional_only",
        "rest",
    )  # fmt: skip

    def __init__(self, function: Any) -> None:
        self.names: tuple[str, ...] = ()
        self.rest = "args"
        self.keyword_rest = "kwargs"
        self.positional_only: frozenset[str] = frozenset()
        self.defaults: dict[str, Any] = {}
        signature = signature_of(function)
        if signature is not None:
            self._read(signature)
        self.has_receiver = self.names[:1] in _RECEIVERS
        """Below another decorator, `self` arrives as an ordinary argument."""
        is_method = inspect.isfunction(function) or isinstance(function, classmethod | staticmethod)
        has_first = self.has_receiver or is_method
        self.bound_names = self.names[1:] if has_first else self.names
        """Names of the parameters after the bound instance or class."""

    def _read(self, signature: inspect.Signature) -> None:
        names: list[str] = []
        positional_only: list[str] = []
        for parameter in signature.parameters.values():
            if parameter.kind in _POSITIONAL:
                names.append(parameter.name)
                if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                    positional_only.append(parameter.name)
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self.rest = parameter.name
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self.keyword_rest = parameter.name
            if parameter.default is not inspect.Parameter.empty:
                self.defaults[parameter.name] = parameter.default
        self.names = tuple(names)
        self.positional_only = frozenset(positional_only)

    def bind(
        self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments of one call by name; `args` exclude `instance`."""
        names = self.names
        if instance is not None:
            names = self.bound_names
        elif self.has_receiver:
            receiver, names = names[0], self.bound_names
            if args:
                args = args[1:]
            else:
                kwargs = {key: value for key, value in kwargs.items() if key != receiver}
        bound = dict(zip(names, args, strict=False))
        if len(args) > len(names):
            bound[self.rest] = args[len(names) :]
        if kwargs:
            if self.positional_only and not self.positional_only.isdisjoint(kwargs):
                hidden = {key: kwargs[key] for key in kwargs if key in self.positional_only}
                kwargs = {key: kwargs[key] for key in kwargs if key not in hidden}
                bound[self.keyword_rest] = hidden
            bound.update(kwargs)
        for name, default in self.defaults.items():
            if name not in bound:
                bound[name] = default
        return bound
