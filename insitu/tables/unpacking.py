"""The text of a blob, piece by piece: decompressed, bounded, and checked to be UTF-8."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterable, Iterator

from isal import isal_zlib

from insitu.batch import Blob
from insitu.errors import DataError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.tables.forms import form_of
from insitu.tables.shapes import unreadable
from insitu.tables.streams import PIECE_BYTES, BlobFile

_GZIP_BITS = 31
_SMALL_BYTES = 64 << 20  # below this no ratio is suspicious
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins as the one of UTF-16 does: first
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class TextFile:
    """The UTF-8 text of a pinned blob, without its byte order mark and with its last line ended."""

    def __init__(self, store: BlobStore, blob: Blob, reading: ReadingSettings, piece_bytes: int = PIECE_BYTES) -> None:
        self._file = BlobFile(store, blob)
        self._stored = self._file.pieces(piece_bytes)
        plain = _unzipped(self._stored, blob, reading.max_ratio) if form_of(blob).gzip else self._stored
        self._text = _checked(plain, blob)

    @property
    def bytes_read(self) -> int:
        """What was asked of the store so far."""
        return self._file.bytes_read

    def __iter__(self) -> Iterator[bytes]:
        """Yield the text once, in pieces of some MB; raise `DataError`, `BlobChanged`."""
        return self._text

    def lines(self) -> Iterator[bytes]:
        """Yield the lines without their ends, instead."""
        rest = b""
        for piece in self._text:
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole

    def close(self) -> None:
        """End the reading ahead."""
        self._text.close()
        self._stored.close()


def _unzipped(pieces: Iterable[bytes], blob: Blob, max_ratio: int) -> Generator[bytes, None, None]:
    """Yield what the gzip members of *pieces* hold; raise `DataError`."""
    member, taken, made, more = isal_zlib.decompressobj(_GZIP_BITS), 0, 0, False
    for piece in pieces:
        taken += len(piece)
        while piece or more:
            if member.eof:
                member = isal_zlib.decompressobj(_GZIP_BITS)
            try:
                plain = member.decompress(piece, PIECE_BYTES)
            except isal_zlib.error:  # type: ignore[misc]  # its stubs declare no class
                found = f"damage within the first {taken:,} bytes"
                raise unreadable(blob, "gzip", found, "an undamaged file") from None
            made, more = made + len(plain), len(plain) == PIECE_BYTES and not member.eof
            piece = member.unused_data.lstrip(b"\0") if member.eof else member.unconsumed_tail  # zeros fill blocks
            _require_ratio(blob, made, taken - len(piece), max_ratio)
            yield plain
    if not member.eof:
        raise unreadable(blob, "gzip", f"no end of the compressed data in {blob.size_bytes:,} bytes", "a complete file")


def _require_ratio(blob: Blob, made: int, taken: int, max_ratio: int) -> None:
    if made > max(_SMALL_BYTES, max_ratio * taken):
        raise DataError(
            f"blob {blob.name} grows too much when decompressed",
            found=f"more than {made // 1_000_000:,} MB from its first {taken:,} bytes",
            wanted=f"at most {max_ratio} times its size",
            next_action="write the blob again, or raise [data.reading] max_ratio in model.toml",
        )


def _checked(pieces: Iterable[bytes], blob: Blob) -> Generator[bytes, None, None]:
    """Yield *pieces* of UTF-8, nothing replaced; raise `DataError` with the offset of the first other byte."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, last, started = 0, b"", False
    for piece in pieces:
        if not started:
            _require_no_mark(piece, blob)
        try:
            decoder.decode(piece)
        except UnicodeDecodeError as exc:
            pending = len(exc.object) - len(piece)  # of a character that the last piece began
            raise _not_utf8(blob, f"byte {offset - pending + exc.start:,} belongs to no character") from None
        yield piece if started else piece.removeprefix(codecs.BOM_UTF8)
        offset, last, started = offset + len(piece), piece[-1:] or last, started or bool(piece)
    if decoder.getstate()[0]:
        raise _not_utf8(blob, f"the last character, before byte {offset:,}, is incomplete")
    if last not in (b"", b"\n"):
        yield b"\n"


def _require_no_mark(piece: bytes, blob: Blob) -> None:
    for mark, name in _MARKS.items():
        if piece.startswith(mark):
            raise _not_utf8(blob, f"the byte order mark of {name} at byte 0")
    if b"\0" in piece[:4]:  # without a mark, the first characters of UTF-16 and UTF-32 are like this
        raise _not_utf8(blob, f"a zero at byte {piece.index(0)}, as in UTF-16")


def _not_utf8(blob: Blob, found: str) -> DataError:
    after = " after decompression" if form_of(blob).gzip else ""
    return unreadable(blob, "text", found + after, "UTF-8, with or without its byte order mark")
