"""The types of the columns of a text blob: declared, or else found in its first rows."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from insitu.batch import Blob
from insitu.errors import DataError
from insitu.tables.shapes import require_unique_names

HEAD_BYTES = 1 << 20
"""How much text is looked at to find the types; more when the first row is longer."""

_DECLARED = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
    "flag": pa.bool_(),
    "date": pa.date32(),
}
_FOUND = (pa.int64(), pa.float64(), pa.bool_(), pa.null())
_WORDS = {pa.null(): "empty, as in the first rows", pa.int64(): "a whole number", pa.float64(): "a number"}
_WORDS |= {pa.bool_(): "true or false", pa.date32(): "a date such as 2013-12-31", pa.string(): "text"}
_ZONE = re.compile(r":\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)\s*")


def types_of(blob: Blob, rows: pa.Table, declared: Mapping[str, str]) -> pa.Schema:
    """Return the columns of *rows* with the types that are *declared*, or found; instants are parsed as text."""
    require_unique_names(blob, rows.schema.names)
    fields = zip(rows.schema.names, rows.columns, strict=True)
    return pa.schema([(name, _type(column, declared.get(name))) for name, column in fields])


def declared_type(kind: str) -> pa.DataType:
    """Return the type of a declared column without values; whether its instants have a zone is not known."""
    return _DECLARED.get(kind, pa.null())


def misfit(blob: Blob, column: str, kind: pa.DataType, where: str, *, admits_text: bool) -> DataError:
    """Return the error about a value that does not fit the type of its column."""
    wider = ['"number"'] * (kind == pa.int64()) + ['"text"'] * admits_text
    admit = f" or admit it: types.{column} = {' or '.join(wider)} under [data.reading] in model.toml" if wider else ""
    return DataError(
        f"column {column} of blob {blob.name} has a value that does not fit",
        found=where,
        wanted=_WORDS.get(kind) or f"{kind}",
        next_action=f"mend the value,{admit}" if admit else "mend the value",
    )


def _type(column: pa.ChunkedArray, declared: str | None) -> pa.DataType:
    if declared == "timestamp":
        return _instants(column)
    if declared:
        return _DECLARED[declared]
    found = column.type
    return found if found in _FOUND or pa.types.is_nested(found) else pa.string()


def _instants(texts: pa.ChunkedArray) -> pa.DataType:
    """Return instants in UTC when the first of *texts* has a zone, else without; nothing is known of no texts."""
    known = texts.drop_null()
    if not len(known):
        return pa.null()
    return pa.timestamp("us", "UTC" if _ZONE.search(str(known[0])) else None)
