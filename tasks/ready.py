"""Check that the compute fits the job."""

from __future__ import annotations

import logging
import math
import time

from insitu.planning import readiness_of
from insitu.ports import Check
from insitu.readiness import require_ready, settled
from insitu.runs import Run
from tasks.policy import verb

log = logging.getLogger(__name__)

_PAUSE_S, _FRESH_S = 3.0, 60.0
_looked: dict[str, float] = {}
"""When this process last found the compute of a run ready."""


@verb("check-readiness")
def check_readiness(run: Run) -> list[Check]:
    """Wake the compute and compare it with the forecast, on every start that still has to train; raise `NotReady`."""
    # An old "ready" says nothing about now, and once the model is trained nobody needs one.
    do = run.journal.once if run.journal.entry("train") else run.journal.again
    return do("ready", list[Check], lambda: _look(run))


def look_again(run: Run) -> None:
    """Look once more where the compute is another machine and the last look is old; raise `NotReady`."""
    age_s = time.monotonic() - _looked.get(run.key, -math.inf)
    if run.site.settings.compute.kind != "process" and age_s > _FRESH_S and not run.site.has_job(run.key):
        _look(run)


def _look(run: Run) -> list[Check]:
    run.site.compute.wake()
    checks = _checks(run)
    for check in checks:
        level, word = (logging.INFO, "ok") if check.ok else (logging.WARNING, "NOT READY")
        log.log(level, "%s %s: found %s, wanted %s", word, check.name, check.found, check.wanted)
    require_ready(checks)
    _looked[run.key] = time.monotonic()
    return checks


def _checks(run: Run) -> list[Check]:
    if run.site.settings.compute.kind == "process":  # this machine does not come and go
        return readiness_of(run)
    return list(settled(lambda: readiness_of(run), _PAUSE_S))
