"""Profiles: what a model was trained on, in so little that another batch can be compared with it.

Per column the spread of its numbers, or the counts of its categories, both of fixed size. A profile
holds values of the data, so it stays on site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_checks import sketches
from data_checks.conditions import Column
from data_checks.measures import ROWS, Columns, Measure, Partial, counts, filled, frequent

MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class ColumnProfile:
    """What is known of one column.

    Attributes:
        filled: Rows with a value.
        buckets: Of numbers: lowest value, highest value, rows; in order.
        categories: Of texts and flags: rows per category; of more than a thousand, the most frequent.
    """

    filled: int
    buckets: tuple[tuple[float, float, int], ...] = ()
    categories: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Profile:
    """What a model was trained on, or is asked about now."""

    rows: int
    columns: Mapping[str, ColumnProfile]

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON values; they hold values of the data."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Profile:
        """Return the profile that `to_json` described; raise `KeyError`, `TypeError`."""
        columns = {
            name: ColumnProfile(found["filled"], tuple(map(tuple, found["buckets"])), found["categories"])
            for name, found in value["columns"].items()
        }
        return cls(value["rows"], columns)


def measures(columns: Sequence[Column]) -> list[Measure]:
    """Return what a profile of *columns* needs; columns that cannot be compared need nothing."""
    wanted = [ROWS]
    for column in columns:
        if column.kind == "number":
            wanted += [filled(column.name), sketches.spread(column.name, column.dtype)]
        elif column.kind in ("text", "flag"):
            wanted += [filled(column.name), frequent(column.name, MOST_CATEGORIES)]
    return wanted


def profile(columns: Sequence[Column], whole: Partial) -> Profile:
    """Return the profile of what was measured; without rows, an empty one."""
    found: dict[str, ColumnProfile] = {}
    for column in columns if whole else ():
        if column.kind == "number":
            buckets = sketches.buckets(whole[sketches.spread(column.name, column.dtype).key])
            found[column.name] = ColumnProfile(whole[filled(column.name).key], buckets)
        elif column.kind in ("text", "flag"):
            categories = _categories(whole[frequent(column.name, MOST_CATEGORIES).key])
            found[column.name] = ColumnProfile(whole[filled(column.name).key], categories=categories)
    return Profile(whole.get(ROWS.key, 0), found)


def _categories(parts: Columns) -> dict[str, int]:
    """Return the most frequent categories, in name order."""
    most = counts(parts).sort("n", "value", descending=[True, False]).head(MOST_CATEGORIES).sort("value")
    return {str(value): int(n) for value, n in most.iter_rows()}
