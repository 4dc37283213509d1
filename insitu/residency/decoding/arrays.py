"""Arrays: npy, safetensors, and any buffer whose type and shape are known.

A scanner looks for rows as f64, f32, f16, i64, i32 and i16 that lie side by side. So an array is given as it lies, in
the other order too where it has two axes or more, and as f64 where its type is another one.
"""

from __future__ import annotations

import ast
import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from insitu.residency.decoding.archives import gaps
from insitu.residency.decoding.pieces import Budget, Piece, Unopened

_ROWS_BYTES = 4 << 20
_KNOWN_TO_SCANNERS = {("f", 8), ("f", 4), ("f", 2)} | {(kind, size) for kind in "iu" for size in (8, 4, 2)}
_NUMERIC = "fiubc"
_SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_NPY_HEADER_BYTES = 1 << 16
_JSON_HEADER_BYTES = 100 << 20


def simple_dtype(code: str) -> np.dtype[Any] | None:
    """Return the numpy type of a short *code* such as `<f8`, None for anything more."""
    if not re.fullmatch(r"[<>|=]?(?:[biufcSUVmM]\d{1,7}|[?bhilqpBHILQPefdgFDG])(?:\[\w{1,9}\])?", code):
        return None
    try:
        return np.dtype(code)
    except TypeError:
        return None


def open_array(
    piece: Piece, budget: Budget, data: memoryview, dtype: np.dtype[Any], shape: Sequence[int], fortran: bool
) -> Iterator[Piece]:
    """Yield the array in *data*, which lies in *piece*, in every form that a scanner needs; *data* is cut to it."""
    count = math.prod(shape)
    if dtype.hasobject or not dtype.itemsize or count * dtype.itemsize > len(data) or min(shape, default=0) < 0:
        raise ValueError("an array that is larger than its data")
    data = data[: count * dtype.itemsize]
    numbers = dtype.kind in _NUMERIC and dtype.itemsize > 1  # hashes and random states look packed, and are not
    yield piece.child("array", data, seen=True, plain=numbers)
    for field, of in _columns(dtype, data):
        yield from _forms(piece, budget, field, of, shape, fortran)


def _columns(dtype: np.dtype[Any], data: memoryview) -> Iterator[tuple[str, Any]]:
    """Yield the array flat; a structured one as a table of its numbers."""
    flat = np.frombuffer(data, dtype)
    if dtype.names is None:
        if dtype.kind in _NUMERIC:
            yield "array", flat
        return
    names = [name for name in dtype.names if dtype[name].kind in _NUMERIC and dtype[name].shape == ()]
    if names:
        yield "record", np.stack([flat[name].astype(np.float64) for name in names], axis=1).ravel()


def _forms(piece: Piece, budget: Budget, name: str, flat: Any, shape: Sequence[int], fortran: bool) -> Iterator[Piece]:
    if name == "record":
        yield from floats(piece, budget, name, [flat])
        return
    odd = (flat.dtype.kind, flat.dtype.itemsize) not in _KNOWN_TO_SCANNERS
    if odd:
        yield from floats(piece, budget, name, _sliced(flat))
    sides = tuple(length for length in shape if length > 1)
    if len(sides) < 2:
        return
    array = flat.reshape(sides, order="F" if fortran else "C")
    chunks = _in_c_order(array if fortran else array.T)
    if odd:
        yield from floats(piece, budget, f"{name}-turned", chunks)
    else:
        yield piece.numbers(f"{name}-turned", budget.spool(_bytes(chunk) for chunk in chunks))


def _in_c_order(array: Any) -> Iterator[Any]:
    step = max(1, _ROWS_BYTES // max(1, array[:1].nbytes))
    return (array[start : start + step].ravel(order="C") for start in range(0, len(array), step))


def _bytes(array: Any) -> memoryview:
    return memoryview(array.tobytes())


def _sliced(flat: Any) -> Iterator[Any]:
    step = _ROWS_BYTES // flat.dtype.itemsize
    return (flat[start : start + step] for start in range(0, len(flat), step))


def floats(piece: Piece, budget: Budget, name: str, chunks: Any) -> Iterator[Piece]:
    """Yield numbers as f64, and as f32: what was single precision and was printed or widened is found as such."""
    doubles = budget.spool(_bytes(_double(chunk)) for chunk in chunks)
    if not len(doubles):
        return
    yield piece.numbers(f"{name}:f64", doubles)
    with np.errstate(over="ignore"):
        singles = (_bytes(part.astype("<f4")) for part in _sliced(np.frombuffer(doubles, "<f8")))
        yield piece.numbers(f"{name}:f32", budget.spool(singles))


def values_of(numbers: Any) -> Any:
    """Return an Arrow array of doubles without nulls as numpy's; Arrow's own way imports pandas first."""
    return np.frombuffer(numbers.buffers()[1] or b"", np.float64, len(numbers), numbers.offset * 8)


def _double(chunk: Any) -> Any:
    if chunk.dtype.kind == "c":
        chunk = np.ascontiguousarray(chunk).view(chunk.real.dtype)
    return chunk.astype("<f8")


def is_npy(data: memoryview) -> bool:
    """Tell whether *data* begins as an npy file."""
    return bytes(data[:6]) == b"\x93NUMPY"


def open_npy(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield the array of an npy file; one of Python objects is a pickle behind the header."""
    wide = piece.data[6] >= 2
    size = int.from_bytes(piece.data[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + size
    if size > _NPY_HEADER_BYTES or start > len(piece.data):
        raise ValueError("an npy header that is larger than its file")
    text = bytes(piece.data[start - size : start]).decode("latin-1")
    header = ast.literal_eval(re.sub(r"\b(\d+)L\b", r"\1", text))  # Python 2 wrote its integers so
    rest = piece.data[start:]
    if "O" in re.sub(r"'[^']*':", "", str(header["descr"])):
        yield piece.child("objects", rest, seen=True)
        return
    dtype = np.dtype(header["descr"])
    shape = tuple(int(side) for side in header["shape"])
    yield from open_array(piece, budget, rest, dtype, shape, bool(header["fortran_order"]))
    behind = rest[math.prod(shape) * dtype.itemsize :]
    if len(behind):
        yield piece.child("rest", behind, seen=True)


def is_safetensors(data: memoryview) -> bool:
    """Tell whether *data* begins with the length of a JSON object and that object."""
    if len(data) < 10 or data[8] != ord("{"):
        return False
    size = int.from_bytes(data[:8], "little")
    return 2 <= size <= min(len(data) - 8, _JSON_HEADER_BYTES) and bytes(data[8 + size - 1 : 8 + size]).strip() in (
        b"}",
        b"",
    )


def open_safetensors(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield the header's text and each tensor."""
    size = struct.unpack("<Q", piece.data[:8])[0]
    yield piece.child("header", piece.data[8 : 8 + size], "text", seen=True)
    spans = [(0, 8 + size), (len(piece.data), len(piece.data))]
    header: Mapping[str, Any] = json.loads(bytes(piece.data[8 : 8 + size]))
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + int(place) for place in tensor["data_offsets"])
        if not 8 + size <= begin <= end <= len(piece.data):
            raise ValueError("a tensor outside of its file")
        spans.append((begin, end))
        held = piece.child(name, piece.data[begin:end], seen=True)
        code = _SAFETENSORS_TYPES.get(str(tensor["dtype"]))
        if code is None:
            yield held
        else:
            yield from open_array(held, budget, held.data, np.dtype(code), tensor["shape"], fortran=False)
    yield from gaps(piece, spans)
