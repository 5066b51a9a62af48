"""Bind the arguments of a call to parameters, as an approval covers them: all, and each once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final, cast

from autotrace.capture.wrappers import name_of, target_of
from autotrace.encoding.introspect import kind_of, mro

_RECEIVERS: Final = ("self", "cls")
_ARGS, _KWARGS = "*args", "**kwargs"
"""Names for arguments that do not match the signature; parameters cannot have them."""
_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Binding:
    """Binds arguments to the parameters of a function, defaults included.

    Different calls are bound differently, unlike by `ArgumentNames`: further keyword arguments
    stand under the name of the `**` parameter, and the arguments of a partial are included. `self`
    and `cls` are left out.

    Args:
        function: Any callable, or a classmethod or staticmethod object.
    """

    def __init__(self, function: Any) -> None:
        self._name = name_of(target_of(function))
        self._positional: tuple[Any, ...] = ()
        self._keywords: dict[str, Any] = {}
        while isinstance(function, functools.partial):
            partial = cast("functools.partial[Any]", function)
            self._positional = (*partial.args, *self._positional)
            self._keywords = partial.keywords | self._keywords
            function = partial.func
        is_method = isinstance(function, classmethod | staticmethod)
        self._signature: inspect.Signature | None = None
        try:
            self._signature = inspect.signature(target_of(function) if is_method else function)
        except (TypeError, ValueError):
            pass  # a builtin without a signature
        parameters = list(self._signature.parameters.values()) if self._signature else []
        has_receiver = bool(parameters) and parameters[0].name in _RECEIVERS
        # A method is called without an instance by what decorates it in turn. Of a plain function,
        # or of a static method, `self` is an argument like any other.
        self._receiver = parameters[0].name if has_receiver else None
        self._owner = _class_of(function)
        has_first = has_receiver or inspect.isfunction(function) or is_method
        self._bound = inspect.Signature(parameters[1:] if has_first else parameters)
        """The parameters that follow the instance or class it is bound to."""
        target = target_of(function)
        self._tells_exactly = (
            type(target) is FunctionType
            and not hasattr(target, "__wrapped__")
            and not hasattr(target, "__signature__")
        )

    def bind(
        self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments of one call by name.

        Args:
            instance: Object to which the function is bound, or None.
            args: Positional arguments without the instance.
            kwargs: Keyword arguments.

        Raises:
            TypeError: The arguments do not match the signature.
        """
        args = (*self._positional, *args)
        kwargs = {**self._keywords, **kwargs}
        signature = self._signature if instance is None else self._bound
        if self._signature is None or signature is None:
            return {"args": args, "kwargs": kwargs}
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            if self._tells_exactly:
                msg = f"{self._name}() {error}"
                raise TypeError(msg) from None
            # A wrapper may accept other arguments than its signature.
            return {_ARGS: args, _KWARGS: kwargs}
        bound.apply_defaults()
        named = bound.arguments
        if (
            instance is None
            and self._receiver is not None
            and self._owner is not None
            and _is_of(named.get(self._receiver), self._owner)
        ):
            named.pop(self._receiver)
        parameters = signature.parameters
        return {
            name: value
            for name, value in named.items()
            if parameters[name].kind not in _VARIABLE or value
        }


def _class_of(function: Any) -> tuple[str, str] | None:
    """Return module and qualified name of the class in whose body a function was defined."""
    target: Any = target_of(function)
    where, _, _ = str(getattr(target, "__qualname__", "")).rpartition(".")
    if not where or where.endswith("<locals>") or isinstance(function, staticmethod):
        return None
    return str(getattr(target, "__module__", "")), where


def _is_of(value: Any, owner: tuple[str, str]) -> bool:
    """Return whether a value is an instance of a class, or the class or a subclass itself."""
    kind = kind_of(value)
    kind = value if issubclass(kind, type) else kind
    return any((each.__module__, each.__qualname__) == owner for each in mro(kind))
