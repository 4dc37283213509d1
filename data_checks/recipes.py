"""How each metric that GX asks for follows from measures; what is not here falls back to GX."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from data_checks import keys, sketches
from data_checks.conditions import CONDITIONS, Column, Values
from data_checks.measures import (
    ROWS,
    Columns,
    Measure,
    added,
    counts,
    examples,
    filled,
    greatest,
    least,
    moments,
    tally,
    total,
)
from data_checks.sketches import Bounds

EXAMPLES = 20
"""How many unexpected values the full report shows of each expectation; they stay on site."""

_KEEP_ROWS: Mapping[str, Callable[[list[pl.Expr]], pl.Expr]] = {
    "all_values_are_missing": pl.any_horizontal,
    "both_values_are_missing": pl.any_horizontal,
    "any_value_is_missing": pl.all_horizontal,
    "either_value_is_missing": pl.all_horizontal,
}


_ABOUT_NULLS = ("column_values.null", "column_values.nonnull")


@dataclass(frozen=True)
class Recipe:
    """A metric: what to measure, and the answer to GX from the merged measurements.

    Attributes:
        answer: From the merged values of *measures*; `Bounds`, or a list with some, where a summary
            does not tell exactly.
        exactly: From the same values to the recipe that tells exactly, in a second pass.
    """

    measures: tuple[Measure, ...]
    answer: Callable[..., Any]
    exactly: Callable[..., Recipe] | None = None


@dataclass(frozen=True)
class Metric:
    """A metric as GX asks for it."""

    name: str
    domain: Mapping[str, Any]
    values: Values

    @property
    def text(self) -> str:
        """All of the metric as text; equal texts mean equal metrics."""
        return self.about(self.name)

    def about(self, name: str) -> str:
        """Return the text of the metric *name* of the same domain and values."""
        values = {key: value for key, value in self.values.items() if key != "result_format"}
        domain = {key: value for key, value in self.domain.items() if key != "batch_id"}
        return json.dumps([name, domain, values], sort_keys=True, default=repr)

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
    return _summary(metric, columns) or _of_condition(metric, columns)


def _of_condition(metric: Metric, columns: Sequence[Column]) -> Recipe | None:
    """Return the recipe of a metric that looks at rows: `<condition>.<what is asked>`."""
    condition, _, asked = metric.name.rpartition(".")
    unique = condition in ("column_values.unique", "compound_columns.unique")
    if not columns or not (unique or condition in CONDITIONS):
        return None
    names = tuple(column.name for column in columns)
    domain = _domain(metric, condition, columns)
    # Texts repeat: conditions on their values are evaluated once per distinct value.
    over = _over(columns[0]) if len(names) == 1 and not unique and condition not in _ABOUT_NULLS else ""
    if asked == "filtered_row_count":
        return Recipe((total(metric.text, names, domain, over, of_nulls=True),), int)
    if unique:
        return _of_uniqueness(metric, columns, domain) if asked == "unexpected_count" else _NOTHING
    expected = CONDITIONS[condition](columns, metric.values)
    if expected is None:
        return None
    counted = total(metric.about(condition), names, domain & ~expected, over, of_nulls=condition in _ABOUT_NULLS)
    if asked == "unexpected_count":
        return Recipe((counted,), int)
    if asked == "unexpected_values" and len(names) == 1 and condition not in _ABOUT_NULLS:
        shown = examples(counted, domain & ~expected, EXAMPLES)
        return Recipe((shown,), lambda found: pl.concat(found).head(EXAMPLES).to_list() if found else [])
    return _NOTHING if asked == "unexpected_values" else None


def _of_uniqueness(metric: Metric, columns: Sequence[Column], domain: pl.Expr) -> Recipe:
    present = metric.name.startswith("column_values")
    typed = [(column.name, column.dtype) for column in columns]
    return Recipe((keys.keys(metric.text, typed, domain, present=present),), lambda found: found.repeated)


_NOTHING = Recipe((), list)
"""For values that nobody asks to see."""


def _domain(metric: Metric, condition: str, columns: Sequence[Column]) -> pl.Expr:
    """Return which rows the metric looks at."""
    present = [column.expr.is_not_null() for column in columns]
    every = present[0].is_not_null()  # as long as the column, which a literal would not be
    if "column" in metric.domain:
        return every if condition in _ABOUT_NULLS else present[0]
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


def _sum(column: Column) -> Measure:
    # 128 bits: a sum of 64-bit integers wraps around silently.
    return added(column.name, pl.Int128 if column.dtype.is_integer() else pl.Float64)


def _extreme(column: Column, end: Callable[[str], Measure]) -> Recipe:
    return Recipe((end(column.name),), lambda value: _as_pandas(column, value))


def _as_pandas(column: Column, value: Any) -> Any:
    """Return *value* of *column* as pandas has it: NaN for none, its own timestamps, and floats of their width.

    The width matters: 0.3 of 32 bits is above 0.3, yet GX finds it to be no more than a limit of 0.3.
    """
    if value is None:
        return math.nan
    if isinstance(value, datetime):
        return pd.Timestamp(value)
    return np.float32(value) if column.dtype == pl.Float32 else value


def _mean(column: Column) -> Recipe:
    return Recipe((_sum(column), filled(column.name)), lambda added, n: added / n if n else math.nan)


def _stdev(found: Mapping[str, Any]) -> float:
    return math.sqrt(found["m2"] / (found["n"] - 1)) if found["n"] > 1 else math.nan


def _quantiles(column: Column, values: Values) -> Recipe | None:
    """The value of the nearest rank; halfway takes the even rank, as numpy does."""
    if values.get("allow_relative_error"):
        return None
    return _of_ranks(
        column,
        lambda n: [round((n - 1) * q) for q in values["quantiles"]] if n else [],
        lambda found: found or [math.nan] * len(values["quantiles"]),
    )


def _median(column: Column) -> Recipe:
    def halfway(below: Any, above: Any) -> Any:
        return _as_pandas(column, (below + above) / 2)

    def middle(found: list[Any]) -> Any:
        if not found:
            return math.nan
        below, above = found
        if isinstance(below, Bounds):
            within = max(below.within, above.within)
            return Bounds(halfway(below.low, above.low), halfway(below.high, above.high), within)
        return halfway(below, above)

    return _of_ranks(column, lambda n: [(n - 1) // 2, n // 2] if n else [], middle)


def _of_ranks(column: Column, ranks: Callable[[int], list[int]], answer: Callable[[list[Any]], Any]) -> Recipe:
    """Return the recipe of an answer from the values at some ranks."""

    def from_spread(parts: Columns) -> Any:
        return answer([sketches.ranked(parts, rank) for rank in ranks(sketches.size(parts))])

    def exactly(parts: Columns) -> Recipe:
        wanted = ranks(sketches.size(parts))
        places = [_Place(column.name, rank, sketches.ranked(parts, rank)) for rank in wanted]

        def at_places(*found: Any) -> Any:
            pairs = zip(found[::2], found[1::2], strict=True)
            return answer([place.value(*pair) for place, pair in zip(places, pairs, strict=True)])

        return Recipe(tuple(m for place in places for m in place.measures), at_places)

    return Recipe((sketches.spread(column.name, column.dtype),), from_spread, exactly)


@dataclass(frozen=True)
class _Place:
    """The value at a rank, between bounds: count what lies below them, tally what lies between."""

    column: str
    rank: int
    bounds: Bounds

    @property
    def measures(self) -> tuple[Measure, Measure]:
        value, low, high = pl.col(self.column), self.bounds.low, self.bounds.high
        return (
            total(f"{self.column!r} < {low!r}", (self.column,), value < low),
            tally(self.column, (f"{low!r} to {high!r}", value.is_between(low, high))),
        )

    def value(self, below: int, between: Columns) -> Any:
        found = counts(between)
        index = found.get_column("n").cum_sum().search_sorted(self.rank - below, side="right")
        return found.get_column("value")[int(index)]


def _distinct(column: Column, answer: Callable[[Any, int], Any] = lambda count, _: count) -> Recipe:
    """Return the recipe of an answer from the numbers of distinct values and of values."""

    def bounded(parts: Columns, n: int) -> Any:
        found = sketches.distinct_count(parts)
        high = min(found.high, n)
        exact = found.exact or not n
        return answer(found.low, n) if exact else Bounds(answer(found.low, n), answer(high, n), found.within)

    def exactly(*_: Any) -> Recipe:
        typed = [(column.name, column.dtype)]
        seen = keys.exact_keys(f"of {column.name!r}", typed, column.expr.is_not_null(), present=True)
        return Recipe((seen, filled(column.name)), lambda found, n: answer(found.distinct, n))

    over = _over(column)
    found = sketches.distinct(repr(column.name), column.name, over=over)
    return Recipe((found, filled(column.name, over)), bounded, exactly)


def _over(column: Column) -> str:
    return column.name if column.kind == "text" else ""


def _in_set(column: Column, wanted: Any) -> pl.Expr | None:
    return CONDITIONS["column_values.in_set"]([column], {"value_set": list(wanted or ())})


def _others(column: Column, values: Values) -> Recipe | None:
    """Count the distinct values outside `value_set`."""
    known = _in_set(column, values["value_set"])
    if known is None:
        return None
    what = f"{column.name!r} outside {values['value_set']!r}"
    return Recipe(
        (sketches.distinct(what, column.name, ~known, _over(column)),), lambda parts: sketches.distinct_count(parts).low
    )


def _absent(column: Column, values: Values) -> Recipe | None:
    """Count the values of `value_set` that do not occur."""
    known = _in_set(column, values["value_set"])
    if known is None:
        return None
    wanted = set(values["value_set"])
    found = tally(column.name, (f"in {sorted(map(repr, wanted))}", known))
    return Recipe((found,), lambda parts: len(wanted - set(counts(parts).get_column("value"))))


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
    "column.median": (_NUMBERS, lambda column, _: _median(column)),
    "column.quantile_values": (_NUMBERS, _quantiles),
    "column.distinct_values.count": ((*_COUNTABLE, "instant"), lambda column, _: _distinct(column)),
    "column.unique_proportion": (
        (*_COUNTABLE, "instant"),
        lambda column, _: _distinct(column, lambda count, n: count / n if n else 0),
    ),
    "column.distinct_values.not_in_set.count": (_COUNTABLE, _others),
    "column.distinct_values.not_in_set": (_COUNTABLE, lambda *_: _NOTHING),
    "column.distinct_values.missing_from_column.count": (_COUNTABLE, _absent),
    "column.distinct_values.missing_from_column": (_COUNTABLE, lambda *_: _NOTHING),
    "column.most_common_value": (
        _COUNTABLE,
        lambda column, _: Recipe((tally(column.name),), lambda parts: _modes(counts(parts))),
    ),
    "column.non_null_proportion": (
        _ANY,
        lambda column, _: Recipe((filled(column.name), ROWS), lambda n, rows: n / rows if rows else 0),
    ),
}
