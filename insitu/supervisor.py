"""Services that belong together: started, restarted when one dies, shown, and ended as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from insitu.errors import BackendUnavailable
from insitu.files import replace_file

PAUSES_S = (1.0, 5.0, 25.0)
"""Before the first restart, the second, the third; who dies once more within the window is given up."""
WINDOW_S = 600.0
_STOP_S = 45.0
_LOOK_S = 0.3


@dataclass(frozen=True)
class Service:
    """A process that goes on until it is stopped.

    Attributes:
        name: What people call it; its log is NAME.txt.
        environ: All of its variables.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)


def pause_before_restart(deaths_s: Sequence[float], now_s: float, pauses_s: Sequence[float] = PAUSES_S) -> float | None:
    """Return the seconds to wait before a service that died at *deaths_s* is restarted; None to give it up."""
    lately = sum(now_s - death_s < WINDOW_S for death_s in deaths_s)
    return pauses_s[lately - 1] if lately <= len(pauses_s) else None


@dataclass
class _Member:
    service: Service
    log: Path
    process: subprocess.Popen[bytes]
    since: datetime
    restarts: int = 0
    deaths_s: list[float] = field(default_factory=list)
    due_s: float | None = None
    """When it is restarted; None while it runs."""

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def to_json(self) -> dict[str, Any]:
        state = "up" if self.due_s is None else "restarting"
        told = {"name": self.service.name, "state": state, "since": self.since.isoformat(timespec="seconds")}
        return told | {"restarts": self.restarts, "pid": self.process.pid, "log": str(self.log)}


@dataclass
class Supervisor:
    """Keeps services running.

    Attributes:
        folder: Where the services run.
        logs: Where their logs go.
        board: The file that tells, as JSON, what is up, since when, and how often it was restarted.
        say: Takes a line for people.
        pauses_s: See `pause_before_restart`.
    """

    folder: Path
    logs: Path
    board: Path
    say: Callable[[str], None]
    pauses_s: Sequence[float] = PAUSES_S
    _members: dict[str, _Member] = field(default_factory=dict, init=False)

    def start(self, service: Service) -> None:
        """Start the service."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{service.name}.txt"
        self._members[service.name] = _Member(service, log, _started(service, self.folder, log), _now())
        self._post()

    def require_running(self) -> None:
        """Restart what died and is due; raise `BackendUnavailable`, naming the log, for what dies again and again."""
        for member in self._members.values():
            self._mind(member)

    def go_on(self) -> None:
        """Keep the services running; raise `BackendUnavailable` when one dies again and again."""
        while True:
            self.require_running()
            time.sleep(_LOOK_S)

    def stop(self, *groups: Sequence[str]) -> None:
        """End one group of services after the other, then what is left, each with everything that it started."""
        for names in (*groups, tuple(self._members)):
            members = [self._members.pop(name) for name in names if name in self._members]
            _end([member.process for member in members])
        with suppress(FileNotFoundError):
            self.board.unlink()

    def _mind(self, member: _Member) -> None:
        now_s, name = time.monotonic(), member.service.name
        if member.due_s is None and not member.runs:
            member.deaths_s.append(now_s)
            pause_s = pause_before_restart(member.deaths_s, now_s, self.pauses_s)
            code = member.process.returncode
            if pause_s is None:
                raise BackendUnavailable(
                    f"the service {name} ends by itself again and again",
                    found=f"exit code {code}, {len(member.deaths_s)} times",
                    next_action=f"see its log: {member.log}",
                )
            _end([member.process])  # what it started, too
            self.say(f"{name} ended with exit code {code}: started again in {pause_s:.0f} s; its log: {member.log}")
            member.due_s, member.since = now_s + pause_s, _now()
            self._post()
        elif member.due_s is not None and now_s >= member.due_s:
            member.process, member.since = _started(member.service, self.folder, member.log), _now()
            member.restarts, member.due_s = member.restarts + 1, None
            self._post()

    def _post(self) -> None:
        told = [member.to_json() for member in self._members.values()]
        replace_file(self.board, json.dumps(told, indent=1).encode())


def _started(service: Service, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start it in a process group of its own, which ends with this process however that ends."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "insitu.attached", str(os.getpid()), *service.command],
            env=service.environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End the processes and their groups; a second Ctrl-C ends them at once."""
    groups = list(processes)
    try:
        for process in groups:
            _signal_group(process, signal.SIGTERM)
        deadline_s = time.monotonic() + _STOP_S
        for process in groups:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline_s - time.monotonic()))
    finally:
        for process in groups:
            _signal_group(process, signal.SIGKILL)  # also what the process left behind
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, sign)


def _now() -> datetime:
    return datetime.now(UTC)
