"""Tables as Parquet blobs of a folder, what reading them costs, and suites in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from counting_blobs import CountingBlobs

from data_checks.suite import Suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch

Store = Callable[..., tuple[FolderBlobs, Batch]]


def store_of(root: Path, tables: Iterable[pa.Table], **options: Any) -> tuple[FolderBlobs, Batch]:
    """Write each table as one Parquet blob under *root*."""
    for number, table in enumerate(tables):
        write(root, number, table, **options)
    return pinned(root)


def write(root: Path, number: int, table: pa.Table, **options: Any) -> str:
    """Write *table* as the blob of this number, over what is there, and return the blob's name."""
    path = root / f"part-{number:02}" / "rows.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path.relative_to(root).as_posix()


def pinned(root: Path) -> tuple[CountingBlobs, Batch]:
    """Return what lies under *root* now."""
    blobs = CountingBlobs(root)
    batch = Batch.of("data", blobs.list())
    return blobs, batch


def suite_of(*expectations: tuple[str, Mapping[str, Any]]) -> Suite:
    return Suite("test", tuple({"type": kind, "kwargs": kwargs, "meta": {}} for kind, kwargs in expectations))


def arrow(frame: pl.DataFrame) -> pa.Table:
    """Return *frame* with the types that pandas and pyarrow users write."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
