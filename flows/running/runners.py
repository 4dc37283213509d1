"""How a watcher's work becomes a run of the flow: by a deployment of the Prefect server, or in a process here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from insitu.errors import BackendUnavailable, InsituError, UsageError
from insitu.files import replace_file
from insitu.runs import open_run
from insitu.triggers.work import Job, Outcome, Running, Verdict

_STOP_S = 30.0
_BY_CODE: Mapping[str, Verdict] = {
    "E-DATA": "data",
    "E-BLOB": "changed",
    "E-GONE": "changed",
    "E-BUSY": "busy",
    "E-LEASE": "busy",
}


@dataclass
class WarmRunner:
    """Runs in a process of this machine that has imported everything already; each process serves one run.

    Attributes:
        folder: Where batch manifests and outcomes lie: private.
        keeps_warm: Whether a process waits for the next run; else one is started when a run is due.
    """

    project: Path
    site: str
    folder: Path
    keeps_warm: bool = False
    _waiting: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.warm_up()

    def start(self, job: Job) -> Running:
        """Start the run."""
        process, self._waiting = self._warm(), None
        outcome = self.folder / f"{job.key}-{job.attempt}-{job.epoch}.outcome.json"
        asked = {
            "model": job.model,
            "site": self.site,
            "batch": str(_manifest(self.folder, job)),
            "outcome": str(outcome),
        }
        assert process.stdin
        with suppress(BrokenPipeError):  # it ended by itself: its outcome says so
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.close()
        return _Process(self, process, outcome)

    def warm_up(self) -> None:
        """Let the process of the next run import what it needs, if one is to wait."""
        if self.keeps_warm:
            self._waiting = self._warm()

    def close(self) -> None:
        """End the process that waits."""
        if self._waiting:
            _end(self._waiting)

    def _warm(self) -> subprocess.Popen[bytes]:
        if self._waiting and self._waiting.poll() is None:
            return self._waiting
        command = [sys.executable, "-m", "insitu.attached", str(os.getpid())]
        return subprocess.Popen(
            [*command, sys.executable, "-m", "flows.running.warm", str(self.project)],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,  # what it prints is not the watcher's answer
            cwd=self.project,
            start_new_session=True,
        )


@dataclass
class _Process:
    runner: WarmRunner
    process: subprocess.Popen[bytes]
    file: Path
    stopped: bool = False

    def outcome(self) -> Outcome | None:
        if self.process.poll() is None:
            return None
        self.runner.warm_up()  # not earlier: the run needs the processor
        try:
            told = json.loads(self.file.read_text())
            return Outcome(told["verdict"], told["told"])
        except FileNotFoundError:
            if self.stopped:
                return Outcome("stopped", {"state": "Stopped"})
            error = InsituError(
                f"the process of the run ended with exit code {self.process.returncode}",
                next_action="see what it printed; the next attempt goes on after its last finished step",
            )
            return Outcome("failed", {"state": "Failed", "error": error.to_json()})

    def stop(self) -> None:
        self.stopped = True
        _end(self.process)


@dataclass(frozen=True)
class DeploymentRunner:
    """Runs as flow runs of the deployment `retrain/MODEL`: whoever asks for the same work gets the same flow run."""

    project: Path
    site: str
    folder: Path

    def start(self, job: Job) -> Running:
        """Start the flow run, or find it; raise `UsageError`, `BackendUnavailable` when the server does not do it."""
        from httpx import HTTPError
        from prefect.exceptions import ObjectNotFound

        file = _manifest(self.folder, job)
        try:
            return _FlowRun(self, job, file, self._ask_for_run(job, file))
        except ObjectNotFound:
            raise UsageError(
                f"the Prefect server has no deployment retrain/{job.model}",
                next_action="add it to prefect.yaml and call `insitu deploy flows`, or let the watcher run it: --here",
            ) from None
        except HTTPError as exc:
            raise BackendUnavailable("the Prefect server does not take a run", found=type(exc).__name__) from None

    def _ask_for_run(self, job: Job, file: Path) -> UUID:
        from prefect.client.orchestration import get_client

        from flows.running.naming import site_tag

        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(
                client.read_deployment_by_name(f"retrain/{job.model}").id,
                parameters={"model": job.model, "site": self.site, "batch": str(file)},
                idempotency_key=f"insitu-{job.key}-{job.attempt}" + (f"-{job.waits}" if job.waits else ""),
                tags=["insitu", job.model, site_tag(self.site)],
            )
        return run.id


@dataclass(frozen=True)
class _FlowRun:
    runner: DeploymentRunner
    job: Job
    file: Path
    id: UUID

    def outcome(self) -> Outcome | None:
        from httpx import HTTPError
        from prefect.client.orchestration import get_client

        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(self.id).state
        except HTTPError:  # the server is away for a while; the run may well go on
            return None
        if state is None or not state.is_final():
            return None
        told = {"state": state.name, "flow_run": str(self.id), "run_key": self._run_key()}
        if state.is_completed():  # skipped: another start of the same run is under way, and may yet fail
            return Outcome("busy" if state.name == "Skipped" else "done", told)
        if state.is_cancelled():
            return Outcome("cancelled", told)
        message = state.message or ""
        error = InsituError(message.splitlines()[0] if message.startswith("E-") else f"the flow run ended {state.name}")
        return Outcome(_BY_CODE.get(message.partition(" ")[0], "failed"), {**told, "error": error.to_json()})

    def stop(self) -> None:
        """Leave the flow run alone: the next watcher finds it by its key."""

    def _run_key(self) -> str | None:
        with suppress(InsituError):
            return open_run(self.runner.project, self.job.model, self.runner.site, self.file).key
        return None


def _manifest(folder: Path, job: Job) -> Path:
    path = folder / f"{job.key}.json"
    replace_file(path, json.dumps(job.batch.to_json(), indent=1).encode())
    return path


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, sign)
            process.wait(_STOP_S)
