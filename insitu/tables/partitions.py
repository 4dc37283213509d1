"""Columns that are written in the names of the blobs: `year=2013/month=1/part.parquet`, as Hive does."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

import pyarrow as pa

from insitu.batch import Batch, Blob
from insitu.errors import DataError

_NULL = "__HIVE_DEFAULT_PARTITION__"
_MARK = {"insitu": "partition"}  # a column that a blob lacks is null, unless its value is in the name


def fields(batch: Batch, held: Collection[str]) -> list[pa.Field]:
    """Return the partition columns of *batch*; a key among the columns *held* by the blobs is left to them.

    A column whose every value is a whole number is of integers, any other of text.

    Raises:
        DataError: The blobs do not all have the same keys.
    """
    named = [{key: value for key, value in _values(blob).items() if key not in held} for blob in batch.blobs]
    for blob, values in zip(batch.blobs, named, strict=True):
        if list(values) != list(named[0]):
            raise DataError(
                f"the name of blob {blob.name} has other partition keys than {batch.blobs[0].name}",
                found=", ".join(values) or "none",
                wanted=", ".join(named[0]) or "none",
                next_action="name the blobs of a batch alike, or narrow [data] blobs in model.toml",
            )
    keys = list(named[0]) if named else []
    return [pa.field(key, _type([values[key] for values in named]), metadata=_MARK) for key in keys]


def column(field: pa.Field, blob: Blob, rows: int) -> pa.Array:
    """Return the column that *blob* does not hold: its value in the blob's name, or nulls."""
    if not field.metadata or b"insitu" not in field.metadata:
        return pa.nulls(rows, field.type)
    value = _values(blob)[field.name]
    known = int(value) if value is not None and pa.types.is_integer(field.type) else value
    return pa.repeat(pa.scalar(known, field.type), rows)


def _values(blob: Blob) -> dict[str, str | None]:
    pairs = (folder.split("=", 1) for folder in blob.name.split("/")[:-1] if "=" in folder.lstrip("="))
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs}


def _type(values: list[str | None]) -> pa.DataType:
    known = [value for value in values if value is not None]
    whole = known and all(re.fullmatch(r"-?[0-9]{1,18}", value) for value in known)
    return pa.int64() if whole else pa.string()
