"""What no format accounts for: packed streams amid other bytes, tagged numbers, and bytes that look packed."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from typing import Any

import numpy as np

from insitu.residency.decoding.pieces import Budget, Piece, Unopened
from insitu.residency.decoding.streams import WEAK, Stream, Torn, beginnings, unpack

_BLOCK_BYTES = 4096
_EVEN = 700.0
"""Chi-squared over the 256 values of a byte in a block. Encrypted bytes give 255, with 23 to either side; deflate, xz,
zstd and brotli mostly 200 to 700; doubles and floats give thousands (the least that was met in a package: 840)."""
_BLOCKS_AT_ONCE = 1024
_LEAST_PACKED = 64
_WEAK_LEAST = 4096
_TAGGED = 4
"""So many values with the same byte before each are a list of numbers, not chance."""
_TAGGED_AT_ONCE = 1 << 20
_TAGS = np.zeros(256, dtype=bool)
# msgpack, CBOR; pickle, marshal; UBJSON; protobuf's fixed fields 1 to 15.
_TAGS[[0xCA, 0xCB, 0xFA, 0xFB, *b"GgDd", *range(0x09, 0x80, 8), *range(0x0D, 0x80, 8)]] = True


def open_streams(piece: Piece, budget: Budget, spans: list[tuple[int, int]]) -> Iterator[Piece | Unopened]:
    """Yield what the compressed streams within *piece* hold; add to *spans* where they lie."""
    at = 0
    for start, kind in beginnings(piece.data):
        if start < at or not _begins(piece, budget, kind, start):
            continue
        found, end = unpack(piece, budget, kind, start, _WEAK_LEAST)
        if not found or (kind in WEAK and end - start < _LEAST_PACKED):
            continue
        yield from found
        spans.append((start, end))
        at = end


def _begins(piece: Piece, budget: Budget, kind: str, start: int) -> bool:
    """Tell by the first bytes whether a stream of *kind* begins here: most of its magics are met by chance."""
    stream = Stream(piece.data, kind, start)
    try:
        first = next(stream.chunks(), b"")
    except Torn:
        return False
    budget.spend(len(first))
    return bool(first)


def open_tagged(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """Yield numbers that each follow the same byte, as msgpack, CBOR, protobuf and Python's code write them.

    They keep their byte order: a scanner looks for both.
    """
    for size in (8, 4):
        held = budget.spool(_tagged(piece.data, size + 1))
        if len(held):
            yield piece.numbers(f"tagged{size}", held)


def _tagged(data: memoryview, stride: int) -> Iterator[bytes]:
    flat = np.frombuffer(data, np.uint8)
    for start in range(0, len(flat), _TAGGED_AT_ONCE):
        block = flat[start : start + _TAGGED_AT_ONCE + _BLOCK_BYTES]
        first = block[:-stride]
        same = (first == block[stride:]) & _TAGS[first]
        # but a line of equal signs is no list
        same &= ~(
            (first == block[1 : 1 - stride]) & (first == block[2 : 2 - stride]) & (first == block[3 : 3 - stride])
        )
        listed = np.flatnonzero(same[: -2 * stride] & same[stride:-stride] & same[2 * stride :])
        for phase in np.unique(listed % stride):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], same[phase::stride], [False]])))
            pairs = edges.reshape(-1, 2)
            for begin, end in pairs[pairs[:, 1] - pairs[:, 0] >= _TAGGED - 1]:
                place = phase + begin * stride
                values = block[place : place + (end - begin + 1) * stride]
                whole = len(values) // stride * stride
                yield values[:whole].reshape(-1, stride)[:, 1:].tobytes()


def packed_at(data: memoryview, spans: list[tuple[int, int]]) -> int | None:
    """Return where *data*, outside of *spans* (in order), has a block that looks compressed or encrypted."""
    blocks = len(data) // _BLOCK_BYTES
    for start in range(0, blocks, _BLOCKS_AT_ONCE):
        number = min(_BLOCKS_AT_ONCE, blocks - start)
        at = start * _BLOCK_BYTES
        flat = np.frombuffer(data[at : at + number * _BLOCK_BYTES], np.uint8).reshape(number, _BLOCK_BYTES)
        for block in np.flatnonzero(_chi_squared(flat) < _EVEN):
            place = at + int(block) * _BLOCK_BYTES
            beside = bisect(spans, place, key=lambda span: span[1])  # the first that ends behind it
            if beside == len(spans) or spans[beside][0] >= place + _BLOCK_BYTES:
                return place
    return None


def _chi_squared(blocks: Any) -> Any:
    keys = blocks.astype(np.int32) + (np.arange(len(blocks), dtype=np.int32) * 256)[:, None]
    counts = np.bincount(keys.ravel(), minlength=len(blocks) * 256).reshape(-1, 256).astype(np.float64)
    return (counts**2).sum(axis=1) * 256 / _BLOCK_BYTES - _BLOCK_BYTES
