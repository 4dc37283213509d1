"""What the footer of a Parquet blob says of its row groups.

Read here and not by Arrow, which ends the process when it is asked about a column whose metadata are
damaged or encrypted. The numbers of the fields are those of `FileMetaData` in the Parquet format's
parquet.thrift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from insitu.tables.thrift import BadThrift, struct

# By the numbers of the physical types; the values of the last two have a length of their own.
_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_WIDTHS = (1 / 8, 4, 8, 8, 4, 8, 4)


class EncryptedColumns(ValueError):
    """The footer is plain, but the columns are not."""


@dataclass(frozen=True)
class Chunk:
    """One leaf column of a row group.

    Attributes:
        path: The names down to the leaf, joined by dots.
        kind: Its physical type, as parquet.thrift numbers them.
        start: Its first byte in the blob.
        end: The byte after its last.
        values: How many, nulls included.
        claimed_bytes: What it takes in memory, at least, if the footer is right.
        width: Bytes of one value in memory; of one offset where values have different lengths.
        codec: How its pages are compressed, as Arrow calls it; empty when they are not, or not in one of these ways.
        codec_number: The same as parquet.thrift numbers it.
        is_text: Whether values have different lengths.
        is_nested: Whether the leaf is within a list, a struct or a map.
        is_optional: Whether values may be null.
    """

    path: str
    kind: int
    start: int
    end: int
    values: int
    claimed_bytes: float
    width: float
    codec: str
    codec_number: int
    is_text: bool
    is_nested: bool
    is_optional: bool


def row_groups(footer: bytes, schema: pq.ParquetSchema) -> list[tuple[int, tuple[Chunk, ...]]]:
    """Return rows and leaf columns of each row group.

    Raises:
        EncryptedColumns: Some columns can be read with a key only.
        BadThrift: The footer is damaged.
    """
    try:
        groups = struct(footer)[0].get(4, [])
        return [(_number(group, 3), _chunks(group[1], schema)) for group in groups]
    except (AttributeError, IndexError, KeyError, TypeError):
        raise BadThrift from None


def _chunks(columns: list[dict[int, Any]], schema: pq.ParquetSchema) -> tuple[Chunk, ...]:
    if any({8, 9} & column.keys() for column in columns):
        raise EncryptedColumns
    if len(columns) != len(schema):
        raise BadThrift
    return tuple(_chunk(column[3], schema.column(i)) for i, column in enumerate(columns))


def _chunk(metadata: dict[int, Any], leaf: pq.ColumnSchema) -> Chunk:
    kind, values, uncompressed, compressed, start = (_number(metadata, key) for key in (1, 5, 6, 7, 9))
    if _TYPES[kind] != leaf.physical_type:
        raise BadThrift
    width = _WIDTHS[kind] if kind < len(_WIDTHS) else leaf.length
    if dictionary_start := metadata.get(11):
        start = min(start, dictionary_start)
    return Chunk(
        path=leaf.path,
        kind=kind,
        start=start,
        end=start + compressed,
        values=values,
        claimed_bytes=max(uncompressed, compressed, width * values),
        width=width,
        codec=_CODECS.get(_number(metadata, 4), ""),
        codec_number=_number(metadata, 4),
        is_text=_TYPES[kind] == "BYTE_ARRAY" and leaf.converted_type != "DECIMAL",
        is_nested=leaf.max_repetition_level > 0 or leaf.path != leaf.name,
        is_optional=leaf.max_definition_level > 0,
    )


def _number(fields: dict[int, Any], key: int) -> int:
    value = fields[key]
    if not isinstance(value, int) or value < 0:
        raise BadThrift
    return value
