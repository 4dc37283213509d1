"""Tokens that are planted in data, and looked for in whatever was sent to public hosts, in every form it could take.

plants = ["Ada-Lovelace-1815", 8273.918273645]
assert found(estate.folder, plants) == {}
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote_to_bytes

Plant = str | float | int

_DEPTH = 4
_LARGE_BYTES = 1 << 20
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){8,}")
_UNPACKERS = {
    b"\x1f\x8b\x08": lambda data: zlib.decompressobj(31).decompress(data),
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data),
    b"\xfd7zXZ\x00": lambda data: lzma.LZMADecompressor().decompress(data),
    b"x\x01": lambda data: zlib.decompressobj().decompress(data),
    b"x\x9c": lambda data: zlib.decompressobj().decompress(data),
    b"x\xda": lambda data: zlib.decompressobj().decompress(data),
}


def found(folder: Path, plants: Sequence[Plant]) -> dict[str, list[Plant]]:
    """Return which plants the logs and bodies of the twin in *folder* hold, by file; of public and unknown hosts."""
    files = [folder / "egress.jsonl", *sorted((folder / "bodies").iterdir())]
    held = {file.name: held_by(file.read_bytes(), plants) for file in files if file.exists()}
    return {name: those for name, those in held.items() if those}


def held_by(content: bytes, plants: Sequence[Plant]) -> list[Plant]:
    """Return those of *plants* that *content* holds in some form."""
    wanted = {plant: forms(plant) for plant in plants}
    held: set[Plant] = set()
    for part in readings(content):
        held |= {plant for plant, kinds in wanted.items() if any(kind in part for kind in kinds)}
    return [plant for plant in plants if plant in held]


def forms(plant: Plant) -> list[bytes]:
    """Return a plant as bytes: text in the usual encodings, a number as text and as a machine keeps it."""
    if isinstance(plant, str):
        return [plant.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
    if isinstance(plant, int):
        return [str(plant).encode(), *(struct.pack(kind, plant) for kind in ("<q", ">q", "<i", ">i", "<d", ">d"))]
    return [f"{plant:.6f}".encode(), *(struct.pack(kind, plant) for kind in ("<d", ">d", "<f", ">f"))]


def readings(content: bytes, depth: int = _DEPTH) -> Iterator[bytes]:
    """Yield *content*, and what comes of it when it is unpacked and decoded, again and again.

    Of large contents (layers of images) only what they are packed in is taken off.
    """
    yield content
    if len(content) > _LARGE_BYTES:
        body = content.partition(b"\n\n")[2]
        if body.startswith(b"\x1f\x8b\x08"):
            yield zlib.decompressobj(31).decompress(body)
    elif depth:
        for inner in {*_decoded(content), *_unpacked(content)}:
            yield from readings(inner, depth - 1)


def _decoded(content: bytes) -> Iterator[bytes]:
    if b"%" in content:
        yield unquote_to_bytes(content)
    if b"\\u" in content or b'\\"' in content or b"\\n" in content:
        yield content.decode("latin-1").encode().decode("unicode_escape", "replace").encode()
    for run in _HEX.findall(content):
        yield bytes.fromhex(run.decode())
    for run in _BASE64.findall(content):
        plain = run.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):  # it may stand within a longer run
            part = plain[start:]
            with suppress(ValueError):
                yield base64.b64decode(
                    part[: len(part) // 4 * 4] if len(part) % 4 == 1 else part + b"=" * (-len(part) % 4)
                )


def _unpacked(content: bytes) -> Iterator[bytes]:
    for magic, unpack in _UNPACKERS.items():
        for place in re.finditer(re.escape(magic), content):
            with suppress(Exception):
                if inner := unpack(content[place.start() :]):
                    yield inner
    if b"PK\x03\x04" in content:
        with (
            suppress(zipfile.BadZipFile, NotImplementedError, RuntimeError),
            zipfile.ZipFile(io.BytesIO(content)) as held,
        ):
            yield from (held.read(name) for name in held.namelist())


def disguises(content: bytes) -> dict[str, bytes]:
    """Return *content* in forms in which it might be sent, by name: what a search has to see through."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.txt", content)
    return {
        "as it is": content,
        "within": b'{"a": "' + content + b'"}',
        "gzip": gzip.compress(content),
        "zlib": zlib.compress(content),
        "bzip2": bz2.compress(content),
        "xz": lzma.compress(content),
        "zip": packed.getvalue(),
        "base64": base64.b64encode(content),
        "base64 within": b'{"a":"xy' + base64.urlsafe_b64encode(b"z" + content) + b'"}',
        "hex": content.hex().encode(),
        "percent": b"".join(b"%%%02X" % byte for byte in content),
        "base64 of a gzip of a zip": base64.b64encode(gzip.compress(packed.getvalue())),
    }
