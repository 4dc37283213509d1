"""The leak scanner alone: any file, folder or image layout against the rows of a batch, on site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.batch import Batch
from insitu.errors import UsageError
from insitu.lineage import Records
from insitu.residency.verdict import MAX_CELLS
from insitu.runs import read_manifest
from insitu.settings import ReadingSettings
from insitu.wiring import Site

if TYPE_CHECKING:
    import pyarrow as pa

    from insitu.residency.verdict import Ruling

_KEY_DIGITS = 8


@dataclass(frozen=True)
class Scanned:
    """What a scan of *path* says, and what it looked for."""

    path: Path
    batch: Batch
    ruling: Ruling
    coverage: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return counts, names and thresholds, without a value of the data."""
        return {"path": str(self.path), "batch": self.batch.fingerprint, **self.ruling.to_json(), **self.coverage}


def scan(
    site: Site, path: Path, batch: Batch, reading: ReadingSettings, max_cells: int = MAX_CELLS, max_rows: int = 10**6
) -> Scanned:
    """Return what *path* holds of the rows of *batch*.

    Raises:
        UsageError: There is nothing at *path*.
        DataError, BlobChanged: The batch cannot be read as it was.
    """
    from insitu.residency.batch import rows_of, source_of
    from insitu.residency.decode import folder_parts, parts
    from insitu.residency.scan import Scanner
    from insitu.residency.verdict import rule

    if not path.exists():
        raise UsageError(f"there is no file or folder {path}")
    rows = rows_of(_record_batches(site, batch, reading), max_rows)
    found = Scanner(source_of(rows)).scan(folder_parts(path) if path.is_dir() else parts(path.name, path))
    return Scanned(path, batch, rule(found, max_cells), rows.coverage())


def batch_of(site: Site, wanted: str) -> tuple[Batch, str | None]:
    """Return a batch, and the model whose run it was of, where that is known.

    Args:
        wanted: The path of a manifest, or the first 8 or more digits of a run key or of a batch fingerprint.

    Raises:
        UsageError: There is no such batch.
    """
    if Path(wanted).is_file():
        return read_manifest(Path(wanted)), None
    models = {name.split("/")[1] for name in site.state.names("runs/")}
    for record in (one for model in sorted(models) for one in reversed(Records(site.state).of_model(model))):
        keys = (record["run_key"], record["batch"]["fingerprint"])
        if len(wanted) >= _KEY_DIGITS and any(key.startswith(wanted) for key in keys):
            return Batch.from_json(record["batch"]["manifest"]), record["model"]
    raise UsageError(
        f"there is no batch {wanted!a}",
        wanted="the path of a manifest, or 8 or more digits of a run key or batch fingerprint",
        next_action="see `insitu history MODEL`",
    )


def _record_batches(site: Site, batch: Batch, reading: ReadingSettings) -> Iterator[pa.RecordBatch]:
    from insitu.tables.table import open_table, read

    store = site.data(batch.container)
    table = open_table(store, batch, reading)
    names = table.schema.names
    for part in table.parts:
        for rows, _ in read(store, part, table.schema, names, reading):
            yield from rows.select(names).to_batches()
