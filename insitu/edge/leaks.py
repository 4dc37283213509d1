"""The leak scan of an edge job: what the command left, against the batch and against what reached `fit`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.edge.command import FITS
from insitu.edge.data import open_part
from insitu.residency.batch import BATCH, rows_of, source_of
from insitu.residency.decode import folder_parts
from insitu.residency.scan import Scanner
from insitu.residency.verdict import rule


def require_no_leak(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict over the output of the job in *folder*: counts, names and coverage, no value of the data.

    Raises:
        LeakFound: The output holds records, or something that cannot be opened.
    """
    started, settings = time.monotonic(), spec["residency"]
    batches = (rows for part in ("train", "holdout") for rows in open_part(folder, spec, part).record_batches())
    rows = rows_of(batches, settings["max_rows"])
    source = source_of(rows, folder / FITS)
    ruling = rule(Scanner(source).scan(folder_parts(folder / "output")), settings["max_cells"])
    ruling.require_clear("what the training command left")
    unkept = sorted(path.stem.partition("-")[2] for path in (folder / FITS).glob("missed-*.json"))
    fitted = sum(one.labels != (BATCH,) for one in source.matrices)
    seconds = round(time.monotonic() - started, 3)  # with the reading of the rows
    return ruling.to_json() | rows.coverage() | {"fitted": fitted, "unkept": unkept, "seconds": seconds}
