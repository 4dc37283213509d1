"""Brings data to the site's folder: blobs as they are, and one single file as two blobs, since one is the holdout.

Rows of a single file are dealt by a hash of themselves: equal rows come into the same part, and a second time the
same parts come of it.
"""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast
from zlib import crc32

from insitu.errors import naming_write_errors
from insitu.scaffolding.source import Source
from insitu.tables.forms import Form, form_of

FIRST = "0000-part-1"
"""How the parts of a single file are called, so that names such as 2026-10 come after them: with a 2 the holdout."""

_HASHES = 2**32
_BATCH_ROWS = 65_536


def bring(source: Source, root: Path, delimiter: str, share: float) -> list[str]:
    """Copy the blobs of *source* into its new container below *root*; return their names there.

    Args:
        delimiter: Of CSV.
        share: About how much of a single file becomes the second part, 0 to 1.

    Raises:
        StorageFull: The disk is full; nothing is left then.
    """
    assert source.brought_from
    place, staging = root / source.container, root / f".init-{uuid.uuid4().hex}"
    with naming_write_errors(place):
        try:
            staging.mkdir(parents=True)
            if len(source.blobs) == 1:
                _split(source, staging, delimiter, share)
            else:
                for blob in source.blobs:
                    (staging / blob.name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source.brought_from / blob.name, staging / blob.name)
            os.rename(staging, place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def is_held_out(record: bytes, share: float) -> bool:
    """Tell whether a row belongs to the second part."""
    return crc32(record) < share * _HASHES


def _split(source: Source, target: Path, delimiter: str, share: float) -> None:
    assert source.brought_from
    (blob,) = source.blobs
    form, ending = form_of(blob), source.pattern.removeprefix("*")
    parts = [target / f"{FIRST[:-1]}{number}{ending}" for number in (1, 2)]
    splitters: dict[str, Callable[..., None]] = {"CSV": _split_csv, "JSON Lines": _split_lines, "Parquet": _split_rows}
    splitters[form.kind](source.brought_from / blob.name, parts, form, form.delimiter or delimiter, share)


def _split_csv(path: Path, parts: Iterable[Path], form: Form, delimiter: str, share: float) -> None:
    """Every field stays as it is written; quotes may be set otherwise."""
    csv.field_size_limit(2**31 - 1)
    with _texts(path, form) as text, ExitStack() as open_parts:
        rows = csv.reader(text, delimiter=delimiter)
        writers = [
            csv.writer(one, delimiter=delimiter, lineterminator="\n") for one in _opened(open_parts, parts, form)
        ]
        header = next(rows, [])
        for writer in writers:
            writer.writerow(header)
        for row in rows:
            if row:  # an empty line
                writers[is_held_out("\0".join(row).encode(), share)].writerow(row)


def _split_lines(path: Path, parts: Iterable[Path], form: Form, _delimiter: str, share: float) -> None:
    with _texts(path, form) as text, ExitStack() as open_parts:
        files = _opened(open_parts, parts, form)
        for line in text:
            if record := line.strip():
                files[is_held_out(record.encode(), share)].write(record + "\n")


def _split_rows(path: Path, parts: Iterable[Path], _form: Form, _delimiter: str, share: float) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file, ExitStack() as open_parts:
        writers = [
            open_parts.enter_context(pq.ParquetWriter(part, file.schema_arrow, compression="zstd")) for part in parts
        ]
        for rows in file.iter_batches(_BATCH_ROWS):
            records = zip(*(column.to_pylist() for column in rows.columns), strict=True)
            held_out = [is_held_out(repr(record).encode(), share) for record in records]
            for writer, is_second in zip(writers, (False, True), strict=True):
                writer.write_batch(rows.filter(pa.array([one is is_second for one in held_out])))


def _texts(path: Path, form: Form) -> IO[str]:
    """Open a text blob; a mark at its beginning, as Excel sets it, is no part of the first name."""
    opened = gzip.open if form.gzip else open
    return cast(IO[str], opened(path, "rt", encoding="utf-8-sig", newline=""))


def _opened(stack: ExitStack, parts: Iterable[Path], form: Form) -> list[IO[str]]:
    opened = gzip.open if form.gzip else open
    return [stack.enter_context(cast(IO[str], opened(part, "wt", encoding="utf-8", newline=""))) for part in parts]
