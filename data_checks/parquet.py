"""The pinned Parquet blobs of a batch as one table, read by range: footers, then column chunks."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from insitu.batch import Batch, Blob
from insitu.errors import DataError
from insitu.ports import BlobStore

IN_FLIGHT = 2
_MAGIC, _ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_TAIL_BYTES = 16 << 10
_GAP_BYTES = 4 << 10
Read = Callable[[int, int], bytes]
Range = tuple[int, int]


@dataclass(frozen=True)
class RowGroup:
    """One row group of one blob."""

    blob: Blob
    metadata: pq.FileMetaData
    index: int


@dataclass(frozen=True)
class Table:
    """The row groups of a batch that have rows, and their one schema; *footer_bytes* were read for it."""

    store: BlobStore
    schema: pa.Schema
    row_groups: tuple[RowGroup, ...]
    footer_bytes: int

    @property
    def rows(self) -> int:
        """Rows according to the footers."""
        return sum(part.metadata.row_group(part.index).num_rows for part in self.row_groups)

    def read(self, part: RowGroup, columns: Collection[str]) -> tuple[pa.Table, int]:
        """Return *columns* of a row group and how many bytes were read; raise `DataError`, `BlobChanged`."""
        reader = _Reader(self.store, part.blob)
        file = _Window(reader.read, part.blob.size_bytes, _chunks(part, columns))
        names = [name for name in self.schema.names if name in columns]
        with _decoding(part.blob, f"row group {part.index}"):
            source = pq.ParquetFile(
                pa.PythonFile(file, mode="r"), metadata=part.metadata, page_checksum_verification=True
            )
            rows = source.read_row_group(part.index, columns=names, use_threads=False)
            rows.validate(full=True)  # Polars trusts what it is handed, such as text that is no UTF-8
            return _plain(rows.select(names)), reader.bytes_read


def open_batch(store: BlobStore, batch: Batch) -> Table:
    """Read every footer and return the batch as one table.

    Raises:
        DataError: A blob is not a readable Parquet file, or its columns differ from the first one's.
        BlobChanged: A blob is not the pinned version any more.
    """
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        footers = list(pool.map(lambda blob: _footer(store, blob), batch.blobs))
    if not footers:
        return Table(store, pa.schema([]), (), 0)
    schema = _schema(batch.blobs[0], footers[0][0])
    for blob, (metadata, _) in zip(batch.blobs[1:], footers[1:], strict=True):
        _require_same(batch.blobs[0], schema, blob, _schema(blob, metadata))
    parts = tuple(
        RowGroup(blob, metadata, index)
        for blob, (metadata, _) in zip(batch.blobs, footers, strict=True)
        for index in range(metadata.num_row_groups)
        if metadata.row_group(index).num_rows
    )
    return Table(store, schema, parts, sum(n for _, n in footers))


@dataclass
class _Reader:
    """Reads ranges of one pinned blob and counts the bytes."""

    store: BlobStore
    blob: Blob
    bytes_read: int = 0

    def read(self, offset: int, length: int) -> bytes:
        data = self.store.read(self.blob.name, etag=self.blob.etag, offset=offset, length=length)
        self.bytes_read += len(data)
        return data


class _Window(io.RawIOBase):
    """A seekable file of which *ranges* are read ahead; anything else is read when asked for."""

    def __init__(self, read: Read, size_bytes: int, ranges: Iterable[Range]) -> None:
        super().__init__()
        self._read, self._size_bytes, self._position = read, size_bytes, 0
        self._held = [(start, read(start, end - start)) for start, end in ranges]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = origin + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = self._size_bytes - self._position
        data = self._at(self._position, left if size < 0 else min(size, left))
        self._position += len(data)
        return data

    def _at(self, offset: int, length: int) -> bytes:
        for start, data in self._held:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        return self._read(offset, length)


def _footer(store: BlobStore, blob: Blob) -> tuple[pq.FileMetaData, int]:
    reader = _Reader(store, blob)
    tail_bytes = min(_TAIL_BYTES, blob.size_bytes)
    tail = reader.read(blob.size_bytes - tail_bytes, tail_bytes) if tail_bytes else b""
    if tail[-4:] == _ENCRYPTED_MAGIC:
        raise _unreadable(blob, "an encrypted footer", "an unencrypted file; no key is configured")
    if tail[-4:] != _MAGIC or len(tail) < 12:
        raise _unreadable(blob, f"no Parquet footer in {blob.size_bytes} bytes", "a complete Parquet file")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length + 4 > blob.size_bytes:
        raise _unreadable(blob, "a footer longer than the blob", "a complete Parquet file")
    if length > len(tail):
        start = blob.size_bytes - length
        tail = reader.read(start, length - len(tail)) + tail
    with _decoding(blob, "the footer"):
        return pq.read_metadata(io.BytesIO(_MAGIC + tail[-length:])), reader.bytes_read


@contextmanager
def _decoding(blob: Blob, where: str) -> Iterator[None]:
    """Turn what Arrow raises over bad bytes into `DataError`, without Arrow's text: it may quote data."""
    try:
        yield
    except (pa.ArrowException, OSError) as exc:
        found = f"{where} cannot be decoded ({type(exc).__name__})"
        raise _unreadable(blob, found, "an undamaged, unencrypted file") from None


def _unreadable(blob: Blob, found: str, wanted: str) -> DataError:
    return DataError(
        f"blob {blob.name} is not readable Parquet",
        found=found,
        wanted=wanted,
        next_action="write the blob again, or take it out of the batch",
    )


def _schema(blob: Blob, metadata: pq.FileMetaData) -> pa.Schema:
    with _decoding(blob, "the schema"):
        schema = metadata.schema.to_arrow_schema().remove_metadata()
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise DataError(f"blob {blob.name} has columns of the same name", found=", ".join(twice), wanted="unique names")
    return pa.schema([(field.name, _plain_type(field.type)) for field in schema])


def _require_same(first: Blob, wanted: pa.Schema, blob: Blob, found: pa.Schema) -> None:
    if found.equals(wanted):
        return
    differences = list(_differences(wanted, found)) or ["the columns are in another order"]
    raise DataError(
        f"blob {blob.name} has other columns than {first.name}",
        found="; ".join(differences),
        wanted="the same columns, types and order in every blob of a batch",
        next_action="write the blob again with the columns of the others, or take it out of the batch",
    )


def _differences(wanted: pa.Schema, found: pa.Schema) -> Iterator[str]:
    for name in wanted.names:
        if name not in found.names:
            yield f"column {name} is missing"
        elif found.field(name).type != wanted.field(name).type:
            yield f"column {name} is {found.field(name).type}, not {wanted.field(name).type}"
    yield from (f"column {name} is new" for name in found.names if name not in wanted.names)


def _chunks(part: RowGroup, columns: Collection[str]) -> list[Range]:
    """Return the byte ranges of the needed column chunks, neighbours joined."""
    group = part.metadata.row_group(part.index)
    chunks = (group.column(i) for i in range(group.num_columns))
    ranges = sorted(_extent(chunk) for chunk in chunks if _is_of(chunk.path_in_schema, columns))
    if any(not 0 <= start <= end <= part.blob.size_bytes for start, end in ranges):
        raise _unreadable(part.blob, f"row group {part.index} points outside the blob", "an undamaged file")
    return _joined(ranges)


def _is_of(path: str, columns: Collection[str]) -> bool:
    return path in columns or any(path.startswith(f"{name}.") for name in columns)


def _extent(chunk: pq.ColumnChunkMetaData) -> Range:
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def _joined(ranges: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for start, end in ranges:
        if joined and start - joined[-1][1] <= _GAP_BYTES:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values: how a column is encoded is no part of its type."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain(rows: pa.Table) -> pa.Table:
    plain = pa.schema([(field.name, _plain_type(field.type)) for field in rows.schema])
    return rows if rows.schema.equals(plain) else rows.cast(plain)  # cast forgets the rows of no columns
