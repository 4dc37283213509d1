"""Validate the batch in place and in a process of its own, before anything is trained."""

from __future__ import annotations

import logging
from typing import Any

from prefect.artifacts import create_table_artifact

from data_checks.baseline import Baseline, DriftCheck
from data_checks.child import Job, validate_apart
from insitu.errors import DataError
from insitu.lineage import PROFILE, champion_profile, drift_summary
from insitu.reporting.cards import drift_table, validation_summary, validation_table
from insitu.reports import failure_told
from insitu.runs import Run
from tasks.policy import verb
from tasks.progress import ProgressArtifact
from tasks.showing import show

log = logging.getLogger(__name__)


@verb("validate-batch")
def validate_batch(run: Run) -> dict[str, Any]:
    """Return the redacted report of a batch that passes its suite.

    Raises:
        DataError: The batch fails its suite or cannot be read; nothing is trained.
        BlobChanged: A blob was overwritten since it was pinned.
    """
    report = run.journal.once("validate", dict[str, Any], lambda: _validate(run))
    summary = validation_summary(report)
    notes = "".join(f"\n\n{note}" for note in report["notes"])
    show(
        create_table_artifact,
        key=f"validation-{run.model.name}",
        table=validation_table(report),
        description=summary + notes,
    )
    if drift := report["drift"]:
        summary_of_drift = drift_summary(drift)
        show(
            create_table_artifact, key=f"drift-{run.model.name}", table=drift_table(drift), description=summary_of_drift
        )
        log.info("drift: %s", summary_of_drift)
    for note in report["notes"]:
        log.info("%s", note)
    log.info(
        "%s, %.1f MB read in %.1f s", summary, report["bytes_read"] / 1e6, run.journal.entry("validate")["seconds"]
    )
    if not report["success"]:
        raise DataError(
            f"the batch fails {report['failed']} of {report['expectations']} expectations of suite {report['suite']}",
            found="; ".join(map(failure_told, report["failures"])),
            next_action=f"mend data or suite; `insitu report {run.model.name}` shows the full report, on site",
        )
    return report


def _validate(run: Run) -> dict[str, Any]:
    site, container = run.site, run.batch.container
    champion = champion_profile(run)
    job = Job(
        suite=run.suite_file,
        store=site.data_spec(container),
        batch=run.batch,
        reading=run.model.data.reading,
        state=site.state_spec,
        drift=DriftCheck(run.model.drift, run.training_part, champion and Baseline(*champion)),
        validation=site.settings.validation,
    )
    progress = ProgressArtifact("validating", f"validating-{run.model.name}")
    folder = site.settings.compute.work / "validation" / run.key
    report = validate_apart(job, folder, lambda done: progress.update(done.fraction, done.text))
    run.journal.keep("report", report.full)
    run.journal.keep(PROFILE, report.profile)
    return report.to_json()
