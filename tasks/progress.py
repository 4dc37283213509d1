"""How far a long step is: a progress bar in the Prefect run, and now and then a line in its log."""

from __future__ import annotations

import logging
import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.showing import show

_INTERVAL_S = 1.0
_LOG_INTERVAL_S = 10.0
log = logging.getLogger(__name__)


class ProgressArtifact:
    """A Prefect progress artifact that long steps move; cheap to call often."""

    def __init__(self, description: str, key: str) -> None:
        self._id: UUID | None = show(create_progress_artifact, 0.0, key=key, description=description)
        self._description = description
        self._shown, self._at, self._logged_at = 0.0, time.monotonic(), time.monotonic()

    def update(self, fraction: float, text: str = "") -> None:
        """Show *fraction* (0 to 1) and *text*, which is logged, too, every ten seconds.

        Calls within a second of the last one are left out, except the end.
        """
        percent, now = round(100 * fraction, 1), time.monotonic()
        if percent > self._shown and (fraction >= 1 or now - self._at >= _INTERVAL_S):
            self._shown, self._at = percent, now
            self._show(percent, text)
        if text and now - self._logged_at >= _LOG_INTERVAL_S:
            self._logged_at = now
            log.info("%s: %s", self._description, text)

    def _show(self, percent: float, text: str) -> None:
        if self._id:
            described = f"{self._description}: {text}" if text else self._description
            show(update_progress_artifact, self._id, percent, description=described)
