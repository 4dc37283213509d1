"""Finds, at every byte offset of an artifact, what may be a piece of a record: a Bloom filter over keyed hashes.

A window is 16 bytes (two or more neighbouring values) or 8 bytes (one value that is worth a look by itself). The
filter has no false negatives; what it lets through by chance is told apart against the rows themselves
(`insitu.residency.confirm`). It lives in memory, with a key of its own, for one scan: there is no file to steal.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

WIDE, NARROW = 16, 8
"""Bytes of a window."""

_BLOCK = 1 << 16  # offsets at a time: their hashes stay in the cache
_BITS_PER_ENTRY = 16  # at least; the size is a power of two, so less than twice that
_MIN_BITS, _MAX_BITS = 16, 36
_LINE_BITS = 9
_IN_BYTES_UP_TO = 28


@dataclass(frozen=True)
class Key:
    """128 random bits, stretched to the odd factors of the hashes: nobody can make values that collide."""

    factors: tuple[np.uint64, ...]

    @classmethod
    def new(cls) -> Key:
        """Return a key that nobody knows."""
        drawn = np.random.Generator(np.random.PCG64(secrets.randbits(128))).integers(0, 2**64, 6, np.uint64)
        return cls(tuple(drawn | np.uint64(1)))

    def mixed(self, words: Hashes) -> Hashes:
        """Return a permutation of each word, in which every bit of it reaches the upper half."""
        mixed = words * self.factors[0]
        mixed ^= mixed >> np.uint64(32)
        return mixed

    def narrow(self, mixed: Hashes) -> Hashes:
        """Return the hash of each 8-byte window: equal for equal words only."""
        return mixed * self.factors[1]

    def wide(self, mixed: Hashes, following: Hashes) -> Hashes:
        """Return the hash of each 16-byte window, of its two mixed words."""
        return mixed * self.factors[2] + following * self.factors[3]


@dataclass(frozen=True)
class Survivors:
    """Windows of one piece that may be of a record: where they begin, and their hashes."""

    offsets: Offsets
    hashes: Hashes


def different(hashes: Hashes) -> Hashes:
    """Return *hashes* in order, each once."""
    inorder = np.sort(hashes)
    return inorder[np.flatnonzero(np.concatenate([[True], inorder[1:] != inorder[:-1]]))] if len(inorder) else inorder


@dataclass(frozen=True)
class Filter:
    """A Bloom filter of three probes, of 16 to 32 bits per entry; those of an entry lie in one line of the cache."""

    key: Key
    bits: int
    table: Bytes
    entries: int

    @classmethod
    def of(cls, hashes: Iterable[Hashes], key: Key) -> Filter:
        """Return a filter that holds all *hashes*."""
        held = [part for part in hashes if len(part)]
        entries = sum(map(len, held))
        bits = min(max(_MIN_BITS, (_BITS_PER_ENTRY * entries - 1).bit_length()), _MAX_BITS)
        if bits <= _IN_BYTES_UP_TO:
            marks = np.zeros(1 << bits, np.bool_)
            for part in held:
                for place in _places(part, bits, key):
                    marks[place] = True
            return cls(key, bits, np.packbits(marks, bitorder="little"), entries)
        table = np.zeros(1 << (bits - 3), np.uint8)
        for part in held:
            for place in _places(part, bits, key):
                np.bitwise_or.at(table, place >> np.uint64(3), _bit_of(place))
        return cls(key, bits, table, entries)

    @property
    def bits_per_entry(self) -> float:
        """How large the filter is, beside what it holds."""
        return 8 * len(self.table) / max(1, self.entries)

    def among(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return the places in *hashes* of those that the filter may hold."""
        if not self.entries or not len(hashes):
            return np.empty(0, np.int64)
        left = self._marked(hashes >> np.uint64(64 - self.bits))  # nearly all fall here
        for factor in self.key.factors[4:]:
            left = left[self._marked(_beside(hashes[left], self.bits, factor))]
        return left

    def _marked(self, places: Hashes) -> npt.NDArray[np.int64]:
        found = np.take(self.table, (places >> np.uint64(3)).view(np.int64), mode="clip")
        found >>= places.astype(np.uint8) & np.uint8(7)
        found &= np.uint8(1)
        places_found: npt.NDArray[np.int64] = np.flatnonzero(found.view(np.bool_))
        return places_found


@dataclass(frozen=True)
class Seen:
    """The hashes of all windows that survived, to be looked for among those of the rows."""

    filter: Filter
    hashes: Hashes

    @classmethod
    def of(cls, survivors: Iterable[Survivors], key: Key) -> Seen:
        """Return what *survivors* are."""
        hashes = different(np.concatenate([np.empty(0, np.uint64), *(one.hashes for one in survivors)]))
        return cls(Filter.of([hashes], key), hashes)

    def among(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """Return the places in *hashes* of those that survived, without error."""
        at = self.filter.among(hashes)
        if not len(at):
            return at
        nearest = np.minimum(np.searchsorted(self.hashes, hashes[at]), len(self.hashes) - 1)
        kept: npt.NDArray[np.int64] = at[self.hashes[nearest] == hashes[at]]
        return kept


def _places(hashes: Hashes, bits: int, key: Key) -> Iterable[Hashes]:
    yield hashes >> np.uint64(64 - bits)
    yield from (_beside(hashes, bits, factor) for factor in key.factors[4:])


def _beside(hashes: Hashes, bits: int, factor: np.uint64) -> Hashes:
    """Return a place of each hash in the line of its first one."""
    first = hashes >> np.uint64(64 - bits) & ~np.uint64((1 << _LINE_BITS) - 1)
    return first | (hashes * factor) >> np.uint64(64 - _LINE_BITS)


def _bit_of(places: Hashes) -> Bytes:
    return np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))


def words_at(data: memoryview | bytes | Bytes, start: int, count: int) -> Hashes:
    """Return *count* words of 8 bytes, one from every offset on from *start*."""
    return np.ndarray((count,), "<u8", data, offset=start, strides=(1,)).astype(np.uint64)


@dataclass(frozen=True)
class Index:
    """What is looked for: windows of neighbouring values, and single values."""

    key: Key
    wide: Filter
    narrow: Filter

    @property
    def entries(self) -> int:
        """How many windows it holds."""
        return self.wide.entries + self.narrow.entries

    @property
    def bits_per_entry(self) -> float:
        """How large it is, beside what it holds."""
        return 8 * (len(self.wide.table) + len(self.narrow.table)) / max(1, self.entries)

    def search(self, data: memoryview | bytes) -> tuple[Survivors, Survivors]:
        """Return the windows of *data* that may be of a record: the wide ones, then the narrow ones."""
        found: tuple[list[Any], list[Any]] = ([], [])
        ends = len(data) - NARROW + 1
        for start in range(0, max(0, ends), _BLOCK):
            count = min(_BLOCK + NARROW, ends - start)
            words = words_at(data, start, count)
            mixed = self.key.mixed(words)
            singles = mixed[:_BLOCK]
            if len(pairs := mixed[:-NARROW]):
                hashes = self.key.wide(pairs, mixed[NARROW:])
                at = self.wide.among(hashes)
                at = at[~_constant(words[at]) | (words[at] != words[at + NARROW])]
                found[0].append((start + at, hashes[at]))
            if self.narrow.entries:
                hashes = self.key.narrow(singles)
                at = self.narrow.among(hashes)
                found[1].append((start + at, hashes[at]))
        wide, narrow = (_joined(parts) for parts in found)
        return wide, narrow


def _constant(words: Hashes) -> npt.NDArray[np.bool_]:
    """Tell which words are one byte eight times: zeros and padding, which are no record's."""
    constant: npt.NDArray[np.bool_] = words == (words << np.uint64(8) | words >> np.uint64(56))
    return constant


def _joined(parts: list[Any]) -> Survivors:
    if not parts:
        return Survivors(np.empty(0, np.int64), np.empty(0, np.uint64))
    offsets, hashes = zip(*parts, strict=True)
    return Survivors(np.concatenate(offsets), np.concatenate(hashes))
