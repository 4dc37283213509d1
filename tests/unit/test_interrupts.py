"""A Ctrl-C that a library swallows is raised again."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal
from insitu.interrupts import heed, remember
remember(signal.SIGINT)
heed()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("swallowed", flush=True)
try:
    heed()
except KeyboardInterrupt:
    print("raised again", flush=True)
heed()
print("once", flush=True)
"""


def test_a_swallowed_interrupt_is_raised_once_more() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["swallowed", "raised again", "once", ""]


def test_an_interrupt_that_is_ignored_stays_ignored() -> None:
    script = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["once", ""]
