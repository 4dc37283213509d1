"""How each metric that GX asks for follows from measures; what is not here falls back to GX."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import polars as pl

from data_checks.conditions import CONDITIONS, Column, Values
from data_checks.measures import (
    ROWS,
    Measure,
    counts,
    greatest,
    keys,
    least,
    moments,
    repeated,
    tally,
    total,
)

_KEEP_ROWS: Mapping[str, Callable[[list[pl.Expr]], pl.Expr]] = {
    "all_values_are_missing": pl.any_horizontal,
    "both_values_are_missing": pl.any_horizontal,
    "any_value_is_missing": pl.all_horizontal,
    "either_value_is_missing": pl.all_horizontal,
}


@dataclass(frozen=True)
class Recipe:
    """A metric: what to measure, and the answer to GX from the merged measurements."""

    measures: tuple[Measure, ...]
    answer: Callable[..., Any]


@dataclass(frozen=True)
class Metric:
    """A metric as GX asks for it."""

    name: str
    domain: Mapping[str, Any]
    values: Values

    @property
    def text(self) -> str:
        """All of the metric as text; equal texts mean equal metrics."""
        values = {name: value for name, value in self.values.items() if name != "result_format"}
        domain = {name: value for name, value in self.domain.items() if name != "batch_id"}
        return json.dumps([self.name, domain, values], sort_keys=True, default=repr)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that it looks at, none for the whole table."""
        single = [self.domain[key] for key in ("column", "column_A", "column_B") if self.domain.get(key)]
        return tuple(single or self.domain.get("column_list") or ())


def recipe(metric: Metric, schema: Mapping[str, pl.DataType]) -> Recipe | None:
    """Return how to compute *metric* in one pass, None when only GX itself can."""
    if metric.domain.get("row_condition") or metric.domain.get("table"):
        return None
    columns = [Column(name, schema[name]) for name in metric.column_names]
    found = _summary(metric, columns) or _of_condition(metric, columns)
    return found if found and _computes(found, schema) else None


def _computes(found: Recipe, schema: Mapping[str, pl.DataType]) -> bool:
    """Try the measures on a row of nulls: what Polars refuses is found before any byte is read."""
    try:
        pl.DataFrame(schema=dict(schema)).clear(1).select(m.expr.alias(m.key) for m in found.measures)
    except Exception:  # noqa: BLE001  # whatever it is, GX can have it
        return False
    return True


def _of_condition(metric: Metric, columns: Sequence[Column]) -> Recipe | None:
    """Return the recipe of a metric that counts rows: `<condition>.<what is counted>`."""
    condition, _, counted = metric.name.rpartition(".")
    unique = condition in ("column_values.unique", "compound_columns.unique")
    if not columns or not (unique or condition in CONDITIONS):
        return None
    if counted == "unexpected_values":
        return Recipe((), list)  # raw values: never collected
    names = tuple(column.name for column in columns)
    domain = _domain(metric, condition, columns)
    if counted == "filtered_row_count":
        return Recipe((total(metric.text, names, domain),), int)
    if counted != "unexpected_count":
        return None
    if unique:
        return Recipe((keys(metric.text, names, domain),), repeated)
    expected = CONDITIONS[condition](columns, metric.values)
    if expected is None:
        return None
    return Recipe((total(metric.text, names, domain & ~expected),), int)


def _domain(metric: Metric, condition: str, columns: Sequence[Column]) -> pl.Expr:
    """Return which rows the metric looks at."""
    present = [column.expr.is_not_null() for column in columns]
    every = present[0].is_not_null()  # as long as the column, which a literal would not be
    if "column" in metric.domain:
        about_nulls = condition in ("column_values.null", "column_values.nonnull")
        return every if about_nulls else present[0]
    keep = _KEEP_ROWS.get(metric.domain.get("ignore_row_if", ""))
    return keep(present) if keep else every


def _summary(metric: Metric, columns: Sequence[Column]) -> Recipe | None:
    """Return the recipe of a metric of the table or of one whole column."""
    if metric.name == "table.row_count":
        return Recipe((ROWS,), int)
    if metric.name not in _SUMMARIES or len(columns) != 1:
        return None
    kinds, make = _SUMMARIES[metric.name]
    return make(columns[0], metric.values) if columns[0].kind in kinds else None


def _filled(column: Column) -> Measure:
    return total(f"filled {column.name!r}", (column.name,), column.expr.is_not_null())


def _sum(column: Column) -> Measure:
    # 128 bits: a sum of 64-bit integers wraps around silently.
    exact = column.expr.cast(pl.Int128 if column.dtype.is_integer() else pl.Float64)
    return total(f"sum {column.name!r}", (column.name,), exact)


def _of_counts(column: Column, answer: Callable[[pl.DataFrame], Any]) -> Recipe:
    return Recipe((tally(column.name),), lambda parts: answer(counts(parts)))


def _extreme(column: Column, measure: Callable[[str], Measure]) -> Recipe:
    return Recipe((measure(column.name),), _as_pandas)


def _as_pandas(value: Any) -> Any:
    """Return *value* as pandas has it: NaN for none, and its own timestamps."""
    if value is None:
        return math.nan
    return pd.Timestamp(value) if isinstance(value, datetime) else value


def _mean(column: Column) -> Recipe:
    return Recipe((_sum(column), _filled(column)), lambda added, n: added / n if n else math.nan)


def _stdev(found: Mapping[str, Any]) -> float:
    return math.sqrt(found["m2"] / (found["n"] - 1)) if found["n"] > 1 else math.nan


def _quantiles(column: Column, values: Values) -> Recipe | None:
    if values.get("allow_relative_error"):
        return None
    return _of_counts(column, lambda found: [_nearest(found, q) for q in values["quantiles"]])


def _nearest(found: pl.DataFrame, quantile: float) -> Any:
    """Return the value of the nearest rank; halfway takes the even rank, as numpy does."""
    n = int(found.get_column("n").sum())
    return _ranked(found, round((n - 1) * quantile)) if n else math.nan


def _median(found: pl.DataFrame) -> Any:
    n = int(found.get_column("n").sum())
    return (_ranked(found, (n - 1) // 2) + _ranked(found, n // 2)) / 2 if n else math.nan


def _ranked(found: pl.DataFrame, rank: int) -> Any:
    """Return the value at *rank*, from 0, of all values in order."""
    index = found.get_column("n").cum_sum().search_sorted(rank, side="right")
    return found.get_column("value")[int(index)]


def _unexpected_values(found: pl.DataFrame, values: Values) -> set[Any]:
    return set(found.get_column("value")) - set(values["value_set"])


def _missing_values(found: pl.DataFrame, values: Values) -> set[Any]:
    return set(values["value_set"]) - set(found.get_column("value"))


def _modes(found: pl.DataFrame) -> list[Any]:
    return found.filter(pl.col("n") == pl.col("n").max()).get_column("value").to_list()


_Make = Callable[[Column, Values], Recipe | None]
_NUMBERS = ("number",)
_ORDERED = ("number", "text", "instant")
_COUNTABLE = ("number", "text", "flag")
_ANY = ("number", "text", "flag", "instant", "other")

_SUMMARIES: Mapping[str, tuple[tuple[str, ...], _Make]] = {
    "column.min": (_ORDERED, lambda column, _: _extreme(column, least)),
    "column.max": (_ORDERED, lambda column, _: _extreme(column, greatest)),
    "column.sum": (_NUMBERS, lambda column, _: Recipe((_sum(column),), lambda added: added)),
    "column.mean": (_NUMBERS, lambda column, _: _mean(column)),
    "column.standard_deviation": (_NUMBERS, lambda column, _: Recipe((moments(column.name),), _stdev)),
    "column.median": (_NUMBERS, lambda column, _: _of_counts(column, _median)),
    "column.quantile_values": (_NUMBERS, _quantiles),
    "column.distinct_values.count": (
        (*_COUNTABLE, "instant"),
        lambda column, _: _of_counts(column, lambda found: found.height),
    ),
    "column.unique_proportion": (
        (*_COUNTABLE, "instant"),
        lambda column, _: _of_counts(
            column, lambda found: found.height / found.get_column("n").sum() if found.height else 0
        ),
    ),
    "column.distinct_values.not_in_set.count": (
        _COUNTABLE,
        lambda column, values: _of_counts(column, lambda found: len(_unexpected_values(found, values))),
    ),
    "column.distinct_values.not_in_set": (_COUNTABLE, lambda *_: Recipe((), list)),
    "column.distinct_values.missing_from_column.count": (
        _COUNTABLE,
        lambda column, values: _of_counts(column, lambda found: len(_missing_values(found, values))),
    ),
    "column.distinct_values.missing_from_column": (_COUNTABLE, lambda *_: Recipe((), list)),
    "column.most_common_value": (_COUNTABLE, lambda column, _: _of_counts(column, _modes)),
    "column.non_null_proportion": (
        _ANY,
        lambda column, _: Recipe((_filled(column), ROWS), lambda n, rows: n / rows if rows else 0),
    ),
}
