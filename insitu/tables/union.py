"""How the blobs of a batch fit together: what a later blob may have other than the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from insitu.batch import Batch, Blob
from insitu.errors import DataError
from insitu.tables.forms import form_of
from insitu.tables.shapes import Shape


def require_one_format(batch: Batch) -> None:
    """Raise `DataError` when *batch* mixes formats; whether a blob is compressed makes no format."""
    firsts: dict[str, Blob] = {}
    for blob in batch.blobs:
        firsts.setdefault(form_of(blob).kind, blob)
    if len(firsts) > 1:
        raise DataError(
            f"the batch of {batch.container} mixes formats",
            found=", ".join(f"{blob.name} is {kind}" for kind, blob in firsts.items()),
            wanted="blobs of one format",
            next_action="narrow [data] blobs in model.toml to one of them",
        )


def schema_of(shapes: Sequence[Shape]) -> tuple[pa.Schema, tuple[str, ...]]:
    """Return the columns of all *shapes*, and notes about those that came later.

    A later blob may add columns that can be null: they come after the others. What was inferred from
    text gives way: whole numbers to numbers, a column without values to any type.

    Raises:
        DataError: A blob lacks a column, or has it with another type or in another order.
    """
    union = pa.schema([(field.name, field.type) for field in shapes[0].schema]) if shapes else pa.schema([])
    notes: list[str] = []
    for shape in shapes[1:]:
        _require_fitting(shapes[0].blob, union, shape)
        new = [name for name in shape.schema.names if name not in union.names]
        notes += [f"column {name} is new in blob {shape.blob.name}: earlier rows have none" for name in new]
        union = _joined(union, shape)
    return union, tuple(notes)


def _joined(union: pa.Schema, shape: Shape) -> pa.Schema:
    known = [(field.name, _common(field.type, shape.schema.field(field.name).type, shape.blob)) for field in union]
    return pa.schema([*known, *((field.name, field.type) for field in shape.schema if field.name not in union.names)])


def _common(one: pa.DataType, other: pa.DataType, blob: Blob) -> pa.DataType | None:
    """Return the type of both; None when there is none. The types of a Parquet blob are stated, not inferred."""
    if one == other:
        return one
    if not form_of(blob).is_text:
        return None
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    return pa.float64() if {one, other} == {pa.int64(), pa.float64()} else None


def _require_fitting(first: Blob, union: pa.Schema, shape: Shape) -> None:
    differences = list(_differences(union, shape))
    if not differences:
        return
    torn = [field.name for field in union if _type_differs(field, shape)] if form_of(first).is_text else []
    names = ", ".join(f'types."{name}"' for name in torn)
    declare = f"declare {names} under [data.reading] in model.toml, " if torn else ""
    raise DataError(
        f"blob {shape.blob.name} has other columns than {first.name}",
        found="; ".join(differences),
        wanted="the same columns, types and order in every blob of a batch",
        next_action=f"{declare}write the blob again with the columns of the others, or take it out of the batch",
    )


def _differences(union: pa.Schema, shape: Shape) -> Iterator[str]:
    new = [field for field in shape.schema if field.name not in union.names]
    wrong = list(_wrong_columns(union, shape))
    if wrong:
        yield from wrong
        yield from (f"column {field.name} is new" for field in new)
    elif form_of(shape.blob).kind != "JSON Lines" and _common_names(shape, union) != union.names:
        yield "the columns are in another order"
    yield from (f"column {field.name} is new and never null" for field in new if not wrong and not field.nullable)


def _common_names(shape: Shape, union: pa.Schema) -> list[str]:
    return [name for name in shape.schema.names if name in union.names]


def _wrong_columns(union: pa.Schema, shape: Shape) -> Iterator[str]:
    for field in union:
        if field.name not in shape.schema.names:
            yield f"column {field.name} is missing"
        elif _type_differs(field, shape):
            yield f"column {field.name} is {shape.schema.field(field.name).type}, not {field.type}"


def _type_differs(field: pa.Field, shape: Shape) -> bool:
    if field.name not in shape.schema.names:
        return False
    return _common(field.type, shape.schema.field(field.name).type, shape.blob) is None
