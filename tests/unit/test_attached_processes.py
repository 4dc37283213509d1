"""A process that is attached to its parent ends with it, with everything it started, and not before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ATTACHED = [sys.executable, "-m", "insitu.attached"]
SLEEPS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
PARENT = """
import os, subprocess, sys, time

command = [sys.executable, "-m", "insitu.attached", str(os.getpid()), sys.executable, "-c", sys.argv[1]]
subprocess.Popen(command, start_new_session=True)
time.sleep(60)
"""


def ends(pid: int, timeout_s: float) -> bool:
    """Tell whether *pid* ended in time; one that waits to be reaped has."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def test_a_command_ends_when_the_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, SLEEPS], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        try:
            assert ends(pid, 10)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    done = subprocess.run(
        [*ATTACHED, "1", sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True, timeout=30
    )
    assert done.returncode == -signal.SIGKILL


def test_the_exit_code_is_that_of_the_command() -> None:
    command = [*ATTACHED, str(os.getpid()), sys.executable, "-c", "raise SystemExit(3)"]
    assert subprocess.run(command, start_new_session=True, timeout=30).returncode == 3


def test_sigterm_to_the_group_ends_a_command_that_does_not_handle_it() -> None:
    command = [*ATTACHED, str(os.getpid()), sys.executable, "-c", SLEEPS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != -signal.SIGKILL
