"""A sample of the data: all blobs where there are few, else some over the whole time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from insitu.batch import Batch, Blob
from insitu.errors import DataError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.tables.forms import form_of
from insitu.tables.table import Table, open_table, read
from insitu.tables.unpacking import TextFile

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

MOST_BLOBS = 12
MOST_ROWS = 1_000_000

_DELIMITERS = ",;\t|"
_HEAD_BYTES = 1 << 16
_RUNNING = 20
"""Different values in each of two blobs from which on it is no chance that all of the second are larger."""

LEADING_ZERO = r"^0\d\d+$"
_INSTANT = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?)?$"


@dataclass(frozen=True)
class Sample:
    """Rows of the data, blob by blob.

    Attributes:
        blobs: All blobs, those that were not looked at, too.
        schema: The columns, then those in the blobs' names.
        frames: The rows of each blob that was looked at, in the order of names.
        whole: Whether these are all rows.
        reading: How the blobs are read: a delimiter and dates that were found.
    """

    blobs: tuple[Blob, ...]
    schema: pa.Schema
    frames: tuple[pl.DataFrame, ...]
    whole: bool
    reading: ReadingSettings

    @property
    def rows(self) -> pl.DataFrame:
        """All of them, one blob after the other."""
        import polars as pl

        return pl.concat(self.frames)

    @property
    def held(self) -> list[str]:
        """The columns that the blobs hold and that have a name, as an index that pandas has written has not."""
        return [field.name for field in self.schema if field.name and b"insitu" not in (field.metadata or {})]

    @property
    def parted(self) -> list[str]:
        """The columns in the names of the blobs."""
        return [field.name for field in self.schema if b"insitu" in (field.metadata or {})]


def look(store: BlobStore, blobs: Sequence[Blob], may_be_target: Callable[[str], bool]) -> Sample:
    """Return a sample of *blobs*.

    Args:
        may_be_target: Tells by a column's name whether it may be predicted: its numbers stay numbers, however they
            are written.

    Raises:
        DataError: A blob is not readable, or they do not fit together.
    """
    chosen = Batch.of("sample", _spread(blobs))
    reading = _delimited(store, chosen.blobs[0])
    sample = _read(store, blobs, chosen, reading)
    codes = {name: "text" for name in _codes(store, chosen, sample) if not may_be_target(name)}
    if types := codes | _dates(sample, open_table(store, chosen, reading)):
        reading = reading.model_copy(update={"types": types})
        sample = _read(store, blobs, chosen, reading)
    return sample


def _spread(blobs: Sequence[Blob]) -> list[Blob]:
    """Return at most `MOST_BLOBS` of *blobs*, the first and the last among them."""
    if len(blobs) <= MOST_BLOBS:
        return list(blobs)
    last = len(blobs) - 1
    return [blobs[last * number // (MOST_BLOBS - 1)] for number in range(MOST_BLOBS)]


def _delimited(store: BlobStore, blob: Blob) -> ReadingSettings:
    """Return settings with what separates the names in the first line of a CSV: the most frequent of the usual ones.

    What stands in quotes is part of a name.
    """
    form = form_of(blob)
    if form.kind != "CSV" or form.delimiter:
        return ReadingSettings()
    with closing(TextFile(store, blob, ReadingSettings(), _HEAD_BYTES)) as file:
        head = next(iter(file), b"").decode(errors="replace").splitlines()[:1]
    delimiter = max(_DELIMITERS, key=re.sub('"[^"]*"', "", "".join(head)).count)
    return ReadingSettings(delimiter=delimiter) if delimiter != "," else ReadingSettings()


def _read(store: BlobStore, blobs: Sequence[Blob], chosen: Batch, reading: ReadingSettings) -> Sample:
    table = open_table(store, chosen, reading)
    limit = max(MOST_ROWS // len(chosen.blobs), 1)
    found = [_rows_of(store, table, number, reading, limit) for number in range(len(table.shapes))]
    if not any(frame.height for frame, _ in found):
        raise DataError("the data has no rows", next_action="name a folder or file with rows")
    whole = len(chosen.blobs) == len(blobs) and all(ended for _, ended in found)
    return Sample(tuple(blobs), table.schema, tuple(frame for frame, _ in found), whole, reading)


def _rows_of(
    store: BlobStore, table: Table, number: int, reading: ReadingSettings, limit: int
) -> tuple[pl.DataFrame, bool]:
    """Return the first *limit* rows of a blob, and whether it has no more."""
    import pyarrow as pa

    pieces: list[pa.Table] = []
    count = 0
    for part in table.shapes[number].parts:
        for rows, _ in read(store, part, table.schema, table.schema.names, reading):
            pieces.append(rows)
            count += rows.num_rows
            if count > limit:
                return _frame(pa.concat_tables(pieces).slice(0, limit)), False
    return _frame(pa.concat_tables(pieces) if pieces else table.schema.empty_table()), True


def _frame(rows: pa.Table) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(rows.select([name for name in rows.column_names if name]))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _codes(store: BlobStore, chosen: Batch, sample: Sample) -> list[str]:
    """Return the columns of CSV that would be whole numbers, and lose the leading zeros that some of their rows have.

    Of two digits they may be hours or months: those are numbers, however they are written.
    """
    numbers = [name for name in sample.held if sample.rows.schema[name].is_integer()]
    if not numbers or form_of(chosen.blobs[0]).kind != "CSV":
        return []
    as_text = sample.reading.model_copy(update={"types": dict.fromkeys(numbers, "text")})
    written = _read(store, sample.blobs, chosen, as_text).rows
    return [name for name in numbers if written[name].str.contains(LEADING_ZERO).any()]


def _dates(sample: Sample, table: Table) -> dict[str, str]:
    """Return the text columns of CSV and JSON Lines that hold dates or instants in ISO form, as instants."""
    import polars as pl

    if all(shape.rows is not None for shape in table.shapes):  # Parquet has types of its own
        return {}
    rows, found = sample.rows, {}
    for name in sample.held:
        if rows.schema[name] != pl.String:
            continue
        texts = rows[name].drop_nulls()
        if texts.len() and texts.str.contains(_INSTANT).all() and _are_instants(texts):
            found[name] = "timestamp"
    return found


def _are_instants(texts: pl.Series) -> bool:
    """Tell whether these are days that there are, all with a zone or all without."""
    import pyarrow as pa

    for zone in ("UTC", None):
        with suppress(pa.ArrowInvalid):
            pa.array(texts).cast(pa.timestamp("us", zone))
            return True
    return False


def moves(frames: Sequence[pl.DataFrame], name: str) -> bool:
    """Tell whether the column's values go on from blob to blob, as those of a date or a running number do.

    Of two blobs that would be chance where they hold few different values.
    """
    held = [frame[name] for frame in frames if frame[name].count()]
    ranges = [(values.min(), values.max()) for values in held]
    told = len(held) > 2 or (len(held) == 2 and all(values.n_unique() >= _RUNNING for values in held))
    return told and all(before[1] < after[0] for before, after in pairwise(ranges))  # type: ignore[operator]
