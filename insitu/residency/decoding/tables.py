"""Tables: Parquet, Arrow IPC, Feather, ORC and SQLite; their rows as numbers side by side and as lines of text."""

from __future__ import annotations

import io
import math
import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq

from insitu.residency.decoding.arrays import floats, values_of
from insitu.residency.decoding.arrow_sizes import batch_sizes
from insitu.residency.decoding.pieces import Budget, Piece, TooMuch, Unopened
from insitu.residency.sources import in_utc

_BATCH_ROWS = 16_384
_PAGE_BYTES = 512 << 20
"""A row group, or a record batch, is unpacked at once: what says that it is larger is not opened."""
_DATABASE_BYTES = 128 << 20
_BLOB_BYTES = 64


def is_arrow_table(data: memoryview) -> str | None:
    """Return which of Arrow's files *data* is."""
    head, tail = bytes(data[:8]), bytes(data[-6:])
    if head[:4] == b"PAR1":
        return "parquet"
    if head == b"ARROW1\0\0":
        return "arrow file"
    if head[:4] == b"\xff\xff\xff\xff" and 0 < int.from_bytes(head[4:], "little") < len(data):
        return "arrow stream"
    if head[:4] == b"FEA1" and tail[-4:] == b"FEA1":
        return "feather"
    return "orc" if head[:3] == b"ORC" and b"ORC" in tail else None


def open_arrow_table(piece: Piece, budget: Budget, kind: str) -> Iterator[Piece | Unopened]:
    """Yield the rows of each batch, and each value that may hold a file of its own."""
    most, opened = max(budget.limits.free_bytes, budget.limits.ratio * len(piece.data)), 0
    for number, batch in enumerate(_batches(piece.data, kind)):
        for found in _rows(piece, budget, f"rows{number}", batch):
            opened += len(found.data)
            yield found
        if opened > most:
            raise TooMuch(f"it opens to more than {most:,.0f} bytes")
    if kind == "parquet" and (metadata := pq.read_schema(pa.BufferReader(piece.data)).metadata):
        yield piece.child("metadata", b"\n".join(b"%s: %s" % item for item in metadata.items()), "text")


def _batches(data: memoryview, kind: str) -> Iterator[pa.RecordBatch]:
    source = pa.BufferReader(data)
    match kind:
        case "parquet":
            file = pq.ParquetFile(source, memory_map=False, pre_buffer=False)
            for group in range(file.metadata.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > _PAGE_BYTES:
                    raise TooMuch(f"a row group opens to more than {_PAGE_BYTES:,} bytes")
            yield from file.iter_batches(batch_size=_BATCH_ROWS)
        case "arrow file" | "arrow stream":
            stream = data[8:] if kind == "arrow file" else data  # a file is a stream between its marks
            if max(batch_sizes(stream), default=0) > _PAGE_BYTES:
                raise TooMuch(f"a batch opens to more than {_PAGE_BYTES:,} bytes")
            reader = pa.ipc.open_stream(pa.BufferReader(stream))
            yield from reader
            if kind == "arrow file" and pa.ipc.open_file(source).num_record_batches != reader.stats.num_record_batches:
                raise ValueError("batches that only the file's end knows")
        case "feather":
            yield from pyarrow.feather.read_table(source).to_batches(_BATCH_ROWS)
        case _:
            orc = pyarrow.orc.ORCFile(source)
            for n in range(orc.nstripes):
                stripe = orc.read_stripe(n)
                yield stripe


def _rows(piece: Piece, budget: Budget, name: str, batch: pa.RecordBatch) -> Iterator[Piece]:
    """Yield a batch: its numbers row by row, its lines, its nested and binary values."""
    flat: dict[str, Any] = {}
    for column, values in _flattened(batch):
        if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            yield from _blobs(piece, f"{name}:{column}", values)
        elif len(values) != len(batch):
            yield from _list_values(piece, budget, f"{name}:{column}", values)
        else:
            flat[column] = values
    numbers = [_doubles(values) for values in flat.values() if _is_number(values.type)]
    if numbers:
        yield from floats(piece, budget, name, [np.stack(numbers, axis=1).ravel()])
    halves = [values for values in flat.values() if pa.types.is_float16(values.type)]
    if halves:
        matrix = np.stack([values.to_numpy(zero_copy_only=False) for values in halves], axis=1)
        yield piece.numbers(f"{name}:f16", matrix.astype("<f2").tobytes())
    if flat:
        yield piece.child(f"{name}:lines", _lines(budget, flat), "text")


def _flattened(batch: pa.RecordBatch) -> Iterator[tuple[str, Any]]:
    """Yield the columns; structs by their fields, dictionaries by their values, lists by their items."""
    pending = [(field.name, batch.column(n)) for n, field in reversed(list(enumerate(batch.schema)))]
    while pending:
        name, values = pending.pop()
        if isinstance(values, pa.ExtensionArray):
            pending.append((name, values.storage))
        elif pa.types.is_dictionary(values.type):
            pending.append((name, values.dictionary_decode()))
        elif pa.types.is_struct(values.type):
            fields = zip((field.name for field in values.type), values.flatten(), strict=True)
            pending += [(f"{name}.{field}", of) for field, of in fields]
        elif pa.types.is_map(values.type):
            pending += [(f"{name}.keys", values.keys), (f"{name}.items", values.items)]
        elif pa.types.is_nested(values.type):
            pending.append((f"{name}[]", values.flatten()))
        elif pa.types.is_fixed_size_binary(values.type):
            pending.append((name, values.cast(pa.binary())))
        else:
            yield name, values


def _is_number(type_: pa.DataType) -> bool:
    return any(
        test(type_)
        for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal,
                     pa.types.is_temporal)
    )  # fmt: skip


def _doubles(values: Any) -> Any:
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    elif pa.types.is_temporal(values.type):
        values = values.cast(pa.int32() if values.type.bit_width == 32 else pa.int64())
    return values_of(pc.fill_null(values.cast(pa.float64(), safe=False), math.nan))


def _list_values(piece: Piece, budget: Budget, name: str, values: Any) -> Iterator[Piece]:
    if _is_number(values.type):
        yield from floats(piece, budget, name, [_doubles(values)])
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        yield piece.child(name, "\n".join(filter(None, values.to_pylist())).encode(), "text")


def _blobs(piece: Piece, name: str, values: Any) -> Iterator[Piece]:
    for n, value in enumerate(values):
        if value.is_valid and len(held := value.as_buffer()) >= _BLOB_BYTES:
            yield piece.child(f"{name}[{n}]", memoryview(held))


def _lines(budget: Budget, columns: dict[str, Any]) -> memoryview:
    out = io.BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    printable = [
        in_utc(values) if not pa.types.is_float16(values.type) else values.cast(pa.float32())
        for values in columns.values()
    ]
    try:
        pyarrow.csv.write_csv(pa.table(printable, names=list(columns)), out, options)
    except pa.ArrowInvalid:  # a value with a quote or a line break in it
        out = io.BytesIO()
        pyarrow.csv.write_csv(
            pa.table(printable, names=list(columns)), out, pyarrow.csv.WriteOptions(include_header=False)
        )
    return budget.spool([out.getvalue()])


def is_sqlite(data: memoryview) -> bool:
    """Tell whether *data* begins as an SQLite database."""
    return bytes(data[:16]) == b"SQLite format 3\x00"


def open_sqlite(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield the rows of each table; nothing of the database is run, neither views nor triggers."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(_without_wal(piece.data))
        connection.executescript("PRAGMA trusted_schema=OFF; PRAGMA query_only=ON; PRAGMA cell_size_check=ON;")
        connection.text_factory = bytes
        connection.set_progress_handler(lambda: _late(budget), 100_000)
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            quoted = table.decode().replace('"', '""')
            yield from _values(piece, budget, table.decode(), connection.execute(f'SELECT * FROM "{quoted}"'))  # noqa: S608
    finally:
        connection.close()


def _without_wal(data: memoryview) -> bytes:
    """Return the database with a rollback journal in its header: one with a write-ahead log does not open in memory."""
    if len(data) > _DATABASE_BYTES:
        raise TooMuch(f"it is a database of more than {_DATABASE_BYTES:,} bytes")
    return b"".join([data[:18], b"\x01\x01", data[20:]])


def _late(budget: Budget) -> int:
    try:
        budget.check_time()
    except TooMuch:
        return 1
    return 0


def _values(piece: Piece, budget: Budget, table: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[Piece]:
    numbers, blobs = array("d"), list[bytes]()

    def lines() -> Iterator[bytes]:
        for row in rows:
            numbers.extend(float(value) for value in row if isinstance(value, int | float))
            blobs.extend(value for value in row if isinstance(value, bytes) and len(value) >= _BLOB_BYTES)
            yield b",".join(_printed(value) for value in row) + b"\n"

    held = budget.spool(lines())
    yield piece.child(f"{table}:lines", held, "text")
    yield from floats(piece, budget, table, [np.frombuffer(numbers, dtype=np.float64)])
    for n, blob in enumerate(blobs):
        yield piece.child(f"{table}:value{n}", blob)


def _printed(value: object) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else repr(value).encode()
