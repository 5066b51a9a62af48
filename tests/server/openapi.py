"""The OpenAPI document, as tests that are made of it need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

METHODS = ("get", "put", "post", "delete", "patch", "options", "head")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    spec: Mapping[str, Any]
    document: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def needs_key(self) -> bool:
        return bool(self.spec.get("security"))

    @property
    def names(self) -> set[str]:
        """The parameters of its path."""
        return {each["name"] for each in self.spec.get("parameters", ()) if each["in"] == "path"}

    def body(self) -> Any:
        """Return a right body, made of the examples of its fields; None if it takes none."""
        content = self.spec.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return None
        schema = resolved(self.document, content["application/json"]["schema"])
        return {
            name: resolved(self.document, field)["examples"][0]
            for name, field in schema.get("properties", {}).items()
            if name in schema.get("required", ())
        }


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a reference refers to."""
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Yield every operation."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(method.upper(), path, item[method], document)
