"""What the page headers of a Parquet column chunk say, before a page is decompressed.

A footer can say anything about sizes: a page becomes as large as its own header says. The numbers of
the fields are those of `PageHeader` in the Parquet format's parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from insitu.tables.streams import Data
from insitu.tables.thrift import BadThrift, struct

ReadAt = Callable[[int, int], Data]

DELTA_BYTE_ARRAY = 7
DICTIONARY_ENCODINGS = frozenset({2, 8})
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_HEADER_BYTES = 1 << 10
_LARGEST_HEADER_BYTES = 64 << 20  # with the smallest and largest value of the page


@dataclass(frozen=True)
class Pages:
    """The pages of one column chunk.

    Attributes:
        uncompressed_bytes: Sum over all pages.
        values: How many, nulls included.
        dictionary_bytes: Of the dictionary page; 0 without one.
        dictionary_at: Where its compressed bytes begin and end in the blob.
        dictionary_values: How many are in it.
        encodings: Of the data pages, as parquet.thrift numbers them.
        checksums: Of the pages that have one: where their compressed bytes begin and end, and the CRC-32 of these.
    """

    uncompressed_bytes: int
    values: int
    dictionary_bytes: int
    dictionary_values: int
    encodings: frozenset[int]
    dictionary_at: tuple[int, int] = (0, 0)
    checksums: tuple[tuple[int, int, int], ...] = ()

    @property
    def longest_repeated(self) -> int:
        """Bytes of the longest value that may stand for many: one of the dictionary, or a shared prefix."""
        return self.uncompressed_bytes if DELTA_BYTE_ARRAY in self.encodings else self.dictionary_bytes


def pages_of(read_at: ReadAt, start: int, end: int, values: int) -> Pages:
    """Walk the headers from *start* on until *values* are found, not beyond *end*; raise `BadThrift`."""
    uncompressed = found = dictionary_bytes = dictionary_values = 0
    encodings, dictionary_at, checksums = set(), (0, 0), []
    while found < values:
        header, length = _header(read_at, start, end)
        kind, size, compressed = (_number(header, key) for key in (1, 2, 3))
        uncompressed += size
        if kind == _DICTIONARY_PAGE:
            dictionary_bytes, dictionary_values = dictionary_bytes + size, _number(header.get(7), 1)
            dictionary_at = start + length, start + length + compressed
        elif kind in (_DATA_PAGE, _DATA_PAGE_V2):
            page, encoding = (header.get(5), 2) if kind == _DATA_PAGE else (header.get(8), 4)
            found += _number(page, 1)
            encodings.add(_number(page, encoding))
        if isinstance(checksum := header.get(4), int):
            checksums.append((start + length, start + length + compressed, checksum & 0xFFFFFFFF))
        start += length + compressed
    return Pages(
        uncompressed, found, dictionary_bytes, dictionary_values, frozenset(encodings), dictionary_at, tuple(checksums)
    )


def common_length(plain: bytes | memoryview, values: int) -> int | None:
    """Return the length that all of so many texts have, which lie in *plain* each after its length; else None."""
    length = int.from_bytes(plain[:4], "little")
    if not values or len(plain) != values * (4 + length):
        return None
    lengths: np.ndarray = np.ndarray(values, "<u4", plain, strides=4 + length)
    return length if (lengths == length).all() else None


def _number(struct: Any, key: int) -> int:
    value = struct.get(key) if isinstance(struct, dict) else None
    if not isinstance(value, int) or value < 0:
        raise BadThrift
    return value


def _header(read_at: ReadAt, start: int, end: int) -> tuple[dict[int, Any], int]:
    size, room = _HEADER_BYTES, min(end - start, _LARGEST_HEADER_BYTES)
    while True:
        data = read_at(start, max(0, min(size, room)))
        try:
            return struct(data)
        except IndexError:
            if size >= room:
                raise BadThrift from None
            size *= 16
