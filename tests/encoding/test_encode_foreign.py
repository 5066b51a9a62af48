"""Recording runs no code of the objects that it records, but what is known to be cheap."""

from __future__ import annotations

import abc
import collections
import datetime as dt
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from autotrace.encoding import reduce
from autotrace.encoding.encoder import Encoder
from autotrace.encoding.redaction import Redactor
from autotrace.semconv import REDACTED, TRUNCATED


def record(value: Any, **options: Any) -> Any:
    """What a reader finds in the record of a value."""
    return json.loads(Encoder(Redactor(), **options).json(value))


RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> Iterator[None]:
    RAN.clear()
    yield
    assert RAN == []


def _noted(name: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        RAN.append(name)
        return NotImplemented

    return run


SPECIAL = (
    *("__repr__", "__str__", "__iter__", "__len__", "__getitem__", "__getattr__", "__bool__"),
    *("__format__", "__bytes__", "__contains__", "__call__", "__reduce__", "__reversed__"),
    *("__dir__", "__int__", "__index__", "__float__", "__length_hint__", "__await__", "__next__"),
    *("__get__", "__set__", "__set_name__", "__array__", "__dataframe__", "__fspath__", "__copy__"),
    *("keys", "items", "values", "isoformat", "tolist", "dict", "model_dump", "to_dict", "json"),
)


class Lazy:
    """Like a query that was not run: every question would run it."""


for _name in SPECIAL:
    setattr(Lazy, _name, _noted(_name))


class LazyMapping(Mapping[str, Any]):
    """Like a table of a database that looks like a dict."""

    __getitem__ = _noted("__getitem__")
    __iter__ = _noted("__iter__")
    __len__ = _noted("__len__")
    __repr__ = _noted("__repr__")
    items = _noted("items")


class Meta(abc.ABCMeta):
    """A class that answers for itself."""

    __hash__ = _noted("hash of the class")
    __eq__ = _noted("eq of the class")
    __instancecheck__ = _noted("isinstance")
    __subclasscheck__ = _noted("issubclass")


class OfMeta(metaclass=Meta):
    __repr__ = _noted("__repr__")


class Zone(dt.tzinfo):
    utcoffset = tzname = dst = _noted("utcoffset")  # type: ignore[assignment]


class Moment(dt.datetime):
    isoformat = __str__ = __repr__ = _noted("isoformat")  # type: ignore[assignment]


class Properties:
    @property
    def heavy(self) -> int:
        return _noted("property")()

    def __repr__(self) -> str:
        return f"<{self.heavy}>"


UNASKED: list[tuple[Any, Any]] = [
    (Lazy(), f"<{__name__}.Lazy>"),
    (LazyMapping(), f"<{__name__}.LazyMapping>"),
    (OfMeta(), f"<{__name__}.OfMeta>"),
    (Properties(), f"<{__name__}.Properties>"),
    (types.MappingProxyType(LazyMapping()), f"<{__name__}.LazyMapping>"),
    (collections.ChainMap({"a": 1}, {"b": 2, "a": 3}), {"a": 1, "b": 2}),
    (collections.ChainMap(LazyMapping(), {}), "<collections.ChainMap>"),
    (collections.abc.KeysView(LazyMapping()), "<collections.abc.KeysView>"),
    (
        dt.datetime(2026, 1, 2, 3, 4, tzinfo=Zone()),
        f"2026-01-02T03:04:00[{__name__}.Zone]",
    ),
    (Moment(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
    (dt.time(1, 2, tzinfo=Zone()), f"01:02:00[{__name__}.Zone]"),
    (ValueError(Lazy()), {"type": "ValueError", "message": f"<{__name__}.Lazy>"}),
    (ValueError("a", Lazy()), {"type": "ValueError", "message": f"('a', <{__name__}.Lazy>)"}),
    (KeyError(Lazy()), {"type": "KeyError", "message": f"<{__name__}.Lazy>"}),
    (KeyError("k"), {"type": "KeyError", "message": "'k'"}),
    (ValueError([{"a": (1, "b")}]), {"type": "ValueError", "message": "[{'a': (1, 'b')}]"}),
    (ValueError([Lazy()]), {"type": "ValueError", "message": "<list>"}),
    (ValueError(KeyError(Lazy())), {"type": "ValueError", "message": f"<{__name__}.Lazy>"}),
    (ValueError(), {"type": "ValueError", "message": ""}),
    ({(1, "a"): 1}, {"(1, 'a')": 1}),
    ({(1, Lazy): 1}, {"<tuple>": 1}),
]


@pytest.mark.parametrize(("value", "shown"), UNASKED, ids=lambda v: type(v).__name__)
def test_an_object_is_not_asked_what_it_is(value: Any, shown: Any) -> None:
    assert record(value) == shown
    assert record([{"inside": value}]) == [{"inside": shown}]


def test_the_error_of_a_call_holds_no_text_of_what_it_was_raised_with() -> None:
    name, message, stack = Encoder(Redactor()).error(ValueError(Lazy()))

    assert (name, message) == ("ValueError", f"<{__name__}.Lazy>")
    assert stack.endswith(f"ValueError: <{__name__}.Lazy>\n")


# --- what is known to be cheap


class Money:
    def __init__(self, amount: Any, currency: Any) -> None:
        self.amount, self.currency = amount, currency

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.amount:.2f} {self.currency!r})"


class Card:
    __slots__ = ("number",)

    def __init__(self, number: str) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"<{self.__class__.__qualname__} **** {self.number[-4:]}>"


class Wide(Money):
    def __repr__(self) -> str:
        return f"{self.amount:{self.currency}}"


class Endless(Money):
    def __repr__(self) -> str:
        while True:
            pass


class Calling(Money):
    def __repr__(self) -> str:
        return f"{print(self.amount)}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Money(5, "EUR"), "Money(5.00 'EUR')"),
        (Card("1234567812345678"), "<Card **** 5678>"),
        (Money(5, Lazy()), f"<{__name__}.Money>"),
        (Money(10**100, "EUR"), f"<{__name__}.Money>"),
        (Money(5, "x" * 1_000_000), f"<{__name__}.Money>"),
        (Wide(5, 10**9), f"<{__name__}.Wide>"),
        (Endless(5, ""), f"<{__name__}.Endless>"),
        (Calling(5, ""), f"<{__name__}.Calling>"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_repr_that_formats_plain_fields_is_run_and_no_other(value: Any, shown: str) -> None:
    assert record(value) == shown


# --- libraries


def test_an_array_is_whole_up_to_a_thousand_elements_and_then_a_head() -> None:
    assert record(np.arange(4).reshape(2, 2)) == [[0, 1], [2, 3]]
    assert record(np.arange(1000)) == list(range(1000))
    assert record(np.arange(10_000).reshape(100, 100)) == {
        "type": "numpy.ndarray",
        "shape": [100, 100],
        "dtype": "int64",
        "head": [list(range(row * 100, row * 100 + 10)) for row in range(10)],
    }
    assert record(np.broadcast_to(np.float64(0), (10**6, 10**6)))["shape"] == [10**6, 10**6]
    assert record(np.zeros((10**9, 0))) == {
        "type": "numpy.ndarray", "shape": [10**9, 0], "dtype": "float64",
    }  # fmt: skip
    assert record(np.zeros(2000, "U100000"))["shape"] == [2000]


def test_the_fields_of_an_array_are_shown_and_redacted_by_name() -> None:
    rows = np.array([("ann", "hunter22")], dtype=[("user", "U8"), ("password", "U8")])
    row = {"user": "ann", "password": REDACTED}
    nested = np.zeros(1, [("at", [("token", "i4"), ("n", "i4", (2,))])])

    assert record(rows) == record(rows.view(np.recarray)) == [row]
    assert record(rows[0]) == record(rows.view(np.recarray)[0]) == record(rows.reshape(())) == row
    assert record(np.tile(rows, (2, 1))) == [[row], [row]]
    assert record(np.tile(rows, 3000))["head"] == [row] * 100
    assert record(nested) == [{"at": {"token": REDACTED, "n": [0, 0]}}]


def test_a_class_derived_from_an_array_is_not_asked_for_its_elements() -> None:
    class Quantity(np.ndarray):
        __array_finalize__ = __getitem__ = tolist = _noted("array")  # type: ignore[assignment]

    made = np.arange(2000).view(np.ndarray)
    value = np.ndarray.__new__(Quantity, made.shape, made.dtype, made)
    RAN.clear()  # to make one runs its code

    assert record(value) == {
        "type": f"{Quantity.__module__}.{Quantity.__qualname__}", "shape": [2000], "dtype": "int64",
    }  # fmt: skip


def test_a_data_frame_is_its_shape_dtypes_and_head_whatever_the_display_options() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame({"n": range(100_000), "password": ["hunter22"] * 100_000, 3: 0.5})
    shown = {
        "type": "pandas.DataFrame",
        "shape": [100_000, 3],
        "columns": {
            "n": {"dtype": "int64", "head": [0, 1, 2, 3, 4]},
            "password": REDACTED,
            "3": {"dtype": "float64", "head": [0.5] * 5},
        },
    }
    with pd.option_context("display.max_rows", None, "display.max_columns", None):
        assert record(frame) == shown
        assert record(frame["n"])["columns"]["n"]["head"] == list(range(100))
        assert record(frame.index)["shape"] == [100_000]
        assert (
            record(frame.groupby("n"))
            == f"<{type(frame.groupby('n')).__module__}.DataFrameGroupBy>"
        )
    wide = record(pd.DataFrame(np.zeros((2, 5000))))
    assert (wide["shape"], len(wide["columns"])) == ([2, 5000], 20)
    long = record(pd.DataFrame({"t": ["x" * 1_000_000] * 10}))["columns"]["t"]
    assert "head" not in long or len(json.dumps(long)) <= 262_144


def test_a_value_in_pandas_is_redacted_by_the_name_of_its_row_or_column() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame([["hunter22", "hunter23"]], columns=["password", "password"])
    levels = pd.DataFrame([["hunter22", "hunter23"]], columns=[["password", "b"], ["a", "token"]])
    labelled = frame.set_axis(["password", "n"], axis=1).set_index("password")
    several = pd.MultiIndex.from_tuples([("hunter22", 1)], names=["password", "n"])
    secret = (
        *(frame, frame.T, frame.iloc[0], levels, levels.iloc[0], labelled["n"]),
        *(
            labelled.index,
            labelled.to_records(),
            several,
            frame["password"].set_axis(several)["password"].iloc[:, 0],
        ),
        *(pd.Series(["hunter22"], name=name) for name in (("a", "password"), np.str_("password"))),
    )

    for each in secret:
        assert "hunter22" not in json.dumps(record(each)), each
    assert record(pd.Series({"user": "ann", "token": "t"}))["head"] == {
        "user": "ann", "token": REDACTED,
    }  # fmt: skip


def test_a_class_derived_from_a_data_frame_is_not_asked() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")

    class Frame(pd.DataFrame):
        iloc = shape = dtypes = items = property(_noted("frame"))

        @property
        def _constructor(self) -> Any:
            return _noted("_constructor")()

    value = Frame({"a": [1, 2]})
    RAN.clear()  # to make one runs its code

    assert record(value)["shape"] == [2, 1]


def test_a_polars_frame_is_its_shape_dtypes_and_head_and_a_plan_is_not_run() -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    frame = pl.DataFrame({"n": range(10_000), "token": ["t0ken"] * 10_000, "l": [[1]] * 10_000})
    with pl.Config(tbl_rows=-1, tbl_cols=-1):
        assert record(frame) == {
            "type": "polars.dataframe.frame.DataFrame",
            "shape": [10_000, 3],
            "columns": {
                "n": {"dtype": "Int64", "head": [0, 1, 2, 3, 4]},
                "token": REDACTED,
                "l": {"dtype": "List"},
            },
        }
    assert record(frame.lazy()) == "<polars.lazyframe.frame.LazyFrame>"
    assert record(pl.Series("s", ["x" * 1_000_000]))["columns"]["s"]["head"] == ["x" * 1_000]


def test_an_arrow_table_is_its_shape_dtypes_and_head() -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = pa.table({"n": range(1000), "secret": ["s"] * 1000, "l": [[1]] * 1000})

    assert record(table) == {
        "type": "pyarrow.Table",
        "shape": [1000, 3],
        "columns": {
            "n": {"dtype": "int64", "head": [0, 1, 2, 3, 4]},
            "secret": REDACTED,
            "l": {"dtype": "ListType"},
        },
    }
    assert record(table["n"])["head"] == list(range(100))
    assert record(pa.array([1]))["head"] == [1]
    assert "head" not in record(pa.array(["x" * 1_000_000]))


def test_an_image_is_its_mode_and_size_and_stays_unread() -> None:
    images = pytest.importorskip("PIL.Image", reason="pillow is not installed")

    assert record(images.new("RGB", (4000, 3000))) == {
        "type": "PIL.Image.Image", "mode": "RGB", "size": [4000, 3000],
    }  # fmt: skip


def test_a_tensor_shows_elements_only_if_they_are_in_memory(monkeypatch: Any) -> None:
    """A stand-in: the wheel of torch has half a gigabyte."""

    class Tensor:
        def __init__(self, device: str) -> None:
            self.data, self.device = np.arange(4000.0).reshape(40, 100), types.SimpleNamespace()
            self.device.type = device
            self.shape, self.dtype, self.layout = self.data.shape, "float32", "torch.strided"
            self.is_quantized = False

        def numel(self) -> int:
            return self.data.size

        def detach(self) -> Any:
            if self.device.type != "cpu":
                RAN.append("detach")
            return self.data

    Tensor.__module__ = "torch"
    here, away = record(Tensor("cpu")), record(Tensor("cuda"))

    assert (here["type"], here["shape"], here["dtype"]) == (
        "torch.test_a_tensor_shows_elements_only_if_they_are_in_memory.<locals>.Tensor",
        [40, 100],
        "float32",
    )
    assert here["head"][1][:2] == [100.0, 101.0]
    assert "head" not in away


def test_a_row_of_a_database_is_shown_by_its_columns() -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row = connection.execute("select 1 as n, 'x' as password").fetchone()
    connection.close()

    assert record([row]) == [{"n": 1, "password": REDACTED}]


def test_lazy_objects_of_well_known_libraries_are_shown_by_type() -> None:
    shown: dict[str, Any] = {}
    if "sqlalchemy" in sys.modules or _is_installed("sqlalchemy"):
        sqlalchemy = pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
        shown["select"] = record(sqlalchemy.select(sqlalchemy.literal(1)))
    if _is_installed("dask"):
        from dask.base import tokenize
        from dask.delayed import delayed

        shown["delayed"] = record(delayed(tokenize)(1))
    for text in shown.values():
        assert text.startswith("<")


def _is_installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


# --- time


def test_what_takes_long_to_open_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduce, "MAX_CPU_NS", -1)

    shown = record([dt.date(2026, 1, 2)] * 1000)

    assert shown[-1][TRUNCATED] == {
        "kind": "array",
        "length": 1000,
        "limit": "time",
        "sha256": None,
    }
    assert 0 < len(shown) < 100
