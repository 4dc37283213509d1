"""What must not leave, as a scan sees it: matrices of numbers with how much each cell tells, and texts.

A cell tells at most as many bits as its digits hold, and at most as many as its rarity among its column says:
the sex of a person tells one bit, a full-precision measurement all of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.float32]

BITS_PER_DIGIT = 3.32
BITS_PER_LETTER = 1.5
"""Of text; Shannon (1951) found 0.6 to 1.3 bits for English prose."""

STRONG_DIGITS = 9
"""Significant digits from which a single number is worth a look by itself."""

_ALONE_BITS = 9.0
"""Of five hundred other values of the same range, one at most is a strong one of the data."""

STRONG_TEXT_BITS = 24.0
FEW = 3
"""A value that more records share points at none of them."""

_DIGITS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 15)
_FULL = 17


@dataclass(frozen=True)
class Matrix:
    """Numbers of records, one row each.

    Attributes:
        labels: Where they were met: "the batch", or the estimators whose `fit` was given them.
        columns: Their names, as far as known.
        values: Shape (n, c), float64.
    """

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats

    @cached_property
    def told(self) -> tuple[Bits, npt.NDArray[np.bool_]]:
        """Per cell the bits that it tells, and whether it is strong: of many digits, and shared by few records."""
        import pandas as pd

        bits = np.zeros(self.values.shape, np.float32, order="F")
        strong = np.zeros(self.values.shape, np.bool_, order="F")
        for column in range(self.values.shape[1]):
            kind_of, kinds = pd.factorize(self.values[:, column], use_na_sentinel=False)
            counts = np.bincount(kind_of, minlength=len(kinds))
            rare = -np.log2(counts / len(self.values))
            with np.errstate(over="ignore"):
                single = bool(np.all(kinds.astype(np.float32) == kinds))  # held as f64, measured as f32
            digits = digits_of(kinds, np.float32 if single else np.float64)
            by_digits = np.minimum(digits * BITS_PER_DIGIT, 24.0 if single else 53.0)
            # What few share is as telling as its digits: its rarity ends where the data ends.
            few = (counts <= FEW) & (digits >= STRONG_DIGITS) & (by_digits >= np.log2(len(kinds)) + _ALONE_BITS)
            bits[:, column] = np.where(few, by_digits, np.minimum(by_digits, rare)).astype(np.float32)[kind_of]
            strong[:, column] = few[kind_of]
        if self.values.shape[1] == 1:
            bits[~uneven(self.values[:, 0])] = 0  # a column alone that counts is anybody's
        return bits, strong

    @cached_property
    def is_whole(self) -> bool:
        """Whether all are whole numbers, as integers hold them."""
        with np.errstate(invalid="ignore"):
            return bool(np.all(np.rint(self.values) == self.values)) and bool(np.all(np.abs(self.values) < 2**53))

    @cached_property
    def reach(self) -> tuple[float, float]:
        """The lowest and the highest finite number."""
        finite = self.values[np.isfinite(self.values)]
        return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)


@dataclass(frozen=True)
class Texts:
    """Values of a column of words, each once, as UTF-8, with how many records share it."""

    column: str
    values: tuple[bytes, ...]
    owners: npt.NDArray[np.int64]


def uneven(numbers: Floats) -> npt.NDArray[np.bool_]:
    """Tell which numbers do not stand in the middle of three that count evenly."""
    with np.errstate(invalid="ignore"):
        return np.append(np.diff(np.diff(numbers, prepend=np.nan)) != 0, True)


def in_utc(values: Any) -> Any:
    """Return timestamps of Arrow that have a zone as those of UTC without one: no zones are needed to print them."""
    import pyarrow as pa

    kind = values.type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return values
    return values.cast(pa.int64()).cast(pa.timestamp(kind.unit))


def digits_of(numbers: Floats, kind: type[np.floating[Any]] = np.float64) -> npt.NDArray[np.int64]:
    """Return how many significant decimal digits each number needs to be told as *kind*, 17 for all there are."""
    digits = np.full(len(numbers), _FULL)
    left = np.isfinite(numbers) & (numbers != 0)
    digits[~left] = 1
    size = np.floor(np.log10(np.abs(numbers, where=left, out=np.ones_like(numbers))))
    for count in _DIGITS:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            fits = left & (rounded_to(numbers, count - 1 - size).astype(kind) == numbers.astype(kind))
        digits[fits] = count
        left &= ~fits
    return digits


def rounded_to(numbers: Floats, decimals: Floats | int) -> Floats:
    """Return *numbers* rounded to as many *decimals*, which may be negative, as printing does."""
    scale = np.power(10.0, np.abs(decimals))
    up = np.asarray(decimals) >= 0
    rounded: Floats = np.where(up, np.rint(numbers * scale) / scale, np.rint(numbers / scale) * scale)
    return rounded


def text_bits(value: bytes) -> float:
    """Return how many bits a text tells by its length."""
    digits = sum(48 <= letter <= 57 for letter in value)
    return digits * BITS_PER_DIGIT + (len(value) - digits) * BITS_PER_LETTER
