"""Tells records from coincidences: what the filter let through is held against the rows themselves.

    windows that survive ──> frames (where a row would begin) ──> equal rows, or runs of rows ──> enough bits
                                                              └─> else: cells that equal a row's ──> enough bits

A row that tells little by itself is found with those that follow it, as far as they lie in the order of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from insitu.residency.fingerprints import Layout
from insitu.residency.index import Bytes, Hashes, Key, Offsets, Seen, Survivors
from insitu.residency.sources import FEW, Bits, Matrix

Rows = npt.NDArray[np.int64]

_LONGEST_RUN = 64
_FEWEST_SINGLES = 4
"""Rows of one value: fewer in the data's order are single values, which are counted for themselves."""

_CHUNK_BYTES = 8 << 20
_NONE: Rows = np.empty(0, np.int64)


@dataclass(frozen=True)
class Suspect:
    """A piece with windows that the filter let through."""

    path: str
    data: Bytes
    windows: Survivors


@dataclass(frozen=True)
class Found:
    """Rows of *matrix* that lie in a piece, in one encoding.

    Attributes:
        rows: Which ones, each once.
        offset: Where the first of them begins in the piece.
    """

    matrix: Matrix
    path: str
    encoding: str
    rows: Rows
    offset: int


@dataclass(frozen=True)
class _Hits:
    """The windows of a layout that lie in suspects, by the column at which they begin; hashes in order."""

    column: int
    hashes: Hashes
    rows: Rows


def confirm(layout: Layout, suspects: Sequence[Suspect], seen: Seen, key: Key, threshold_bits: float) -> list[Found]:
    """Return the rows of *layout* that lie in *suspects*; *seen* holds all their windows."""
    hits, rows = list(_hits(layout, seen, key)), _Rows(layout, key)
    found = (_in_piece(rows, suspect, hits, threshold_bits) for suspect in suspects if hits)
    return [one for one in found if one]


@dataclass(frozen=True)
class _Rows:
    """The rows of a layout, hashed when a frame asks for them."""

    layout: Layout
    key: Key

    @cached_property
    def hashes(self) -> Hashes:
        return _row_hashes(self.layout.cells, self.key)

    def at(self, wanted: Hashes, length: int) -> Rows:
        """Return for each hash in *wanted* where a run of so many rows begins that has it; -1 where none does."""
        runs, order = _runs(self.hashes, length, self.key), np.argsort(wanted)
        nearest = np.minimum(np.searchsorted(wanted, runs, sorter=order), len(wanted) - 1)
        equal = np.flatnonzero(wanted[order[nearest]] == runs)
        known, first = np.unique(runs[equal], return_index=True)
        if not len(known):
            return np.full(len(wanted), -1)
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        found: Rows = np.where(known[place] == wanted, equal[first[place]], -1)
        return found

    def bits(self, rows: Rows, length: int) -> npt.NDArray[np.float64]:
        """Return what *length* rows from each of *rows* on tell together."""
        wanted, place = np.unique(rows[:, None] + np.arange(length), return_inverse=True)
        told = _distinct_bits(self.layout.matrix.values[wanted], self.layout.bits(wanted))
        sums: npt.NDArray[np.float64] = told[place.reshape(-1, length)].sum(axis=1, dtype=np.float64)
        return sums


def _hits(layout: Layout, seen: Seen, key: Key) -> Iterator[_Hits]:
    for column in layout.columns():
        hashes, rows = layout.windows(column, key)
        at = seen.among(hashes)
        if len(at):
            at = at[np.argsort(hashes[at], kind="stable")]
            yield _Hits(column, hashes[at], rows[at])


def _in_piece(known: _Rows, suspect: Suspect, hits: list[_Hits], threshold_bits: float) -> Found | None:
    layout = known.layout
    frames, guesses = _frames(layout, suspect.windows, hits)
    rows, starts = _equal_runs(known, suspect.data, frames, threshold_bits)
    left = ~np.isin(guesses[0], starts)
    more, more_starts = _alike(layout, suspect.data, guesses[0][left], guesses[1][left], threshold_bits)
    if not len(rows) + len(more):
        return None
    all_rows = np.unique(np.concatenate([rows, more]))
    first = min([*starts[:1], *more_starts[:1]])
    return Found(layout.matrix, suspect.path, layout.encoding.name, all_rows, max(0, int(first)))


def _frames(layout: Layout, windows: Survivors, hits: list[_Hits]) -> tuple[Offsets, tuple[Offsets, Rows]]:
    """Return where rows would begin, and for windows of few rows where which row would begin."""
    starts, guesses = [_NONE], [np.empty((0, 2), np.int64)]
    for hit in hits:
        low = np.searchsorted(hit.hashes, windows.hashes, "left")
        owners = np.searchsorted(hit.hashes, windows.hashes, "right") - low
        begin = windows.offsets - hit.column * layout.cells.itemsize
        starts.append(begin[owners > 0])
        for turn in range(FEW):
            at = np.flatnonzero((owners > turn) & (owners <= FEW))
            guesses.append(np.stack([begin[at], hit.rows[low[at] + turn]], axis=1))
    pairs = np.unique(np.concatenate(guesses), axis=0)
    return np.unique(np.concatenate(starts)), (pairs[:, 0], pairs[:, 1])


def _equal_runs(known: _Rows, data: Bytes, frames: Offsets, threshold_bits: float) -> tuple[Rows, Offsets]:
    """Return the rows that lie at *frames*, with those that follow as far as the threshold wants them."""
    found_rows, found_starts = [_NONE], [_NONE]
    length = 1 if known.layout.cells.shape[1] > 1 else _FEWEST_SINGLES
    while len(frames) and length <= min(_LONGEST_RUN, len(known.hashes)):
        rows = np.full(len(frames), -1)
        for part, cells in _gathered(known.layout, data, frames, length):
            there = _runs(_row_hashes(cells, known.key), length, known.key)[::length]
            rows[part] = known.at(there, length)
        frames, rows = frames[rows >= 0], rows[rows >= 0]
        enough = known.bits(rows, length) >= threshold_bits
        found_rows += [rows[enough] + step for step in range(length)]
        found_starts += [frames[enough] + step * known.layout.row_bytes for step in range(length)]
        frames, length = np.setdiff1d(frames[~enough], np.concatenate(found_starts)), 2 * length
    return np.unique(np.concatenate(found_rows)), np.unique(np.concatenate(found_starts))


def _alike(layout: Layout, data: Bytes, frames: Offsets, rows: Rows, threshold_bits: float) -> tuple[Rows, Offsets]:
    """Return those of *rows*, guessed to lie at *frames*, of which enough cells do; a lone cell is none."""
    kept = np.zeros(len(frames), np.bool_)
    size, columns = layout.row_bytes, layout.cells.shape[1]
    for part in _chunks(len(frames), size):
        row_bits = layout.bits(rows[part])
        places = frames[part][:, None] + np.arange(size)
        inside = (places >= 0) & (places < len(data))
        there = np.where(inside, data[np.clip(places, 0, len(data) - 1)], 0)
        wanted = np.ascontiguousarray(layout.cells[rows[part]]).view(np.uint8).reshape(there.shape)
        equal = ((there == wanted) & inside).reshape(len(there), columns, -1).all(axis=2)
        bits = _distinct_bits(layout.matrix.values[rows[part]], np.where(equal, row_bits, 0))
        kept[part] = (bits >= threshold_bits) & (equal.sum(axis=1) > 1)
    return rows[kept], frames[kept]


def _gathered(
    layout: Layout, data: Bytes, frames: Offsets, length: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
    """Yield, for parts of *frames*, which ones they are and the cells that lie there, (k * length, c)."""
    size = layout.row_bytes * length
    inside = np.flatnonzero((frames >= 0) & (frames + size <= len(data)))
    for part in _chunks(len(inside), size):
        taken = data[frames[inside[part]][:, None] + np.arange(size)]
        yield inside[part], taken.view(layout.cells.dtype).reshape(-1, layout.cells.shape[1])


def _chunks(count: int, size_bytes: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // max(1, size_bytes))
    for start in range(0, count, step):
        yield slice(start, start + step)


def _row_hashes(cells: npt.NDArray[Any], key: Key) -> Hashes:
    """Return a hash of each row, (n,)."""
    words = np.ascontiguousarray(cells).view(f"<u{cells.itemsize}")
    hashes = np.zeros(len(words), np.uint64)
    for column in range(words.shape[1]):
        hashes = key.mixed(hashes + key.mixed(words[:, column].astype(np.uint64)) * key.factors[2])
    return hashes


def _runs(hashes: Hashes, length: int, key: Key) -> Hashes:
    """Return a hash of each *length* rows that follow each other, (n - length + 1,)."""
    runs = np.zeros(len(hashes) - length + 1, np.uint64)
    for step in range(length):
        runs = key.mixed(runs + hashes[step : step + len(runs)] * key.factors[3])
    return runs


def _distinct_bits(values: npt.NDArray[np.float64], bits: Bits) -> Bits:
    """Return what the cells of each row tell together, where equal numbers of a row tell it once."""
    order = np.argsort(values, axis=1, kind="stable")
    inorder = np.take_along_axis(values, order, axis=1)
    told = np.take_along_axis(bits, order, axis=1)
    again = np.zeros(told.shape, np.bool_)
    again[:, 1:] = inorder[:, 1:] == inorder[:, :-1]
    sums: Bits = np.where(again, 0, told).sum(axis=1, dtype=np.float32)
    return sums
