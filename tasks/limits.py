"""Hold the image that was tried out against the limits of model.toml."""

from __future__ import annotations

import logging

from insitu.gate import Decision
from insitu.ports import ModelVersion
from insitu.release import BuiltImage, keep_to_limits
from insitu.runs import Run
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("check-limits")
def check_limits(run: Run, decision: Decision, version: ModelVersion, image: BuiltImage) -> Decision:
    """Return *decision*, or a rejection that names the limits which the image does not keep."""
    kept = keep_to_limits(run, decision, version, image)
    if kept != decision:
        log.warning("not published: %s", "; ".join(kept.reasons))
    return kept
