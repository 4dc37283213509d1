"""One compressed stream: gzip, zlib, bzip2, xz, lzma, zstd, lz4."""

from __future__ import annotations

import bz2
import heapq
import lzma
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from isal import isal_zlib
from isal.igzip_lib import IsalError

from insitu.residency.decoding.pieces import Budget, Piece, Unopened

_CHUNK_BYTES = 1 << 20
_LZMA_MEMORY_BYTES = 256 << 20
_MAGIC_BYTES = 16

# One pattern for each: a literal beginning is looked for fifty times faster than one pattern of alternatives.
_MAGICS = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18"),
    "zlib": re.compile(rb"\x78[\x01\x5e\x9c\xda]"),
    "lzma": re.compile(rb"\x5d\x00\x00[\x00-\xff]{2}(?:\xff{8}|[\x00-\xff]{5}\x00{3})"),
}
_DAMAGE: tuple[Any, ...] = (IsalError, OSError, lzma.LZMAError, EOFError, ValueError)
WEAK = frozenset({"zlib", "lzma"})
"""Two or three bytes that may well begin something else."""


class Torn(Exception):
    """A stream breaks off or is damaged; the text is its end of a sentence."""


def kind_of(data: memoryview) -> str | None:
    """Return the kind of compressed stream that *data* begins with."""
    return next((kind for kind, magic in _MAGICS.items() if magic.match(data[:_MAGIC_BYTES])), None)


def beginnings(data: memoryview) -> Iterator[tuple[int, str]]:
    """Yield each place in *data* where a compressed stream may begin, in order, and its kind."""

    def of(kind: str) -> Iterator[tuple[int, str]]:
        return ((found.start(), kind) for found in _MAGICS[kind].finditer(data))

    return heapq.merge(*map(of, _MAGICS))


class Stream:
    """Unpacks the stream of a *kind* that begins at *start*; `end` lies behind it, once it was read to its end."""

    def __init__(self, data: memoryview, kind: str, start: int = 0) -> None:
        self.data, self.kind, self.end = data, kind, start
        self.whole = False

    def chunks(self) -> Iterator[bytes]:
        """Yield what the stream holds; raise `Torn` where it is damaged or cut short.

        A stream may be several, one behind the other: the tools of these formats read them as one.
        """
        while True:
            yield from self._arrow() if self.kind in ("zstd", "lz4") else self._member()
            if self.kind in WEAK or not _MAGICS[self.kind].match(self.data[self.end : self.end + _MAGIC_BYTES]):
                self.whole = True
                return

    def _member(self) -> Iterator[bytes]:
        one, position = _decompressor(self.kind), self.end
        pending: bytes | memoryview = b""
        while not one.eof:
            if not len(pending) and getattr(one, "needs_input", True):
                pending = self.data[position : position + _CHUNK_BYTES]
                position += len(pending)
            dry = not len(pending)
            try:
                out = one.decompress(pending, _CHUNK_BYTES)
            except _DAMAGE as exc:
                raise Torn("is damaged") from exc
            pending = getattr(one, "unconsumed_tail", b"")
            if out:
                yield out
            elif dry and not one.eof and getattr(one, "needs_input", True):
                raise Torn("is cut short")
        self.end = position - len(one.unused_data)

    def _arrow(self) -> Iterator[bytes]:
        end = (_zstd_end if self.kind == "zstd" else _lz4_end)(self.data, self.end)
        try:
            with pa.CompressedInputStream(pa.BufferReader(self.data[self.end : end]), self.kind) as stream:
                while out := stream.read(_CHUNK_BYTES):
                    yield out
        except (OSError, pa.ArrowException) as exc:
            raise Torn("is damaged") from exc
        self.end = end


def _decompressor(kind: str) -> Any:
    match kind:
        case "gzip" | "zlib":
            return isal_zlib.decompressobj(wbits=31 if kind == "gzip" else 15)
        case "bzip2":
            return bz2.BZ2Decompressor()
    format_ = lzma.FORMAT_XZ if kind == "xz" else lzma.FORMAT_ALONE
    return lzma.LZMADecompressor(format_, memlimit=_LZMA_MEMORY_BYTES)


def _number(data: memoryview, at: int, size: int) -> int:
    if at + size > len(data):
        raise Torn("is cut short")
    return int.from_bytes(data[at : at + size], "little")


def _zstd_end(data: memoryview, start: int) -> int:
    """Return where the frame at *start* ends (RFC 8878, section 3.1.1); Arrow's codec does not tell."""
    flags = _number(data, start + 4, 1)
    single = flags >> 5 & 1
    size_bytes = (single, 2, 4, 8)[flags >> 6]
    at = start + 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + size_bytes
    last = 0
    while not last:
        block = _number(data, at, 3)
        last, kind = block & 1, block >> 1 & 3
        if kind == 3:
            raise Torn("is damaged")
        at += 3 + (1 if kind == 1 else block >> 3)
    return _inside(data, at + 4 * (flags >> 2 & 1))


def _lz4_end(data: memoryview, start: int) -> int:
    """Return where the frame at *start* ends (LZ4 frame format, version 1.6)."""
    flags = _number(data, start + 4, 1)
    at = start + 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
    while block := _number(data, at, 4):
        at += 4 + (block & 0x7FFFFFFF) + 4 * (flags >> 4 & 1)
    return _inside(data, at + 4 + 4 * (flags >> 2 & 1))


def _inside(data: memoryview, end: int) -> int:
    if end > len(data):
        raise Torn("is cut short")
    return end


def unpack(
    piece: Piece, budget: Budget, kind: str, start: int = 0, least_bytes: int = 0
) -> tuple[list[Piece | Unopened], int]:
    """Return what the stream at *start* of *piece* gives, and where it ends.

    Nothing, if it breaks off before it has given *least_bytes*: it was none.
    """
    stream = Stream(piece.data, kind, start)
    torn: list[str] = []

    def kept() -> Iterator[bytes]:
        try:
            yield from stream.chunks()
        except Torn as exc:
            torn.append(str(exc))

    held = budget.spool(kept(), len(piece.data) - start)
    if torn and len(held) < least_bytes:
        return [], start
    name = f"{kind}@{start}" if start else kind
    given: list[Piece | Unopened] = [piece.child(name, held)]
    if torn:
        given.append(Unopened(piece.inside(name), f"the {kind} stream {torn[0]}"))
    return given, stream.end if stream.whole else len(piece.data)
