"""How much the buffers of an Arrow stream unpack to, read from its messages before anything is unpacked.

Arrow's own readers unpack a whole record batch at once, whatever it says of its size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

_HEADER, _BUFFERS, _COMPRESSION, _DATA = 2, 2, 3, 1
"""Fields of the tables Message, RecordBatch and DictionaryBatch (format/Message.fbs)."""
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def batch_sizes(stream: memoryview) -> Iterator[int]:
    """Yield how many bytes each batch of *stream* says that it takes in memory."""
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(stream)):
        held, body = memoryview(message.metadata), message.body
        root = _number(held, 0, "<I")
        kind, header = _field(held, root, 1), _field(held, root, _HEADER)
        code = held[kind] if kind else 0
        if header and code in (_DICTIONARY_BATCH, _RECORD_BATCH):
            yield _batch_size(held, header + _number(held, header, "<I"), code, memoryview(body) if body else b"")


def _batch_size(held: memoryview, table: int, code: int, body: memoryview | bytes) -> int:
    if code == _DICTIONARY_BATCH:
        data = _field(held, table, _DATA)
        table = data + _number(held, data, "<I")
    vector = _field(held, table, _BUFFERS)
    if not vector or not _field(held, table, _COMPRESSION):
        return len(body)
    vector += _number(held, vector, "<I")
    size = 0
    for n in range(_number(held, vector, "<I")):
        offset, length = (_number(held, vector + 4 + 16 * n + place, "<q") for place in (0, 8))
        size += max(_number(body, offset, "<q"), length) if length >= 8 else 0
    return size


def _field(held: memoryview, table: int, number: int) -> int:
    """Return where a field of a flatbuffers table lies, 0 where it is left out."""
    fields = table - _number(held, table, "<i")
    at = 4 + 2 * number
    offset = _number(held, fields + at, "<H") if at < _number(held, fields, "<H") else 0
    return table + offset if offset else 0


def _number(held: memoryview | bytes, at: int, code: str) -> int:
    if at < 0:
        raise ValueError("a place before the beginning")
    value: Any = struct.unpack_from(code, held, at)[0]
    return int(value)
