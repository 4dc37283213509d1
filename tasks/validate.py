"""Validate the batch in place, before anything is trained."""

from __future__ import annotations

import logging
from typing import Any

from prefect.artifacts import create_table_artifact

from data_checks.engine import validate
from data_checks.suite import load_suite
from insitu.cards import validation_table
from insitu.errors import DataError
from insitu.runs import Run
from tasks.policy import verb
from tasks.progress import ProgressArtifact

log = logging.getLogger(__name__)


@verb("validate-batch")
def validate_batch(run: Run) -> dict[str, Any]:
    """Return the redacted report of a batch that passes its suite.

    Raises:
        DataError: The batch fails its suite or cannot be read; nothing is trained.
        BlobChanged: A blob was overwritten since it was pinned.
    """
    report = run.journal.once("validate", dict[str, Any], lambda: _validate(run))
    held = report["expectations"] - report["failed"]
    summary = f"{held} of {report['expectations']} expectations hold on {report['rows']:,} rows"
    create_table_artifact(key=f"validation-{run.model.name}", table=validation_table(report), description=summary)
    log.info("%s, %.1f MB read", summary, report["bytes_read"] / 1e6)
    if not report["success"]:
        raise DataError(
            f"the batch fails {report['failed']} of {report['expectations']} expectations of suite {report['suite']}",
            found="; ".join(map(_describe, report["failures"])),
            next_action=f"mend data or suite; the full report is in the site's state: {run.journal.name('report')}",
        )
    return report


def _validate(run: Run) -> dict[str, Any]:
    suite = load_suite(run.suite_file)
    progress = ProgressArtifact("validating", f"validating-{run.model.name}")
    report = validate(
        suite,
        run.site.data(run.batch.container),
        run.batch,
        on_progress=lambda p: progress.update(p.row_groups_done / p.row_groups),
    )
    run.journal.keep("report", report.full)
    return report.to_json()


def _describe(failure: dict[str, Any]) -> str:
    columns = ", ".join(failure["columns"])
    count = failure["unexpected_count"]
    counted = "" if count is None else f", {count:,} of {failure['rows']:,}"
    return f"{failure['expectation']}({columns}): {failure['reason']}{counted}"
