"""Train a challenger next to the data and measure it on the holdout."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from insitu.joblog import LogRelay
from insitu.residency.statement import waivers_of
from insitu.runs import Run
from insitu.training import Trained, is_kept, train_challenger
from tasks.policy import verb
from tasks.progress import ProgressArtifact
from tasks.ready import look_again

log = logging.getLogger(__name__)


@verb("train-challenger")
def train(run: Run) -> Trained:
    """Return what the edge job left.

    Raises:
        NotReady: The compute was ready, and is not any more.
        TrainingFailed: The job failed, was canceled or passed its deadline.
        BlobChanged: A blob was overwritten since it was pinned.
    """
    return run.journal.once("train", Trained, lambda: _train(run), still=lambda trained: is_kept(run, trained))


def _train(run: Run) -> Trained:
    look_again(run)  # validation may have taken long
    progress = ProgressArtifact("training", f"training-{run.model.name}")
    relay = LogRelay(
        on_line=log.info,
        on_progress=progress.update,
        max_lines=500 if run.model.train.relay_output else 0,
        on_phase=lambda phase: log.info("edge job %s is %s (%s)", run.key[:12], phase, run.site.jobs.backend),
    )
    for waiver in run.site.waivers(run.model.name).all(datetime.now(UTC)):
        log.log(logging.WARNING if waiver.status in ("counts", "altered") else logging.INFO, "%s", waiver.render())
    trained = train_challenger(run, relay)
    log.info("edge job %s done in %.1f s, %d holdout rows", run.key[:12], trained.seconds, trained.rows)
    for line in waivers_of(trained.residency or {}):
        log.warning("the model holds %s", line)
    return trained
