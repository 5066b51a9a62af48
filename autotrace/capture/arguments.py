"""Arguments by parameter name, prepared once at decoration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from autotrace.capture.drive import target_of

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ArgumentNames:
    """Names what a function is called with, without `inspect.Signature.bind` at each call.

    Parameters left out are shown with their defaults: what runs is what is recorded. `self` and
    `cls` are left out. A wrong call is named as far as it goes; to raise is the function's part.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
    """

    __slots__ = ("defaults", "has_self", "keyword_rest", "names", "rest")

    def __init__(self, function: Any) -> None:
        self.has_self = inspect.isfunction(function) or isinstance(function, classmethod)
        self.names: tuple[str, ...] = ()
        self.rest = "args"
        self.keyword_rest: str | None = None
        self.defaults: dict[str, Any] = {}
        target = target_of(function) if isinstance(function, classmethod | staticmethod) else function
        try:
            parameters = inspect.signature(target).parameters.values()
        except (TypeError, ValueError):
            return  # a builtin that does not tell
        names: list[str] = []
        for parameter in parameters:
            if parameter.kind in _POSITIONAL:
                names.append(parameter.name)
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self.rest = parameter.name
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self.keyword_rest = parameter.name
            if parameter.default is not inspect.Parameter.empty:
                self.defaults[parameter.name] = parameter.default
        self.names = tuple(names)

    def bind(self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of one call by name.

        Args:
            instance: What the function is bound to, or None.
            args: Positional arguments without the instance.
            kwargs: Keyword arguments.
        """
        names = self.names if instance is None or not self.has_self else self.names[1:]
        bound = dict(zip(names, args, strict=False))
        if len(args) > len(names):
            bound[self.rest] = args[len(names) :]
        bound.update(kwargs)
        if len(bound) < len(names) or self.defaults:
            for name, default in self.defaults.items():
                if name not in bound:
                    bound[name] = default
        return bound
