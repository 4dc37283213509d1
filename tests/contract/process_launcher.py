"""A `Launcher` of plain processes: jobs run as on another machine, with nothing of this process but what they are told.

A job outlives the process that started it, as with a real service; `end_all` ends what a test leaves.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from insitu.adapters.local.blobs import FolderBlobs
from insitu.adapters.remote import Launch, RemoteJobs
from insitu.ports import JobStatus
from insitu.settings import EdgeSecrets


@dataclass(frozen=True)
class ProcessLauncher:
    """Runs each job in a session of its own, from a copy of its code below *root*."""

    root: Path
    asked: list[str] = field(default_factory=list)

    def start(self, launch: Launch) -> None:
        folder = self.root / launch.job_id
        self.asked.append(launch.job_id)
        if folder.exists():
            return
        shutil.copytree(launch.code, folder / "code")
        job = shlex.join([sys.executable, *launch.arguments, "--summary", str(folder / "summary")])
        with open(folder / "output.txt", "wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", f"{job}; echo $? > {shlex.quote(str(folder / 'exit'))}"],
                cwd=folder / "code",
                env={"PATH": os.environ["PATH"], "TMPDIR": str(self.root), **launch.environ},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        (folder / "pid").write_text(str(process.pid))

    def look(self, job_id: str) -> JobStatus | None:
        folder = self.root / job_id
        if not folder.exists():
            return None
        if (folder / "stopped").exists():
            return JobStatus("canceled")
        if (folder / "exit").exists():
            return JobStatus("completed" if (folder / "exit").read_text() == "0\n" else "failed")
        return JobStatus("running") if self.group(job_id) else JobStatus("failed")

    def stop(self, job_id: str) -> None:
        if (self.root / job_id).exists() and not (self.root / job_id / "exit").exists():
            (self.root / job_id / "stopped").touch()
            self.kill(job_id, signal.SIGTERM)
            self.kill(job_id, signal.SIGKILL)

    def kill(self, job_id: str, sign: int) -> None:
        """Send a signal to the job's session, as far as it is there; wait a while for its end."""
        deadline = time.monotonic() + 5
        while (pids := self.group(job_id)) and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            time.sleep(0.05)

    def group(self, job_id: str) -> list[int]:
        """Return the processes of the job's session that run."""
        leader = (self.root / job_id / "pid").read_text()
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if session == leader and state not in "ZX":
                    found.append(int(path.parent.name))
        return found

    def end_all(self) -> None:
        for folder in self.root.glob("*/pid"):
            self.kill(folder.parent.name, signal.SIGKILL)


def remote_jobs(root: Path) -> RemoteJobs:
    """Return jobs of a site whose state is a folder and whose other machine is this one."""
    state = FolderBlobs(root / "site state")
    return RemoteJobs(
        launcher=ProcessLauncher(root / "the other machine"),
        state=state,
        state_spec={"kind": "folder", "root": str(state.root)},
        secrets=EdgeSecrets(),
        work=root / "jobs with space",
        backend="elsewhere",
    )
