"""The blobs of a batch as one table: what its columns are, and its rows part by part.

    shape_of (each blob) ──> table_of (the batch) ──> read (each part)

Blobs named `.csv`, `.csv.gz`, `.jsonl`, `.ndjson` and so on are text, all others are Parquet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from insitu.batch import Batch, Blob
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.tables import delimited, jsonlines, parquet, partitions, union
from insitu.tables.forms import form_of
from insitu.tables.shapes import Part, Shape
from insitu.tables.streams import BlobFile

__all__ = ["IN_FLIGHT", "Part", "Shape", "Table", "cost_bytes", "fetch", "open_table", "read", "shape_of", "table_of"]

IN_FLIGHT = 2
"""How many blobs are opened, or parts read, at the same time."""

_FETCHED_BYTES = 32 << 20
_FORMATS = {"Parquet": parquet, "CSV": delimited, "JSON Lines": jsonlines}


@dataclass(frozen=True)
class Table:
    """The blobs of a batch as one table.

    Attributes:
        schema: Plain types, the union over the blobs, then the partition columns of their names.
        shapes: One per blob, in blob order.
        notes: What people should know about the union, such as a column that is new in a later blob.
    """

    schema: pa.Schema
    shapes: tuple[Shape, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        """How many there are; None where only reading tells."""
        counts = [shape.rows for shape in self.shapes]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is read in one go, in blob order."""
        return tuple(part for shape in self.shapes for part in shape.parts)

    @property
    def opening_bytes(self) -> int:
        """What was read to know the schema."""
        return sum(shape.opening_bytes for shape in self.shapes)


def shape_of(store: BlobStore, blob: Blob, reading: ReadingSettings) -> Shape:
    """Open *blob*: the footer of a Parquet blob, the first rows of a text blob.

    Raises:
        DataError: The blob is not readable, or lacks a column that *reading* declares.
        BlobChanged: The blob is not the pinned version any more.
    """
    shape: Shape = _FORMATS[form_of(blob).kind].shape_of(store, blob, reading)
    return shape


def table_of(batch: Batch, shapes: Sequence[Shape]) -> Table:
    """Return the blobs of *batch*, whose *shapes* these are, as one table; raise `DataError` when they do not fit."""
    union.require_one_format(batch)
    held, notes = union.schema_of(shapes)
    return Table(pa.schema([*held, *partitions.fields(batch, held.names)]), tuple(shapes), notes)


def open_table(store: BlobStore, batch: Batch, reading: ReadingSettings) -> Table:
    """Open every blob of *batch* and return them as one table.

    Raises:
        DataError: A blob is not readable, or the blobs do not fit together.
        BlobChanged: A blob is not the pinned version any more.
    """
    union.require_one_format(batch)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        shapes = list(pool.map(partial(shape_of, store, reading=reading), batch.blobs))
    return table_of(batch, shapes)


def fetch(store: BlobStore, part: Part, columns: Collection[str], reading: ReadingSettings) -> BlobFile | None:
    """Return what `read` needs of *part*, unless it is much or text, which is read as it is decoded.

    Raises:
        DataError: The part claims to be larger than *reading* allows.
        BlobChanged: The blob is not the pinned version any more.
    """
    if form_of(part.blob).is_text or cost_bytes(part, columns) > _FETCHED_BYTES:
        return None
    return parquet.fetch(store, part, columns, reading)


def read(
    store: BlobStore,
    part: Part,
    table_schema: pa.Schema,
    columns: Collection[str],
    reading: ReadingSettings,
    *,
    fetched: BlobFile | None = None,
    encoded: bool = False,
) -> Iterator[tuple[pa.Table, int]]:
    """Yield the rows of *part* and how many bytes were asked of the store for them.

    The rows have the *columns* in the order and with the types of *table_schema*: null where the blob
    lacks a column, the value in the blob's name for a partition column. A row group is one table, a
    text blob is many.

    Args:
        fetched: What `fetch` returned.
        encoded: Whether texts of few values may come in a dictionary, and others as views.

    Raises:
        DataError: The part cannot be decoded, or is larger than *reading* allows.
        BlobChanged: The blob is not the pinned version any more.
    """
    wanted = pa.schema([field for field in table_schema if field.name in columns])
    held = pa.schema([table_schema.field(name) for name in part.schema.names])
    names = [name for name in wanted.names if name in part.schema.names]
    if form_of(part.blob).is_text:
        found = _FORMATS[form_of(part.blob).kind].read(store, part, held, names, reading)
    else:
        found = parquet.read(store, part, held, names, reading, fetched, quick=encoded)
    for rows, bytes_read in found:
        whole = _completed(rows, wanted, part.blob)
        yield whole if encoded else _plain(whole, wanted), bytes_read


def cost_bytes(part: Part, columns: Collection[str]) -> int:
    """Return about how many bytes `read` will ask of the store."""
    return part.blob.size_bytes if form_of(part.blob).is_text else parquet.cost_bytes(part, columns)


def _completed(rows: pa.Table, wanted: pa.Schema, blob: Blob) -> pa.Table:
    if not len(wanted):
        return rows.select([])  # keeps the count of the rows
    columns = [
        rows[field.name] if field.name in rows.schema.names else partitions.column(field, blob, rows.num_rows)
        for field in wanted
    ]
    fields = [field.with_type(column.type) for field, column in zip(wanted, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _plain(rows: pa.Table, wanted: pa.Schema) -> pa.Table:
    return rows if rows.schema.equals(wanted) else rows.cast(wanted)
