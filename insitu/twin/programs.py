"""Real programs that the twin runs: started on free loopback ports, and gone with it however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from insitu.errors import BackendUnavailable

_START_S = 60.0
_STOP_S = 10.0


@dataclass(frozen=True)
class Program:
    """A program that runs now, in a process group of its own."""

    name: str
    process: subprocess.Popen[bytes] = field(repr=False)
    log: Path

    def wait_for(self, port: int) -> None:
        """Return when it listens on *port* of this machine; raise `BackendUnavailable` when it never does."""
        deadline = time.monotonic() + _START_S
        while not listens(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BackendUnavailable(f"{self.name} does not start", next_action=f"see its log: {self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it; a second call does nothing."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
                self.process.wait(_STOP_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def start(name: str, command: Sequence[str], log: Path, *, environ: Mapping[str, str] | None = None) -> Program:
    """Start *command*; what it prints goes into the file *log*, beside which it works."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "insitu.attached", str(os.getpid()), *command],
            cwd=log.parent,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Program(name, process, log)


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Tell whether somebody listens on *port* of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
