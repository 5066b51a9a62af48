"""Find the parameters of a function that a framework injects."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ForwardRef, NamedTuple, cast

from autotrace.capture.wrappers import signature_of, target_of
from autotrace.encoding.injected_types import COMMON_NAMES, MAX_ANNOTATION_CHARS, ROOTS
from autotrace.encoding.introspect import class_name, kind_of, mro, root_of, type_name


class _Named(NamedTuple):
    """Class that an annotation names, or that a default belongs to."""

    root: str
    """First part of its module; empty if the name could not be looked up."""
    name: str
    full_name: str


class InjectedParameters:
    """Parameters of a function that a framework injects."""

    __slots__ = ("_by_names", "_keyword_rest", "_named", "_own_names")

    def __init__(self, function: Any) -> None:
        self._named: dict[str, tuple[_Named, ...]] = {}
        self._by_names: dict[frozenset[str], tuple[tuple[str, str], ...]] = {}
        self._keyword_rest: str | None = None
        self._own_names: frozenset[str] = frozenset()
        signature = signature_of(function)
        if signature is None:
            return
        scope = getattr(target_of(function), "__globals__", {})
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._keyword_rest = parameter.name
            found = [*_classes_in(parameter.annotation, scope), *_marks_in(parameter.default)]
            if found:
                self._named[parameter.name] = tuple(found)
        self._own_names = frozenset(signature.parameters) - {self._keyword_rest or ""}

    def replace_in(self, arguments: dict[str, Any], names: frozenset[str]) -> None:
        """Replace the injected arguments of a call by the names of their types.

        `names` are further class names, bare or with their module. `arguments` has the arguments of
        the `**` parameter by their own names.
        """
        if not self._named:
            return
        for parameter, shown in self._shown(names):
            if parameter == self._keyword_rest:
                for name in arguments.keys() - self._own_names:
                    arguments[name] = shown
            elif arguments.get(parameter) is not None:
                arguments[parameter] = shown

    def _shown(self, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
        """Return the injected parameters, each with the name of its type."""
        found = self._by_names.get(names)
        if found is None:
            found = self._by_names[names] = tuple(self._decide(names))
        return found

    def _decide(self, names: frozenset[str]) -> Iterator[tuple[str, str]]:
        for parameter, classes in self._named.items():
            for each in classes:
                if _is_known(each) or each.name in names or each.full_name in names:
                    yield parameter, f"<{each.full_name}>"
                    break


def _is_known(each: _Named) -> bool:
    roots = ROOTS.get(each.name)
    if roots is None:
        return False
    return each.root in roots if each.root else each.name not in COMMON_NAMES


def _of_class(kind: type[Any]) -> Iterator[_Named]:
    for base in mro(kind):
        root = root_of(base)
        if root not in {"builtins", "typing", "abc"}:
            yield _Named(root, class_name(base), type_name(base))


def _marks_in(default: Any) -> Iterator[_Named]:
    """Yield the class and bases of a default, such as `Depends(…)`."""
    if default is not inspect.Parameter.empty:
        yield from _of_class(kind_of(default))


def _classes_in(annotation: Any, scope: Mapping[str, Any]) -> Iterator[_Named]:
    """Yield the classes that an annotation names, without running its code."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        yield from _classes_in_text(annotation, scope)
        return
    origin: Any = typing.get_origin(annotation)
    metadata: tuple[Any, ...] = getattr(annotation, "__metadata__", ())
    for mark in metadata:  # before the type, which is less specific
        yield from _of_class(mark if isinstance(mark, type) else type(mark))
    if metadata:
        yield from _classes_in(annotation.__origin__, scope)
    elif origin is typing.Union or origin is types.UnionType:
        for inner in typing.get_args(annotation):
            yield from _classes_in(inner, scope)
    else:
        kind: Any = origin or annotation
        if isinstance(kind, type) and kind is not inspect.Parameter.empty:
            yield from _of_class(cast("type[Any]", kind))
        for inner in typing.get_args(annotation):
            if hasattr(inner, "__metadata__"):  # list[Annotated[dict, InjectedState]]
                yield from _classes_in(inner, scope)


def _classes_in_text(text: str, scope: Mapping[str, Any]) -> Iterator[_Named]:
    try:
        tree = ast.parse(text[:MAX_ANNOTATION_CHARS].strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the framework refuses it
        return
    yield from _classes_at(tree.body, scope)


def _classes_at(node: ast.expr, scope: Mapping[str, Any]) -> Iterator[_Named]:
    match node:
        case ast.Constant(value=str(text)):
            yield from _classes_in_text(text, scope)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _classes_at(left, scope)
            yield from _classes_at(right, scope)
        case ast.Subscript(value=value, slice=inside):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            if _is_annotated(node):
                parts = [*parts[1:], parts[0]]  # the type last, since it is less specific
            elif ast.unparse(value).rpartition(".")[2] not in {"Optional", "Union"}:
                parts = [value, *(part for part in parts if _is_annotated(part))]
            for part in parts:
                yield from _classes_at(part, scope)
        case ast.Call(func=function):
            made_by = _looked_up(ast.unparse(function), scope)
            if isinstance(made_by, types.FunctionType):  # fastapi's Depends is a function
                module, name = made_by.__module__, made_by.__name__
                yield _Named(module.partition(".")[0], name, f"{module}.{name}")
            else:
                yield from _classes_at(function, scope)
        case ast.Name() | ast.Attribute():
            dotted = ast.unparse(node)
            found = _looked_up(dotted, scope)
            if found is None:
                yield _Named("", dotted.rpartition(".")[2], dotted)
            elif not isinstance(found, str):
                yield from _classes_in(found, scope)
        case _:
            pass


def _is_annotated(node: ast.expr) -> bool:
    return isinstance(node, ast.Subscript) and (
        ast.unparse(node.value).rpartition(".")[2] == "Annotated"
    )


def _looked_up(dotted: str, scope: Mapping[str, Any]) -> Any:
    """Return the object at a dotted name, through modules alone, or None."""
    first, *rest = dotted.split(".")
    found: Any = scope.get(first)
    for part in rest:
        if type(found) is not types.ModuleType:
            return None
        found = vars(found).get(part)
    return found
