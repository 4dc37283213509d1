"""A pinned blob as a file: every read is conditional on its ETag, and the bytes are counted."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

from insitu.batch import Blob
from insitu.ports import BlobStore

PIECE_BYTES = 4 << 20
Range = tuple[int, int]
Data = bytes | memoryview


class BlobFile(io.RawIOBase):
    """A pinned blob as a read-only seekable file.

    *ranges* (start, end) are read at once and held, and are not copied again; anything else is read when
    asked for. All reads raise `BlobChanged` when the blob is not the pinned version any more.

    Attributes:
        blob: The pinned blob.
        bytes_read: What was asked of the store so far.
    """

    def __init__(self, store: BlobStore, blob: Blob, ranges: Iterable[Range] = ()) -> None:
        super().__init__()
        self.blob, self.bytes_read = blob, 0
        self._store, self._position = store, 0
        self._held = [(start, memoryview(self._fetch(start, end - start))) for start, end in ranges]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.blob.size_bytes}[whence]
        self._position = origin + offset
        return self._position

    def read(self, size: int = -1) -> Data:
        left = max(0, self.blob.size_bytes - self._position)
        data = self.read_at(self._position, left if size < 0 else min(size, left))
        self._position += len(data)
        return data

    def read_at(self, offset: int, length: int) -> Data:
        """Return *length* bytes from *offset*, at most to the end, wherever the file stands."""
        for start, data in self._held:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        return self._fetch(offset, length)

    def pieces(self, size: int = PIECE_BYTES) -> Generator[bytes, None, None]:
        """Yield the whole blob in order, *size* bytes at a time; the next ones are read meanwhile."""
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._fetch, 0, size)
            for start in range(size, self.blob.size_bytes + size, size):
                piece = following.result()
                following = ahead.submit(self._fetch, start, size)
                yield piece

    def _fetch(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.blob.size_bytes - offset))
        if not length:
            return b""
        data = self._store.read(self.blob.name, etag=self.blob.etag, offset=offset, length=length)
        self.bytes_read += len(data)
        return data
