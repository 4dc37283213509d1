"""Zip (npz, skops, PyTorch, wheels, jars) and tar: their members, and what lies between them."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO

from insitu.residency.decoding.files import ViewFile
from insitu.residency.decoding.pieces import Budget, Piece, TooMuch, Unopened

_CHUNK_BYTES = 1 << 20
_END_OF_ZIP = b"PK\x05\x06"
_TAIL_BYTES = 66_000
"""The record that ends a zip may have a comment of 64 KB behind it."""
_ENCRYPTED = 1


def is_zip(data: memoryview) -> bool:
    """Tell whether *data* ends as a zip does; a program may stand before it."""
    return _END_OF_ZIP in bytes(data[-_TAIL_BYTES:]) or bytes(data[:4]) == b"PK\x03\x04"


def open_zip(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield the members of a zip, and each gap that no member accounts for."""
    with zipfile.ZipFile(io.BufferedReader(ViewFile(piece.data))) as archive:
        spans = []
        for info in archive.infolist():
            spans.append((info.header_offset, _end_of(piece.data, info)))
            yield piece.name(info.filename)
            if not info.is_dir():
                yield _zip_member(piece, budget, archive, info)
        spans.append((archive.start_dir, len(piece.data)))
    yield from gaps(piece, spans)


def _end_of(data: memoryview, info: zipfile.ZipInfo) -> int:
    """Return where the member's bytes end: behind its own header, whose name and extra field may differ."""
    header = data[info.header_offset : info.header_offset + 30]
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return info.header_offset + 30 + names + info.compress_size


def _zip_member(piece: Piece, budget: Budget, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Piece | Unopened:
    path = piece.inside(info.filename)
    if info.flag_bits & _ENCRYPTED:
        return Unopened(path, "it is encrypted")
    try:
        with archive.open(info) as member:
            held = budget.spool(_chunks(member), info.compress_size)
    except TooMuch as exc:
        if exc.final:
            raise
        return Unopened(path, exc.why)
    except NotImplementedError:
        return Unopened(path, f"its compression (method {info.compress_type}) is not known here")
    except Exception as exc:  # noqa: BLE001 - a hostile member makes the library raise anything
        return Unopened(path, f"it is damaged: {type(exc).__name__}")
    return piece.child(info.filename, held, seen=info.compress_type == zipfile.ZIP_STORED)


def _chunks(file: IO[bytes] | None) -> Iterator[bytes]:
    assert file is not None
    return iter(lambda: file.read(_CHUNK_BYTES), b"")


def is_zero(data: memoryview) -> bool:
    """Tell whether *data* is nothing but zeros."""
    return re.search(rb"[^\x00]", data) is None


def gaps(piece: Piece, spans: list[tuple[int, int]]) -> Iterator[Piece]:
    """Yield what lies in none of *spans* (begin, end), but for zeros: it may be packed on its own."""
    at = 0
    for begin, end in sorted(spans):
        gap = piece.data[at:begin]
        if not is_zero(gap):
            yield piece.child(f"gap@{at}", gap, seen=True)
        at = max(at, end)


def is_tar(data: memoryview) -> bool:
    """Tell by its first header, whose sum is right, whether *data* is a tar of any age."""
    if len(data) < 512:
        return False
    try:
        tarfile.TarInfo.frombuf(bytes(data[:512]), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def open_tar(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield the members of a tar, and what lies behind the last."""
    with tarfile.open(fileobj=io.BufferedReader(ViewFile(piece.data)), mode="r:") as archive:
        for info in archive:
            yield piece.name(f"{info.name}\n{info.linkname}" if info.linkname else info.name)
            if not info.isfile():
                continue
            if info.issparse():
                yield piece.child(info.name, budget.spool(_chunks(archive.extractfile(info))))
                continue
            data = piece.data[info.offset_data : info.offset_data + info.size]
            if len(data) < info.size:
                yield Unopened(piece.inside(info.name), "it is cut short")
            yield piece.child(info.name, data, seen=True)
        end = archive.offset
    yield from gaps(piece, [(0, end), (len(piece.data), len(piece.data))])
