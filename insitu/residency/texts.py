"""Words of records: lines and long values by a selection of their 16-byte windows, identifiers by their last 8 bytes.

The selection is winnowing (Schleimer, Wilkerson, Aiken 2003): of every 16 neighbouring windows the one of the least
hash. Whatever shares 31 bytes with a line shares one of them; of shorter lines the first and the last window are
chosen, too, since those between may reach into a neighbour that an artifact need not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from insitu.residency.index import NARROW, WIDE, Bytes, Hashes, Key, Offsets, Seen, Survivors, words_at
from insitu.residency.sources import BITS_PER_LETTER, FEW, STRONG_TEXT_BITS, Texts, text_bits

_NEIGHBOURS = 16
_BLOCK = 1 << 16  # offsets at a time: their hashes stay in the cache
_MOST = 20_000
"""Windows of a piece that are held against the texts: the verdict stands long before."""


@dataclass(frozen=True)
class Lines:
    """Texts of records, one after the other, each ended by a line end; *label* says what they are."""

    label: str
    data: bytes

    def chosen(self, key: Key) -> Hashes:
        """Return the hashes of the windows that winnowing chooses, each once, without those of many lines."""
        kept = [_winnowed(hashes) for _, hashes in self._hashed(key, overlap=_NEIGHBOURS - 1)]
        kept.append(self._around_short(key))
        hashes, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *kept]), return_counts=True)
        return hashes[counts <= FEW * _NEIGHBOURS]

    def places(self, seen: Seen, key: Key) -> tuple[Hashes, Offsets]:
        """Return the windows that *seen* holds, in the order of their hashes."""
        found = [(hashes[at], start + at) for start, hashes in self._hashed(key) for at in [seen.among(hashes)]]
        hashes = np.concatenate([np.empty(0, np.uint64), *(part for part, _ in found)])
        places = np.concatenate([np.empty(0, np.int64), *(part for _, part in found)])
        order = np.argsort(hashes, kind="stable")
        return hashes[order], places[order]

    def line_of(self, place: int) -> int:
        """Return the number of the line, from 0, that holds the byte at *place*."""
        return int(np.searchsorted(self._ends, place))

    @cached_property
    def _ends(self) -> Offsets:
        return np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))

    def _around_short(self, key: Key) -> Hashes:
        """Return the first and the last window of each line too short for winnowing."""
        starts = np.concatenate([[0], self._ends[:-1] + 1]) if len(self._ends) else self._ends
        lengths = self._ends - starts
        short = (lengths >= WIDE) & (lengths < WIDE + _NEIGHBOURS - 1)
        at = np.concatenate([starts[short], self._ends[short] - WIDE])
        words = np.ndarray((max(0, len(self.data) - NARROW + 1),), "<u8", self.data, strides=(1,))
        first, second = (key.mixed(words[places].astype(np.uint64)) for places in (at, at + NARROW))
        return key.wide(first, second)

    def _hashed(self, key: Key, overlap: int = 0) -> Iterator[tuple[int, Hashes]]:
        count = len(self.data) - WIDE + 1
        for start in range(0, max(0, count), _BLOCK):
            wanted = min(_BLOCK + overlap, count - start)
            mixed = key.mixed(words_at(self.data, start, wanted + NARROW))
            yield start, key.wide(mixed[:-NARROW], mixed[NARROW:])


def _winnowed(hashes: Hashes) -> Hashes:
    least = hashes
    for step in (1, 2, 4, 8):
        least = np.minimum(least[:-step], least[step:]) if len(least) > step else least
    return least[np.flatnonzero(np.concatenate([[True], least[1:] != least[:-1]]))] if len(least) else least


def extents(
    lines: Lines, places: tuple[Hashes, Offsets], data: Bytes, windows: Survivors, threshold_bits: float
) -> dict[int, int]:
    """Return the lines of which *data* holds enough, with where each begins in *data*."""
    found: dict[int, int] = {}
    hashes, at = places
    low = np.searchsorted(hashes, windows.hashes, "left")
    owners = np.searchsorted(hashes, windows.hashes, "right") - low
    text, least = data.tobytes(), threshold_bits / BITS_PER_LETTER
    for window in np.flatnonzero((owners > 0) & (owners <= FEW))[:_MOST]:
        for turn in range(owners[window]):
            here, there = int(windows.offsets[window]), int(at[low[window] + turn])
            line = lines.line_of(there)
            before, after = (0, 0) if line in found else _reach(text, here, lines.data, there)
            if before + after >= least:
                found[line] = here - before
    return found


def _reach(text: bytes, here: int, lines: bytes, there: int) -> tuple[int, int]:
    """Return how many bytes before *here* and from it on equal those of the line around *there*."""
    start = lines.rfind(b"\n", 0, there) + 1
    end = lines.find(b"\n", there)
    before = 0
    while before < min(there - start, here) and text[here - before - 1] == lines[there - before - 1]:
        before += 1
    after = 0
    while after < min(end - there, len(text) - here) and text[here + after] == lines[there + after]:
        after += 1
    return before, after


@dataclass(frozen=True)
class Words:
    """Values of columns of words that point at few records, and are long enough not to lie anywhere by chance."""

    columns: Sequence[Texts]
    _known: dict[bytes, list[tuple[str, bytes]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for texts in self.columns:
            for value, owners in zip(texts.values, texts.owners, strict=True):
                if owners <= FEW and len(value) >= NARROW and text_bits(value) >= STRONG_TEXT_BITS:
                    self._known.setdefault(value[-NARROW:], []).append((texts.column, value))

    def hashes(self, key: Key) -> Hashes:
        """Return the hashes of their last 8 bytes."""
        words = np.frombuffer(b"".join(self._known), "<u8").astype(np.uint64)
        return key.narrow(key.mixed(words))

    def found(self, data: Bytes, windows: Survivors) -> set[tuple[str, bytes]]:
        """Return column and value of those that *data* holds whole."""
        held: set[tuple[str, bytes]] = set()
        text = data.tobytes() if self._known else b""
        for offset in windows.offsets.tolist() if self._known else ():
            for column, value in self._known.get(text[offset : offset + NARROW], ()):
                start = offset + NARROW - len(value)
                if start >= 0 and text[start : offset + NARROW] == value:
                    held.add((column, value))
        return held
