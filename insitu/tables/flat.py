"""Flat columns of a row group, decoded by Polars: half the CPU that Arrow's decoder takes.

Only types that both read alike. Their chunks go to Polars as a file of their own, whose footer is made here of what
was looked at before: no other word of the blob's footer is heard. What Polars refuses is left to Arrow, whose errors
are the ones that people see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import polars as pl
import pyarrow as pa
from isal import isal_zlib

from insitu.tables.footers import Chunk
from insitu.tables.pages import Pages
from insitu.tables.streams import BlobFile
from insitu.tables.thrift import Short, written

_MAGIC = b"PAR1"
_MOST_BYTES = 64 << 20  # where memory runs out, Arrow says so, and Polars ends the process
_CODECS = (0, 1, 2, 4, 6, 7)  # none, snappy, gzip, brotli, zstd, lz4 raw
_BOOLEAN, _INT32, _INT64, _FLOAT, _DOUBLE, _BYTE_ARRAY = 0, 1, 2, 4, 5, 6
_KINDS = {
    pa.bool_(): _BOOLEAN,
    pa.int32(): _INT32,
    pa.date32(): _INT32,
    pa.int64(): _INT64,
    pa.float32(): _FLOAT,
    pa.float64(): _DOUBLE,
    pa.string(): _BYTE_ARRAY,
}


@dataclass(frozen=True)
class Flat:
    """A decoded column; texts are views."""

    values: pa.ChunkedArray
    size_bytes: int


def is_flat(chunk: Chunk, pages: Pages, schema: pa.Schema) -> bool:
    """Tell whether Polars reads the column as Arrow does, which has *schema*."""
    if chunk.is_nested or chunk.codec_number not in _CODECS or not pages.values:
        return False
    kind = schema.field(chunk.path).type
    return chunk.kind == (_INT64 if pa.types.is_timestamp(kind) else _KINDS.get(kind))


def decoded(file: BlobFile, chunks: Sequence[tuple[Chunk, Pages]], kinds: Sequence[pa.DataType]) -> list[Flat] | None:
    """Return the columns of *chunks*, which are flat; None where Polars cannot tell, or would not see the damage."""
    rows = chunks[0][0].values
    if sum(max(pages.uncompressed_bytes, chunk.width * rows) for chunk, pages in chunks) > _MOST_BYTES:
        return None
    if any(chunk.values != rows or pages.values != rows for chunk, pages in chunks):
        return None
    if not all(_is_intact(file, pages) for _, pages in chunks):
        return None
    content = [file.read_at(chunk.start, chunk.end - chunk.start) for chunk, _ in chunks]
    footer = _footer(rows, [chunk for chunk, _ in chunks])
    alone = b"".join((_MAGIC, *content, footer, len(footer).to_bytes(4, "little"), _MAGIC))
    try:
        frame = pl.read_parquet(alone, parallel="none", use_statistics=False)
    except MemoryError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        return None
    if frame.shape != (rows, len(chunks)):
        return None
    found = frame.to_arrow(compat_level=pl.CompatLevel.newest())
    return [
        Flat(_as(kind, values), _size_bytes(series))
        for series, values, kind in zip(frame, found.columns, kinds, strict=True)
    ]


def _is_intact(file: BlobFile, pages: Pages) -> bool:
    """Tell whether the pages are what their checksums say; Polars does not look at these."""
    return all(
        isal_zlib.crc32(file.read_at(start, end - start)) == checksum for start, end, checksum in pages.checksums
    )


def _as(kind: pa.DataType, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the physical *values* as what they mean; texts stay views."""
    if values.type == kind or kind == pa.string():
        return values
    return pa.chunked_array([chunk.view(kind) for chunk in values.chunks], kind)


def _size_bytes(series: pl.Series) -> int:
    """Return how large the values are when each row has its own."""
    if series.dtype != pl.String:
        return int(series.estimated_size())
    return int(series.str.len_bytes().sum()) + 4 * len(series)


def _footer(rows: int, chunks: Sequence[Chunk]) -> bytes:
    """Return `FileMetaData` of parquet.thrift: one row group of *chunks*, which follow each other, named 0, 1, ..."""
    sizes_bytes = [chunk.end - chunk.start for chunk in chunks]
    starts = accumulate(sizes_bytes[:-1], initial=len(_MAGIC))
    columns = [
        {2: at, 3: _metadata(str(n), chunk, at)} for n, (chunk, at) in enumerate(zip(chunks, starts, strict=True))
    ]
    schema = [{4: "root", 5: Short(len(chunks))}, *(_element(str(n), chunk) for n, chunk in enumerate(chunks))]
    return written({1: Short(1), 2: schema, 3: rows, 4: [{1: columns, 2: sum(sizes_bytes), 3: rows}]})


def _element(name: str, chunk: Chunk) -> dict[int, object]:
    found = {1: Short(chunk.kind), 3: Short(chunk.is_optional), 4: name}
    return {**found, 6: Short(0)} if chunk.kind == _BYTE_ARRAY else found  # 0: UTF-8


def _metadata(name: str, chunk: Chunk, start: int) -> dict[int, object]:
    size_bytes, codec = chunk.end - chunk.start, Short(chunk.codec_number)
    head = {1: Short(chunk.kind), 2: [Short(0)], 3: [name], 4: codec, 5: chunk.values}
    return {**head, 6: int(chunk.claimed_bytes), 7: size_bytes, 9: start}
