"""A process that has imported everything, and forks for each flow run: the run begins at once.

It serves `flows.running.handing_over` over a socket and has one thread, since a process with more cannot fork safely.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PACKAGES = ("data_checks", "flows", "insitu", "tasks")
_REQUEST_S = 10.0


@dataclass
class WarmServer:
    """Forks for each run that is handed over.

    Attributes:
        listener: The socket that runs are handed over at.
        settings: Prefect's variables of this process: a run with others needs a process of its own.
    """

    listener: socket.socket
    settings: Mapping[str, str]
    _since: float = field(default_factory=time.time, init=False)
    _runs: dict[int, socket.socket] = field(default_factory=dict, init=False)

    def serve(self, worker_pid: int) -> int | None:
        """Serve until the worker has ended and return its exit code; in a forked process return None: do the run."""
        woken, wakes = socket.socketpair()
        for end in (woken, wakes):
            end.setblocking(False)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # or nobody is woken
        wakes.send(b"\0")  # for a worker that has ended already
        with selectors.DefaultSelector() as ready:
            for door in (self.listener, woken):
                ready.register(door, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is woken:
                        woken.recv(1024)
                        for pid, code in _ended():
                            if pid == worker_pid:
                                self._end_all()
                                return code
                            self._say_code(ready, pid, code)
                    elif key.fileobj is self.listener:
                        if self._begin(ready):
                            return None
                    else:
                        _kill(key.data)  # whoever handed the run over has gone

    def _begin(self, ready: selectors.BaseSelector) -> bool:
        """Fork for the run that is handed over; return whether this is the forked process."""
        connection, _ = self.listener.accept()
        connection.settimeout(_REQUEST_S)
        try:
            request, outputs = _received(connection)
        except (OSError, ValueError):
            connection.close()
            return False
        if why := self._unfit(request["environ"]):
            _answer(connection, {"why": why})
            connection.close()
        elif pid := os.fork():
            self._runs[pid] = connection
            ready.register(connection, selectors.EVENT_READ, pid)
            _answer(connection, {"pid": pid})
        else:
            ready.close()
            _become(request, outputs, [self.listener, connection, *self._runs.values()])
            return True
        for number in outputs:
            os.close(number)
        return False

    def _unfit(self, environ: Mapping[str, str]) -> str | None:
        if prefect_settings(environ) != self.settings:
            return "the run has settings of its own for Prefect"
        return "the code has changed: restart the worker" if _changed_since(self._since) else None

    def _say_code(self, ready: selectors.BaseSelector, pid: int, code: int) -> None:
        if connection := self._runs.pop(pid, None):
            ready.unregister(connection)
            _answer(connection, {"code": code})
            connection.close()

    def _end_all(self) -> None:
        for pid in self._runs:
            _kill(pid)


def prefect_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what *environ* says about Prefect itself, not about one run."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith("PREFECT_") and not name.startswith("PREFECT__")
    }


def _ended() -> Iterator[tuple[int, int]]:
    """Yield the processes that have ended, each with its exit code."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, os.waitstatus_to_exitcode(status)


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, outputs, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as rest:
        request: dict[str, Any] = json.loads(rest.read(int.from_bytes(head)))
    return request, outputs


def _answer(connection: socket.socket, told: Mapping[str, Any]) -> None:
    with suppress(OSError):  # nobody waits for it
        connection.sendall(json.dumps(told).encode() + b"\n")


def _become(request: Mapping[str, Any], outputs: list[int], not_ours: list[socket.socket]) -> None:
    """Let this forked process have the run's session, variables, folder and outputs."""
    signal.set_wakeup_fd(-1)
    for sign in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, signal.SIG_DFL if sign != signal.SIGINT else signal.default_int_handler)
    for one in not_ours:
        one.close()
    os.setsid()
    for number, target in zip(outputs, (0, 1, 2), strict=True):
        os.dup2(number, target)
        os.close(number)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])


def _changed_since(moment: float) -> bool:
    """Tell whether a module of ours is another one than was imported: what this process knows is outdated then."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.partition(".")[0] in _PACKAGES:
            with suppress(FileNotFoundError):
                if Path(file).stat().st_mtime > moment:
                    return True
    return False


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
