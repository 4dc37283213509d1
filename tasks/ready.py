"""Check that the compute fits the job."""

from __future__ import annotations

import logging
import math
import time

from insitu.planning.plan import readiness_of
from insitu.ports import Check
from insitu.readiness import require_ready, settled
from insitu.runs import Run
from tasks.policy import verb

log = logging.getLogger(__name__)

_PAUSE_S, _FRESH_S = 3.0, 60.0
_looked: dict[str, float] = {}
"""When this process last found the compute of a run ready."""


@verb("check-readiness")
def check_readiness(run: Run, pause_s: float = _PAUSE_S) -> list[Check]:
    """Wake the compute and compare it with the forecast, on every start that still has to train; raise `NotReady`.

    After a failure on another machine it looks again, with *pause_s* seconds in between.
    """
    # An old "ready" says nothing about now, and once the model is trained nobody needs one.
    do = run.journal.once if run.journal.entry("train") else run.journal.again
    return do("ready", list[Check], lambda: _look(run, pause_s))


def look_again(run: Run, fresh_s: float = _FRESH_S, pause_s: float = _PAUSE_S) -> None:
    """Look again where the compute is another machine and the last look is older than *fresh_s*; raise `NotReady`."""
    age_s = time.monotonic() - _looked.get(run.key, -math.inf)
    if run.site.settings.compute.kind != "process" and age_s > fresh_s and not run.site.has_job(run.key):
        _look(run, pause_s)


def _look(run: Run, pause_s: float) -> list[Check]:
    run.site.compute.wake()
    checks = _checks(run, pause_s)
    for check in checks:
        level, word = (logging.INFO, "ok") if check.ok else (logging.WARNING, "NOT READY")
        log.log(level, "%s %s: found %s, wanted %s", word, check.name, check.found, check.wanted)
    require_ready(checks)
    _looked[run.key] = time.monotonic()
    return checks


def _checks(run: Run, pause_s: float) -> list[Check]:
    if run.site.settings.compute.kind == "process":  # this machine does not come and go
        return readiness_of(run)
    return list(settled(lambda: readiness_of(run), pause_s))
