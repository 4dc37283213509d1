"""Blobs of a folder from plain bytes, their rows as one table, and what reading them costs."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from counting_blobs import CountingBlobs

from insitu.batch import Batch
from insitu.settings import ReadingSettings
from insitu.tables.table import open_table, read

CHILD = """
import sys
from pathlib import Path
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import DataError
from insitu.settings import ReadingSettings
from insitu.tables.table import open_table, read

def peak():
    # Not getrusage: its peak begins with that of the process that forked this one.
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000

store, reading, rows = FolderBlobs(Path(sys.argv[1])), ReadingSettings.model_validate_json(sys.argv[2]), 0
batch = Batch.of("data", store.list())
before = peak()
try:
    table = open_table(store, batch, reading)
    for part in table.parts:
        for piece, _ in read(store, part, table.schema, table.schema.names, reading):
            rows += piece.num_rows
    print(rows, "rows")
except DataError as error:
    print(error)
print(peak() - before)
"""


def stored(root: Path, blobs: Mapping[str, bytes]) -> tuple[CountingBlobs, Batch]:
    """Write *blobs* as files under *root* and pin them."""
    for name, content in blobs.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    store = CountingBlobs(root)
    return store, Batch.of("data", store.list())


def rows_of(
    root: Path,
    blobs: Mapping[str, bytes],
    columns: Collection[str] | None = None,
    *,
    encoded: bool = False,
    **settings: Any,
) -> pa.Table:
    """Return all rows of *blobs*, read by one part after the other; *encoded* as `read` has it, and plain again."""
    store, batch = stored(root, blobs)
    reading = ReadingSettings(**settings)
    table = open_table(store, batch, reading)
    names = table.schema.names if columns is None else columns
    found = (read(store, part, table.schema, names, reading, encoded=encoded) for part in table.parts)
    pieces = [rows for part in found for rows, _ in part]
    if not names:
        return pa.table({"rows": [piece.num_rows for piece in pieces]})
    schema = pa.schema([f for f in table.schema if f.name in names])
    return pa.concat_tables([schema.empty_table(), *(piece.cast(schema) for piece in pieces)])


def parquet(rows: pa.Table | Mapping[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.table(rows), sink, **options)
    return sink.getvalue()


def read_apart(root: Path, **settings: Any) -> tuple[str, float]:
    """Read all blobs under *root* in another process: what it said, and by how many MB its memory grew."""
    command = [sys.executable, "-c", CHILD, str(root), ReadingSettings(**settings).model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *said, grown = done.stdout.splitlines()
    return "\n".join(said), float(grown)
