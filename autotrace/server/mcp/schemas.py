"""JSON Schemas of tools, as simple as clients and language models like them, and short. Pure.

Hosts put what a tool takes into every prompt, and some refuse what others take: references, lists
of types, properties without a type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic import BaseModel

_KINDS: Final = ("object", "array", "string", "number", "boolean", "null")
_SINGLE: Final[Sequence[Mapping[str, Any]]] = [
    {"type": kind} for kind in ("object", "string", "number", "boolean")
]
_ROW: Final = {"type": "array", "items": {"anyOf": _SINGLE}}
_ANYTHING: Final = {
    "anyOf": [*_SINGLE, {"type": "array", "items": {"anyOf": [*_SINGLE, _ROW]}}],
}
"""One type at a time, and not null, which some hosts do not know."""
_BRIEF: Final = frozenset({"Approval", "Decision", "Evaluation", "Execution"})
"""Models that an answer holds and that are not what it is about: what they always have."""


def schema_of(model: type[BaseModel], *, is_answer: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of a model.

    Args:
        model: The model.
        is_answer: Whether it is what a tool returns. What a tool takes may be left out where it
            may be null; of an answer it is said what may be null.
    """
    schema = model.model_json_schema()
    plain = _Schema(schema.pop("$defs", {}), is_answer).plain(schema)
    plain.setdefault("properties", {})
    plain.pop("description", None)  # of the class: for programmers
    return plain


@dataclass
class _Schema:
    definitions: Mapping[str, Any]
    is_answer: bool
    spelled: set[str] = field(default_factory=set[str])
    """Models that an answer has spelled already, which it does not spell again."""

    def plain(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.plain(item) for item in cast("list[Any]", node)]
        if not isinstance(node, dict):
            return node
        node = dict(cast("dict[str, Any]", node))
        if (reference := node.pop("$ref", None)) is not None:
            node = self._model(reference.rpartition("/")[2]) | node
        if "properties" in node:
            node["properties"] = {
                name: self._typed(self.plain(each)) for name, each in node["properties"].items()
            }
        for keyword in ("items", "anyOf", "additionalProperties"):
            if keyword in node:
                node[keyword] = self.plain(node[keyword])
        node.pop("title", None)
        if self.is_answer or node.get("default", ...) is None:
            node.pop("default", None)  # of an answer it says nothing
        return self._of_one_kind(node) if "anyOf" in node else node

    def _model(self, name: str) -> dict[str, Any]:
        model = dict(self.definitions[name])
        model.pop("description", None)
        if not self.is_answer or "properties" not in model:
            return model
        if name in self.spelled:
            return {"type": "object"}
        self.spelled.add(name)
        if name in _BRIEF:
            model["properties"] = {
                each: model["properties"][each] for each in model.get("required", ())
            }
        return model

    def _of_one_kind(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a choice between one kind and null as that kind, in the fewest words."""
        kinds = [kind for kind in node["anyOf"] if kind != {"type": "null"}]
        if len(kinds) != 1 or len(kinds) == len(node["anyOf"]):
            return node
        (kind,) = kinds
        del node["anyOf"]
        if not self.is_answer:
            return kind | node
        if "enum" in kind:
            kind = kind | {"enum": [*kind["enum"], None]}
        return kind | node | {"type": [kind["type"], "null"]}

    def _typed(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a property that may be anything with every type, as some hosts need one."""
        if node.keys() & {"type", "anyOf", "enum"}:
            return node
        return node | ({"type": list(_KINDS)} if self.is_answer else _ANYTHING)
