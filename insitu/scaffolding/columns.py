"""What the columns of a sample are like: in figures, and with values only where few values are all there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from insitu.scaffolding.sample import LEADING_ZERO, Sample, moves

if TYPE_CHECKING:
    import polars as pl

MOST_CATEGORIES = 50
"""Distinct values up to which a column counts as one of categories."""

_DECIMAL_COMMA = r"^\s*[-+]?[\d.]*\d,\d+\s*$"

Kind = Literal["integer", "number", "flag", "text", "date", "other"]


@dataclass(frozen=True)
class Column:
    """A column of the sample.

    Attributes:
        dtype: The type as Great Expectations names it; None where it is none that a suite should ask for.
        low, high: Of numbers their ends, of dates their years; None where numbers are infinite.
        quartiles: First and third quartile of numbers.
        lengths: Shortest and longest text, in characters.
        categories: Values and how many rows have them, the most frequent first; empty where there are many.
        has_zone: Of dates with a time of day, whether they are instants.
        infinite: How many rows have a number that is infinite.
        moves: Whether the values go on from blob to blob.
        has_commas: Whether texts are numbers with a decimal comma.
        is_code: Whether texts are digits, some with leading zeros: postcodes and the like.
    """

    name: str
    kind: Kind
    dtype: str | None
    rows: int
    missing: int
    distinct: int
    low: float | None = None
    high: float | None = None
    quartiles: tuple[float, float] | None = None
    lengths: tuple[int, int] | None = None
    categories: tuple[tuple[Any, int], ...] = ()
    has_zone: bool = False
    infinite: int = 0
    moves: bool = False
    has_commas: bool = False
    is_code: bool = False

    @property
    def known(self) -> int:
        """How many rows have a value."""
        return self.rows - self.missing

    @property
    def is_unique(self) -> bool:
        """Whether no value comes twice."""
        return self.missing == 0 and self.distinct == self.rows > 1


def columns_of(sample: Sample) -> list[Column]:
    """Return what the columns that the blobs hold are like."""
    rows = sample.rows
    dtypes = sample.schema.empty_table().to_pandas().dtypes
    return [_column(sample, rows, name, dtypes[name].type.__name__) for name in sample.held]


def _column(sample: Sample, rows: pl.DataFrame, name: str, dtype: str) -> Column:
    import polars as pl

    values, kind = rows[name], _kind(rows.schema[name])
    if values.dtype.is_float():
        values = values.fill_nan(None)
    missing, known = values.null_count(), values.drop_nulls()
    distinct = known.n_unique() if kind != "other" else known.len()
    column = Column(name, kind, _type_name(kind, dtype), rows.height, missing, distinct)
    if kind == "other" or not known.len():
        return column
    more: dict[str, Any] = {}
    if distinct <= MOST_CATEGORIES:
        counts = known.value_counts().sort(["count", name], descending=[True, False])
        more["categories"] = tuple(zip(counts[name].to_list(), counts["count"].to_list(), strict=True))
    if kind in ("integer", "number", "date"):
        more["moves"] = moves(sample.frames, name)
    if kind in ("integer", "number"):
        numbers = known.cast(pl.Float64)
        more["infinite"] = int(numbers.is_infinite().sum())
        if not more["infinite"]:
            quartiles = tuple(float(numbers.quantile(at, "nearest") or 0) for at in (0.25, 0.75))
            more |= {"low": numbers.min(), "high": numbers.max(), "quartiles": quartiles}
    elif kind == "date":
        years = known.dt.year()
        more |= {
            "low": years.min(),
            "high": years.max(),
            "has_zone": getattr(known.dtype, "time_zone", None) is not None,
        }
    elif kind == "text":
        lengths = known.str.len_chars()
        more["lengths"] = (lengths.min(), lengths.max())
        more["has_commas"] = known.str.contains(_DECIMAL_COMMA).all()
        more["is_code"] = known.str.contains(r"^\d+$").all() and known.str.contains(LEADING_ZERO).any()
    return Column(**(vars(column) | more))


def _kind(dtype: pl.DataType) -> Kind:
    import polars as pl

    if dtype == pl.Boolean:
        return "flag"
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "date" if dtype == pl.Date or dtype == pl.Datetime else "other"


def _type_name(kind: Kind, dtype: str) -> str | None:
    """Return the name that the type has in a suite: Python's of the values; dates without a time of day have none."""
    return None if kind == "other" or dtype == "object_" else dtype
