"""What opening a blob tells, and what is read of it in one go."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from insitu.batch import Blob
from insitu.errors import DataError
from insitu.tables.footers import Chunk


@dataclass(frozen=True)
class Part:
    """What is read in one go: a row group of a Parquet blob, or a whole text blob.

    Attributes:
        where: What people call it, such as `row group 3`.
        rows: How many it has; None where only reading tells.
        schema: The columns of its blob.
        footer: Of a Parquet blob. It may be damaged: nothing is asked of it here.
        index: Which row group of the footer.
        chunks: The leaf columns of the row group.
    """

    blob: Blob
    where: str
    rows: int | None
    schema: pa.Schema
    footer: pq.FileMetaData | None = field(default=None, compare=False, repr=False)
    index: int = 0
    chunks: tuple[Chunk, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Shape:
    """What opening one blob tells.

    Attributes:
        schema: Columns with their plain types, as the blob has them; a column that cannot be null says so.
        rows: How many there are; None where only reading tells.
        opening_bytes: What was read to know it.
        parts: Those that may have rows, in order.
    """

    blob: Blob
    schema: pa.Schema
    rows: int | None
    opening_bytes: int
    parts: tuple[Part, ...]


def unreadable(blob: Blob, kind: str, found: str, wanted: str, next_action: str | None = None) -> DataError:
    """Return the error that *blob* cannot be read as *kind*."""
    return DataError(
        f"blob {blob.name} is not readable {kind}",
        found=found,
        wanted=wanted,
        next_action=next_action or "write the blob again, or take it out of the batch",
    )


def require_unique_names(blob: Blob, names: list[str]) -> None:
    """Raise `DataError` when two columns of *blob* have one name."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"blob {blob.name} has columns of the same name", found=", ".join(twice), wanted="unique names")
