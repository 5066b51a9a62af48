"""One spelling for the arguments of a call: an approval means these arguments and no others.

What is spelled is the real content: neither redacted nor cut, and told apart by type where two
types would look alike in JSON. A value whose content cannot be told from outside (an open file, a
socket, a function, an object that only has an address) has no spelling, and what would have to
spell it is refused.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import math
import pathlib
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from autotrace.capture._introspect import MISSING, attributes, class_attribute, kind_of, type_name
from autotrace.errors import InvalidArgumentError

_TYPE: Final = "autotrace.type"
_VALUE: Final = "value"
_ATTRIBUTES: Final = "attributes"
_OURS: Final = "autotrace."
_MAX_DEPTH: Final = 64


def fingerprint(tool_name: str, arguments: Mapping[str, Any]) -> str:
    """Return what an approval of a call is bound to, as 64 hex digits.

    Args:
        tool_name: Name of the tool.
        arguments: The arguments by parameter name.

    Raises:
        InvalidArgumentError: An argument has no spelling; names it.
    """
    # Not needed to decorate: rfc8785 is loaded by the first call that is asked about.
    from autotrace.canonical import canonical, sha256_of

    spelled: dict[str, Any] = {}
    for name, value in arguments.items():
        spelled[name] = _checked(name, value, _Speller(tagged=True))
        try:
            canonical(spelled[name])
        except (ValueError, RecursionError) as error:
            raise _refused(name, value, str(error)) from None
    return sha256_of({"tool": tool_name, "arguments": spelled})


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as JSON for a policy: real content, without the names of types.

    Raises:
        InvalidArgumentError: An argument has no spelling; names it.
    """
    return {
        name: _checked(name, value, _Speller(tagged=False)) for name, value in arguments.items()
    }


def _checked(name: str, value: Any, speller: _Speller) -> Any:
    try:
        return speller.spell(value)
    except _NoSpellingError as error:
        raise _refused(name, value, str(error)) from None


def _refused(name: str, value: Any, why: str) -> InvalidArgumentError:
    # The value itself stays out of the message: it may be a secret.
    allowed = f"a value whose content can be told, so that it can be approved: {why}"
    return InvalidArgumentError(name, f"<{type_name(kind_of(value))}>", allowed)


class _NoSpellingError(Exception):
    pass


class _Speller:
    """Spells one argument.

    Args:
        tagged: Whether types are told apart that look alike in JSON.
    """

    def __init__(self, *, tagged: bool) -> None:
        self._tagged = tagged
        self._inside: list[int] = []

    def spell(self, value: Any) -> Any:
        """Return a value as JSON.

        Raises:
            _NoSpellingError: It has none; says why.
        """
        kind = kind_of(value)
        if value is None or kind is bool or kind is str or kind is int:
            return value
        if kind is float:
            return self._float(value)
        if id(value) in self._inside or len(self._inside) >= _MAX_DEPTH:
            msg = f"it contains itself, or is nested deeper than {_MAX_DEPTH} levels"
            raise _NoSpellingError(msg)
        self._inside.append(id(value))
        try:
            return self._composed(value, kind)
        finally:
            self._inside.pop()

    def _float(self, value: float) -> Any:
        if self._tagged and value.is_integer():  # 1.0 and 1 look alike in canonical JSON
            return self._tag(float, repr(value))
        if not self._tagged and not math.isfinite(value):
            return repr(value)
        return value

    def _composed(self, value: Any, kind: type[Any]) -> Any:
        if (scalar := _SCALARS.get(kind)) is not None:
            return self._tag(kind, self.spell(scalar(value)))
        if kind is list:
            return [self.spell(item) for item in value]
        if kind is dict:
            return self._mapping(value, kind)
        if issubclass(kind, enum.Enum):
            return self._tag(kind, self.spell(value.value))
        if str(kind.__module__).partition(".")[0] == "numpy":
            return self._numpy(value, kind)
        if (fields := _fields_of(value, kind)) is not None:
            if self._tagged:
                fields = _held_beside(value, kind) | fields
            return self._tag(kind, self._members(fields))
        if issubclass(kind, pathlib.PurePath):
            return self._tag(kind, str(value))
        for base, spelled in _BUILTINS.items():
            if issubclass(kind, base):
                return self._derived(value, kind, spelled(self, value))
        msg = f"a {type_name(kind)} has no content that can be spelled out"
        raise _NoSpellingError(msg)

    def _tag(self, kind: type[Any], spelled: Any) -> Any:
        return {_TYPE: type_name(kind), _VALUE: spelled} if self._tagged else spelled

    def _derived(self, value: Any, kind: type[Any], spelled: Any) -> Any:
        """Spell what is of a subclass of a builtin type, with what it holds beside."""
        held = attributes(value, kind)
        if not held:
            return self._tag(kind, spelled)
        if not self._tagged:
            return {_VALUE: spelled, _ATTRIBUTES: self._members(held)}
        return self._tag(kind, spelled) | {_ATTRIBUTES: self._members(held)}

    def _members(self, members: dict[str, Any]) -> Any:
        return self._mapping(members, dict)

    def items(self, values: Iterable[Any]) -> list[Any]:
        """Spell items in their order."""
        return [self.spell(value) for value in values]

    def sorted_items(self, values: Iterable[Any]) -> list[Any]:
        """Spell items that have no order."""
        from autotrace.canonical import canonical

        spelled = self.items(values)
        try:
            return sorted(spelled, key=canonical)
        except (ValueError, RecursionError) as error:
            raise _NoSpellingError(str(error)) from None

    def pairs(self, value: Any) -> Any:
        """Spell a mapping; one that has other keys than strings as a list of pairs."""
        pairs: list[tuple[Any, Any]] = list(_dict.items(value))
        is_plain = all(kind_of(key) is str for key, _ in pairs)
        if is_plain and not (self._tagged and any(key.startswith(_OURS) for key, _ in pairs)):
            return {key: self.spell(item) for key, item in pairs}
        if self._tagged:
            return self.sorted_items(pairs)
        if len(named := {str(key): item for key, item in pairs}) < len(pairs):
            msg = "it has keys that are the same as text"
            raise _NoSpellingError(msg)
        return {key: self.spell(item) for key, item in named.items()}

    def _mapping(self, value: Any, kind: type[Any]) -> Any:
        spelled = self.pairs(value)
        # A list of pairs is told apart from a list; so no mapping of the user's is taken for a tag.
        return self._tag(kind, spelled) if isinstance(spelled, list) else spelled

    def _numpy(self, value: Any, kind: type[Any]) -> Any:
        dtype = getattr(value, "dtype", None)
        is_array = kind.__name__ == "ndarray"
        is_scalar = any(base.__name__ == "generic" for base in kind.__mro__)
        if dtype is None or not (is_array or is_scalar):
            msg = f"a {type_name(kind)} has no content that can be spelled out"
            raise _NoSpellingError(msg)
        if not self._tagged or dtype.hasobject:
            return self._tag(kind, self.spell(value.tolist()))
        content = base64.b64encode(value.tobytes()).decode()
        return self._tag(kind, {"dtype": repr(dtype), "shape": list(value.shape), "bytes": content})


def _fields_of(value: Any, kind: type[Any]) -> dict[str, Any] | None:
    """Return the fields of an object of a class that declares them; None for any other."""
    names: list[str] | None = None
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(value)]
    elif (declared := class_attribute(kind, "__attrs_attrs__")) is not MISSING:
        names = [field.name for field in cast("Any", declared)]
    elif _is_secret(kind):
        return {"secret": value.get_secret_value()}
    elif class_attribute(kind, "__pydantic_fields_set__") is not MISSING or (
        class_attribute(kind, "__pydantic_core_schema__") is not MISSING
    ):
        hidden = ("__pydantic_extra__", "__pydantic_private__")
        more = {name: getattr(value, name, None) for name in hidden}
        return {**value.__dict__, **{name: held for name, held in more.items() if held}}
    if names is None:
        return None
    if issubclass(kind, tuple(_BUILTINS)):
        msg = f"a {type_name(kind)} has fields, and content beside them"
        raise _NoSpellingError(msg)
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _is_secret(kind: type[Any]) -> bool:
    return class_attribute(kind, "get_secret_value") is not MISSING


def _held_beside(value: Any, kind: type[Any]) -> dict[str, Any]:
    """Return what an object holds that its class does not declare: what a subclass adds, say."""
    held = {} if _is_secret(kind) else attributes(value, kind)
    given = held.pop("__pydantic_fields_set__", None)  # told apart by `exclude_unset`
    if given is None:
        return held
    held = {name: item for name, item in held.items() if not name.startswith("__pydantic_")}
    return held | {"__pydantic_fields_set__": given}


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()


def _moment(value: Any) -> Any:
    zone = getattr(value.tzinfo, "key", None)
    return [value.isoformat(), value.fold, zone] if value.fold or zone else value.isoformat()


_SCALARS: Final[dict[type[Any], Callable[[Any], Any]]] = {
    complex: repr,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
    range: lambda value: [value.start, value.stop, value.step],
    slice: lambda value: [value.start, value.stop, value.step],
    type(Ellipsis): lambda value: None,
    datetime.datetime: _moment,
    datetime.time: _moment,
    datetime.date: datetime.date.isoformat,
    datetime.timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    datetime.timezone: str,
    decimal.Decimal: str,
    fractions.Fraction: str,
    uuid.UUID: str,
    ipaddress.IPv4Address: str,
    ipaddress.IPv6Address: str,
    ipaddress.IPv4Network: str,
    ipaddress.IPv6Network: str,
    types.MappingProxyType: dict,
}
"""Of exactly these types: what they say of themselves in full."""

# As of the interpreter itself, whatever a class derived from them says: and so without their types.
_str, _int, _float, _bytes, _tuple, _list, _set, _frozenset, _dict, _deque = cast(
    "tuple[Any, ...]",
    (str, int, float, bytes, tuple, list, set, frozenset, dict, collections.deque),
)

_BUILTINS: Final[dict[type[Any], Callable[[_Speller, Any], Any]]] = {
    str: lambda speller, value: _str.__str__(value),
    int: lambda speller, value: _int.__int__(value),
    float: lambda speller, value: speller.spell(_float.__float__(value)),
    bytes: lambda speller, value: base64.b64encode(_bytes.__getitem__(value, slice(None))).decode(),
    tuple: lambda speller, value: speller.items(_tuple.__iter__(value)),
    list: lambda speller, value: speller.items(_list.__iter__(value)),
    set: lambda speller, value: speller.sorted_items(_set.__iter__(value)),
    frozenset: lambda speller, value: speller.sorted_items(_frozenset.__iter__(value)),
    collections.deque: lambda speller, value: speller.items(_deque.__iter__(value)),
    datetime.datetime: lambda speller, value: _moment(value),
    datetime.date: lambda speller, value: value.isoformat(),
    dict: lambda speller, value: speller.pairs(value),
}
"""Of these types and those derived from them."""
