"""Columns of records: values of one column that follow each other as they do in the data, whatever stands beside them.

A row of a few columns of low precision tells too little to be anybody's. Thirty-two of its values in the order of the
data tell enough, in any table that is opened as lines or numbers: with other columns, in another order of columns, with
an index, a computed label, or by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.residency.index import Hashes
from insitu.residency.sources import uneven

if TYPE_CHECKING:
    import pyarrow as pa

RUN = 32
"""Values of a run."""
_STEP = 16  # runs of the data begin at every sixteenth row: 47 rows of it hold one
_CHANGES, _UNEVEN = 8, 4
_LINES, _BLOCKS = 256, 200
_SEPARATORS = (b",", b"\t", b";", b"|", b" ")
_NUMBERS, _STRIDES, _SMALL_BYTES = 1 << 16, 4, 8 << 20
_HEAD_BYTES = 4096
_NOTHING = np.uint64(0x9E3779B97F4A7C15)
_POWERS = np.array([pow(0x2545F4914F6CDD1D, n, 1 << 64) for n in range(RUN)], np.uint64)
_STRIP = b" \t\r\"'{}[]()"

Codes = Hashes
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """A column of the data: the code of each value, in order, and where values are a sequence that anybody may have."""

    name: str
    codes: Codes
    uneven: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Runs:
    """The runs that are looked for: their hashes in order, and of which column and row each is."""

    names: tuple[str, ...]
    hashes: Hashes
    columns: Rows
    rows: Rows
    _known: dict[bytes, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, columns: Sequence[Column], threshold_bits: float, each: Callable[..., Iterable[Any]] = map) -> Runs:
        """Return the runs of *columns* that tell at least *threshold_bits*; *each* maps as `map` does."""
        hashes, owners, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number, (starts, hashed) in enumerate(each(lambda column: _runs(column, threshold_bits), columns)):
            hashes.append(hashed)
            owners.append(np.full(len(starts), number))
            rows.append(starts)
        joined = np.concatenate(hashes)
        order = np.argsort(joined, kind="stable")
        names = tuple(column.name for column in columns)
        return cls(names, joined[order], np.concatenate(owners)[order], np.concatenate(rows)[order])

    def found_in(self, data: memoryview | bytes) -> dict[str, set[int]]:
        """Return the rows of each column that *data* holds one after the other, as fields of lines or as numbers."""
        found: dict[str, set[int]] = {}
        if len(self.hashes) and _is_text(bytes(data[:_HEAD_BYTES])):
            for cells in _tables(data):
                for values in cells:
                    self._look(np.array([self._code(value) for value in values], np.uint64), found)
        elif len(self.hashes):
            self._look_at_numbers(data, found)
        return found

    def _look_at_numbers(self, data: memoryview | bytes, found: dict[str, set[int]]) -> None:
        """Look at doubles, or integers of 8 bytes: one after the other or, of a small piece, every second to fourth."""
        whole = len(data) // 8 * 8
        for start in range(0, whole // 8, _NUMBERS):
            part = data[8 * start : min(whole, 8 * (start + _NUMBERS + RUN))]
            integers = np.frombuffer(part, "<i8")
            readings = [np.frombuffer(part, "<f8")]
            readings += [integers.astype(np.float64)] if np.all(np.abs(integers) < 2**53) else []
            for codes in map(codes_of, readings):
                for step in range(1, _STRIDES + 1 if whole <= _SMALL_BYTES else 2):
                    for first in range(step):
                        self._look(codes[first::step], found)

    def _look(self, codes: Codes, found: dict[str, set[int]]) -> None:
        hashes = _hashed(codes)
        places = np.searchsorted(self.hashes, hashes)
        places[places == len(self.hashes)] = 0
        for place in np.unique(places[self.hashes[places] == hashes]):
            first = int(self.rows[place])
            found.setdefault(self.names[int(self.columns[place])], set()).update(range(first, first + RUN))

    def _code(self, value: bytes) -> int:
        if value not in self._known:
            self._known[value] = code_of(value)
        return self._known[value]


def columns_of(table: pa.Table) -> Iterator[Column]:
    """Yield the columns of *table* that hold single values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in table.schema.names:
        values = table[name].combine_chunks()
        kind = values.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            numbers = pc.fill_null(values.cast(pa.float64(), safe=False), math.nan)
            numbers = np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
            yield Column(name, codes_of(numbers), uneven(numbers))
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            coded = values if pa.types.is_dictionary(kind) else values.dictionary_encode()
            known = [_NOTHING if one is None else code_of(str(one).encode()) for one in coded.dictionary.to_pylist()]
            places = pc.fill_null(coded.indices.cast(pa.int64()), len(known)).to_numpy(zero_copy_only=False)
            codes = np.array([*known, _NOTHING], np.uint64)[places]
            yield Column(name, codes, np.ones(len(codes), np.bool_))


def codes_of(numbers: npt.NDArray[np.float64]) -> Codes:
    """Return the code of each number; of what is none the code of nothing."""
    with np.errstate(invalid="ignore"):
        bits = (numbers + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    mixed = (bits ^ (bits >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(29)
    return np.where(np.isnan(numbers), _NOTHING, mixed * np.uint64(0xFF51AFD7ED558CCD))


def code_of(value: bytes) -> int:
    """Return the code of a printed value: of a number that of the number, so that 5 and 5.0 are one."""
    value = value.strip(_STRIP)
    try:
        return int(codes_of(np.array([float(value)]))[0])
    except ValueError:
        lowered = value.lower()
        if lowered in (b"", b"null", b"none"):
            return int(_NOTHING)
        if lowered in (b"true", b"false"):
            return int(codes_of(np.array([float(lowered == b"true")]))[0])
        return int.from_bytes(blake2b(value, digest_size=8).digest(), "little")


def _hashed(codes: Codes) -> Hashes:
    """Return the hash of every run of *codes*."""
    if len(codes) < RUN:
        return np.empty(0, np.uint64)
    total = np.zeros(len(codes) - RUN + 1, np.uint64)
    for place, power in enumerate(_POWERS):
        total += codes[place : place + len(total)] * power
    return total


def _runs(column: Column, threshold_bits: float) -> tuple[Rows, Hashes]:
    """Return where runs of *column* begin that tell enough, and their hashes."""
    starts = _telling(column, threshold_bits)
    return starts, _hashed(column.codes)[starts] if len(starts) else np.empty(0, np.uint64)


def _telling(column: Column, threshold_bits: float) -> Rows:
    """Return where runs begin that tell enough; a value like the one before tells nothing, and counting does not."""
    import pyarrow as pa

    codes, count = column.codes, len(column.codes)
    if count < RUN:
        return np.empty(0, np.int64)
    kinds = pa.array(codes).dictionary_encode().indices.to_numpy()
    counts = np.bincount(kinds)
    changes = np.append(True, codes[1:] != codes[:-1]) & (codes != _NOTHING)
    told = np.where(changes, -np.log2(counts / count)[kinds], 0.0)
    starts = np.arange(0, count - RUN + 1, _STEP)

    def over(amounts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        sums = np.concatenate([[0.0], np.cumsum(amounts)])
        return np.asarray(sums[starts + RUN] - sums[starts])

    enough = (over(told) >= threshold_bits) & (over(changes) >= _CHANGES) & (over(column.uneven) >= _UNEVEN)
    return starts[enough]


def _is_text(head: bytes) -> bool:
    """Tell whether what begins so is text; numbers have bytes that no text has, among so many."""
    return not any(byte < 9 for byte in head) and head.decode("utf-8", "replace").count("\N{REPLACEMENT CHARACTER}") < 9


def _tables(data: memoryview | bytes) -> Iterator[list[tuple[bytes, ...]]]:
    """Yield blocks of lines that have equally many fields, column by column; of a long text blocks spread over it."""
    lines = bytes(data).replace(b"},{", b"}\n{").replace(b"],[", b"]\n[").splitlines()  # JSON needs no lines
    blocks = max(1, -(-len(lines) // _LINES))
    step = max(1, -(-blocks // _BLOCKS))
    for first in range(0, len(lines), _LINES * step):
        block = lines[first : first + _LINES + RUN]
        if len(block) < RUN:
            continue
        for separator in _SEPARATORS:
            fields = [line.split(separator) for line in block]
            width = sorted(map(len, fields))[len(fields) // 2]
            if width > 1 or separator == _SEPARATORS[-1]:
                even = [[_value(one) for one in row] for row in fields if len(row) == width]
                if len(even) >= RUN:
                    yield list(zip(*even, strict=True))
                break


def _value(cell: bytes) -> bytes:
    """Return the value of a field, without the key that JSON puts before it."""
    key, colon, value = cell.partition(b'":')
    return value if colon and key.strip(_STRIP) else cell
