"""JSON Lines blobs: one object per line, parsed while they stream by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from insitu.batch import Blob
from insitu.errors import DataError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.tables.inference import HEAD_BYTES, declared_type, misfit, types_of
from insitu.tables.records import BLOCK_BYTES, NoEnd, longest_bytes, records, too_long, until_rows
from insitu.tables.shapes import Part, Shape, unreadable
from insitu.tables.unpacking import TextFile

_KIND, _WANTED = "JSON Lines", "one JSON object per line"
_MIXED = re.compile(r"Column\(/([^/)]+)\S*\) changed from (\w+) to (\w+) in row (\d+)")
_KINDS: dict[pa.DataType, tuple[type, ...]] = {
    pa.int64(): (int,),
    pa.float64(): (int, float),
    pa.bool_(): (bool,),
    pa.string(): (str,),
}


def shape_of(store: BlobStore, blob: Blob, reading: ReadingSettings) -> Shape:
    """Read the first rows of *blob*; raise `DataError`, `BlobChanged`.

    A declared column is a column even if no first row has its key; of the others, every key is known
    from the first rows.
    """
    instants = pa.schema([(name, pa.string()) for name, kind in reading.types.items() if kind == "timestamp"])
    with closing(TextFile(store, blob, reading, HEAD_BYTES // 4)) as file:
        try:
            tables = list(until_rows(_tables(file, blob, reading, instants, "infer", HEAD_BYTES)))
        except pa.ArrowInvalid as exc:
            raise _explained_head(blob, exc) from None
        if not tables:
            raise unreadable(blob, _KIND, "no text" if blob.size_bytes else "0 bytes", _WANTED)
        found = types_of(blob, tables[-1], reading.types)
    late = [(name, declared_type(kind)) for name, kind in reading.types.items() if name not in found.names]
    schema = pa.schema([*found, *late])
    return Shape(blob, schema, None, file.bytes_read, (Part(blob, "the text", None, schema),))


def read(
    store: BlobStore, part: Part, schema: pa.Schema, names: Sequence[str], reading: ReadingSettings
) -> Iterator[tuple[pa.Table, int]]:
    """Yield the rows in pieces, with the columns *names* as *schema* has them, and the bytes read for each.

    A line is parsed whole, whatever *names* are asked for: a key that the first rows did not have, or a
    value of another type, is an error wherever it is.

    Raises:
        DataError: As above, or a line is no object.
        BlobChanged: The blob is not the pinned version any more.
    """
    parsed = pa.schema([(field.name, _parsed_type(field.type)) for field in schema])
    done = bytes_read = 0
    with closing(TextFile(store, part.blob, reading)) as file:
        try:
            for rows in _tables(file, part.blob, reading, parsed, "error"):
                yield _cast(part.blob, rows.select(list(names)), schema, done), file.bytes_read - bytes_read
                done, bytes_read = done + rows.num_rows, file.bytes_read
            return
        except pa.ArrowInvalid:
            pass  # Arrow names neither key nor row
    raise _first_misfit(store, part.blob, reading, parsed)


def _tables(
    text: Iterable[bytes],
    blob: Blob,
    reading: ReadingSettings,
    schema: pa.Schema,
    others: str,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pa.Table]:
    """Yield the rows of each block; raise `ArrowInvalid`, which may quote them, and `DataError`."""
    rows = 0

    def parse(text: bytes, is_last: bool) -> tuple[pa.Table, int] | None:
        end = len(text) if is_last else text.rfind(b"\n") + 1
        return (_parsed(text[:end], schema, others), end) if end else None

    try:
        for table in records(text, parse, longest_bytes(reading), block_bytes):
            rows += table.num_rows
            yield table
    except NoEnd:
        raise too_long(blob, f"row {rows + 1:,}", reading) from None


def _parsed(text: bytes, schema: pa.Schema, others: str) -> pa.Table:
    if not text.strip():
        return schema.empty_table()
    rows = _read(text, schema, others)
    if others == "error" or not len(schema):
        return rows
    order = _read(text, pa.schema([]), others).schema.names  # Arrow puts the columns that it is told of first
    return rows.select([*order, *(name for name in rows.schema.names if name not in order)])


def _read(text: bytes, schema: pa.Schema, others: str) -> pa.Table:
    return pj.read_json(
        pa.BufferReader(text),
        read_options=pj.ReadOptions(block_size=len(text), use_threads=False),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others),
    )


def _parsed_type(kind: pa.DataType) -> pa.DataType:
    """Return what JSON holds: instants and dates are text in it."""
    return pa.string() if pa.types.is_temporal(kind) else kind


def _cast(blob: Blob, rows: pa.Table, schema: pa.Schema, done: int) -> pa.Table:
    """Return *rows* with their dates and instants, which JSON holds as text."""
    for position, name in enumerate(rows.schema.names):
        kind = schema.field(name).type
        if not pa.types.is_temporal(kind):
            continue
        try:
            rows = rows.set_column(position, name, rows[name].cast(kind))
        except pa.ArrowInvalid:
            where = f"rows {done + 1:,} to {done + rows.num_rows:,}"
            raise misfit(blob, name, kind, where, admits_text=True) from None
    return rows


def _explained_head(blob: Blob, error: pa.ArrowInvalid) -> DataError:
    if found := _MIXED.search(str(error)):
        one, other, row = found[2], found[3], int(found[4]) + 1
        return DataError(
            f"column {found[1]} of blob {blob.name} has values of several types",
            found=f"{other} in row {row:,}, {one} before",
            wanted="values of one type in a column",
            next_action="write the blob again",
        )
    return unreadable(blob, _KIND, "the first rows cannot be parsed", _WANTED)


def _first_misfit(store: BlobStore, blob: Blob, reading: ReadingSettings, schema: pa.Schema) -> DataError:
    """Return what is wrong, by reading the blob again: Arrow names neither key nor row."""
    row, kind = 0, pa.struct(list(schema))
    with closing(TextFile(store, blob, reading)) as file:
        for line in filter(bytes.strip, file.lines()):
            row += 1
            try:
                if error := _misfit(blob, json.loads(line), kind, "", f"row {row:,}"):
                    return error
            except ValueError:
                return unreadable(blob, _KIND, f"row {row:,} is not JSON", _WANTED)
    return unreadable(blob, _KIND, "rows that cannot be parsed", _WANTED)


def _misfit(blob: Blob, value: Any, kind: pa.DataType, name: str, row: str) -> DataError | None:
    """Return what is wrong with the *value* of the column *name*; None when nothing is."""
    if value is None and name:
        return None
    if pa.types.is_struct(kind) and isinstance(value, dict):
        return _misfit_within(blob, value, kind, name, row)
    if pa.types.is_list(kind) and isinstance(value, list):
        found = (_misfit(blob, item, kind.value_type, name, row) for item in value)
        return next(filter(None, found), None)
    if not name:
        return unreadable(blob, _KIND, f"{row} is not an object", _WANTED)
    fits = type(value) in _KINDS.get(kind, ())
    if fits and (kind != pa.int64() or -(2**63) <= value < 2**63):
        return None
    return misfit(blob, name, kind, row, admits_text=False)


def _misfit_within(blob: Blob, value: dict[str, Any], kind: pa.StructType, name: str, row: str) -> DataError | None:
    for key, inner in value.items():
        path = f"{name}.{key}" if name else key
        if kind.get_field_index(key) < 0:
            return DataError(
                f"blob {blob.name} has a key that its first rows do not have",
                found=f"{path} in {row}",
                wanted="every key in the first rows of the blob",
                next_action=f"declare types.{path} under [data.reading] in model.toml, or write the blob again",
            )
        if error := _misfit(blob, inner, kind.field(key).type, path, row):
            return error
    return None
