"""Conditions on rows, as Polars expressions that agree with GX on pandas.

Each function takes the columns with their kinds and GX's value arguments, and returns an expression
that is true where a row is as expected, or None where only GX itself can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any, Literal

import polars as pl

from data_checks.patterns import is_pattern, searched

Kind = Literal["number", "text", "flag", "instant", "other"]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the schema."""

    name: str
    dtype: pl.DataType

    @property
    def kind(self) -> Kind:
        """What its values can be compared with."""
        if self.dtype.is_integer() or self.dtype.is_float():
            return "number"
        if self.dtype == pl.Datetime:
            return "instant"
        return {pl.String(): "text", pl.Boolean(): "flag"}.get(self.dtype, "other")  # type: ignore[return-value]

    @property
    def expr(self) -> pl.Expr:
        """The column's values."""
        return pl.col(self.name)


Condition = Callable[[Sequence[Column], Values], pl.Expr | None]


def is_null(columns: Sequence[Column], _: Values) -> pl.Expr | None:
    """Expect no value."""
    return columns[0].expr.is_null()


def is_not_null(columns: Sequence[Column], _: Values) -> pl.Expr | None:
    """Expect a value."""
    return columns[0].expr.is_not_null()


def in_set(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect one of `value_set`."""
    wanted = values.get("value_set")
    literals = None if wanted is None else _literals(columns[0], wanted)
    return None if literals is None else columns[0].expr.is_in(literals.implode())


def not_in_set(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect none of `value_set`."""
    found = in_set(columns, values)
    return None if found is None else ~found


def between(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect `min_value` to `max_value`, bounds included unless `strict_min`, `strict_max`."""
    column = columns[0]
    low, high = values.get("min_value"), values.get("max_value")
    bounds = [bound for bound in (low, high) if bound is not None]
    if not bounds or not all(_comparable(column, bound) for bound in bounds):
        return None
    if len(bounds) == 2 and low > high:  # type: ignore[operator]
        return None
    return _within(_ordered(column, bounds), _literal(low), _literal(high), values)


def length_between(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect `min_value` to `max_value` code points."""
    low, high = values.get("min_value"), values.get("max_value")
    if columns[0].kind != "text" or (low is None and high is None):
        return None
    return _within(columns[0].expr.str.len_chars(), low, high, values)


def length_equal(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect `value` code points."""
    return columns[0].expr.str.len_chars() == values["value"] if columns[0].kind == "text" else None


def matches(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect a match of `regex`, or of any (`match_on` all: of every) in `regex_list`."""
    patterns = values.get("regex_list") or [values.get("regex")]
    if columns[0].kind != "text" or not all(is_pattern(pattern) for pattern in patterns):
        return None
    found = [searched(columns[0].expr, pattern) for pattern in patterns]
    every = values.get("match_on") == "all"
    return pl.all_horizontal(found) if every else pl.any_horizontal(found)


def not_matches(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect no match of `regex`, or of any in `regex_list`."""
    found = matches(columns, values)
    return None if found is None else ~found


def a_greater_than_b(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect the first above the second, or `or_equal`; a missing value is neither."""
    if not _alike(columns):
        return None
    a, b = (column.expr for column in columns)
    return (a >= b if values.get("or_equal") else a > b).fill_null(False)


def pair_equal(columns: Sequence[Column], _: Values) -> pl.Expr | None:
    """Expect both the same; a missing value equals nothing."""
    return (columns[0].expr == columns[1].expr).fill_null(False) if _alike(columns) else None


def all_equal(columns: Sequence[Column], _: Values) -> pl.Expr | None:
    """Expect all the same; missing values equal each other."""
    if not _alike(columns):
        return None
    return pl.all_horizontal(column.expr.eq_missing(columns[0].expr) for column in columns)


def all_different(columns: Sequence[Column], _: Values) -> pl.Expr | None:
    """Expect no two the same; missing values equal each other."""
    if not _alike(columns) or len(columns) < 2:
        return None
    return pl.all_horizontal(a.expr.ne_missing(b.expr) for a, b in combinations(columns, 2))


def sum_equal(columns: Sequence[Column], values: Values) -> pl.Expr | None:
    """Expect the sum `sum_total`; with a missing value there is none."""
    if any(column.kind != "number" for column in columns):
        return None
    added = pl.sum_horizontal([column.expr for column in columns], ignore_nulls=False)
    return added.eq(values["sum_total"]).fill_null(False)


CONDITIONS: Mapping[str, Condition] = {
    "column_values.null": is_null,
    "column_values.nonnull": is_not_null,
    "column_values.in_set": in_set,
    "column_values.not_in_set": not_in_set,
    "column_values.between": between,
    "column_values.value_length.between": length_between,
    "column_values.value_length.equals": length_equal,
    "column_values.match_regex": matches,
    "column_values.match_regex_list": matches,
    "column_values.not_match_regex": not_matches,
    "column_values.not_match_regex_list": not_matches,
    "column_pair_values.a_greater_than_b": a_greater_than_b,
    "column_pair_values.equal": pair_equal,
    "multicolumn_values.equal": all_equal,
    "multicolumn_sum.equal": sum_equal,
    "select_column_values.unique.within_record": all_different,
}


def _alike(columns: Sequence[Column]) -> bool:
    kinds = {column.kind for column in columns}
    return kinds == {"number"} or ("other" not in kinds and len({column.dtype for column in columns}) == 1)


def _literals(column: Column, wanted: Sequence[Any]) -> pl.Series | None:
    """Return those of *wanted* that the column can hold, in its type."""
    values = [value for value in wanted if value is not None]
    if column.kind == "text":
        return pl.Series([value for value in values if isinstance(value, str)], dtype=pl.String)
    if column.kind == "flag" and all(isinstance(value, bool) for value in values):
        return pl.Series(values, dtype=pl.Boolean)
    if column.kind == "number" and all(type(value) in (int, float) for value in values):
        if column.dtype.is_float():
            floats = pl.Series(map(float, values), dtype=pl.Float64)
            held = floats.cast(column.dtype)  # 0.1 is no value of 32 bits, and pandas finds it nowhere
            return held.filter(held.cast(pl.Float64) == floats)
        whole = [int(value) for value in values if value == value // 1]
        return pl.Series(whole, dtype=pl.Int128).cast(column.dtype, strict=False).drop_nulls()
    return None


def _comparable(column: Column, bound: Any) -> bool:
    if column.kind == "number":
        return type(bound) in (int, float)
    if column.kind == "instant" and isinstance(bound, datetime):
        return (bound.tzinfo is None) == (column.dtype.time_zone is None)  # type: ignore[attr-defined]
    return column.kind == "text" and isinstance(bound, str)


def _ordered(column: Column, bounds: Sequence[Any]) -> pl.Expr:
    """Return the values as they compare: with a float as floats (as numpy does), instants in UTC."""
    if column.kind == "number" and any(isinstance(bound, float) for bound in bounds):
        return column.expr.cast(pl.Float64)
    if column.kind == "instant" and column.dtype.time_zone:  # type: ignore[attr-defined]
        return column.expr.dt.convert_time_zone("UTC")
    return column.expr


def _literal(bound: Any) -> pl.Expr | None:
    if bound is None:
        return None
    aware = isinstance(bound, datetime) and bound.tzinfo is not None
    return pl.lit(bound.astimezone(UTC) if aware else bound)


def _within(value: pl.Expr, low: Any, high: Any, values: Values) -> pl.Expr:
    above = None if low is None else (value > low if values.get("strict_min") else value >= low)
    below = None if high is None else (value < high if values.get("strict_max") else value <= high)
    return pl.all_horizontal(test for test in (above, below) if test is not None)
