"""A starter suite: what the sample is like, with room for the next one to be a little different."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from insitu.scaffolding.columns import Column
from insitu.scaffolding.features import is_key
from insitu.scaffolding.target import Target

MOST_VALUES = 20
"""Categories up to which a suite names them."""

_SEEN = 5
"""Rows that a category needs to be named: rarer ones could point at a row."""

_MIDDLE_ROWS = 100
_TAIL = 0.01
_COARSE = 1.4
_MOST_DIGITS = 700
_YEARS = 1


def suite_of(name: str, columns: Sequence[Column], keys: Sequence[str], target: Target, rows: int) -> dict[str, Any]:
    """Return a suite, as Great Expectations writes it, that data like the sample passes.

    Args:
        keys: The columns that together name a row; none: those that are unique and named so.
        target: What is predicted. Where the model answers with a probability of each class, there are no others.
        rows: How many the data has, at least.
    """
    found = [column.name for column in columns if is_key(column)]
    expectations = [
        _expect("table_columns_to_match_set", "New columns may come; these must stay.",
                column_set=[column.name for column in columns], exact_match=False),
        _expect("table_row_count_to_be_between", "A tenth of the first data: never nearly nothing.",
                min_value=max(rows // 10, 1)),
        *_unique(keys, found),
    ]  # fmt: skip
    for column in columns:
        label = target if column.name == target.column.name else None
        expectations += _about(column, label, names_row=column.name in (keys or found))
    return {"name": name, "expectations": expectations, "meta": {"great_expectations_version": "1.24.1"}}


def _expect(what: str, why: str, /, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{what}", "kwargs": kwargs, "meta": {"notes": why}}


def _unique(keys: Sequence[str], found: Sequence[str]) -> Iterator[dict[str, Any]]:
    if len(keys) > 1:
        yield _expect("compound_columns_to_be_unique", "One row for each.", column_list=list(keys))
        return
    for name in keys or found:
        yield _expect("column_values_to_be_unique", "It names a row.", column=name)


def _about(column: Column, label: Target | None, *, names_row: bool) -> Iterator[dict[str, Any]]:
    name = column.name
    if column.dtype:
        yield _typed(column)
    most = _at_least(column.known, column.rows)
    if names_row:
        yield _expect("column_values_to_not_be_null", "It names a row.", column=name)
    elif most > 0:
        why = "Without it a row has no label." if label else f"{column.missing:,} of {column.rows:,} were missing."
        yield _expect("column_values_to_not_be_null", why, column=name, mostly=most)
    if names_row and column.kind != "text":
        return
    if label and label.classes:
        yield _expect("column_values_to_be_in_set", "The classes of the model: a row of another cannot be judged.",
                      column=name, value_set=list(label.classes))  # fmt: skip
    elif column.kind in ("integer", "number") and column.low is not None and not column.moves:
        yield from _numbers(column)
    elif column.kind == "date" and column.dtype and column.low is not None:  # days need a pass of their own
        first = f"{max(int(column.low) - _YEARS, 1):04d}-01-01T00:00:00{'+00:00' if column.has_zone else ''}"
        yield _expect("column_values_to_be_between", "No date from long before.", column=name, min_value=first)
    elif column.kind == "text" and column.known:
        yield from _texts(column)


def _typed(column: Column) -> dict[str, Any]:
    """Whole numbers of CSV are numbers as soon as one has a fraction: both will do."""
    if column.kind in ("integer", "number"):
        types = list(dict.fromkeys([str(column.dtype), "int64", "float64"]))
        return _expect("column_values_to_be_in_type_list", "Numbers.", column=column.name, type_list=types)
    why = "Looks like a code: leading zeros, which a number would lose." if column.is_code else "As in the sample."
    return _expect("column_values_to_be_of_type", why, column=column.name, type_=column.dtype)


def _at_least(good: int, rows: int) -> float:
    """Return the share that must be good: twice as many may be bad as were, and some more where few rows were seen."""
    return max(math.floor((1 - 2 * (rows - good) / rows - 10 / rows) * 1e4) / 1e4, 0.0)


def _numbers(column: Column) -> Iterator[dict[str, Any]]:
    """Half of the seen range is room on each side; what was never negative and begins near 0 may go down to that."""
    assert column.low is not None
    assert column.high is not None
    assert column.quartiles is not None
    half = column.high / 2 - column.low / 2  # not the whole, which may be too large for a number
    room = half or abs(column.high) or 1.0
    low = 0.0 if column.low >= 0 >= column.low - room else _outwards(column.low - room, ROUND_FLOOR, room)
    ends = {"min_value": low, "max_value": _outwards(column.high + room, ROUND_CEILING, room)}
    yield _expect("column_values_to_be_between", "As seen, with half of the range more on each side.",
                  column=column.name, **ends, mostly=1 - _TAIL)  # fmt: skip
    if column.known >= _MIDDLE_ROWS:
        low, high = column.quartiles
        middle = [_outwards(low, ROUND_FLOOR, room), _outwards(high, ROUND_CEILING, room)]
        yield _expect("column_quantile_values_to_be_between", "The middle stays within the middle half that was seen.",
                      column=column.name, quantile_ranges={"quantiles": [0.5], "value_ranges": [middle]})  # fmt: skip


def _outwards(value: float, rounding: str, room: float) -> float:
    """Return *value* with three significant digits, never on its other side: to the nearest could be within a range.

    It has more of them where the last one would be of more than some twenty times *room*: what is far from 0 and close
    together, such as 1e9 give or take 5, would have a range else that stops nothing.
    """
    value = _finite(value)
    unit = math.floor(math.log10(room) + _COARSE)
    if value:
        unit = min(unit, math.floor(math.log10(abs(value))) - 2)
    exact = Context(prec=_MOST_DIGITS, rounding=rounding)
    return _finite(float(Decimal(repr(value)).quantize(Decimal((0, (1,), unit)), context=exact)))


def _finite(value: float) -> float:
    """Return the nearest number that JSON knows."""
    return max(-sys.float_info.max, min(value, sys.float_info.max))


def _texts(column: Column) -> Iterator[dict[str, Any]]:
    named = [(value, count) for value, count in column.categories if count >= _SEEN]
    covered = sum(count for _, count in named)
    most = _at_least(covered, column.known)
    if named and len(named) <= MOST_VALUES and most > 0.5:
        yield _expect("column_values_to_be_in_set", f"All that {_SEEN} rows or more had.",
                      column=column.name, value_set=[value for value, _ in named], mostly=most)  # fmt: skip
    elif column.lengths:
        low, high = column.lengths
        yield _expect("column_value_lengths_to_be_between", "As seen, and twice as long.",
                      column=column.name, min_value=low // 2, max_value=2 * high, mostly=1 - _TAIL)  # fmt: skip
