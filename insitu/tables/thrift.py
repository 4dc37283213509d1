"""Thrift's compact protocol, as much of it as Parquet's headers and footers use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 16


class BadThrift(ValueError):
    """The bytes are no Thrift."""


class Short(int):
    """A number that is written as i32; others are i64."""


def struct(data: bytes | memoryview, at: int = 0, depth: int = _MAX_DEPTH) -> tuple[dict[int, Any], int]:
    """Return the fields of the struct at *at* by their ids, and where it ends; texts and doubles are left out.

    Raises:
        BadThrift: The bytes are no Thrift.
        IndexError: The data end within the struct.
    """
    fields: dict[int, Any] = {}
    key = 0
    while head := data[at]:
        at += 1
        kind, delta = head & 15, head >> 4
        if delta:
            key += delta
        else:
            key, at = _zigzag(data, at)
        if kind in (1, 2):  # true and false have no bytes of their own
            fields[key] = kind == 1
        else:
            fields[key], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes | memoryview, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (4, 5, 6):  # i16, i32, i64
        return _zigzag(data, at)
    if kind == 12 and depth:
        return struct(data, at, depth - 1)
    if kind in (9, 10) and depth:  # list, set
        return _list(data, at, depth - 1)
    if kind == 8:  # text
        length, at = _varint(data, at)
        return None, _within(data, at + length)
    if kind in (1, 2, 3):  # one byte: in a list, booleans too
        return data[at], at + 1
    if kind == 7:  # double
        return None, _within(data, at + 8)
    raise BadThrift


def _list(data: bytes | memoryview, at: int, depth: int) -> tuple[list[Any], int]:
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    values = []
    for _ in range(size):
        value, at = _value(data, at, kind, depth)
        values.append(value)
    return values, at


def _within(data: bytes | memoryview, end: int) -> int:
    if end > len(data):
        raise IndexError
    return end


def _zigzag(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise BadThrift


def written(fields: Mapping[int, Any]) -> bytes:
    """Return a struct of numbers, texts, lists that are not empty, and structs, by their ids in order."""
    data, last = bytearray(), 0
    for key, value in fields.items():
        kind, content = _written(value)
        data += bytes([(key - last) << 4 | kind]) + content
        last = key
    return bytes(data) + b"\0"


def _written(value: Any) -> tuple[int, bytes]:
    """Return the number of the kind of *value*, and its bytes."""
    if isinstance(value, int):
        return (5 if isinstance(value, Short) else 6), _written_varint(value << 1)
    if isinstance(value, str):
        return 8, _written_varint(len(value.encode())) + value.encode()
    if isinstance(value, Mapping):
        return 12, written(value)
    kinds, items = zip(*map(_written, value), strict=True)
    head = bytes([len(items) << 4 | kinds[0]]) if len(items) < 15 else bytes([15 << 4 | kinds[0]])
    return 9, head + (b"" if len(items) < 15 else _written_varint(len(items))) + b"".join(items)


def _written_varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])
