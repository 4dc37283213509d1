"""Pin the batch that the run uses."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.lineage import counted
from insitu.runs import Run, open_run
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("snapshot-batch")
def snapshot_batch(project: Path, model: str, site: str, batch: str | None, params: Mapping[str, Any]) -> Run:
    """Read the settings and pin the blobs; raise `SettingsError`, `DataError`, `UsageError`."""
    run = open_run(project, model, site, Path(batch) if batch else None, params)
    log.info(
        "pinned %s, %.1f MB, as batch %s (run %s)",
        counted(len(run.batch.blobs), "blob"), run.batch.size_bytes / 1e6, run.batch.fingerprint[:12], run.key[:12],
    )  # fmt: skip
    return run
