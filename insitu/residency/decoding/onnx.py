"""ONNX models: the numbers and texts of their fields, read from the wire without the onnx package.

Packed doubles and raw data lie in the file as they are. What does not: numbers as varints, and the lists of an
attribute, where each number stands behind a tag of its own.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from insitu.residency.decoding.arrays import floats, open_array
from insitu.residency.decoding.pieces import Budget, Piece, Unopened

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 64
_TYPES = {
    1: "<f4",
    2: "u1",
    3: "i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "?",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
}
# Which fields of a message are messages, by number (onnx.proto3): anything else is a leaf.
_MESSAGES = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_INTS, _TENSOR_STRINGS, _TENSOR_RAW = (5, 7, 11), 6, 9
_ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS = 8, (4, 9)

Field = tuple[int, int, int | memoryview]


class NoMessage(ValueError):
    """Bytes that are no protobuf message."""


def is_onnx(data: memoryview) -> bool:
    """Tell whether *data* is a model: a version of the format, then fields as they should be, with a graph."""
    if len(data) < 16 or data[0] != 8 or not 1 <= data[1] <= 100:
        return False
    try:
        return any(number == 7 and wire == _BYTES for number, wire, _ in fields(data))
    except NoMessage:
        return False


def fields(data: memoryview) -> Iterator[Field]:
    """Yield number, wire type and value of each field of a message; raise `NoMessage`."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise NoMessage("an unknown wire type")
        if not number or at + size > len(data):
            raise NoMessage("a field that is cut short")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise NoMessage("a number without an end")


def open_onnx(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield what the model's tensors and attributes hold."""
    yield from _message(piece, budget, "model", piece.data, 0)


@dataclass
class _Held:
    """The fields of a tensor or an attribute that are no messages."""

    blobs: dict[int, list[memoryview]] = field(default_factory=dict)
    integers: dict[int, array[int]] = field(default_factory=dict)
    singles: bytearray = field(default_factory=bytearray)

    def keep(self, number: int, value: int | memoryview, wire: int) -> None:
        if isinstance(value, int):
            self.integers.setdefault(number, array("Q")).append(value & 0xFFFFFFFFFFFFFFFF)
        elif wire == _FIXED32:
            self.singles += value
        else:
            self.blobs.setdefault(number, []).append(value)

    def whole(self, number: int) -> Any:
        """Return the whole numbers of a field, which stand one by one, or packed as varints."""
        alone = np.frombuffer(self.integers.get(number, array("Q")), np.int64)
        return np.concatenate([alone, *map(_unpacked, self.blobs.get(number, ()))])


def _message(piece: Piece, budget: Budget, kind: str, data: memoryview, depth: int) -> Iterator[Piece | Unopened]:
    if depth > _DEEPEST:
        raise NoMessage("messages that are nested too deeply")
    budget.check_time()
    held, keeps = _Held(), kind in ("tensor", "attribute")
    for number, wire, value in fields(data):
        inner = _MESSAGES.get(kind, {}).get(number)
        if inner and isinstance(value, memoryview):
            yield from _message(piece, budget, inner, value, depth + 1)
        elif keeps:
            held.keep(number, value, wire)
    if kind == "tensor":
        yield from _tensor(_named(piece, held.blobs.get(8)), budget, held)
    elif kind == "attribute":
        yield from _attribute(_named(piece, held.blobs.get(1)), budget, held)


def _named(piece: Piece, name: list[memoryview] | None) -> Piece:
    return piece.child(bytes(name[-1]).decode("utf-8", "replace") if name else "unnamed", b"")


def _tensor(piece: Piece, budget: Budget, held: _Held) -> Iterator[Piece | Unopened]:
    dtype = _TYPES.get(int(held.whole(2)[-1])) if 2 in held.integers else None
    shape = held.whole(1).tolist()
    for raw in held.blobs.get(_TENSOR_RAW, ()):
        if dtype and shape and min(shape) > 0 and math.prod(shape) * np.dtype(dtype).itemsize == len(raw):
            yield from open_array(piece, budget, raw, np.dtype(dtype), shape, fortran=False)
        elif len(raw):
            yield piece.child("raw", raw, seen=True)
    for number in _TENSOR_INTS:
        yield from floats(piece, budget, "integers", [held.whole(number)])
    yield from _strings(piece, held.blobs.get(_TENSOR_STRINGS, []))


def _attribute(piece: Piece, budget: Budget, held: _Held) -> Iterator[Piece | Unopened]:
    if held.singles:
        yield piece.numbers("floats", bytes(held.singles))
    yield from floats(piece, budget, "integers", [held.whole(_ATTRIBUTE_INTS)])
    for number in _ATTRIBUTE_STRINGS:
        yield from _strings(piece, held.blobs.get(number, []))


def _unpacked(data: memoryview) -> Any:
    flat = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(flat < 128)
    if len(flat) and (not len(ends) or ends[-1] != len(flat) - 1):
        raise NoMessage("a number without an end")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    place = np.arange(len(flat)) - np.repeat(starts, np.diff(np.concatenate([[-1], ends])))
    if len(place) and place.max() > 9:
        raise NoMessage("a number without an end")
    bits = (flat & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts).view(np.int64) if len(starts) else np.zeros(0, np.int64)


def _strings(piece: Piece, values: list[memoryview]) -> Iterator[Piece]:
    for n, value in enumerate(values):
        if len(value) >= 64:
            yield piece.child(f"string{n}", value, seen=True)
