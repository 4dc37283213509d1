"""Summaries of fixed size for what needs the order or the number of distinct values.

Both say within which bounds the exact answer lies, so that a verdict which does not depend on where
in between it is can be given from the summary; only another one needs a second look at the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from data_checks.measures import Columns, Measure

BUCKETS = 512
_FEW_VALUES = 4 * BUCKETS
_MOST_BUCKETS = 64 * BUCKETS
KEPT_HASHES = 4096
_JOINED_PARTS = 64
_STANDARD_ERRORS = 5


@dataclass(frozen=True)
class Bounds:
    """An answer that is known to lie from *low* to *high*; exact when they are the same.

    Attributes:
        within: How far apart they are: of a value at a rank as a share of the rows, of a count of itself.
    """

    low: Any
    high: Any
    within: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether there is nothing in between."""
        return bool(self.low == self.high)

    @property
    def middle(self) -> Any:
        """The best guess."""
        return self.low if self.exact else self.low + (self.high - self.low) / 2


def spread(column: str, dtype: pl.DataType) -> Measure:
    """Measure the values in order as buckets: lowest value, highest value, rows.

    Exact up to 2048 distinct values in a part, each its own bucket; else 512 of equally many rows.
    """
    kind = pl.List(pl.Struct({"low": dtype, "high": dtype, "n": pl.Int64}))
    expr = pl.col(column).drop_nulls().map_batches(_bucketed, return_dtype=kind, returns_scalar=True)
    return Measure(f"spread {column!r}", (column,), expr, _spreads)


def ranked(parts: Columns, rank: int) -> Bounds:
    """Return the bounds of the value at *rank* (from 0) of all values in order.

    At least `rank + 1` values lie at or below `high`, because so many lie in buckets that end there;
    at most *rank* lie below `low`, because not more are in buckets that begin there.
    """
    buckets = _joined(parts)
    low, high = _reaching(buckets, "low", rank), _reaching(buckets, "high", rank)
    if low == high:
        return Bounds(low, high)
    between = (pl.col("low") <= high) & (pl.col("high") >= low)
    return Bounds(low, high, buckets.select(pl.col("n").filter(between).sum() / pl.col("n").sum()).item())


def buckets(parts: Columns, most: int = BUCKETS) -> tuple[tuple[float, float, int], ...]:
    """Return a spread as (low, high, rows) in order, in not many more than *most*."""
    found = _joined(parts).sort("low", "high")
    while found.height > 2 * most:
        found = _halved(found)
    return tuple((float(low), float(high), int(n)) for low, high, n in found.iter_rows())


def size(parts: Columns) -> int:
    """Return how many values a spread summarises."""
    return int(_joined(parts).get_column("n").sum())


def distinct(what: str, column: str, kept: pl.Expr | None = None, over: str = "") -> Measure:
    """Measure the 4096 smallest hashes of the distinct values (of those where *kept* holds).

    The k-th minimum value estimator (Bar-Yossef and others 2002; Beyer and others 2007): hashes are
    spread evenly, so k of them below h mean (k - 1) / h in all, with a standard error of
    1 / sqrt(k - 2). Fewer than k are simply counted.
    """
    values = pl.col(column).drop_nulls() if kept is None else pl.col(column).filter(kept).drop_nulls()
    expr = values.hash(0).unique().bottom_k(KEPT_HASHES).sort().implode()
    return Measure(f"distinct {what}", (column,), expr, _smallest, over)


def distinct_count(parts: Columns) -> Bounds:
    """Return the bounds of the number of distinct values; five standard errors, so 1 in 10⁶ lies outside."""
    hashes = _fewest(parts)
    if hashes.len() < KEPT_HASHES:
        return Bounds(hashes.len(), hashes.len())
    estimate = (KEPT_HASHES - 1) / (int(hashes[-1]) / 2**64)
    error = _STANDARD_ERRORS / math.sqrt(KEPT_HASHES - 2)
    return Bounds(int(estimate * (1 - error)), math.ceil(estimate * (1 + error)), error)


def _bucketed(values: pl.Series) -> pl.Series:
    values = values.sort(multithreaded=False)  # other cores have parts of their own
    few = int((values != values.shift(1)).sum()) < _FEW_VALUES
    steps = values.rle().struct.field("len").cum_sum() if few else np.linspace(0, values.len(), BUCKETS + 1)[1:]
    ends = np.concatenate([[0], np.asarray(steps)]).astype(np.int64)
    first, last = ends[:-1], ends[1:] - 1
    buckets = pl.DataFrame({"low": values.gather(first), "high": values.gather(last), "n": np.diff(ends)})
    return pl.Series([_fewer(buckets).to_struct()])


def _fewer(buckets: pl.DataFrame) -> pl.DataFrame:
    """Join equal buckets: nothing is lost by it."""
    return buckets.group_by("low", "high", maintain_order=True).agg(pl.col("n").sum())


def _spreads(one: Columns, other: Columns) -> Columns:
    parts = one + other
    if sum(map(len, parts)) <= _MOST_BUCKETS:
        return parts
    joined = _fewer(_joined(parts))
    return ((joined if joined.height <= _MOST_BUCKETS // 2 else _halved(joined)).to_struct(),)


def _halved(buckets: pl.DataFrame) -> pl.DataFrame:
    pairs = pl.int_range(pl.len()) // 2
    ordered = buckets.sort("low", "high")
    return ordered.group_by(pairs.alias("pair"), maintain_order=True).agg(
        pl.col("low").min(), pl.col("high").max(), pl.col("n").sum()
    ).drop("pair")  # fmt: skip


def _joined(parts: Columns) -> pl.DataFrame:
    return pl.concat(parts).struct.unnest()


def _reaching(buckets: pl.DataFrame, end: str, rank: int) -> Any:
    """Return the smallest *end* of buckets up to which more than *rank* values lie."""
    ordered = buckets.sort(end)
    index = ordered.get_column("n").cum_sum().search_sorted(rank, side="right")
    return ordered.get_column(end)[int(index)]


def _smallest(one: Columns, other: Columns) -> Columns:
    parts = one + other
    return parts if len(parts) < _JOINED_PARTS else (_fewest(parts),)


def _fewest(parts: Columns) -> pl.Series:
    return pl.concat(parts).unique().bottom_k(KEPT_HASHES).sort()
