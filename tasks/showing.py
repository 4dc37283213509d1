"""What is shown in Prefect is for people: a server that is away keeps no run from its work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

_RETRIES = 2
_PAUSE_S = 60.0
_away_until = 0.0
log = logging.getLogger(__name__)


def show(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what *make*, a function that makes or moves an artifact, returns; None while the server is away.

    It is asked for some seconds instead of Prefect's minute, and then not again for a while.
    """
    global _away_until
    if time.monotonic() < _away_until:
        return None
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: _RETRIES}):
            return make(*args, **kwargs)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is not about the run
        _away_until = time.monotonic() + _PAUSE_S
        log.warning("Prefect cannot show what this run does: %s", type(exc).__name__)
        return None
