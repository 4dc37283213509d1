"""Drift: how far the data that the champion was not trained on is from what it was trained on.

Per column, over rows with a value:

- `psi`: the population stability index, the sum of (p - q) ln(p / q) over bins, an empty bin counting as
  1 in 10,000 (Siddiqi, Credit Risk Scorecards, 2006). Bins are the tenths of the champion's data, or its
  categories. Usual reading: below 0.1 stable, above 0.25 shifted.
- `jensen_shannon`: the distance of Jensen and Shannon with logarithm to base 2, from 0 to 1 (Lin 1991;
  Endres and Schindelin 2003), over the same bins.
- `missing_change`: by how much the share of rows without a value changed.
- `new_categories`: the share of rows whose category the champion never saw.

These four figures leave the site; the profiles that they come from do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from data_checks.profiles import MOST_CATEGORIES, ColumnProfile, Profile

_TENTHS = range(1, 10)
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Drift:
    """How far one column moved; None where that cannot be said."""

    psi: float | None
    jensen_shannon: float | None
    missing_change: float
    new_categories: float | None


def compare(then: Profile, now: Profile) -> dict[str, Drift]:
    """Return the drift of each column that both have."""
    return {
        name: _drift(then, then.columns[name], now, found)
        for name, found in now.columns.items()
        if name in then.columns and then.rows and now.rows
    }


def _drift(then: Profile, one: ColumnProfile, now: Profile, other: ColumnProfile) -> Drift:
    shares = _shares(one, other) if one.filled and other.filled else None
    return Drift(
        psi=shares and _psi(*shares),
        jensen_shannon=shares and _jensen_shannon(*shares),
        missing_change=abs(one.filled / then.rows - other.filled / now.rows),
        new_categories=_new_categories(one, other),
    )


def _shares(one: ColumnProfile, other: ColumnProfile) -> tuple[list[float], list[float]] | None:
    """Return the shares of both in the bins of *one*; None for a category against a number."""
    if one.categories is not None and other.categories is not None:
        return _of_names(one, [*one.categories]), _of_names(other, [*one.categories])
    if one.buckets and other.buckets:
        ends = sorted({_value_at(one.buckets, tenth) for tenth in _TENTHS})
        return _between(one.buckets, ends), _between(other.buckets, ends)
    return None


def _of_names(column: ColumnProfile, names: Sequence[str]) -> list[float]:
    shares = [(column.categories or {}).get(name, 0) / column.filled for name in names]
    return [*shares, max(0.0, 1 - sum(shares))]


def _between(buckets: Sequence[tuple[float, float, int]], ends: Sequence[float]) -> list[float]:
    up_to = [0.0, *(_share_up_to(buckets, end) for end in ends), 1.0]
    return [above - below for below, above in pairwise(up_to)]


def _share_up_to(buckets: Sequence[tuple[float, float, int]], end: float) -> float:
    """Return the share of values up to *end*; inside a bucket they are taken as evenly spread."""
    return sum(n * _part_up_to(end, low, high) for low, high, n in buckets) / sum(n for _, _, n in buckets)


def _part_up_to(end: float, low: float, high: float) -> float:
    if low > end or high <= end:
        return float(high <= end)
    return (end - low) / (high - low) if math.isfinite(high - low) else 0.5  # to infinity there is no share


def _value_at(buckets: Sequence[tuple[float, float, int]], tenth: int) -> float:
    left = tenth * sum(n for _, _, n in buckets) / 10
    for _, high, n in buckets:
        left -= n
        if left <= 0:
            return high
    return buckets[-1][1]


def _psi(p: Sequence[float], q: Sequence[float]) -> float:
    floored = [(max(a, _LEAST_SHARE), max(b, _LEAST_SHARE)) for a, b in zip(p, q, strict=True) if a or b]
    return sum((a - b) * math.log(a / b) for a, b in floored)


def _jensen_shannon(p: Sequence[float], q: Sequence[float]) -> float:
    half = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    divergence = sum(a * math.log2(a / m) / 2 for side in (p, q) for a, m in zip(side, half, strict=True) if a > 0)
    return math.sqrt(min(1.0, max(0.0, divergence)))


def _new_categories(one: ColumnProfile, other: ColumnProfile) -> float | None:
    known = one.categories
    if known is None or other.categories is None or len(known) >= MOST_CATEGORIES or not other.filled:
        return None
    seen = sum(n for name, n in other.categories.items() if name in known)
    return (other.filled - seen) / other.filled  # so that those beyond the thousandth count, too
