"""Uniqueness over data of any size: ranges first, sorted keys on disk only where ranges overlap.

Of every blob its extent is kept: rows, repeated and distinct keys, and the range of each key column.
Blobs whose ranges do not touch cannot share a key, so their counts add up; that settles running
numbers, times and months. Only among blobs that overlap the keys themselves are compared. They are
sorted, 8 bytes a row, lie on disk, and are compared slice by slice, so that memory stays small.

One column of whole numbers or instants is its own key. Anything else is hashed to 64 bits: where no two
hashes are the same, no two keys are. Where some are, that may be chance, and the columns are measured
once more with 128 bits (`Measure.exact`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Protocol

import numpy as np
import polars as pl

from data_checks.encoded import Encoded
from data_checks.measures import Columns, Measure


class Numbers(Protocol):
    """Numbers in memory, or in a file, of which no more is read than is sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


Run = tuple[Numbers, ...]
"""Sorted keys: 64-bit numbers, or two that are one 128-bit hash."""

_SLICE_KEYS = 1 << 18
_MARK_BITS = 22  # more do not fit the cache
_LOW = np.uint64((1 << _MARK_BITS) - 1)
_ODD = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class KeyCounts:
    """How many rows have a key that occurs more than once, and how many different keys there are."""

    repeated: int
    distinct: int

    def __add__(self, other: KeyCounts) -> KeyCounts:
        return KeyCounts(self.repeated + other.repeated, self.distinct + other.distinct)


@dataclass(frozen=True)
class Found:
    """What was found in one part.

    Attributes:
        extents: One struct: `rows`, `repeated`, `distinct`, then `low`, `high` and `nulls` of each column.
        runs: The keys themselves.
    """

    extents: Columns
    runs: list[Run]


def keys(what: str, columns: Sequence[tuple[str, pl.DataType]], keep: pl.Expr, *, present: bool) -> Measure:
    """Measure the keys of the rows where *keep* holds; *present* says that none of them is null.

    Repeated keys are counted exactly by the measure that is its `exact`, if it has one.
    """
    exact = exact_keys(what, columns, keep, present=present)
    return exact if _is_by_value(columns, present) else _keys(f"keys {what}", columns, keep, hashes=1, exact=exact)


def exact_keys(what: str, columns: Sequence[tuple[str, pl.DataType]], keep: pl.Expr, *, present: bool) -> Measure:
    """Measure keys as `keys` does, at once so that repeated ones are counted exactly."""
    hashes = 0 if _is_by_value(columns, present) else 2
    return _keys(f"exact keys {what}", columns, keep, hashes=hashes)


def _keys(
    key: str, columns: Sequence[tuple[str, pl.DataType]], keep: pl.Expr, *, hashes: int, exact: Measure | None = None
) -> Measure:
    names = tuple(name for name, _ in columns)
    return Measure(key, names, keep, operator.add, look=partial(_look, hashes=hashes), exact=exact)


def whole(extents: Columns, runs: Callable[[], Sequence[Run]]) -> Columns:
    """Return the extent of all parts of one blob together."""
    parts = pl.concat(extents).struct.unnest()
    if parts.height == 1:
        return extents
    is_apart = all(len(group) == 1 for group in _groups(parts))
    counts = _added(parts) if is_apart else counted_together(runs())  # runs come in any order: all or none
    ends = {"low": pl.Expr.min, "high": pl.Expr.max}
    joined = parts.select(ends.get(name.rstrip("0123456789"), pl.Expr.sum)(pl.col(name)) for name in parts.columns)
    exact = {"repeated": counts.repeated, "distinct": counts.distinct}
    settled = joined.with_columns(pl.lit(value, pl.Int64).alias(name) for name, value in exact.items())
    return (settled.to_struct(),)


def counted(extents: Columns, together: Callable[[Sequence[int]], KeyCounts]) -> KeyCounts:
    """Return the counts of the parts whose *extents* these are.

    Args:
        together: From the numbers of parts that overlap to the counts of their keys; called only for those.
    """
    parts = pl.concat(extents).struct.unnest()
    groups = _groups(parts)
    alone = parts.filter(pl.int_range(pl.len()).is_in([group[0] for group in groups if len(group) == 1]))
    return sum((together(group) for group in groups if len(group) > 1), start=_added(alone))


def _is_by_value(columns: Sequence[tuple[str, pl.DataType]], present: bool) -> bool:
    (_, dtype), *more = columns
    fits = dtype == pl.Datetime or (dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128))
    return present and not more and fits


def _look(columns: Sequence[pl.Series | Encoded], kept: pl.Series, *, hashes: int) -> Found:
    """Return the extent and the keys of the rows that are *kept*."""
    if not kept.all():
        columns = [(column.rows if isinstance(column, Encoded) else column).filter(kept) for column in columns]
    keys = _sorted(columns, hashes)
    counts = _counted(keys)
    fields = {"rows": keys.height, "repeated": counts.repeated, "distinct": counts.distinct}
    extent = {name: pl.Series([value]) for name, value in fields.items()}
    for at, values in enumerate(columns):
        kind = pl.String if isinstance(values, Encoded) else values.dtype
        extent[f"low{at}"] = pl.Series([values.min()], dtype=kind)
        extent[f"high{at}"] = pl.Series([values.max()], dtype=kind)
        extent[f"nulls{at}"] = pl.Series([values.null_count()])
    return Found((pl.DataFrame(extent).to_struct(),), [tuple(column.to_numpy() for column in keys)])


def _sorted(columns: Sequence[pl.Series | Encoded], hashes: int) -> pl.DataFrame:
    """Return the keys of the rows in order; one thread, since the other cores have parts of their own."""
    if hashes == 2:
        return pl.DataFrame({"a": _hashed(columns, 1), "b": _hashed(columns, 2)}).sort("a")
    (first, *_) = columns
    key = _hashed(columns, 1) if hashes or isinstance(first, Encoded) else first.cast(pl.Int64)
    return key.sort(multithreaded=False).to_frame("a")


def _hashed(columns: Sequence[pl.Series | Encoded], seed: int) -> pl.Series:
    """Return one hash per row; those of its columns are as good as random, so a sum that tells them apart will do."""
    return reduce(lambda one, other: one * _ODD + other, (column.hash(seed) for column in columns))


def _added(parts: pl.DataFrame) -> KeyCounts:
    """Return the counts of *parts* that share no key."""
    return KeyCounts(int(parts.get_column("repeated").sum()), int(parts.get_column("distinct").sum()))


def _groups(parts: pl.DataFrame) -> list[list[int]]:
    """Return the numbers of the parts in groups that share no key, by the column that tells most apart."""
    width = sum(name.startswith("low") for name in parts.columns)
    return max((_touching(parts, at) for at in range(width)), key=len)


def _touching(parts: pl.DataFrame, at: int) -> list[list[int]]:
    """Return the numbers of the parts in groups whose ranges of key column *at* touch."""
    seen = parts.with_row_index("number").filter(pl.col("rows") > 0)
    if seen.filter(pl.col(f"nulls{at}") > 0).height > 1:  # null equals null
        return [seen.get_column("number").to_list()]
    groups: list[list[int]] = []
    reached: Any = None
    for number, low, high in seen.sort(f"low{at}").select("number", f"low{at}", f"high{at}").iter_rows():
        if low is not None and reached is not None and low <= reached:
            groups[-1].append(number)
            reached = max(reached, high)
        else:
            groups.append([number])
            reached = high
    return groups


class Newcomers:
    """Keys that are compared with those of others, of which there are many more."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._keys = pl.Series(np.concatenate([run[0][:] for run in runs])).sort(multithreaded=False).to_numpy()
        self._offsets = self._offsets_of(self._keys)
        width = int(self._offsets[-1]) if len(self._keys) else 0
        self._shift = np.uint64(max(0, width.bit_length() - _MARK_BITS))
        self._high, self._low = (np.zeros(1 << _MARK_BITS, bool) for _ in range(2))
        self._high[(self._offsets >> self._shift).view(np.int64)] = True
        self._low[(self._offsets & _LOW).view(np.int64)] = True

    def meet(self, run: Run) -> bool:
        """Tell whether one of the keys may be in *run*: by the first of the two numbers that are a 128-bit hash.

        First their high bits are looked at, which rise with the keys, so that the marks are passed in order; of the
        few that are left, the low ones; and of hardly any, unless they are the same, all.
        """
        near = self._offsets_of(self._between(run[0][:]))
        near = near[np.flatnonzero(self._high[(near >> self._shift).view(np.int64)])]
        near = near[self._low[(near & _LOW).view(np.int64)]]
        return bool((self._offsets[np.searchsorted(self._offsets, near)] == near).any())

    def _between(self, keys: np.ndarray) -> np.ndarray:
        """Return those of *keys* that lie between the first and the last of ours."""
        if not len(self._keys):
            return keys[:0]
        return keys[np.searchsorted(keys, self._keys[0]) : np.searchsorted(keys, self._keys[-1], side="right")]

    def _offsets_of(self, keys: np.ndarray) -> np.ndarray:
        """Return how far *keys* are above the first of ours."""
        offsets: np.ndarray = (keys - self._keys[:1]).view(np.uint64)
        return offsets


def counted_together(runs: Sequence[Run]) -> KeyCounts:
    """Return the counts of all *runs* together; some slices of them are in memory at a time."""
    ends = _ends(runs)

    def counted_slice(n: int) -> KeyCounts:
        return _counted_among(
            [tuple(column[end[n] : end[n + 1]] for column in run) for run, end in zip(runs, ends, strict=True)]
        )

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(counted_slice, range(len(ends[0]) - 1)), start=KeyCounts(0, 0))


def _ends(runs: Sequence[Run]) -> list[list[int]]:
    """Return where to cut each run: slices have some 260,000 keys of all, and no key is in two of them."""
    rows = sum(len(run[0]) for run in runs)
    count = max(1, rows // _SLICE_KEYS)
    step = max(1, rows // (count * 64))
    samples = np.sort(np.concatenate([run[0][:][::step].copy() for run in runs]))  # a view would hold all of its run
    cuts = np.unique(samples[:: max(1, len(samples) // count)])[1:]
    return [[0, *np.searchsorted(run[0][:], cuts), len(run[0])] for run in runs]


def _counted_among(runs: Iterable[Run]) -> KeyCounts:
    first, *second = (pl.Series(np.concatenate(columns)) for columns in zip(*runs, strict=True))
    if not second:
        return _counted(first.sort(multithreaded=False).to_frame("a"))
    if not _twice(first.sort(multithreaded=False)).len():
        return KeyCounts(0, first.len())  # the usual case
    return _counted(pl.DataFrame({"a": first, "b": second[0]}).sort("a"))


def _twice(ordered: pl.Series) -> pl.Series:
    return ordered.filter(ordered == ordered.shift(1)).unique()


def _counted(ordered: pl.DataFrame) -> KeyCounts:
    """Count the rows of *ordered*, which is sorted by `a`, that are there more than once."""
    twice = _twice(ordered.get_column("a"))
    if twice.is_empty():
        return KeyCounts(0, ordered.height)
    suspects = ordered.filter(pl.col("a").is_in(twice.implode()))
    repeated = suspects.is_duplicated()
    return KeyCounts(int(repeated.sum()), ordered.height - suspects.height + suspects.n_unique())
