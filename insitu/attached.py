"""Processes that end with the one that started them, however it went: `python -m insitu.attached PID COMMAND...`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

_LOOK_S = 0.5


def end_with(parent_pid: int) -> None:
    """End this process group as soon as *parent_pid* is not this process's parent any more."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_LOOK_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    # The command is in this group and gets it too; a handler, for SIG_IGN would be inherited by the command.
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.exit(subprocess.call(sys.argv[2:]))
