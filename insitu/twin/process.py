"""The twin that runs beside the command line: starting it, finding it, speaking with it, ending it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Any

import urllib3

from insitu.errors import BackendUnavailable, InsituError, UsageError
from insitu.twin.parts import require_parts

_START_S = 120.0
_STOP_S = 30.0
_NOTE = "twin.json"
_LOG = "twin.log"
SECRET = "control.secret"  # noqa: S105 - the name of its file
HEADER = "x-insitu-twin"
_WRITTEN = "written by `insitu twin up`"
"""What the first line of the settings says that a twin may write over."""


@dataclass(frozen=True)
class Running:
    """A twin that runs now.

    Attributes:
        pid: Its process.
        port: The port of its proxy.
        site: The site whose settings it wrote.
    """

    folder: Path
    pid: int
    port: int
    backend: str
    hub_identity: str
    site: str

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what the twin answers; raise its error when it refuses, `BackendUnavailable` when it is silent."""
        secret = (self.folder / "secrets" / SECRET).read_text()
        try:
            answer = urllib3.request(
                method,
                f"http://127.0.0.1:{self.port}{path}",
                json=body,
                headers={HEADER: secret},
                timeout=30,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as exc:
            raise BackendUnavailable("the twin does not answer", found=type(exc).__name__) from None
        told: dict[str, Any] = answer.json()
        if answer.status >= 300:
            raise (
                InsituError.from_json(told)
                if "what" in told
                else UsageError(str(told.get("error", "the twin refuses")))
            )
        return told


def find(folder: Path) -> Running | None:
    """Return the twin that runs in *folder* now."""
    note = folder / _NOTE
    try:
        with open(note) as held:
            flock(held, LOCK_SH | LOCK_NB)
        return None  # nobody holds the note: whatever it says is of a twin that is gone
    except FileNotFoundError:
        return None
    except BlockingIOError:
        text = note.read_text()
    return Running(folder=folder, **json.loads(text)) if text else None


def require(folder: Path) -> Running:
    """Return the twin that runs in *folder*; raise `UsageError` when none does."""
    if found := find(folder):
        return found
    raise UsageError("no twin runs here", next_action="insitu twin up --detach")


def start(project: Path, folder: Path, *, backend: str, hub_identity: str, site: str, install: bool = True) -> Running:
    """Start a twin in *folder*, unless the same one runs; return it when it is ready.

    Raises:
        UsageError: Another one runs, *site* is somebody else's, or a program that it needs is not installed.
        BackendUnavailable: It does not start.
    """
    if found := find(folder):
        if (found.backend, found.hub_identity, found.site) == (backend, hub_identity, site):
            return found
        raise UsageError(
            "another twin runs here",
            found=f"backend {found.backend}, hub identity {found.hub_identity}, site {found.site}",
            next_action="insitu twin down",
        )
    _require_own_site(project, site)
    require_parts(install)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "insitu.twin", str(project), str(folder), backend, hub_identity, site]
    with open(folder / _LOG, "wb") as log:
        process = subprocess.Popen(
            command, cwd=project, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + _START_S
    while not (found := find(folder)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise BackendUnavailable("the twin does not start", next_action=f"see its log: {folder / _LOG}")
        time.sleep(0.1)
    return found


def _require_own_site(project: Path, site: str) -> None:
    """See that what is written over is settings of a twin, and never those of a real site."""
    if not re.fullmatch(r"[\w-]+", site):
        raise UsageError(f"{site} is no name of a site", wanted="letters, digits, - and _")
    file = project / "deployments" / "sites" / f"{site}.toml"
    if file.exists() and _WRITTEN not in file.read_text().partition("\n")[0]:
        raise UsageError(
            f"{file.relative_to(project)} is there, and no twin wrote it",
            wanted="settings of a twin, or none",
            next_action="choose another --name",
        )


def stop(folder: Path) -> bool:
    """End the twin of *folder*; return whether one ran. Blobs, keys and logs stay."""
    found = find(folder)
    if found is None:
        return False
    deadline = time.monotonic() + _STOP_S
    os.kill(found.pid, signal.SIGTERM)
    while find(folder):
        if time.monotonic() > deadline:
            os.kill(found.pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    return True


@contextmanager
def announced(folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Hold the folder's note, which falls with this process, and yield what fills it in when the twin is ready.

    Raises:
        UsageError: Another twin holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _NOTE, "a") as note:
        try:
            flock(note, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise UsageError("a twin runs here already", next_action="insitu twin status") from None
        note.truncate(0)

        def announce(facts: Mapping[str, Any]) -> None:
            note.write(json.dumps({"pid": os.getpid(), **facts}))
            note.flush()

        yield announce
        note.truncate(0)
