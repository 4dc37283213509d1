"""A folder of blobs that notes what is read of it."""

from __future__ import annotations

from insitu.adapters.local.blobs import FolderBlobs


class CountingBlobs(FolderBlobs):
    """Notes how many bytes of which blob are read."""

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        data = super().read(name, etag=etag, offset=offset, length=length)
        self.ranges.append((name, offset, len(data)))
        return data

    @property
    def ranges(self) -> list[tuple[str, int, int]]:
        return self.__dict__.setdefault("_ranges", [])

    @property
    def bytes_by_name(self) -> dict[str, int]:
        return {name: sum(n for other, _, n in self.ranges if other == name) for name, _, _ in self.ranges}

    @property
    def bytes_read(self) -> int:
        return sum(length for _, _, length in self.ranges)
