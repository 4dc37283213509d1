"""Check that the compute fits the job."""

from __future__ import annotations

import logging

from insitu.lineage import Records
from insitu.ports import Check
from insitu.readiness import check_command, check_requirements, forecast, require_ready
from insitu.runs import Run
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("check-readiness")
def check_readiness(run: Run) -> list[Check]:
    """Compare the compute with the forecast, on every start that still has to train; raise `NotReady`."""
    # An old "ready" says nothing about now, and once the model is trained nobody needs one.
    do = run.journal.once if run.journal.entry("train") else run.journal.again
    return do("ready", list[Check], lambda: _look(run))


def _look(run: Run) -> list[Check]:
    earlier = Records(run.site.state).of_model(run.model.name)
    need = forecast(run.model.needs, run.batch, earlier)
    train = run.model.train
    checks = [
        *run.site.compute.readiness(need),
        check_command(train.command, run.model_folder),
        *check_requirements(train.requirements),
    ]
    for check in checks:
        log.info("%s %s: found %s, wanted %s", "ok" if check.ok else "NOT READY", check.name, check.found, check.wanted)
    require_ready(checks)
    return checks
