"""Numbers that a text printed: rows are looked for rounded as the text is rounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from insitu.residency.decode import Part
from insitu.residency.fingerprints import Encoding, Layout
from insitu.residency.index import NARROW, Hashes, Key, Survivors
from insitu.residency.sources import Floats, Matrix, digits_of, rounded_to

_PRINTED = re.compile(r"numbers@\d+:f64$")
"""How the decoder names the numbers that it read in a text."""

_LEAST = 4
"""Fewer numbers with decimals are no row."""

_EXACT_DIGITS = 13
"""From here on it is the number itself, which every scan looks for."""

_FORMS = 3


@dataclass(frozen=True, order=True)
class Form:
    """How numbers are printed: with so many decimals, or else with so many significant digits."""

    count: int
    is_decimals: bool

    def layout(self, matrix: Matrix) -> Layout:
        """Return what *matrix* is when it was printed so, and read again: rounded numbers tell less."""
        values = matrix.values
        places: Floats | int = self.count
        if not self.is_decimals:
            places = self.count - 1 - np.floor(np.log10(np.abs(values, where=values != 0, out=np.ones_like(values))))
        rounded = Matrix(matrix.labels, matrix.columns, rounded_to(values, places))
        return Layout(rounded, Encoding(f"text of {self.count} {'decimals' if self.is_decimals else 'digits'}", "<f8"))


@dataclass(frozen=True)
class Printed:
    """The numbers of a text in their order, and how they seem to be rounded."""

    values: Floats
    forms: tuple[Form, ...]

    def windows(self, key: Key) -> Survivors:
        """Return every pair of neighbours."""
        words: Hashes = key.mixed(self.values.view(np.uint64))
        hashes = key.wide(words[:-1], words[1:])
        return Survivors(np.arange(len(hashes)) * NARROW, hashes)


def numbers_in(part: Part) -> Printed | None:
    """Return the numbers of *part*; None where it is no text that was read, or holds too few to be a row."""
    if part.kind != "numbers" or not _PRINTED.search(part.path):
        return None
    values = np.frombuffer(part.data, "<f8")
    digits = digits_of(values)
    size = np.floor(np.log10(np.abs(values, where=values != 0, out=np.ones_like(values))))
    places = digits - 1 - size
    rounded = (places > 0) & (digits < _EXACT_DIGITS)
    if rounded.sum() < _LEAST:
        return None
    return Printed(values, (*_common(places[rounded], 1, True), *_common(digits[rounded], 4, False)))


def _common(counts: npt.NDArray[np.float64], least: int, is_decimals: bool) -> Iterator[Form]:
    """Yield the roundings that explain most of the numbers."""
    kinds, seen = np.unique(counts[counts >= least], return_counts=True)
    for at in np.argsort(-seen, kind="stable")[:_FORMS]:
        if seen[at] > 1:
            yield Form(int(kinds[at]), is_decimals)
