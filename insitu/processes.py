"""Which process one is, so that others on this machine can tell whether it lives, and others elsewhere who it is."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessId:
    """One process of one machine, which no later process is mistaken for.

    Attributes:
        machine: One boot of one kernel, and whose process numbers it counts in; empty where that cannot be told.
        started: When it was started, in ticks since the boot; empty where that cannot be told.
    """

    host: str
    pid: int
    machine: str = ""
    started: str = ""

    @classmethod
    def of_this_process(cls) -> ProcessId:
        """Return who we are."""
        pid = os.getpid()
        found = _looked_up(pid)
        return cls(socket.gethostname(), pid, _machine(), found[1] if found else "")

    def life(self) -> Literal["alive", "dead", "unknown"]:
        """Tell whether the process lives, stopped or not; of a process of another machine nothing is known."""
        if not self.machine or self.machine != _machine():
            return "unknown"
        found = _looked_up(self.pid)
        if found is None:
            return "unknown" if _is_hidden(self.pid) else "dead"
        return "dead" if found[0] in "ZX" or found[1] != self.started else "alive"

    def __str__(self) -> str:
        return f"process {self.pid} of {self.host}"


def _machine() -> str:
    """Return boot and number space of processes; containers of one machine may differ in the second."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return ""


def _is_hidden(pid: int) -> bool:
    """Tell whether there is a process that /proc does not show, as where it is mounted with hidepid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _looked_up(pid: int) -> tuple[str, str] | None:
    """Return state and start time of a process; None when there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    words = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return words[0], words[19]
