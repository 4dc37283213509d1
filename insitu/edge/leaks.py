"""The leak scan of an edge job: what the command left, against the batch and against what reached `fit`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from insitu.edge.command import FITS
from insitu.edge.data import open_part
from insitu.files import file_digests
from insitu.residency.batch import BATCH, rows_of, source_of
from insitu.residency.capacity import capacity_of
from insitu.residency.decode import folder_parts
from insitu.residency.scan import Scanner
from insitu.residency.verdict import Allowance, rule


def require_no_leak(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict over the output of the job in *folder*: counts, names and coverage, no value of the data.

    Raises:
        LeakFound: The output holds records, or something that cannot be opened, and nobody has waived that.
    """
    started, settings = time.monotonic(), spec["residency"]
    batches = (rows for part in ("train", "holdout") for rows in open_part(folder, spec, part).record_batches())
    rows = rows_of(batches, settings["max_rows"])
    with ThreadPoolExecutor(1) as aside:  # compressing leaves the interpreter's lock
        measured = aside.submit(
            capacity_of, _leaving(folder / "output"), rows.table, rows.total, len(spec.get("metrics", ()))
        )
        source = source_of(rows, folder / FITS)
        scan = Scanner(source).scan(folder_parts(folder / "output"))
    waivers = [Allowance.of(one) for one in spec.get("waivers") or ()]
    digests = file_digests(folder / "output") if waivers or scan.unopened else {}
    ruling = rule(scan, settings["max_cells"], waivers, digests)
    may_waive = spec.get("waivers") is not None
    ruling.require_clear("what the training command left", spec["model"] if may_waive else None)
    unkept = sorted(path.stem.partition("-")[2] for path in (folder / FITS).glob("missed-*.json"))
    fitted = sum(one.labels != (BATCH,) for one in source.matrices)
    seconds = round(time.monotonic() - started, 3)  # with the reading of the rows
    more = {"capacity": measured.result(), "fitted": fitted, "unkept": unkept, "seconds": seconds}
    return ruling.to_json() | rows.coverage() | more


def _leaving(output: Path) -> list[Path]:
    """Return the files of what a command left that registries and images get."""
    export = output / "model.onnx"
    files = sorted(path for path in (output / "model").rglob("*") if path.is_file())
    return [*files, export] if export.is_file() else files
