"""How large dictionary-encoded values are when each row has its own."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_SHORT_BYTES = 64


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values: how a column is encoded is no part of its type."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([_plain(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), _plain(kind.item_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_field))
    return pa.list_(_plain(kind.value_field)) if pa.types.is_list(kind) else kind


def expanded_bytes(column: pa.ChunkedArray) -> int:
    """Return how large the values of *column* become; never too small."""
    return sum(_expanded(chunk) for chunk in column.chunks)


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type))


def _expanded(array: pa.Array) -> int:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _values(array)
    if pa.types.is_struct(kind):
        return sum(_expanded(child) for child in array.flatten())
    if pa.types.is_map(kind):
        return _expanded(array.keys) + _expanded(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 8 * len(array) + _expanded(array.flatten())
    return int(array.nbytes)


def _values(array: pa.DictionaryArray) -> int:
    if not len(array.dictionary):
        return 0
    lengths = pc.binary_length(array.dictionary)
    longest = pc.max(lengths).as_py() or 0
    if longest < _SHORT_BYTES:  # saves looking up every row
        return len(array) * (longest + 4)
    taken = lengths.cast(pa.int64()).take(array.indices)
    return int(pc.sum(taken).as_py() or 0) + 4 * len(array)
