"""The rows of a text blob, parsed block by block in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import pyarrow as pa

from insitu.batch import Blob
from insitu.errors import DataError
from insitu.settings import ReadingSettings

Parsed = tuple[pa.Table, int]
Parse = Callable[[bytes, bool], Parsed | None]

BLOCK_BYTES = 8 << 20


class NoEnd(Exception):
    """The next row does not end within the longest line."""


def records(
    text: Iterable[bytes], parse: Parse, longest_bytes: int, block_bytes: int = BLOCK_BYTES
) -> Iterator[pa.Table]:
    """Yield what *parse* makes of the blocks of *text*; raise `NoEnd`, and what *parse* raises.

    *parse* is given some bytes of text, and whether they are the last. It returns the rows that end
    within them and how many bytes these took, or None when no row does.
    """
    rest, size = b"", min(block_bytes, longest_bytes)
    for piece in chain(text, (None,)):
        rest += piece or b""
        is_last = piece is None
        if not rest or not (is_last or len(rest) >= size):
            continue
        parsed = parse(rest, is_last)
        if parsed:
            yield parsed[0]
            rest = rest[parsed[1] :]
        elif is_last or len(rest) > longest_bytes:
            raise NoEnd


def until_rows(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield *tables* up to the first that has rows."""
    for table in tables:
        yield table
        if table.num_rows:
            return


def longest_bytes(reading: ReadingSettings) -> int:
    """Return the limit of a line."""
    return reading.max_line_mb * 1_000_000


def too_long(blob: Blob, where: str, reading: ReadingSettings) -> DataError:
    """Return the error about a row that has no end."""
    return DataError(
        f"a line of blob {blob.name} is too long, or has a quote that is not closed",
        found=f"{where} has no end within {reading.max_line_mb} MB",
        wanted=f"lines of at most {reading.max_line_mb} MB",
        next_action="mend the line, or raise [data.reading] max_line_mb in model.toml",
    )
