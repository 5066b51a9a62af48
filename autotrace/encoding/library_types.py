"""Open tables, arrays and images of libraries: type, shape, dtypes and a bounded head.

No library is imported here. A `repr` is not used, since it may take seconds and shows a column
named `password`. A derived class may run code of its own, so only its type, and the shape where the
library keeps it, is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from autotrace.encoding.introspect import (
    attribute,
    class_attribute,
    class_name,
    kind_of,
    mro,
    root_of,
    type_name,
)
from autotrace.encoding.opened_shapes import (
    Again,
    Items,
    Members,
    Prose,
    ReadLimits,
    ValueShape,
    only_of,
    open_by_name,
)

_MAX_ROWS: Final = 5
_MAX_COLUMNS: Final = 20
_MAX_ELEMENTS: Final = 1_000
"""A numpy array is shown whole, as nested arrays, up to so many elements."""
_HEAD_ELEMENTS: Final = 100
"""Of a larger one, so many."""
_HEAD_BYTES: Final = 64 * 1024
"""A head of texts or bytes that takes more is not shown."""
_TEXT_CHARS: Final = 1_000
_MAX_FIELDS: Final = 50
_DTYPE_CHARS: Final = 1_000
_PANDAS: Final = ("pandas", "numpy")


def _described(kind: type[Any], *members: tuple[str, Any]) -> Members:
    name = type_name(kind)
    if "." not in name:  # a class of an extension module
        name = f"{root_of(kind)}.{name}"
    head = [("type", name), *(member for member in members if member[1] is not None)]
    return Members(head, len(head))


def _derived_from_pandas(value: Any, kind: type[Any], *, reverse: bool) -> ValueShape:
    shape = getattr(attribute(value, kind, "_mgr"), "shape", ())
    return _described(kind, ("shape", list(reversed(shape) if reverse else shape)))


def _by_name(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return values by name, those of a name of several parts inside each of them.

    A value is redacted by its name, so no name may be lost, not even that of a second column.
    """
    shown: dict[Any, Any] = {}
    for number, (name, held) in enumerate(pairs, start=1):
        parts: list[Any] = [*cast("Any", name)] if type(name) is tuple and name else [name]
        first, *inner = [
            str.__str__(part)
            if issubclass(kind_of(part), str)
            else part if type(part) is int else f"#{number}"
            for part in parts
        ]  # fmt: skip
        for part in reversed(inner):
            held = {part: held}
        shown[f"{first} #{number}" if first in shown else first] = held
    return shown


def _columns(columns: Iterable[tuple[Any, str, Any]]) -> dict[Any, Any]:
    """Return a table's columns by name, so that a column can be redacted by its name."""
    return _by_name(
        (name, {"dtype": dtype} | ({} if head is None else {"head": head}))
        for name, dtype, head in columns
    )


def _column(kind: type[Any], length: int, name: Any, dtype: str, head: Any) -> Members:
    """Return the shape of one column, under its name if it has one."""
    if issubclass(kind_of(name), str | tuple) and name:
        return _described(kind, ("shape", [length]), ("columns", _columns([(name, dtype, head)])))
    return _described(kind, ("shape", [length]), ("dtype", dtype), ("head", head))


def _short(dtype: Any, roots: tuple[str, ...]) -> str:
    """Return the text of a type that one of these libraries defines, and the name of others'."""
    kind = kind_of(dtype)
    return str(dtype)[:_DTYPE_CHARS] if root_of(kind) in roots else type_name(kind)


# --- numpy


def ndarray(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `numpy.ndarray`: whole if it is small."""
    base = _base(kind, "numpy", "ndarray")
    # Of the base class: a derived one is asked each time that a view of it is made.
    view = base.view(value, base) if kind is not base else value
    shape, size = base.shape.__get__(view), base.size.__get__(view)
    is_own = root_of(kind) == "numpy" and class_name(kind) != "MaskedArray"
    if is_own and max(size, *shape, 0) <= _MAX_ELEMENTS:
        return _nested(base, view, shape)
    dtype = base.dtype.__get__(view)
    names = dtype.names
    spelled = str(dtype) if names is None or len(names) <= _MAX_FIELDS else f"{len(names)} fields"
    members = ("shape", list(shape)), ("dtype", spelled[:_DTYPE_CHARS])
    corner = _corner(view, shape) if is_own and size else None
    if corner is not None and corner.nbytes > _HEAD_BYTES:
        corner = None
    return _described(kind, *members, ("head", corner))


def _nested(base: Any, view: Any, shape: tuple[int, ...]) -> ValueShape:
    has_fields = base.dtype.__get__(view).names is not None
    if len(shape) == 0:
        return Again(base.__getitem__(view, ()) if has_fields else base.item(view))
    if len(shape) > 1 or has_fields:  # the names of fields are with the scalars
        return Items([base.__getitem__(view, index) for index in range(shape[0])], shape[0])
    if base.dtype.__get__(view).kind in "mM":  # nanoseconds would come out as integers
        view = base.astype(view, str)
    return Items(base.tolist(view), shape[0])


def _corner(view: Any, shape: Iterable[int]) -> Any:
    """Return the first elements of an array along each of its axes, without a copy of the rest."""
    each = max(1, int(_HEAD_ELEMENTS ** (1 / max(1, len(list(shape))))))
    return view[tuple(slice(each) for _ in shape)]


@only_of("numpy")
def numpy_scalar(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a scalar of numpy."""
    base = _base(kind, "numpy", "generic")
    if value.dtype.kind in "mM":  # nanoseconds would come out as integers
        return Again(str(value))
    names = value.dtype.names
    if names is not None:
        return Members([(name, value[name]) for name in names[:_MAX_FIELDS]], len(names))
    item = base.item(value)
    return Prose(repr(value)) if type(item) is kind else Again(item)


def _base(kind: type[Any], root: str, name: str) -> Any:
    return next(
        klass for klass in mro(kind) if class_name(klass) == name and root_of(klass) == root
    )


# --- pandas


def data_frame(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `pandas.DataFrame`."""
    if root_of(kind) != "pandas":
        return _derived_from_pandas(value, kind, reverse=True)
    head = value.iloc[:_MAX_ROWS, :_MAX_COLUMNS]
    columns = _columns(
        (name, _short(column.dtype, _PANDAS), _pandas_head(column)) for name, column in head.items()
    )
    return _described(kind, ("shape", list(value.shape)), ("columns", columns))


def series(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `pandas.Series`."""
    if root_of(kind) != "pandas":
        return _derived_from_pandas(value, kind, reverse=False)
    column = (value.name, _short(value.dtype, _PANDAS), _pandas_head(value.iloc[:_HEAD_ELEMENTS]))
    return _column(kind, value.shape[0], *column)


@only_of("pandas")
def index(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `pandas.Index`."""
    head = _pandas_head(value[:_HEAD_ELEMENTS])
    return _column(kind, value.shape[0], value.name, _short(value.dtype, _PANDAS), head)


def _pandas_head(values: Any) -> Any:
    """Return the values of a short column, by label where rows have names.

    None if they are too long, or of others' types.
    """
    if class_name(kind_of(values)) == "MultiIndex":
        return None
    held = values.array
    if root_of(kind_of(held)) != "pandas" or held.nbytes > _HEAD_BYTES:
        return None
    items = values.tolist()
    labels: Any = getattr(values, "index", None)
    if labels is None or any(name is not None for name in labels.names):
        return items  # labels under a name of their own are data
    if class_name(kind_of(labels)) != "MultiIndex" and not _pandas_head(labels):
        return items
    names = labels.tolist()
    has_names = any(issubclass(kind_of(name), str | tuple) for name in names)
    return _by_name(zip(names, items, strict=True)) if has_names else items


# --- polars


@only_of("polars")
def polars_frame(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `polars.DataFrame`."""
    columns = value[:_MAX_ROWS, :_MAX_COLUMNS].get_columns()
    shown = _columns(
        (column.name, _polars_name(column), _polars_head(column)) for column in columns
    )
    return _described(kind, ("shape", list(value.shape)), ("columns", shown))


@only_of("polars")
def polars_series(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `polars.Series`."""
    head = _polars_head(value.head(_HEAD_ELEMENTS))
    return _column(kind, len(value), value.name, _polars_name(value), head)


def _polars_name(column: Any) -> str:
    """Return the name of a column's type, without the categories or fields that it may list."""
    dtype = column.dtype
    kind = kind_of(dtype)
    return class_name(dtype if issubclass(kind, type) else kind)


def _polars_head(column: Any) -> Any:
    name = _polars_name(column)
    if name in {"String", "Categorical", "Enum"}:
        text = column if name == "String" else column.cast(str)
        return text.str.slice(0, _TEXT_CHARS).to_list()
    dtype = column.dtype
    is_flat = name in {"Boolean", "Null", "Object"} or dtype.is_numeric() or dtype.is_temporal()
    return column.to_list() if is_flat else None


# --- pyarrow


@only_of("pyarrow")
def arrow_table(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `pyarrow.Table` or `RecordBatch`."""
    fields = [value.schema.field(at) for at in range(min(value.num_columns, _MAX_COLUMNS))]
    columns = _columns(
        (field.name, _arrow_name(field.type), _arrow_head(value.column(at), _MAX_ROWS))
        for at, field in enumerate(fields)
    )
    return _described(kind, ("shape", [value.num_rows, value.num_columns]), ("columns", columns))


@only_of("pyarrow")
def arrow_array(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `pyarrow.Array` or `ChunkedArray`."""
    head = _arrow_head(value, _HEAD_ELEMENTS)
    return _column(kind, len(value), None, _arrow_name(value.type), head)


def _arrow_name(dtype: Any) -> str:
    is_plain = root_of(kind_of(dtype)) == "pyarrow" and not dtype.num_fields
    return str(dtype)[:_DTYPE_CHARS] if is_plain else type_name(kind_of(dtype))


def _arrow_head(column: Any, rows: int) -> Any:
    """Return the values of a short column; None if they are nested, long, or of others' types."""
    dtype = column.type
    if dtype.num_fields or hasattr(dtype, "extension_name"):
        return None
    head = column.slice(0, rows)
    return head.to_pylist() if head.nbytes <= _HEAD_BYTES else None


# --- torch, images


def tensor(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `torch.Tensor`: its elements only if they are in memory."""
    if root_of(kind) != "torch" or class_name(kind) not in {"Tensor", "Parameter"}:
        return open_by_name(value, kind, take)
    members = (
        ("shape", list(value.shape)),
        ("dtype", str(value.dtype)),
        ("device", str(value.device)),
    )
    is_at_hand = value.device.type == "cpu" and str(value.layout) == "torch.strided"
    if not is_at_hand or value.is_quantized or not value.numel():
        return _described(kind, *members)
    return _described(kind, *members, ("head", _corner(value.detach(), value.shape).tolist()))


def image(value: Any, kind: type[Any], take: ReadLimits) -> ValueShape:
    """Open a `PIL.Image.Image`; one that was not read from its file yet stays unread."""
    size: Any = attribute(value, kind, "_size")
    mode = attribute(value, kind, "_mode")
    form = class_attribute(kind, "format")
    return _described(
        kind,
        ("mode", mode if type(mode) is str else None),
        ("size", cast("Any", size) if type(size) is tuple else None),
        ("format", form if type(form) is str else None),
    )
