"""Edge jobs as processes of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insitu.enclosure import job_command
from insitu.errors import InsituError, StorageFull, TrainingFailed, naming_write_errors
from insitu.ports import JobPhase, JobStatus

_GRACE_S = 5.0
_LOOK_S = 0.05
_FULL_BELOW_BYTES = 1 << 20


@dataclass(frozen=True)
class ProcessJobs:
    """`TrainingJobs` that runs each job in a process group of its own, one folder per job under *root*.

    A job ends with the process that submitted it, so a job without a result is started again.

    Attributes:
        withheld: Variables that no job is given, since code of the model could read them.
        isolated: Whether a job reaches nothing but its data, as far as the kernel allows that.
    """

    root: Path
    withheld: frozenset[str] = frozenset()
    isolated: bool = False
    backend: str = "process"
    poll_s: tuple[float, float] = (0.2, 0.2)
    limits_s: Mapping[JobPhase, float] = field(default_factory=dict)
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False, compare=False)

    def submit(self, key: str, spec: Mapping[str, Any]) -> str:
        """Start the job, or find the finished one; raise `StorageFull`."""
        folder, child = self.output(key), self._children.get(key)
        if (child and child.poll() is None) or (folder / "result.json").is_file():
            return key
        with naming_write_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            folder.chmod(0o700)  # rows of the holdout lie in it
            (folder / "spec.json").write_text(json.dumps(spec))
            with open(folder / "edge.txt", "wb") as own_output:
                self._children[key] = subprocess.Popen(
                    job_command(folder, spec, isolated=self.isolated),
                    env={name: value for name, value in os.environ.items() if name not in self.withheld},
                    stdin=subprocess.DEVNULL,
                    stdout=own_output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        return key

    def status(self, job_id: str) -> JobStatus:
        """Return where the job stands."""
        child = self._children.get(job_id)
        if child is not None and child.poll() is None:
            return JobStatus("running")
        folder = self.output(job_id)
        if (folder / "result.json").is_file() and not (child and child.returncode):
            return JobStatus("completed")
        if child is not None and child.returncode == -signal.SIGTERM:
            return JobStatus("canceled")
        return JobStatus("failed", _failure(folder))

    def log(self, job_id: str, offset: int) -> bytes:
        """Return the job's log from *offset* on."""
        try:
            with open(self.output(job_id) / "log.txt", "rb") as file:
                file.seek(offset)
                return file.read()
        except FileNotFoundError:
            return b""

    def cancel(self, job_id: str) -> None:
        """End the job's process group: politely, then surely."""
        child = self._children.get(job_id)
        if child is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(child.pid, sign)
            if _group_ends(child):
                return

    def output(self, job_id: str) -> Path:
        """Return the job's folder."""
        return self.root / job_id


def _group_ends(leader: subprocess.Popen[bytes]) -> bool:
    """Wait a while for the end of every process of the group; tell whether they are gone."""
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline:
        leader.poll()  # an ended leader counts as there until somebody has asked
        try:
            os.killpg(leader.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(_LOOK_S)
    return False


def _failure(folder: Path) -> InsituError:
    try:
        return InsituError.from_json(json.loads((folder / "failure.json").read_text()))
    except (OSError, ValueError):
        pass
    if folder.is_dir() and shutil.disk_usage(folder).free < _FULL_BELOW_BYTES:
        return StorageFull(f"no space left in {folder}", next_action="free some space, then start the run again")
    return TrainingFailed(
        "the edge job ended without a result or a reason", next_action=f"its own output is in {folder / 'edge.txt'}"
    )
