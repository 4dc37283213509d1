"""Lets a warm process do a flow run, and ends as that ends: a worker starts it for each run, by its path.

Without a warm process that fits it becomes one itself, which takes seconds. Standard library alone, and no site
packages: it starts in some 20 ms.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import IO, Any, NoReturn

SOCKET = "FLOWS_WARM_SOCKET"
"""The variable that holds the path of the warm process's socket."""
_PASSED_ON = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Hand the run over, pass signals on, and end with its exit code."""
    worker = os.getppid()
    # They wait until the run is there. A handler in Python would not run while the answer is waited for, if the
    # signal came a moment before.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    try:
        os.setsid()  # a signal to the worker's group is no word about this run: the worker says how it ends
        warm = socket.socket(socket.AF_UNIX)
        warm.connect(os.environ[SOCKET])
        request = json.dumps({"environ": dict(os.environ), "folder": os.getcwd()}).encode()  # noqa: PTH109 - lighter
        socket.send_fds(warm, [len(request).to_bytes(4)], [0, 1, 2])
        warm.sendall(request)
        answers = warm.makefile("rb")
        begun = json.loads(answers.readline())
    except (OSError, KeyError, ValueError) as error:
        _run_here(worker, f"no warm process: {type(error).__name__}")
    if "pid" not in begun:
        _run_here(worker, begun["why"])
    _end_like(_exit_code(begun["pid"], answers))


def _exit_code(pid: int, answers: IO[bytes]) -> int:
    threading.Thread(target=_pass_signals_on, args=[pid], daemon=True).start()
    told: dict[str, Any] = json.loads(answers.readline() or '{"code": 1}')  # the warm process died, and the run with it
    return int(told["code"])


def _pass_signals_on(pid: int) -> NoReturn:
    while True:
        number = signal.sigwait(_PASSED_ON)
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _end_like(code: int) -> None:
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _run_here(worker: int, why: str) -> NoReturn:
    print(f"a fresh process does the run: {why}", file=sys.stderr, flush=True)  # noqa: T201 - the worker's log
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    os.execv(sys.executable, [sys.executable, "-m", "flows.running.engine", str(worker)])  # noqa: S606 - our own command


if __name__ == "__main__":
    main()
