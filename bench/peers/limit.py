"""The limit: what cannot be saved. Ranged reads of the columns' chunks and their decoding, two threads."""

from __future__ import annotations

import http.client
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from bench.kit.facts import COLUMNS
from bench.kit.place import API_VERSION
from bench.kit.task import Task
from insitu.batch import Blob

_TAIL_BYTES = 32 << 10
_GAP_BYTES = 4 << 10
Read = Callable[[int, int], bytes]
_thread = threading.local()


def check(task: Task) -> list[str]:
    """Read and decode; nothing is checked. Of CSV only the bytes are read."""
    look = _fetch if task.is_csv else _decode
    with ThreadPoolExecutor(2) as pool:
        rows = sum(pool.map(lambda pair: look(*pair), zip(task.batch.blobs, map(_reader, task.urls), strict=True)))
    assert rows
    return []


def _fetch(blob: Blob, read: Read) -> int:
    return len(read(0, blob.size_bytes))


def _decode(blob: Blob, read: Read) -> int:
    start = max(0, blob.size_bytes - _TAIL_BYTES)
    metadata = pq.read_metadata(io.BytesIO(read(start, blob.size_bytes - start)))
    rows = 0
    for group in range(metadata.num_row_groups):
        file = pa.PythonFile(_Sparse(blob.size_bytes, read, _ranges(metadata.row_group(group))), mode="r")
        rows += pq.ParquetFile(file, metadata=metadata).read_row_group(group, list(COLUMNS), use_threads=False).num_rows
    return rows


def _ranges(group: pq.RowGroupMetaData) -> list[tuple[int, int]]:
    """Return start and end of the columns' chunks, neighbours as one."""
    merged: list[tuple[int, int]] = []
    for chunk in map(group.column, range(group.num_columns)):
        if chunk.path_in_schema not in COLUMNS:
            continue
        start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        end = start + chunk.total_compressed_size
        if merged and start - merged[-1][1] <= _GAP_BYTES:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


class _Sparse(io.RawIOBase):
    """A file of which *ranges* are there."""

    def __init__(self, size_bytes: int, read: Read, ranges: list[tuple[int, int]]) -> None:
        super().__init__()
        self._size_bytes, self._position = size_bytes, 0
        self._held = [(start, memoryview(read(start, end - start))) for start, end in ranges]

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence] + offset
        return self._position

    def read(self, size: int = -1) -> memoryview:
        for start, data in self._held:
            if start <= self._position and self._position + size <= start + len(data):
                offset = self._position - start
                self._position += size
                return data[offset : offset + size]
        raise EOFError


def _reader(url: str) -> Read:
    if not url.startswith("http"):
        return lambda offset, length: _pread(url, offset, length)
    parts = urlsplit(url)
    return lambda offset, length: _get(parts.netloc, f"{parts.path}?{parts.query}", offset, length)


def _pread(path: str, offset: int, length: int) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)


def _get(host: str, path: str, offset: int, length: int) -> bytes:
    """Return a range over the thread's one connection."""
    if not hasattr(_thread, "connection"):
        _thread.connection = http.client.HTTPConnection(host)
    headers = {"x-ms-version": API_VERSION, "x-ms-range": f"bytes={offset}-{offset + length - 1}"}
    _thread.connection.request("GET", path, headers=headers)
    response = _thread.connection.getresponse()
    data: bytes = response.read()
    assert response.status == 206, response.status
    return data
