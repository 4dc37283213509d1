"""What the rows of a batch are to a scan: their numbers as one matrix, each row as a line, and the columns of words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from insitu.residency.columns import columns_of
from insitu.residency.scan import Source
from insitu.residency.sources import Matrix, Texts, in_utc
from insitu.residency.texts import Lines

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = "the batch"
MAX_ROWS = 1_000_000
"""Of more, every second, fourth, eighth ... is looked for: what holds many holds some of them."""


@dataclass(frozen=True)
class Rows:
    """Rows that are looked for, of *total* that there are."""

    table: pa.Table
    total: int

    def coverage(self) -> dict[str, int]:
        """Return how many rows there are, and how many are looked for."""
        return {"rows": self.total, "rows_looked_for": self.table.num_rows}


def rows_of(batches: Iterable[pa.RecordBatch], max_rows: int = MAX_ROWS) -> Rows:
    """Return at most *max_rows* of *batches*, evenly over them; raise what reading them raises."""
    import pyarrow as pa

    kept: list[pa.Table] = []
    total, step, count = 0, 1, 0
    for batch in batches:
        kept.append(_every(pa.Table.from_batches([batch]), step, -total % step))
        total, count = total + batch.num_rows, count + kept[-1].num_rows
        while count > max_rows:
            kept, step = [_every(_joined(kept), 2, 0)], 2 * step
            count = kept[0].num_rows
    return Rows(_joined(kept), total)


def _joined(tables: list[pa.Table]) -> pa.Table:
    """Return one table of *tables*, whose columns may differ: a later blob may have more of them."""
    import pyarrow as pa

    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def _every(table: pa.Table, step: int, first: int) -> pa.Table:
    return table if step == 1 else table.take(np.arange(first, table.num_rows, step))


def source_of(rows: Rows, fits: Path | None = None) -> Source:
    """Return what a scan looks for: *rows*, and the matrices that the hook left in the folder *fits*."""
    lines, words = list(_lines(rows.table)), list(_words(rows.table))
    matrices = [*_numbers(rows.table), *(fitted(fits) if fits and fits.is_dir() else ())]
    return Source(matrices, lines, words, list(columns_of(rows.table)))


def fitted(folder: Path) -> Iterator[Matrix]:
    """Yield the matrices that reached `fit`."""
    for path in sorted(path.with_suffix(".json") for path in folder.glob("*.npy")):
        told: dict[str, Any] = json.loads(path.read_text())
        values = np.load(path.with_suffix(".npy"), allow_pickle=False)
        columns = told["columns"] if len(told["columns"]) == values.shape[1] else ()
        yield Matrix(tuple(told["labels"]), tuple(columns), values)


def _numbers(table: pa.Table) -> Iterator[Matrix]:
    import pyarrow as pa

    are_numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    names = [field.name for field in table.schema if any(is_one(field.type) for is_one in are_numbers)]
    if names and table.num_rows:
        columns = [table[name].cast(pa.float64(), safe=False).to_numpy() for name in names]
        yield Matrix((BATCH,), tuple(names), np.stack(columns, axis=1))


def _lines(table: pa.Table) -> Iterator[Lines]:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    comma, end, nothing = (pa.scalar(text, pa.large_string()) for text in (",", "\n", ""))
    data = bytearray()
    for batch in table.select(plain).to_batches() if plain else ():
        fields = [_text(column) for column in batch.columns]
        joined = pc.binary_join_element_wise(*fields, comma, null_handling="replace", null_replacement="")
        ended = pc.binary_join_element_wise(pc.replace_substring(joined, "\n", " "), end, nothing)
        data += memoryview(ended.buffers()[2])
    if data:
        yield Lines(BATCH, bytes(data))


def _text(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return pa.array([None if one is None else repr(one) for one in column.to_pylist()], pa.large_string())
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    column = in_utc(column)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_temporal(column.type):
        coded = column.dictionary_encode()  # numbers come back, and are slow to print
        return coded.dictionary.cast(pa.large_string()).take(coded.indices)
    return column.cast(pa.large_string())


def _words(table: pa.Table) -> Iterator[Texts]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            counted = pc.value_counts(table[field.name].combine_chunks().cast(pa.large_string()).drop_null())
            values = counted.field("values").cast(pa.large_binary()).to_pylist()
            yield Texts(field.name, tuple(values), counted.field("counts").to_numpy())
