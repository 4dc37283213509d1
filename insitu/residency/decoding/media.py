"""Pictures, fonts, sound and documents: their words and packed parts are opened, what they show is not looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator

from insitu.residency.decoding.pieces import Budget, Piece, Unopened
from insitu.residency.decoding.streams import unpack

_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURE_DATA = (b"IDAT", b"fdAT")
_MEDIA = re.compile(
    rb"\xff\xd8\xff|GIF8[79]a|RI(?:FF|FX).{4}(?:WEBP|WAVE)|RF64.{4}WAVE|II\*\x00|MM\x00\*|wOF2|%!(?:PS-Adobe)?Font|OggS|ID3|fLaC|\xff[\xfb\xf3\xf2]|.{4}ftyp"
    rb"|\x1a\x45\xdf\xa3|\x00\x00\x00\x0cjP  |.{8}[\x00-\x02]\x00[\x01\x02]\x00.{22}LP",
    re.DOTALL,
)
_PROGRAM = re.compile(rb"\x7fELF|MZ|\xcf\xfa\xed\xfe|\xce\xfa\xed\xfe|\xca\xfe\xba\xbe|!<arch>\n")
_CLOSED = {
    "7z": rb"7z\xbc\xaf\x27\x1c",
    "RAR": rb"Rar!\x1a\x07",
    "HDF5": rb"\x89HDF\r\n\x1a\n",
    "Avro": rb"Obj\x01",
    "snappy": rb"\xff\x06\x00\x00sNaPpY",
    "old lz4": rb"\x02\x21\x4c\x18",
    "lzip": rb"LZIP[\x00\x01]",
    "lzop": rb"\x89LZO\x00",
    "compress": rb"\x1f\x9d",
    "cabinet": rb"MSCF\x00{4}",
    "encrypted Parquet": rb"PARE[^A-Za-z]",
    "OpenSSL's encryption": rb"Salted__",
    "age's encryption": rb"age-encryption\.org/",
    "PGP's encryption": rb"-----BEGIN PGP MESSAGE",
}
_CLOSED_PATTERNS = {name: re.compile(pattern) for name, pattern in _CLOSED.items()}


def is_media(data: memoryview) -> bool:
    """Tell whether *data* begins as a picture, a font or a sound whose packing is its own."""
    return bool(_MEDIA.match(data[:36]))


def is_program(data: memoryview) -> bool:
    """Tell whether *data* begins as machine code: its tables of hashes look packed, and are not."""
    return bool(_PROGRAM.match(data[:16]))


def closed_kind(data: memoryview) -> str | None:
    """Return the name of a packed or encrypted format that nothing here can open."""
    head = data[:32]
    return next((name for name, pattern in _CLOSED_PATTERNS.items() if pattern.match(head)), None)


def is_png(data: memoryview) -> bool:
    """Tell whether *data* begins as a PNG."""
    return bytes(data[:8]) == _PNG


def open_png(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield the text of a PNG's chunks, packed or not, and its picture's rows as they are filtered."""
    at, pixels = len(_PNG), []
    while at + 12 <= len(piece.data):
        size, kind = int.from_bytes(piece.data[at : at + 4], "big"), bytes(piece.data[at + 4 : at + 8])
        held = piece.data[at + 8 : at + 8 + size]
        if len(held) < size:
            raise ValueError("a chunk that is cut short")
        if kind in _PICTURE_DATA:
            pixels.append(held[4:] if kind == b"fdAT" else held)
        elif kind in (b"zTXt", b"iTXt", b"iCCP"):
            yield from _words(piece, budget, kind, held)
        at += 12 + size
        if kind == b"IEND":
            break
    packed = Piece(piece.path, budget.spool(pixels))
    for found in unpack(packed, budget, "zlib")[0] if pixels else ():
        yield found if isinstance(found, Unopened) else piece.child("pixels", found.data, "media", leaf=True)
    if len(piece.data) > at:
        yield piece.child("rest", piece.data[at:], seen=True)


def _words(piece: Piece, budget: Budget, kind: bytes, held: memoryview) -> Iterator[Piece | Unopened]:
    """Yield the text of a chunk: packed behind its keyword, and for iTXt behind a flag and two more names."""
    head = bytes(held[:1024])
    start = head.index(b"\x00") + 2
    if kind == b"iTXt":
        if not head[start - 1]:
            return
        start = head.index(b"\x00", head.index(b"\x00", start + 1) + 1) + 1
    inner = Piece(piece.inside(kind.decode()), held)
    yield from unpack(inner, budget, "zlib", start)[0]


def is_pdf(data: memoryview) -> bool:
    """Tell whether *data* begins as a PDF."""
    return bytes(data[:5]) == b"%PDF-"


def is_encrypted_pdf(data: memoryview) -> bool:
    """Tell whether a PDF says that it is encrypted."""
    return bool(re.search(rb"/Encrypt\b", data[-4096:]) or re.search(rb"/Encrypt \d+ \d+ R", data))
