"""Tables as Parquet blobs of a folder, and suites in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data_checks.suite import Suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch

Store = Callable[..., tuple[FolderBlobs, Batch]]


def store_of(root: Path, tables: Iterable[pa.Table], **options: Any) -> tuple[FolderBlobs, Batch]:
    """Write each table as one Parquet blob under *root*."""
    for number, table in enumerate(tables):
        path = root / f"part={number:02}" / "rows.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path, **options)
    blobs = FolderBlobs(root)
    return blobs, Batch.of("data", blobs.list())


def suite_of(*expectations: tuple[str, Mapping[str, Any]]) -> Suite:
    return Suite("test", tuple({"type": kind, "kwargs": kwargs, "meta": {}} for kind, kwargs in expectations))


def arrow(frame: pl.DataFrame) -> pa.Table:
    """Return *frame* with the types that pandas and pyarrow users write."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
