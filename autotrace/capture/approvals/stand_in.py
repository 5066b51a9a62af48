"""Stand-ins for gated functions: the same outside, and no body.

A compiler reads a function's code, a remote executor sends its source, and `inspect.unwrap` leads
to the wrapped function: each could run the body without its gate. So a gated function wraps a
stand-in with its name, signature, annotations and attributes, which raises when it runs.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
import types
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, cast

from autotrace.capture.result_protocols import Body, claims_coroutine, declared_body
from autotrace.capture.wrappers import Traced, name_of, target_of
from autotrace.encoding.introspect import kind_of

_count: Final = itertools.count(1)
_COPIED: Final = ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__")
_OF_CACHES: Final = ("cache_info", "cache_clear")
"""Attributes of functions that `functools.lru_cache` made."""


def stand_in_for(function: Any) -> Any:
    """Return the stand-in of a callable, a classmethod or a staticmethod.

    Returns:
        The same kind of callable around a function without a body; a callable without readable
        Python code is returned as it is.
    """
    kind = kind_of(function)
    if kind is functools.partial:
        return functools.partial(stand_in_for(function.func), *function.args, **function.keywords)
    if issubclass(kind, classmethod | staticmethod):
        descriptor: Any = cast("Any", kind)
        return descriptor(stand_in_for(function.__func__))
    if kind is MethodType:
        return MethodType(stand_in_for(function.__func__), function.__self__)
    if issubclass(kind, Traced):
        return stand_in_for(function.__wrapped__)
    is_layered = hasattr(function, "__wrapped__") or isinstance(function, FunctionType)
    return _make(function) if kind is FunctionType or is_layered else function


def _make(function: Any) -> FunctionType:
    """Return a function that raises, with the outside of another one."""
    name = name_of(function)
    message = (
        f"{name}() requires an approval, and was about to run without: its code was taken out of "
        "the function that @tool(requires_approval=...) returned. Call that function itself."
    )
    parameters, defaults, keyword_defaults = _parameters(function)
    source = _source(function, parameters, message)
    filename = f"<autotrace stand-in {next(_count)} for {name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    found: dict[str, Any] = {}
    exec(compile(source, filename, "exec"), found)  # noqa: S102 - made of names of parameters
    made = cast("FunctionType", found["stand_in"])
    code = made.__code__.replace(co_name=name)
    # In the namespace of the function, where its annotations resolve.
    namespace = getattr(target_of(function), "__globals__", {})
    shown: Any = FunctionType(code, namespace, name, defaults, None)
    shown.__kwdefaults__ = keyword_defaults
    shown.__dict__.update(
        {key: value for key, value in function.__dict__.items() if key != "__wrapped__"}
    )
    for attribute in (*_COPIED, *_OF_CACHES):
        if hasattr(function, attribute):
            setattr(shown, attribute, getattr(function, attribute))
    shown.__annotations__ = dict(inspect.get_annotations(function))
    if kind_of(function) is not FunctionType or hasattr(function, "__wrapped__"):
        try:
            shown.__signature__ = inspect.signature(function)
        except (TypeError, ValueError):
            pass  # it has no signature
    if declared_body(function) is Body.ITERABLE_COROUTINE:
        shown = types.coroutine(shown)
    return shown


def _parameters(
    function: Any,
) -> tuple[list[str], tuple[Any, ...] | None, dict[str, Any] | None]:
    """Return the parameters as source, and the defaults of a plain function."""
    if kind_of(function) is not FunctionType:
        return ["*args", "**kwargs"], None, None
    code: CodeType = function.__code__
    defaults: tuple[Any, ...] | None = function.__defaults__
    names = iter(code.co_varnames)
    positional = list(itertools.islice(names, code.co_argcount))
    keywords = list(itertools.islice(names, code.co_kwonlyargcount))
    for index in range(len(defaults or ())):
        positional[-1 - index] += "=..."
    if code.co_posonlyargcount:
        positional.insert(code.co_posonlyargcount, "/")
    if code.co_flags & inspect.CO_VARARGS:
        positional.append("*" + next(names))
    elif keywords:
        positional.append("*")
    keyword_defaults = function.__kwdefaults__
    keywords = [name + "=..." * (name in (keyword_defaults or {})) for name in keywords]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        keywords.append("**" + next(names))
    return [*positional, *keywords], defaults, dict(keyword_defaults) if keyword_defaults else None


def _source(function: Any, parameters: list[str], message: str) -> str:
    body = declared_body(function)
    is_async = inspect.isasyncgenfunction(function) or claims_coroutine(function)
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    lines = [
        f"def stand_in({', '.join(parameters)}):",
        f"    {getattr(function, '__doc__', None)!r}",
        f"    raise RuntimeError({message!r})",
    ]
    if body in (Body.COROUTINE, Body.ASYNC_GENERATOR) or (body is None and is_async):
        lines[0] = "async " + lines[0]
    if is_generator:
        lines.append("    yield")
    return "\n".join(lines) + "\n"
