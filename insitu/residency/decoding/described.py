"""What the opcodes of a pickle describe: names that are never looked up, calls that are never made, numpy's types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from insitu.residency.decoding.arrays import simple_dtype

_FEW_ENTRIES = 16


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    text: str


@dataclass
class Called:
    """What the pickle would have called: never called."""

    of: object
    arguments: object
    state: object = None


def put(key: object, item: object, into: object) -> None:
    """Keep a few entries: what the state of an array has; a pickled dictionary may have millions."""
    if isinstance(into, dict) and isinstance(key, str) and len(into) < _FEW_ENTRIES:
        into[key] = item


def is_shape(shape: object) -> bool:
    return isinstance(shape, tuple) and all(isinstance(side, int) and 0 <= side < 1 << 48 for side in shape)


def bytes_of(value: Any) -> memoryview:
    """Return the bytes that *value* stands for: in old protocols they are text."""
    if isinstance(value, memoryview):
        return value
    if isinstance(value, Called) and isinstance(value.arguments, tuple) and value.arguments:
        return bytes_of(value.arguments[0])
    if isinstance(value, str):
        try:
            return memoryview(value.encode("latin-1"))
        except UnicodeEncodeError:
            pass
    return memoryview(b"")


def dtype_of(value: Any) -> np.dtype[Any] | None:
    """Return the type that `numpy.dtype(code)` and its state describe; the object type where it is not a simple one."""
    if not isinstance(value, Called) or not isinstance(value.arguments, tuple) or not value.arguments:
        return None
    code = value.arguments[0]
    dtype = simple_dtype(code) if isinstance(code, str) else None
    if dtype is None:
        return None
    order: Any = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "|"
    return dtype.newbyteorder(order) if order in ("<", ">") else dtype
