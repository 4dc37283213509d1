"""A column of texts that came in a dictionary: what costs much per text is done once for each distinct one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import pyarrow as pa


def times(name: str) -> str:
    """Name the column of the counts, beside the column *name* of distinct values."""
    return f"{name} times"


@dataclass(frozen=True)
class Encoded:
    """The column *name*: in each chunk, numbers of the texts in its dictionary."""

    name: str
    column: pa.ChunkedArray

    @cached_property
    def distinct(self) -> pl.DataFrame:
        """The distinct values, null among them, with how many rows have each."""
        pieces = [_distinct(self.name, chunk) for chunk in self.column.chunks]
        if len(pieces) == 1:
            return pieces[0]
        return pl.concat(pieces).group_by(self.name).agg(pl.col(times(self.name)).sum())

    @property
    def rows(self) -> pl.Series:
        """The values row by row."""
        return pl.concat(_texts(self.name, chunk).gather(pl.Series(chunk.indices)) for chunk in self.column.chunks)

    @property
    def filled(self) -> pl.Series:
        """Something row by row, which is null where the value is."""
        return pl.concat(pl.Series(self.name, chunk.indices) for chunk in self.column.chunks)

    def hash(self, seed: int) -> pl.Series:
        """Return what `pl.Series.hash` says of each row."""
        return pl.concat(
            pl.Series(_texts(self.name, chunk).extend_constant(None, 1).hash(seed).to_numpy()[_codes(chunk)])
            for chunk in self.column.chunks
        )

    def min(self) -> str | None:
        """Return the least value."""
        return self.distinct.get_column(self.name).min()  # type: ignore[return-value]

    def max(self) -> str | None:
        """Return the greatest value."""
        return self.distinct.get_column(self.name).max()  # type: ignore[return-value]

    def null_count(self) -> int:
        """Return how many rows have no value."""
        return int(self.column.null_count)


def _texts(name: str, chunk: pa.DictionaryArray) -> pl.Series:
    return pl.Series(name, chunk.dictionary, pl.String)


def _codes(chunk: pa.DictionaryArray) -> np.ndarray:
    """Return the number of each row's text; of null it is -1, which numpy takes for the last."""
    found = chunk.indices.fill_null(-1) if chunk.null_count else chunk.indices
    return found.to_numpy()  # type: ignore[no-any-return]


def _distinct(name: str, chunk: pa.DictionaryArray) -> pl.DataFrame:
    times_each = np.bincount(chunk.indices.drop_null().to_numpy(), minlength=len(chunk.dictionary))
    found = np.append(times_each, chunk.null_count)
    columns = [_texts(name, chunk).extend_constant(None, 1), pl.Series(times(name), found.astype(np.uint32))]
    return pl.DataFrame(columns).filter(found > 0)
