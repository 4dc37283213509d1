"""Parquet blobs, read by range: the footer, then the column chunks that are needed."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from insitu.batch import Blob
from insitu.errors import DataError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.tables.expansion import expanded_bytes, plain_type
from insitu.tables.footers import Chunk, EncryptedColumns, row_groups
from insitu.tables.pages import DICTIONARY_ENCODINGS, Pages, common_length, pages_of
from insitu.tables.shapes import Part, Shape, require_unique_names, unreadable
from insitu.tables.streams import BlobFile, Range

if TYPE_CHECKING:
    from insitu.tables.flat import Flat

_KIND = "Parquet"
_MAGIC, _ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_TAIL_BYTES = 16 << 10
_GAPS = 1 / 40  # of what is needed may be read besides, as a request costs as much as some 100 KB
_JOINED_BYTES = 64 << 20
_FEW = 8  # with this many rows per value of a dictionary, it is decoded faster than the values


def shape_of(store: BlobStore, blob: Blob, reading: ReadingSettings) -> Shape:
    """Read the footer of *blob*; raise `DataError`, `BlobChanged`. No setting matters to it."""
    file = BlobFile(store, blob)
    encoded = _footer(file)
    with _decoding(blob, "the footer"):
        footer = pq.read_metadata(io.BytesIO(_MAGIC + encoded))
        groups = row_groups(encoded[:-8], footer.schema)
    schema = _schema(blob, footer)
    parts = tuple(
        Part(blob, f"row group {index}", rows, schema, footer, index, chunks)
        for index, (rows, chunks) in enumerate(groups)
        if rows
    )
    return Shape(blob, schema, sum(rows for rows, _ in groups), file.bytes_read, parts)


def fetch(store: BlobStore, part: Part, names: Collection[str], reading: ReadingSettings) -> BlobFile:
    """Return the blob with the chunks of the columns *names* at hand; raise `DataError`, `BlobChanged`."""
    chunks = _chunks(part, names)
    _require_room(part, {chunk.path: chunk.claimed_bytes for chunk in chunks}, reading.max_row_group_mb)
    if any(chunk.end > part.blob.size_bytes for chunk in chunks):
        raise unreadable(part.blob, _KIND, f"{part.where} points outside the blob", "an undamaged file")
    return BlobFile(store, part.blob, _joined([(chunk.start, chunk.end) for chunk in chunks]))


def read(
    store: BlobStore,
    part: Part,
    schema: pa.Schema,
    names: Sequence[str],
    reading: ReadingSettings,
    file: BlobFile | None = None,
    *,
    quick: bool = False,
) -> Iterator[tuple[pa.Table, int]]:
    """Yield the row group once, with the columns *names* as *schema* has them, and the bytes read for it.

    A text of few values is left in its dictionary. *file* is what `fetch` returned. With *quick* Polars decodes
    what it can, and other texts are views.

    Raises:
        DataError: It cannot be decoded, or would become larger than *reading* allows.
        BlobChanged: The blob is not the pinned version any more.
    """
    wanted = pa.schema([(name, schema.field(name).type) for name in names])
    file = file or fetch(store, part, names, reading)
    with _decoding(part.blob, part.where):
        walked = [
            (chunk, pages_of(file.read_at, chunk.start, chunk.end, chunk.values)) for chunk in _chunks(part, names)
        ]
        rows = _RowGroup(part, file, wanted, walked, reading.max_row_group_mb, quick).rows()
    yield rows, file.bytes_read


def cost_bytes(part: Part, columns: Collection[str]) -> int:
    """Return how many bytes the chunks of *columns* have."""
    return sum(chunk.end - chunk.start for chunk in _chunks(part, columns))


@dataclass(frozen=True)
class _RowGroup:
    """A row group whose bytes are at hand, and what its page headers say of each leaf column."""

    part: Part
    file: BlobFile
    wanted: pa.Schema
    chunks: list[tuple[Chunk, Pages]]
    limit_mb: int
    quick: bool

    @property
    def limit_bytes(self) -> int:
        return self.limit_mb * 1_000_000

    def rows(self) -> pa.Table:
        """Decode without ever holding much more than the limit; raise `DataError` above it."""
        sizes = {chunk.path: max(pages.uncompressed_bytes, chunk.width * pages.values) for chunk, pages in self.chunks}
        _require_room(self.part, sizes, self.limit_mb)
        sliced = [chunk.path for chunk, pages in self.chunks if self._is_sliced(chunk, pages)]
        flat = self._flat(sliced) if self.quick else {}
        names = [name for name in self.wanted.names if name not in sliced and name not in flat]
        whole = self._open().read_row_group(self.part.index, columns=names, use_threads=False)
        whole.validate(full=True)  # Polars trusts what it is handed, such as text that is no UTF-8
        sizes = {name: expanded_bytes(whole[name]) for name in names}
        _require_room(self.part, sizes | {name: found.size_bytes for name, found in flat.items()}, self.limit_mb)
        if not len(self.wanted):
            return whole.select([])
        columns = {name: whole[name] for name in names} | {name: self._in_slices(name) for name in sliced}
        columns |= {name: found.values for name, found in flat.items()}
        return pa.table({field.name: _as(field.type, columns[field.name]) for field in self.wanted})

    def _flat(self, others: Collection[str]) -> Mapping[str, Flat]:
        """Return the columns, without *others*, that Polars decodes."""
        from insitu.tables.flat import decoded, is_flat  # an edge job has no Polars

        schema = self.part.schema
        chunks = [
            (chunk, pages)
            for chunk, pages in self.chunks
            if chunk.path not in others and not self._is_encoded(chunk, pages) and is_flat(chunk, pages, schema)
        ]
        names = [chunk.path for chunk, _ in chunks]
        found = decoded(self.file, chunks, [schema.field(name).type for name in names]) if chunks else None
        return dict(zip(names, found, strict=True)) if found else {}

    def _is_encoded(self, chunk: Chunk, pages: Pages) -> bool:
        """Whether the values are left in their dictionary until their size is known."""
        if not chunk.is_text or not pages.dictionary_bytes:
            return False
        few = pages.encodings <= DICTIONARY_ENCODINGS and _FEW * pages.dictionary_values <= pages.values
        return few or chunk.is_nested

    def _is_sliced(self, chunk: Chunk, pages: Pages) -> bool:
        """Whether the values are expanded some rows at a time, as their size is known afterwards only."""
        risky = chunk.is_text and pages.values * pages.longest_repeated > self.limit_bytes
        return risky and not (chunk.is_nested or self._is_encoded(chunk, pages) or self._is_even(chunk, pages))

    def _is_even(self, chunk: Chunk, pages: Pages) -> bool:
        """Whether all values of the dictionary have one length with which the column is small enough."""
        start, end = pages.dictionary_at
        if not chunk.codec or pages.longest_repeated != pages.dictionary_bytes:
            return False
        plain = pa.decompress(self.file.read_at(start, end - start), pages.dictionary_bytes, chunk.codec)
        length = common_length(memoryview(plain), pages.dictionary_values)
        size = pages.uncompressed_bytes + pages.values * ((length or 0) + 4)
        return length is not None and size <= self.limit_bytes

    def _in_slices(self, name: str) -> pa.ChunkedArray:
        longest = max(pages.longest_repeated for chunk, pages in self.chunks if chunk.path == name)
        slices, size = [], 0
        for piece in self._open().iter_batches(
            max(1, self.limit_bytes // longest), row_groups=[self.part.index], columns=[name], use_threads=False
        ):
            size += piece.nbytes
            _require_room(self.part, {name: size}, self.limit_mb)
            slices.append(piece[name])
        column = pa.chunked_array(slices)
        column.validate(full=True)
        return column.combine_chunks() if size <= _JOINED_BYTES else column

    def _open(self) -> pq.ParquetFile:
        encoded = [chunk.path for chunk, pages in self.chunks if self._is_encoded(chunk, pages)]
        return pq.ParquetFile(
            pa.PythonFile(self.file, mode="r"),
            metadata=self.part.footer,
            read_dictionary=encoded,
            pre_buffer=False,  # the chunks are at hand: Arrow would ask for the gaps between them
            page_checksum_verification=True,
        )


def _require_room(part: Part, sizes: Mapping[str, float], limit_mb: int) -> None:
    """Raise `DataError` when columns of these *sizes*, in bytes, are more than the limit."""
    size = sum(sizes.values())
    if size > limit_mb * 1_000_000:
        raise DataError(
            f"{part.where} of blob {part.blob.name} is too large in memory",
            found=f"{size / 1e6:,.0f} MB or more, most of it in column {max(sizes, key=sizes.__getitem__)}",
            wanted=f"at most {limit_mb:,} MB in the columns that are read",
            next_action="write smaller row groups, or raise [data.reading] max_row_group_mb in model.toml",
        )


def _footer(file: BlobFile) -> bytes:
    """Return the footer with its length and the magic number after it."""
    blob = file.blob
    tail_bytes = min(_TAIL_BYTES, blob.size_bytes)
    tail = file.read_at(blob.size_bytes - tail_bytes, tail_bytes)
    if tail[-4:] == _ENCRYPTED_MAGIC:
        raise unreadable(blob, _KIND, "an encrypted footer", "an unencrypted file; no key is configured")
    if tail[-4:] != _MAGIC or len(tail) < 12:
        raise unreadable(blob, _KIND, f"no Parquet footer in {blob.size_bytes} bytes", "a complete Parquet file")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length + 4 > blob.size_bytes:
        raise unreadable(blob, _KIND, "a footer longer than the blob", "a complete Parquet file")
    if length > len(tail):
        tail = b"".join((file.read_at(blob.size_bytes - length, length - len(tail)), tail))
    return bytes(tail[-length:])


@contextmanager
def _decoding(blob: Blob, where: str) -> Iterator[None]:
    """Turn what bad bytes raise into `DataError`, without Arrow's text: it may quote data."""
    try:
        yield
    except EncryptedColumns:
        raise unreadable(blob, _KIND, "encrypted columns", "an unencrypted file; no key is configured") from None
    except MemoryError:
        raise  # Arrow's is an ArrowException, too, and says nothing about the blob
    except (pa.ArrowException, OSError, ValueError, LookupError) as exc:
        found = f"{where} cannot be decoded ({type(exc).__name__})"
        raise unreadable(blob, _KIND, found, "an undamaged, unencrypted file") from None


def _schema(blob: Blob, footer: pq.FileMetaData) -> pa.Schema:
    with _decoding(blob, "the schema"):
        schema = footer.schema.to_arrow_schema()
    require_unique_names(blob, schema.names)
    return pa.schema([pa.field(field.name, plain_type(field.type), field.nullable) for field in schema])


def _as(kind: pa.DataType, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return *column* as *kind*; a dictionary of texts stays one, and so do views of texts."""
    found = column.type
    texts = found.value_type if pa.types.is_dictionary(found) else found
    is_kind = found == kind or (kind == pa.string() and texts in (pa.string(), pa.string_view()))
    return column if is_kind else column.cast(kind)


def _chunks(part: Part, names: Collection[str]) -> list[Chunk]:
    return [chunk for chunk in part.chunks if _is_of(chunk.path, names)]


def _is_of(path: str, columns: Collection[str]) -> bool:
    return path in columns or any(path.startswith(f"{name}.") for name in columns)


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """Return *ranges* in order, those joined that lie close to each other."""
    joined: list[Range] = []
    widest = _widest_gap(ranges)
    for start, end in sorted(ranges):
        if joined and start - joined[-1][1] <= widest:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _widest_gap(ranges: Sequence[Range]) -> int:
    """Return up to which width the gaps between *ranges* may be read, too."""
    room, widest = _GAPS * sum(end - start for start, end in ranges), 0
    for gap in sorted(max(0, after[0] - before[1]) for before, after in pairwise(sorted(ranges))):
        room -= gap
        if room >= 0:
            widest = gap
    return widest
