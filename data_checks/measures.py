"""What one pass measures, and how measurements of parts become those of the whole.

A `Measure` is one Polars expression with one value per part, and a merge that is associative: parts
can be measured anywhere (a measure can be pickled), kept, and merged later. The measurements of a
part (`Partial`) hold minima, distinct values and hashes of keys, so they stay on site.
"""

from __future__ import annotations

import io
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import polars as pl

from data_checks.encoded import Encoded, times

Partial = Mapping[str, Any]
Columns = tuple[pl.Series, ...]
Look = Callable[[Sequence[pl.Series | Encoded], pl.Series], Any]

_COMPACT_PARTS = 32
_SAMPLE_ROWS, _MOSTLY = 1000, 0.8


@dataclass(frozen=True)
class Measure:
    """One thing to measure; *key* says what, so that equal keys are measured once.

    Attributes:
        columns: What it reads.
        expr: One value per part; with *look*, whether a row counts.
        merge: Of the values of two parts, in their order.
        over: The column over whose distinct values *expr* is evaluated, where that is cheaper than every
            row: texts repeat. Empty: over the rows.
        grouped: Whether *expr* wants each of those values once.
        of_nulls: Whether *expr* asks for nothing but which values are missing.
        unless_zero: The key of a measure; where that is 0, there is nothing to measure, and the value None.
        look: What finds the value from the columns and `expr`, where that is no expression. What it finds of each
            row is kept one by one (see `keys`) instead of merged.
        exact: Of such a measure: what tells exactly how many keys repeat, if this one says that some do.
    """

    key: str
    columns: tuple[str, ...]
    expr: pl.Expr
    merge: Callable[[Any, Any], Any]
    over: str = ""
    grouped: bool = False
    of_nulls: bool = False
    unless_zero: str = ""
    look: Look | None = None
    exact: Measure | None = None

    @property
    def spilled(self) -> bool:
        """Whether it finds something of each row, which is kept by itself."""
        return self.look is not None


ROWS = Measure("rows", (), pl.len(), operator.add)
_N = "n"


def total(
    what: str, columns: tuple[str, ...], condition: pl.Expr, over: str = "", *, of_nulls: bool = False
) -> Measure:
    """Measure how many rows meet *condition* (null is no)."""
    met = pl.col(times(over)).filter(condition) if over else condition
    return Measure(f"total {what}", columns, met.sum().cast(pl.Int64), operator.add, over, of_nulls=of_nulls)


def filled(column: str, over: str = "") -> Measure:
    """Measure how many rows have a value."""
    return total(f"filled {column!r}", (column,), pl.col(column).is_not_null(), over, of_nulls=True)


def added(column: str, kind: type[pl.DataType]) -> Measure:
    """Measure the sum of the values as *kind*."""
    return Measure(f"sum {column!r}", (column,), pl.col(column).cast(kind).sum(), operator.add)


def least(column: str) -> Measure:
    """Measure the minimum, None where there is no value."""
    return Measure(f"least {column!r}", (column,), pl.col(column).min(), partial(_chosen, min))


def greatest(column: str) -> Measure:
    """Measure the maximum, None where there is no value."""
    return Measure(f"greatest {column!r}", (column,), pl.col(column).max(), partial(_chosen, max))


def moments(column: str) -> Measure:
    """Measure count `n`, `mean` and `m2`, the sum of squared distances from the mean."""
    values = pl.col(column).cast(pl.Float64)
    expr = pl.struct(n=values.count(), mean=values.mean(), m2=(values - values.mean()).pow(2).sum())
    return Measure(f"moments {column!r}", (column,), expr, _chan)


def tally(column: str, only: tuple[str, pl.Expr] | None = None) -> Measure:
    """Measure every distinct value with its count; *only* names and gives a condition on the values.

    Exact; memory follows the distinct values.
    """
    kept = pl.col(column).is_not_null() if only is None else only[1]
    named = "" if only is None else f" where {only[0]}"
    return Measure(
        f"tally {column!r}{named}", (column,), _pairs(column).filter(kept).implode(), _tallies, column, grouped=True
    )


def frequent(column: str, most: int) -> Measure:
    """Measure the *most* frequent values with their counts; exact unless a part has more distinct ones."""
    filled = pl.col(column).is_not_null()
    order = [pl.col(times(column)).filter(filled), pl.col(column).filter(filled)]
    expr = _pairs(column).filter(filled).sort_by(order, descending=[True, False]).head(most).implode()
    return Measure(f"frequent {most} {column!r}", (column,), expr, _tallies, column, grouped=True)


def examples(counted: Measure, condition: pl.Expr, most: int) -> Measure:
    """Measure the first *most* values in rows that meet *condition*, which *counted* counts; None where there are none.

    Of distinct values it is the least, since they have no order.
    """
    found = pl.col(counted.columns[0]).filter(condition)
    expr = (found.sort() if counted.over else found).head(most).implode()
    key, first = f"examples of {counted.key}", partial(_first, most)
    return Measure(key, counted.columns, expr, first, counted.over, unless_zero=counted.key)


def measure(
    frame: pl.DataFrame, measures: Collection[Measure], encoded: Mapping[str, Encoded] | None = None
) -> Partial:
    """Return the measurements of one part: one query over the rows, one per column over its distinct values.

    Columns that are *encoded* are in *frame*, too: row by row where a measure needs that, else as `Encoded.filled`.
    """
    known = encoded or {}
    held = _looked(frame, [m for m in measures if m.look], known)
    for over in {m.over for m in measures}:
        asked = [m for m in measures if m.over == over and not m.look]
        if over in known:
            rows = known[over].distinct
        else:
            rows = _distinct(frame, over, any(m.grouped for m in asked)) if over else frame
        held |= _answers(rows, [m for m in asked if not m.unless_zero])
        held |= _answers(rows, [m for m in asked if m.unless_zero and held.get(m.unless_zero, 1)])
    return {m.key: held.get(m.key) for m in measures}


def merged(parts: Iterable[Partial], measures: Collection[Measure]) -> Partial:
    """Return the measurements of all *parts* together, merged in their order; those of no part are empty."""
    return reduce(lambda one, other: _both(one, other, measures), (part for part in parts if part), {})


def counts(parts: Columns) -> pl.DataFrame:
    """Return the distinct values and their counts: columns `value` and `n`, in value order."""
    return _counted(parts).sort("value")


def holdable(value: Any) -> Any:
    """Return *value* as a partial holds it: lists as parts of one column, to be joined when they are needed."""
    return (value,) if isinstance(value, pl.Series) else value


def packed(values: Partial) -> bytes:
    """Return *values* as bytes that hold the same; `unpacked` reads them."""
    buffer = io.BytesIO()
    # A file instead of a stream takes all threads of Polars: six times the CPU.
    pl.DataFrame({name: pl.Series([_whole(value)]) for name, value in values.items()}).write_ipc_stream(buffer)
    return buffer.getvalue()


def unpacked(data: bytes | memoryview) -> dict[str, Any]:
    """Return the values that `packed` wrote."""
    row = pl.read_ipc_stream(io.BytesIO(data))
    return {name: holdable(row.get_column(name)[0]) for name in row.columns}


def _whole(value: Any) -> Any:
    return pl.concat(value) if isinstance(value, tuple) else value


def _both(one: Partial, other: Partial, measures: Collection[Measure]) -> Partial:
    if not one:
        return other
    return {m.key: m.merge(one[m.key], other[m.key]) for m in measures}


def _answers(rows: pl.DataFrame, measures: Collection[Measure]) -> dict[str, Any]:
    if not measures:
        return {}
    answer = rows.select(m.expr.alias(m.key) for m in measures)
    return {m.key: holdable(answer.get_column(m.key)[0]) for m in measures}


def _looked(frame: pl.DataFrame, measures: Collection[Measure], encoded: Mapping[str, Encoded]) -> dict[str, Any]:
    if not measures:
        return {}
    kept = frame.select(m.expr.alias(m.key) for m in measures)
    return {
        m.key: m.look([encoded.get(name) or frame.get_column(name) for name in m.columns], kept.get_column(m.key))
        for m in measures
        if m.look
    }


def _distinct(frame: pl.DataFrame, column: str, grouped: bool) -> pl.DataFrame:
    """Return the distinct values with their counts; every row by itself, if need be, where hardly any repeats."""
    values = frame.select(column)
    if not grouped and values.head(_SAMPLE_ROWS).get_column(column).n_unique() > _MOSTLY * min(
        _SAMPLE_ROWS, values.height
    ):
        return values.with_columns(pl.lit(1, pl.UInt32).alias(times(column)))
    return values.group_by(column).agg(pl.len().alias(times(column)))


def _pairs(column: str) -> pl.Expr:
    return pl.struct(pl.col(column).alias("value"), pl.col(times(column)).cast(pl.Int64).alias(_N))


def _chosen(choose: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


def _chan(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Merge moments without cancellation (Chan, Golub, LeVeque 1979)."""
    if not one["n"] or not other["n"]:
        return one if one["n"] else other
    n = one["n"] + other["n"]
    delta = other["mean"] - one["mean"]
    return {
        "n": n,
        "mean": one["mean"] + delta * other["n"] / n,
        "m2": one["m2"] + other["m2"] + delta * delta * one["n"] * other["n"] / n,
    }


def _first(most: int, one: Columns | None, other: Columns | None) -> Columns | None:
    if one is None or other is None:
        return one or other
    return (pl.concat(one + other).head(most),) if sum(map(len, one)) < most else one


def _tallies(one: Columns, other: Columns) -> Columns:
    parts = one + other
    if len(parts) < _COMPACT_PARTS:
        return parts
    return (_counted(parts).to_struct("tally"),)


def _counted(parts: Columns) -> pl.DataFrame:
    return pl.concat(parts).struct.unnest().group_by("value").agg(pl.col(_N).sum())
