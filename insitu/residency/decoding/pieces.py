"""What comes out of the decoder, how much of it at most, and what passes between its modules."""

from __future__ import annotations

import mmap
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

WINDOW_BYTES = 16 << 20
OVERLAP_BYTES = 64 << 10
"""What two windows of a large piece share: a record on the seam lies whole in one of them."""
_IN_MEMORY_BYTES = 32 << 20


@dataclass(frozen=True)
class Limits:
    """How far a file is opened; what lies beyond is `Unopened`, never passed over."""

    depth: int = 12
    ratio: float = 200.0
    """How many times its packed size a member may take, beyond the first `free_bytes` of it."""
    free_bytes: int = 64 << 20
    piece_bytes: int = 4 << 30
    total_bytes: int = 16 << 30
    """Of everything that is decoded, over all depths."""
    pieces: int = 1_000_000
    time_s: float = 1800.0


@dataclass(frozen=True)
class Part:
    """Bytes to scan at every offset.

    `kind` is "bytes" (as found), "numbers" (decoded numbers: f64, f32 or the array's own type, little-endian), "text"
    (decoded, UTF-8), "media" (a picture, font or sound as found: what it shows is not looked at) or "name" (of a file
    or member).
    `offset` is where a window begins in its piece. `seen`: these bytes lay unchanged in a part before this one; a
    scanner may pass over it when that part held nothing, or scan it to tell more precisely where a find lies.
    """

    path: str
    data: memoryview | bytes
    kind: str = "bytes"
    offset: int = 0
    seen: bool = False


@dataclass(frozen=True)
class Unopened:
    """Something that could not be opened: it may hold anything, so a verdict blocks it."""

    path: str
    why: str


@dataclass(frozen=True)
class Piece:
    """A whole thing on its way through the decoder; a `leaf` is scanned and not opened further."""

    path: str
    data: memoryview
    kind: str = "bytes"
    seen: bool = False
    leaf: bool = False
    plain: bool = False
    """Known to be no foreign packing (the bytes of an array, a cell of a table): not judged by its entropy."""

    def inside(self, name: str) -> str:
        """Return the path of what is called *name* in this piece."""
        return f"{self.path}!{name}"

    def child(self, name: str, data: memoryview | bytes, kind: str = "bytes", **marks: bool) -> Piece:
        """Return a piece that was found in this one."""
        return Piece(self.inside(name), memoryview(data).cast("B"), kind, **marks)

    def name(self, name: str) -> Piece:
        """Return the name of a member as a piece: names too may hold records."""
        return self.child(name, name.encode("utf-8", "surrogatepass"), "name", leaf=True)

    def numbers(self, name: str, data: memoryview | bytes) -> Piece:
        """Return decoded numbers as a piece."""
        return self.child(name, data, "numbers", leaf=True)


class TooMuch(Exception):
    """A piece goes beyond a limit; `final` ends the whole decoding."""

    def __init__(self, why: str, final: bool = False) -> None:
        super().__init__(why)
        self.why, self.final = why, final


@dataclass
class Budget:
    """What one decoding has used of its limits."""

    limits: Limits
    clock: Callable[[], float] = time.monotonic
    opened_bytes: int = 0
    opened: int = 0
    began: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def check_time(self) -> None:
        """Raise `TooMuch` when the time is up."""
        if self.clock() - self.began > self.limits.time_s:
            raise TooMuch(f"it takes more than {self.limits.time_s:g} seconds to open", final=True)

    def count(self) -> None:
        """Count one more piece; raise `TooMuch`."""
        self.opened += 1
        if self.opened > self.limits.pieces:
            raise TooMuch(f"it has more than {self.limits.pieces:,} pieces", final=True)
        self.check_time()

    def spend(self, size_bytes: int) -> None:
        """Count decoded bytes; raise `TooMuch`."""
        self.opened_bytes += size_bytes
        if self.opened_bytes > self.limits.total_bytes:
            raise TooMuch(f"it opens to more than {self.limits.total_bytes:,} bytes", final=True)
        self.check_time()

    def spool(self, chunks: Iterable[bytes | memoryview], packed_bytes: int | None = None) -> memoryview:
        """Return the joined *chunks*, in memory or in an unnamed file; raise `TooMuch` as they go beyond a limit.

        *packed_bytes* is what they were unpacked from, where something was.
        """
        most = self.limits.piece_bytes
        if packed_bytes is not None:
            most = min(most, max(self.limits.free_bytes, int(self.limits.ratio * packed_bytes)))
        held, file, size = bytearray(), None, 0
        for chunk in chunks:
            size += len(chunk)
            if size > most:
                raise TooMuch(f"it opens to more than {most:,} bytes")
            self.spend(len(chunk))
            if file is None and size > _IN_MEMORY_BYTES:
                file = tempfile.TemporaryFile()  # noqa: SIM115 - the map below keeps it open
                file.write(held)
                held = bytearray()
            if file is None:
                held += chunk
            else:
                file.write(chunk)
        if file is None:
            return memoryview(held).toreadonly()
        with file:
            file.flush()
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def windows(piece: Piece) -> Iterator[Part]:
    """Yield *piece* as parts, windowed where it is large."""
    size, start = len(piece.data), 0
    while True:
        data = piece.data[start : start + WINDOW_BYTES]
        yield Part(piece.path, data, piece.kind, start, piece.seen)
        if start + WINDOW_BYTES >= size:
            return
        mapped = piece.data.obj
        if isinstance(mapped, mmap.mmap) and len(mapped) == size:
            mapped.madvise(mmap.MADV_DONTNEED, start, WINDOW_BYTES - OVERLAP_BYTES)
        start += WINDOW_BYTES - OVERLAP_BYTES
