"""Named places where a test may end the process, so that "killed anywhere" can be enumerated.

`INSITU_CRASH_AT=name` ends the process with SIGKILL at that point; `INSITU_CRASH_LOG=file` lists the
points that a run passes. Without these variables a point costs two look-ups.
"""

from __future__ import annotations

import os
import signal


def crashpoint(name: str) -> None:
    """Pass the point *name*, or end here when the environment says so."""
    if log := os.environ.get("INSITU_CRASH_LOG"):
        with open(log, "a") as file:
            file.write(name + "\n")
    if os.environ.get("INSITU_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
