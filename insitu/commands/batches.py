"""Which blobs a command is to use: those of a manifest file, or of an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

from insitu.commands.deciding import open_place
from insitu.files import replace_file
from insitu.lineage import Records


def manifest_file(project: Path, site: str, model: str, wanted: str | None) -> Path | None:
    """Return the manifest that is *wanted*: a file, or a version or run key, whose blobs are written into one.

    Raises:
        UsageError: There is no such version or run; a path that is none is left to who reads it.
    """
    if wanted is None:
        return None
    if Path(wanted).is_file() or "/" in wanted or wanted.endswith(".json"):
        return Path(wanted)
    place, _ = open_place(project, site, model)
    record = Records(place.state).of_version(model, wanted)
    file = place.settings.compute.work / "batches" / f"{record['run_key'][:12]}.json"
    replace_file(file, json.dumps(record["batch"]["manifest"], indent=1).encode())
    return file
