"""The leak scanner: every piece of an artifact, at every byte offset, against the rows that it was trained on.

    matrices, lines, words ──> Index ──> survivors in each part ──> confirm ──> Scan ──> verdict

Takes any iterable of parts (`insitu.residency.decode`), holds 64 MB of suspect parts at a time, and returns counts and
places, never a value.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from insitu.residency.columns import Column, Runs
from insitu.residency.confirm import Found, Suspect, confirm
from insitu.residency.decode import Part, Unopened
from insitu.residency.fingerprints import ENCODINGS, Encoding, Layout, layouts, strong_words
from insitu.residency.index import Filter, Hashes, Index, Key, Seen, Survivors, different
from insitu.residency.origin import Origin, origin_at
from insitu.residency.printed import Printed, numbers_in
from insitu.residency.sources import Matrix, Texts
from insitu.residency.texts import Lines, Words, extents

SCANNER = "insitu-residency/1"

_MARGIN_BITS = 10.0
_MOST_BYTES_BITS = 34.0  # of 16 GB, which is the most that is opened
"""Expected coincidences per artifact: at most one in a thousand."""
_HELD_BYTES = 64 << 20


@dataclass(frozen=True)
class Detectors:
    """What the scanner looks for; each can be left out, to show what it finds."""

    encodings: tuple[Encoding, ...] = ENCODINGS
    rows: bool = True
    cells: bool = True
    lines: bool = True
    words: bool = True
    printed: bool = True
    columns: bool = True


@dataclass(frozen=True)
class Source:
    """What an artifact must not hold.

    Attributes:
        matrices: Numbers of the batch, and what `fit` was given.
        lines: Whole rows, or long values, as text.
        words: Columns of words.
        columns: Columns of all kinds, in the order of the rows.
    """

    matrices: Sequence[Matrix]
    lines: Sequence[Lines] = ()
    words: Sequence[Texts] = ()
    columns: Sequence[Column] = ()


@dataclass(frozen=True)
class Leak:
    """What one part of an artifact holds of one source: counts, and where.

    Attributes:
        path: The part, such as `model/model.pkl`.
        what: "rows", "lines" or "cells".
        source: The labels of the matrix, or the name of the column.
        columns: Whose values they are, as far as known.
        ids: Which ones: numbers of rows, or opaque marks of cells; they stay in the scanner.
        encoding: How they are written.
        origin: The object of the file that holds them, as far as its bytes say.
    """

    path: str
    what: str
    source: tuple[str, ...]
    columns: tuple[str, ...]
    ids: frozenset[Any]
    encoding: str
    origin: Origin | None = None


@dataclass(frozen=True)
class Scan:
    """What was looked at and what was found."""

    leaks: tuple[Leak, ...]
    unopened: tuple[Unopened, ...]
    entries: int
    bits_per_entry: float
    bytes_scanned: int
    threshold_bits: float
    seconds: float


@dataclass
class Scanner:
    """Looks for a source in artifacts."""

    source: Source
    detectors: Detectors = field(default_factory=Detectors)
    key: Key = field(default_factory=Key.new)

    def __post_init__(self) -> None:
        started, wanted = time.monotonic(), self.detectors
        self._words = Words(self.source.words if wanted.words else ())
        self._lines = self.source.lines if wanted.lines else ()
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # sorting and hashing leave the interpreter's lock
            lines = pool.map(lambda lines: lines.chosen(self.key), self._lines)
            rows = pool.map(lambda window: different(window[0].windows(window[1], self.key)[0]), self._windows())
            wide, narrow = [*rows, *lines], [*self._cell_hashes(), self._words.hashes(self.key)]
            filters = pool.map(lambda hashes: Filter.of(hashes, self.key), (wide, narrow))
            self.index = Index(self.key, *filters)
            least = math.log2(max(2, self.index.entries)) + _MOST_BYTES_BITS + _MARGIN_BITS
            self._runs = Runs.of(self.source.columns if wanted.columns else (), least, pool.map)
        self._seconds = time.monotonic() - started

    def scan(self, parts: Iterable[Part | Unopened]) -> Scan:
        """Return what *parts* hold of the source."""
        started, unopened, leaks, scanned = time.monotonic(), list[Unopened](), list[Leak](), 0
        held = _Held()
        for part in parts:
            if isinstance(part, Unopened):
                unopened.append(part)
                continue
            scanned += len(part.data)
            leaks += self._run_leaks(part)
            if not part.seen:  # else it was searched within the part that holds it
                held.take(part, *self.index.search(part.data))
            if held.size_bytes > _HELD_BYTES:
                leaks += self._leaks(held, self._threshold(scanned))
                held = _Held()
        leaks += self._leaks(held, self._threshold(scanned))
        return Scan(
            tuple(leaks),
            tuple(unopened),
            self.index.entries,
            self.index.bits_per_entry,
            scanned,
            self._threshold(scanned),
            time.monotonic() - started + self._seconds,
        )

    def _run_leaks(self, part: Part) -> Iterator[Leak]:
        """Yield columns of the data that stand in *part* in their order."""
        for name, rows in self._runs.found_in(part.data).items():
            yield Leak(part.path, "rows", ("the batch", name), (name,), frozenset(rows), "a column in its order")

    def _threshold(self, scanned: int) -> float:
        return math.log2(max(2, self.index.entries)) + math.log2(max(2, scanned)) + _MARGIN_BITS

    def _layouts(self) -> Iterator[Layout]:
        for matrix in self.source.matrices:
            yield from layouts(matrix, self.detectors.encodings)

    def _windows(self) -> Iterator[tuple[Layout, int]]:
        for layout in self._layouts() if self.detectors.rows else ():
            for column in layout.columns():
                yield layout, column

    def _cells(self) -> Iterator[tuple[Matrix, int, Hashes]]:
        for matrix in self.source.matrices if self.detectors.cells else ():
            for column in range(matrix.values.shape[1]):
                yield matrix, column, self.key.narrow(self.key.mixed(strong_words(matrix, column)))

    def _cell_hashes(self) -> Iterator[Hashes]:
        return (hashes for _, _, hashes in self._cells())

    def _leaks(self, held: _Held, threshold_bits: float) -> Iterator[Leak]:
        seen = Seen.of((suspect.windows for suspect in held.wide), self.key)
        if held.wide:
            for found in self._confirmed(held.wide, seen, threshold_bits):
                yield _row_leak(found, held)
            for lines in self._lines:
                yield from self._line_leaks(lines, held, seen, threshold_bits)
        yield from self._cell_leaks(held)
        if self.detectors.printed:
            yield from self._printed_leaks(held, threshold_bits)

    def _confirmed(self, suspects: Sequence[Suspect], seen: Seen, threshold_bits: float) -> Iterator[Found]:
        """Yield the rows that lie in *suspects*; all of the source is hashed once more for that."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            layouts = self._layouts() if self.detectors.rows else ()
            for found in pool.map(lambda one: confirm(one, suspects, seen, self.key, threshold_bits), layouts):
                yield from found

    def _line_leaks(self, lines: Lines, held: _Held, seen: Seen, threshold_bits: float) -> Iterator[Leak]:
        places = lines.places(seen, self.key)
        for suspect in held.wide if len(places[0]) else ():
            if found := extents(lines, places, suspect.data, suspect.windows, threshold_bits):
                where = origin_at(suspect.data, min(found.values()))
                yield Leak(suspect.path, "lines", (lines.label,), (), frozenset(found), "text", where)

    def _cell_leaks(self, held: _Held) -> Iterator[Leak]:
        seen = Seen.of((suspect.windows for suspect in held.narrow), self.key)
        for matrix, column, hashes in self._cells() if held.narrow else ():
            there = hashes[seen.among(hashes)]
            for suspect in held.narrow if len(there) else ():
                yield from _cell_leak(matrix, column, there, suspect)
        for suspect in held.narrow:
            by_column: dict[str, set[bytes]] = {}
            for name, value in self._words.found(suspect.data, suspect.windows):
                by_column.setdefault(name, set()).add(value)
            for name, values in by_column.items():
                first = suspect.data.tobytes().find(min(values))
                where = origin_at(suspect.data, first)
                yield Leak(suspect.path, "cells", (name,), (name,), frozenset(map(hash, values)), "text", where)

    def _printed_leaks(self, held: _Held, threshold_bits: float) -> Iterator[Leak]:
        for form in sorted({form for _, printed in held.printed for form in printed.forms}):
            fitting = [(path, one) for path, one in held.printed if form in one.forms]
            suspects = [Suspect(path, one.values.view(np.uint8), one.windows(self.key)) for path, one in fitting]
            seen = Seen.of((one.windows for one in suspects), self.key)
            for layout in (form.layout(matrix) for matrix in self.source.matrices if matrix.values.size):
                for found in confirm(layout, suspects, seen, self.key, threshold_bits):
                    yield _row_leak(found, held)


@dataclass
class _Held:
    """Parts that wait for their confirmation."""

    wide: list[Suspect] = field(default_factory=list)
    narrow: list[Suspect] = field(default_factory=list)
    printed: list[tuple[str, Printed]] = field(default_factory=list)
    size_bytes: int = 0

    def take(self, part: Part, wide: Survivors, narrow: Survivors) -> None:
        """Hold *part* as far as something of it has to be looked at again."""
        data = np.frombuffer(part.data, np.uint8)
        if len(wide.offsets):
            self.wide.append(Suspect(part.path, data, wide))
        if len(narrow.offsets):
            self.narrow.append(Suspect(part.path, data, narrow))
        if numbers := numbers_in(part):
            self.printed.append((part.path, numbers))
        self.size_bytes += len(data) + 16 * (len(wide.offsets) + len(narrow.offsets))


def _row_leak(found: Found, held: _Held) -> Leak:
    data = next((one.data for one in held.wide if one.path == found.path), None)
    where = None if data is None else origin_at(data, found.offset)
    columns, ids = found.matrix.columns, frozenset(found.rows.tolist())
    return Leak(found.path, "rows", found.matrix.labels, columns, ids, found.encoding, where)


def _cell_leak(matrix: Matrix, column: int, there: Hashes, suspect: Suspect) -> Iterator[Leak]:
    at = np.flatnonzero(np.isin(suspect.windows.hashes, there))
    if len(at):
        names = matrix.columns[column : column + 1]
        ids = frozenset(suspect.windows.hashes[at].tolist())
        where = origin_at(suspect.data, int(suspect.windows.offsets[at[0]]))
        yield Leak(suspect.path, "cells", matrix.labels, names, ids, "number", where)
