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

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.batch import Batch
from insitu.errors import DataError, InsituError, UsageError
from insitu.files import replace_file
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.stores import open_blobs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from insitu.tables.table import Table


DATA_ERROR = "data_error.json"
"""In the job's folder: the error that a script met while it read its batch."""

_MEND_COLUMNS = "mend [target] in model.toml, the columns that the script asks for, or the data"


@dataclass(frozen=True)
class EdgeBatch:
    """The blobs that this script may read, and where it leaves its results.

    Attributes:
        batch: The pinned blobs.
        target: The label's definition: the `[target]` of model.toml.
        params: The `[train.params]` of model.toml.
        output: The folder for `model/`, `model.onnx`, `metrics.json` and plots.
        job: The edge job's folder.
        reading: The `[data.reading]` of model.toml.
    """

    batch: Batch
    store: BlobStore
    target: Mapping[str, Any]
    params: Mapping[str, Any]
    output: Path
    job: Path
    reading: ReadingSettings = field(default_factory=ReadingSettings)

    def schema(self) -> pa.Schema:
        """Return the columns and their types: the union over the blobs, then those in the blobs' names."""
        with self._telling():
            return self._table.schema

    def record_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in blob order; raise `BlobChanged`, `DataError` for an unreadable blob."""
        from insitu.tables.table import read

        with self._telling():
            table = self._table
            names = self._names(columns)
            for part in table.parts:
                for rows, _ in read(self.store, part, table.schema, names, self.reading):
                    yield from rows.select(names).to_batches()

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, shape (n_rows, n_columns), in memory."""
        import pyarrow as pa

        batches = list(self.record_batches(columns))
        return pa.Table.from_batches(batches, pa.schema([self.schema().field(name) for name in self._names(columns)]))

    @cached_property
    def _table(self) -> Table:
        from insitu.tables.table import open_table

        return open_table(self.store, self.batch, self.reading)

    def _names(self, columns: Sequence[str] | None) -> list[str]:
        held = self._table.schema.names
        if missing := sorted(set(columns or ()) - set(held)):
            raise DataError(
                f"the batch of {self.batch.container} has no column {', '.join(missing)}", next_action=_MEND_COLUMNS
            )
        return held if columns is None else list(columns)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Leave what the reading raises for the edge job."""
        try:
            yield
        except InsituError as error:
            self._left(error)
            raise

    def _left(self, error: InsituError) -> InsituError:
        """Return *error*, told to the edge job, which sees no more of this script than its exit code."""
        replace_file(self.job / DATA_ERROR, json.dumps(error.to_json()).encode())
        return error

    def examples(self, columns: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return features (n, len(columns)) and labels (n,) of the rows whose label is known.

        Labels are 0 or 1 for a classification (`label_column > label_above`, `label_column == label_is`, or the
        column itself), of many classes the place in `classes`, the column's numbers for a regression.
        """
        import pyarrow.compute as pc

        label = str(self.target["label_column"])
        table = self.table([*dict.fromkeys([*columns, label])])
        known = table.filter(pc.invert(pc.is_null(table[label], nan_is_null=True)))
        if not known.num_rows:
            raise self._left(DataError(f"no row of the batch has a label: {label} is empty", next_action=_MEND_COLUMNS))
        return known.select(list(columns)).to_pandas(), self._labels(known[label].to_numpy())

    def _labels(self, values: np.ndarray) -> np.ndarray:
        import numpy as np

        above, one = self.target.get("label_above"), self.target.get("label_is")
        if classes := self.target.get("classes"):
            return self._places(values, classes)
        if above is None and one is None:
            return values
        return np.asarray(values == one if above is None else values > above, dtype=np.int64)

    def _places(self, values: np.ndarray, classes: Sequence[Any]) -> np.ndarray:
        import numpy as np

        places = np.full(len(values), -1, dtype=np.int64)
        for place, one in enumerate(classes):
            places[values == one] = place
        if strange := int((places < 0).sum()):
            raise self._left(
                DataError(
                    f"{self.target['label_column']} has classes that target.classes of model.toml does not name",
                    found=f"{strange:,} of {len(values):,} rows",
                    next_action="name all classes there, or leave these rows without a label",
                )
            )
        return places


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
        reading=ReadingSettings.model_validate(manifest.get("reading", {})),
    )


def open_part(folder: Path, spec: Mapping[str, Any], part: str) -> EdgeBatch:
    """Return the `train` or `holdout` part of a job's batch, as its spec has it: for the edge job itself."""
    manifest = folder / f"{part}.json"
    manifest.write_text(json.dumps(spec[part]))
    return open_batch({"INSITU_BATCH": str(manifest), "INSITU_OUTPUT": str(folder)})
