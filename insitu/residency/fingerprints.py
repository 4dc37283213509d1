"""From matrices to windows: every way in which a row of numbers commonly lies in memory or in a file.

One encoding of a matrix is its rows one after the other. Windows begin at a value, side by side and once more at the
end of the row: whatever shares a run of values that holds one of them is found, and any run of twice a window does.
Rows shorter than a window are looked for with what follows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from insitu.residency.index import NARROW, WIDE, Hashes, Key, different
from insitu.residency.sources import Bits, Matrix

_WEAK_BITS = 6.0
"""A window that tells less is in every file; rows of nothing else are found by their neighbours, or tell nothing."""


@dataclass(frozen=True)
class Encoding:
    """How numbers are written: a type of numpy, and how many bits of a cell it keeps at most."""

    name: str
    dtype: str
    cap_bits: float = 53.0

    def fits(self, matrix: Matrix) -> bool:
        """Tell whether the numbers of *matrix* can be written so."""
        kind = np.dtype(self.dtype)
        low, high = matrix.reach
        if kind.kind in "iu":
            bounds = np.iinfo(kind)
            return matrix.is_whole and bounds.min <= low and high <= bounds.max
        return -low <= float(np.finfo(kind).max) and high <= float(np.finfo(kind).max)


FLOATS = (
    Encoding("f64", "<f8"),
    Encoding("f64 big-endian", ">f8"),
    Encoding("f32", "<f4", 24.0),
    Encoding("f32 big-endian", ">f4", 24.0),
    Encoding("f16", "<f2", 11.0),
    Encoding("f16 big-endian", ">f2", 11.0),
)
INTEGERS = (
    Encoding("i64", "<i8"),
    Encoding("i32", "<i4", 32.0),
    Encoding("i16", "<i2", 16.0),
    Encoding("u8", "|u1", 8.0),
)
ENCODINGS = FLOATS + INTEGERS


@dataclass(frozen=True)
class Layout:
    """A matrix in one encoding."""

    matrix: Matrix
    encoding: Encoding

    @cached_property
    def cells(self) -> npt.NDArray[Any]:
        """The encoded numbers, (n, c)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.ascontiguousarray(self.matrix.values.astype(self.encoding.dtype))

    def bits(self, rows: npt.NDArray[np.int64]) -> Bits:
        """Return what each cell of *rows* tells in this encoding."""
        return np.minimum(self.matrix.told[0][rows], np.float32(self.encoding.cap_bits))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(self.cells.shape[1] * self.cells.itemsize)

    def columns(self) -> Iterator[int]:
        """Yield the columns at which a window begins."""
        count, held = self.matrix.values.shape[1], self._held
        if count < held:
            yield from range(count)
        else:
            yield from sorted({*range(0, count - held + 1, held), count - held})

    def windows(self, column: int, key: Key) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """Return the hashes of the windows at *column* that tell something, and the rows in which they begin."""
        start, row, count = column * self.cells.itemsize, self.row_bytes, self.matrix.values.shape[1]
        rows = len(self.cells) - -(-max(0, start + WIDE - row) // row)
        if rows <= 0:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        kept = np.flatnonzero(self._window_bits(column, rows) >= _WEAK_BITS)
        if count < self._held:  # side by side over the ends of the rows
            kept = kept[(kept * count + column) % self._held == 0]
        data = self.cells.reshape(-1).view(np.uint8)
        first, second = (
            np.ndarray((rows,), "<u8", data, offset=start + at, strides=(row,))[kept] for at in (0, NARROW)
        )
        return key.wide(key.mixed(first), key.mixed(second)), kept

    @property
    def _held(self) -> int:
        """Cells of a window."""
        return WIDE // np.dtype(self.encoding.dtype).itemsize

    def _window_bits(self, column: int, rows: int) -> Bits:
        bits, columns = self.matrix.told[0], self.matrix.values.shape[1]
        told = np.zeros(rows, np.float32)
        for cell in range(column, column + self._held):
            later, at = divmod(cell, columns)
            told += np.minimum(bits[later : later + rows, at], np.float32(self.encoding.cap_bits))
        return told


def layouts(matrix: Matrix, encodings: tuple[Encoding, ...] = ENCODINGS) -> Iterator[Layout]:
    """Yield *matrix* in every encoding that can hold it."""
    if matrix.values.size:
        yield from (Layout(matrix, encoding) for encoding in encodings if encoding.fits(matrix))


def strong_words(matrix: Matrix, column: int) -> Hashes:
    """Return the 8-byte words of a column's strong cells, each once: as floats of both byte orders, as integers."""
    strong = different(matrix.values[matrix.told[1][:, column], column].view(np.uint64)).view(np.float64)
    words = [strong.view(np.uint64), strong.byteswap().view(np.uint64)]
    whole = strong[(np.rint(strong) == strong) & (np.abs(strong) < 2**53)]
    words.append(whole.astype(np.int64).view(np.uint64))
    return np.concatenate(words)
