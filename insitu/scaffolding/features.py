"""Which columns the model learns from, and why not from the others: a first guess for people to mend."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from insitu.scaffolding.columns import Column
from insitu.scaffolding.target import Target

if TYPE_CHECKING:
    import polars as pl

_ROWS_PER_TEXT = 5
_KEY = re.compile(r"(^|[_\W])(id|ids|uuid|guid|key|index|number|nr|no)$|^unnamed: \d+$|.Id$|.ID$", re.IGNORECASE)
_SAME_ROWS = 0.999


@dataclass(frozen=True)
class Features:
    """What the model learns from.

    Attributes:
        numbers: Columns of numbers and flags.
        texts: Columns of categories.
        gaps: Those of *texts* where values are missing.
        left_out: Why not from the others.
    """

    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    gaps: tuple[str, ...]
    left_out: dict[str, str]


def features_of(
    columns: Sequence[Column], target: Target, keys: Collection[str], rows: pl.DataFrame, parted: Sequence[str]
) -> Features:
    """Return what the model may learn from.

    Args:
        keys: The columns that name a row.
        parted: The columns in the names of the blobs.
    """
    why = {column.name: _why_not(column, target, keys) or _is_label(column, target, rows) for column in columns}
    left_out = {name: reason for name, reason in why.items() if reason and name != target.column.name}
    left_out |= dict.fromkeys(parted, "is in the names of the blobs: the next ones have other values")
    used = [column for column in columns if not why[column.name]]
    texts = [column for column in used if column.kind == "text"]
    return Features(
        tuple(column.name for column in used if column.kind != "text"),
        tuple(column.name for column in texts),
        tuple(column.name for column in texts if column.missing),
        left_out,
    )


def is_key(column: Column) -> bool:
    """Tell whether the column names a row: its name says so, and no value comes twice."""
    return column.is_unique and column.kind in ("integer", "text") and _KEY.search(column.name) is not None


def _why_not(column: Column, target: Target, keys: Collection[str]) -> str | None:
    return next(_reasons(column, target, keys), None)


def _reasons(column: Column, target: Target, keys: Collection[str]) -> Iterator[str]:
    if column.name == target.column.name:
        yield "is what is predicted"
    if column.name in keys or is_key(column):
        yield "names a row"
    if not column.known:
        yield "has no values"
    if column.distinct == 1:
        yield "has one value only"
    if column.kind == "date":
        yield "is a date: derive from it what is known before the outcome, such as the hour"
    if column.kind == "other":
        yield "is of a type that the template does not know"
    if column.infinite:
        yield f"is infinite in {column.infinite:,} of {column.rows:,} rows"
    if column.kind == "flag" and column.missing:
        yield "is a flag that is missing in some rows"
    if column.moves:
        yield "goes on from blob to blob, as a running number does"
    if column.has_commas:
        yield "is text: numbers are read with a decimal point, and these have a comma"
    if column.kind == "text" and column.distinct * _ROWS_PER_TEXT > column.known:
        what = "looks like a code (leading zeros)" if column.is_code else "is text"
        yield f"{what} with too many different values"


def _is_label(column: Column, target: Target, rows: pl.DataFrame) -> str | None:
    """Return what is wrong with a column that tells the outcome: it would not be known before it."""
    import polars as pl

    names = [column.name, target.column.name]
    known = rows.select(names).fill_nan(None).drop_nulls()
    if known.height < 2 or column.kind == "other":
        return None
    if column.categories and target.column.categories:
        is_same = known.unique().height == column.distinct == target.column.distinct
    elif column.kind in ("integer", "number") and target.column.kind in ("integer", "number"):
        together = known.select(pl.corr(*(pl.col(name).cast(pl.Float64) for name in names))).item()
        is_same = together is not None and abs(together) > _SAME_ROWS
    else:
        return None
    return f"says the same as {target.column.name}" if is_same else None
