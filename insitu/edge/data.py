"""What a training script sees of the batch: pinned reads as Arrow, and the job's parameters.

    from insitu.edge.data import open_batch

    batch = open_batch()                              # from INSITU_BATCH
    X, y = batch.examples(["carrier", "distance"])    # rows whose label is known
    ...
    model.save(batch.output / "model")

Every read is conditional on the blob's pinned ETag: a blob that was overwritten since it was
validated raises `BlobChanged`, and no byte of the new version is returned.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.batch import Batch, Blob
from insitu.errors import DataError, InsituError, UsageError
from insitu.files import replace_file
from insitu.ports import BlobStore
from insitu.wiring import open_blobs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq


DATA_ERROR = "data_error.json"
"""In the job's folder: the error that a script met while it read its batch."""

_MEND_COLUMNS = "mend [target] in model.toml, the columns that the script asks for, or the data"


@dataclass(frozen=True)
class EdgeBatch:
    """The blobs that this script may read, and where it leaves its results.

    Attributes:
        batch: The pinned blobs.
        target: The label's definition: `{"task", "label_column", "label_above"}`.
        params: The `[train.params]` of model.toml.
        output: The folder for `model/`, `model.onnx`, `metrics.json` and plots.
        job: The edge job's folder.
    """

    batch: Batch
    store: BlobStore
    target: Mapping[str, Any]
    params: Mapping[str, Any]
    output: Path
    job: Path

    def schema(self) -> pa.Schema:
        """Return the columns and their types, as the first blob has them."""
        with self._open(self.batch.blobs[0]) as file:
            return file.schema_arrow

    def record_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in blob order; raise `BlobChanged`, `DataError` for an unreadable blob."""
        for blob in self.batch.blobs:
            with self._open(blob) as file:
                if missing := sorted(set(columns or ()) - set(file.schema_arrow.names)):
                    raise DataError(f"blob {blob.name} has no column {', '.join(missing)}", next_action=_MEND_COLUMNS)
                yield from file.iter_batches(columns=None if columns is None else list(columns))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, shape (n_rows, n_columns), in memory."""
        import pyarrow as pa

        batches = list(self.record_batches(columns))
        wanted = [field for field in self.schema() if columns is None or field.name in columns]
        return pa.Table.from_batches(batches, batches[0].schema if batches else pa.schema(wanted))

    @contextmanager
    def _open(self, blob: Blob) -> Iterator[pq.ParquetFile]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            yield pq.ParquetFile(pa.PythonFile(BlobFile(self.store, blob)), pre_buffer=True)
        except (pa.ArrowException, OSError) as exc:
            error = DataError(f"blob {blob.name} cannot be read as Parquet", next_action="upload it again")
            raise self._left(error) from exc
        except InsituError as error:
            self._left(error)
            raise

    def _left(self, error: InsituError) -> InsituError:
        """Return *error*, told to the edge job, which sees no more of this script than its exit code."""
        replace_file(self.job / DATA_ERROR, json.dumps(error.to_json()).encode())
        return error

    def examples(self, columns: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return features (n, len(columns)) and labels (n,) of the rows whose label is known.

        Labels are 0 or 1 for a classification (`label_column > label_above`, or the column itself),
        the column's numbers for a regression.
        """
        import pyarrow.compute as pc

        label = str(self.target["label_column"])
        table = self.table([*dict.fromkeys([*columns, label])])
        known = table.filter(pc.invert(pc.is_null(table[label], nan_is_null=True)))
        if not known.num_rows:
            raise self._left(DataError(f"no row of the batch has a label: {label} is empty", next_action=_MEND_COLUMNS))
        values = known[label].to_numpy()
        above = self.target.get("label_above")
        return known.select(list(columns)).to_pandas(), values if above is None else (values > above) * 1


class BlobFile(io.RawIOBase):
    """A blob as a read-only seekable file; every read is conditional on its ETag."""

    def __init__(self, store: BlobStore, blob: Blob) -> None:
        self._store, self._blob, self._position = store, blob, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._blob.size_bytes}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        length = self._blob.size_bytes - self._position if size < 0 else size
        data = self._store.read(self._blob.name, etag=self._blob.etag, offset=self._position, length=length)
        self._position += len(data)
        return data


def open_batch(environ: Mapping[str, str] = os.environ) -> EdgeBatch:
    """Return the batch that `INSITU_BATCH` (the path of a JSON manifest) describes.

    `INSITU_OUTPUT` names the output folder, `INSITU_PARAMS` holds the parameters as JSON text.

    Raises:
        UsageError: The script was started outside an edge job.
    """
    if "INSITU_BATCH" not in environ:
        raise UsageError(
            "INSITU_BATCH is not set: this script runs as part of an edge job",
            next_action="start it with `insitu retrain MODEL`",
        )
    manifest = json.loads(Path(environ["INSITU_BATCH"]).read_text())
    return EdgeBatch(
        batch=Batch.from_json(manifest),
        store=open_blobs(manifest["store"]),
        target=manifest["target"],
        params=json.loads(environ.get("INSITU_PARAMS", "{}")),
        output=Path(environ["INSITU_OUTPUT"]),
        job=Path(environ["INSITU_BATCH"]).parent,
    )
