"""What text may hide: numbers in print, base64, hex, escapes, and characters of two or four bytes."""

from __future__ import annotations

import base64
import itertools
import re
import string
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from insitu.residency.decoding.arrays import floats, values_of
from insitu.residency.decoding.pieces import Budget, Piece

_BLOCK_BYTES = 1 << 20
_LEAST_RUN = 24
"""A shorter run of printable bytes in a binary file is met by chance."""
_LEAST_WIDE = 6
_SEAM_BYTES = 4096
_ALONE = 1024
"""What is decoded from a text and shorter is no file of its own."""
_NEIGHBOURS = 3
"""Fewer numbers than this in a run tell no row."""

_TEXT = np.zeros(256, dtype=bool)
_TEXT[[9, 10, 13, *range(32, 127)]] = True
_LETTERS = (string.ascii_letters + "_").encode()
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,3})?$"
_TO_WORDS = bytes.maketrans(
    bytes(range(256)),
    bytes(
        byte if byte in b"0123456789.+-e" else ord("e") if byte == ord("E") else ord("x" if byte in _LETTERS else " ")
        for byte in range(256)
    ),
)
"""Leaves words: numbers, and what is none because a letter is in it."""
_BREAK = rb"(?:\r?\n|\\r\\n|\\n)[ \t]{0,16}"
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}(?:%s[A-Za-z0-9+/_-]{4,})*={0,2}" % _BREAK)
_HEX = re.compile(rb"[0-9a-fA-F]{32,}(?:%s[0-9a-fA-F]{2,})*" % _BREAK)
_BYTE_ESCAPE = rb"\\(?:x|u00)[0-9a-fA-F]{2}"
_TOKEN = rb"(?:%s|\\[0abfnrtv'\"\\]|[ -\[\]-~])" % _BYTE_ESCAPE
# Possessive, for a repetition that may be undone takes a hundred bytes for each one of the text.
_QUOTED = re.compile(rb"\"(?:[^\"\\\n]|\\.)*+|'(?:[^'\\\n]|\\.)*+")
_UNQUOTED = re.compile(rb"%s{32,}+" % _TOKEN)
_WHOLE = re.compile(rb"(?:%s|\\[^xu]|\\[xu](?=[\s\S]{5})|[^\\])*+" % _BYTE_ESCAPE)
_ESCAPE = re.compile(_BYTE_ESCAPE)
_ANY_ESCAPE = re.compile(rb"%s|\\." % _BYTE_ESCAPE)
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SIMPLE = {"0": 0, "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


def runs(data: memoryview, least: int) -> Iterator[tuple[int, int]]:
    """Yield where *data* has at least *least* printable bytes on end, (begin, end)."""
    begun: int | None = None
    for start in range(0, len(data), _BLOCK_BYTES):
        is_text = _TEXT[np.frombuffer(data[start : start + _BLOCK_BYTES], np.uint8)]
        edges = np.flatnonzero(np.diff(is_text)) + 1 + start
        if is_text[0] != (begun is not None):
            edges = np.concatenate([[start], edges])
        if begun is not None:
            edges = np.concatenate([[begun], edges])
        begun = int(edges[-1]) if len(edges) % 2 else None
        pairs = edges[: len(edges) // 2 * 2].reshape(-1, 2)
        for begin, end in pairs[pairs[:, 1] - pairs[:, 0] >= least]:
            yield int(begin), int(end)
    if begun is not None and len(data) - begun >= least:
        yield begun, len(data)


def open_texts(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """Yield what the printable runs of *piece* stand for; short ones are read together."""
    short = bytearray()
    for begin, end in runs(piece.data, _LEAST_RUN):
        budget.check_time()
        run = piece.data[begin:end]
        if len(run) < _BLOCK_BYTES:
            short += run
            short += b"\n\x00\n"
        else:
            yield from _of_run(piece, budget, run, begin)
        if len(short) >= _BLOCK_BYTES:
            yield from _of_run(piece, budget, memoryview(bytes(short)), begin)
            short = bytearray()
    if short:
        yield from _of_run(piece, budget, memoryview(bytes(short)), len(piece.data))


def _of_run(piece: Piece, budget: Budget, run: memoryview, at: int) -> Iterator[Piece]:
    is_postscript = bytes(piece.data[:2]) == b"%!"  # its fonts are encrypted, with a key that everybody knows
    yield from floats(piece, budget, f"numbers@{at}", _numbers(run))
    for kind, patterns, mark, decode in _CODES:
        short = bytearray()
        for n, found in enumerate(_found(patterns, mark, run)):
            decoded = budget.spool(decode(found))
            if len(decoded) >= _ALONE:
                yield piece.child(f"{kind}@{at}.{n}", decoded, plain=is_postscript)
            else:
                short += decoded
        if short:  # digests, most of them: together they look packed, and are not
            yield piece.child(f"{kind}@{at}", bytes(short), plain=True)


def _found(patterns: Sequence[re.Pattern[bytes]], mark: re.Pattern[bytes], run: memoryview) -> Iterator[memoryview]:
    """Yield the matches of the first pattern that has any, as far as *mark* is in them."""
    if not mark.search(run):
        return
    pattern = next((one for one in patterns if one.search(run)), patterns[0])
    for found in pattern.finditer(run):
        if mark.search(run, found.start(), found.end()):
            yield run[found.start() : found.end()]


def _numbers(run: memoryview) -> Iterator[Any]:
    """Yield the numbers of a text in its order, as f64; a seam lies where no number does."""
    start = 0
    while start < len(run):
        block = bytes(run[start : start + _BLOCK_BYTES])
        if start + _BLOCK_BYTES < len(run):
            tail = block[-_SEAM_BYTES:]
            breaks = [found.end() for found in re.finditer(rb"[^\w.+-]", tail)]
            block = block[: len(block) - len(tail) + breaks[-1]] if breaks else block
        start += len(block)
        found = pa.array(block.translate(_TO_WORDS).split(), pa.binary()).cast(pa.string())
        found = found.filter(pc.match_substring_regex(found, _NUMBER))
        if len(found) >= _NEIGHBOURS:
            yield values_of(pc.utf8_ltrim(found, "+").cast(pa.float64()))


def _base64(run: memoryview) -> Iterator[bytes]:
    left = b""
    for start in range(0, len(run), _BLOCK_BYTES):
        block = bytes(run[start : start + _BLOCK_BYTES]).replace(rb"\r", b"").replace(rb"\n", b"")
        held = left + _NO_BASE64.sub(b"", block.translate(_URL_SAFE))
        whole = len(held) // 4 * 4
        left = held[whole:]
        yield base64.b64decode(held[:whole])
    if len(left) > 1:
        yield base64.b64decode(left + b"=" * (4 - len(left)))


def _hex(run: memoryview) -> Iterator[bytes]:
    left = b""
    for start in range(0, len(run), _BLOCK_BYTES):
        held = left + re.sub(rb"[^0-9a-fA-F]", b"", bytes(run[start : start + _BLOCK_BYTES]))
        whole = len(held) // 2 * 2
        left = held[whole:]
        yield bytes.fromhex(held[:whole].decode())


def _unescaped(run: memoryview) -> Iterator[bytes]:
    """Yield the bytes of Python's or JSON's escapes; text with few of them is no bytes."""
    if sum(1 for _ in itertools.islice(_ESCAPE.finditer(run), _LEAST_RUN)) < _LEAST_RUN:
        return
    left = b""
    for start in range(1 if bytes(run[:1]) in b"\"'" else 0, len(run), _BLOCK_BYTES):
        block = left + bytes(run[start : start + _BLOCK_BYTES])
        whole = _WHOLE.match(block)  # an escape on the seam goes on in the next block
        end = whole.end() if whole and start + _BLOCK_BYTES < len(run) else len(block)
        left = block[end:]
        yield _ANY_ESCAPE.sub(_escaped_byte, block[:end])


def _escaped_byte(found: re.Match[bytes]) -> bytes:
    code = found[0].decode()
    return bytes([int(code[-2:], 16) if len(code) > 2 else _SIMPLE.get(code[1], ord(code[1]))])


_CODES = (
    ("base64", (_BASE64,), re.compile(rb"[A-Z]"), _base64),  # a long name has no capital; base64 without one is chance
    ("hex", (_HEX,), re.compile(rb"[0-9]"), _hex),
    ("escaped", (_QUOTED, _UNQUOTED), _ESCAPE, _unescaped),
)


def open_wide(piece: Piece, budget: Budget) -> Iterator[Piece]:
    """Yield text of two or four bytes a character (UTF-16, UTF-32, numpy's `<U`) as UTF-8."""
    for kind, size in (("utf32", 4), ("utf16", 2)):
        for order in "<>":
            held = budget.spool(_narrowed(piece.data, f"{order}u{size}", size))
            if len(held):
                yield piece.child(f"{kind}{order}", held, "text")


def _narrowed(data: memoryview, code: str, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES + _SEAM_BYTES]
        if not _has_wide(np.frombuffer(block, np.uint8), size):
            continue
        for shift in range(size):
            whole = (len(block) - shift) // size * size
            if whole > 0:
                yield from _printable(np.frombuffer(block[shift : shift + whole], code))


def _has_wide(block: Any, size: int) -> bool:
    """Tell whether three printable characters of ASCII stand side by side: cheap, and mostly they do not."""
    beside = ((block[:-1] == 0) & _TEXT[block[1:]]) | ((block[1:] == 0) & _TEXT[block[:-1]])
    return bool((beside[: -2 * size] & beside[size:-size] & beside[2 * size :]).any())


def _printable(points: Any) -> Iterator[bytes]:
    """Yield the runs of characters below U+0500, mostly ASCII, a line for each; zeros pad numpy's strings."""
    likely = (points < 0x500) & ((points >= 0x20) | (points == 9) | (points == 10) | (points == 13))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], likely, [False]])))
    pairs = edges.reshape(-1, 2)
    pairs = pairs[pairs[:, 1] - pairs[:, 0] >= _LEAST_WIDE]
    if not len(pairs):
        return
    ascii_before = np.concatenate([[0], np.cumsum((points >= 0x20) & (points < 0x7F))])
    begins, ends = pairs.T
    begins, ends = pairs[2 * (ascii_before[ends] - ascii_before[begins]) >= ends - begins].T
    kept = np.zeros(len(points) + 2, dtype=np.int8)
    kept[begins] += 1
    kept[ends + 1] -= 1  # the character behind a run makes room for a line break
    lines = np.concatenate([points, [10]]).astype("<u4")
    lines[ends] = 10
    yield lines[np.cumsum(kept[:-1]) > 0].tobytes().decode("utf-32-le").encode()
