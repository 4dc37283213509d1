"""Check that the compute fits the job."""

from __future__ import annotations

import logging

from insitu.planning import readiness_of
from insitu.ports import Check
from insitu.readiness import require_ready
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
    checks = readiness_of(run)
    for check in checks:
        log.info("%s %s: found %s, wanted %s", "ok" if check.ok else "NOT READY", check.name, check.found, check.wanted)
    require_ready(checks)
    return checks
