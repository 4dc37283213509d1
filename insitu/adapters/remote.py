"""Edge jobs on other machines: what all ways of getting them there have in common.

A job is told its name and how the site's state is opened; everything else goes through that state (see
`insitu.jobstate`). So what starts it may be a cloud service and learns nothing: no data, no secret, no
name of a blob. It gets code: the model's listed files, and the part of insitu that runs there.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from insitu import parcels
from insitu.adapters.attempts import Attempt, Attempts, job_name
from insitu.adapters.staging import on_the_machine, stage_code
from insitu.crashpoints import crashpoint
from insitu.errors import (
    AccessRefused,
    BackendUnavailable,
    BlobNotFound,
    InsituError,
    StateDamaged,
    TrainingFailed,
    naming_write_errors,
)
from insitu.jobstate import Beat, JobState
from insitu.ports import BlobStore, JobPhase, JobStatus
from insitu.settings import EdgeSecrets

ENTRY = "insitu.edge.remote"
"""What a job runs as `python -m`, in the folder of its code, with its id as argument."""

STATE_VARIABLE = "INSITU_STATE"
_LOST_LOOKS, _LOST_S = 3, 60.0
_SILENCE_S = 120.0


@dataclass(frozen=True)
class Launch:
    """A job to be started.

    Attributes:
        job_id: Its name, unique and for ever the same.
        model: What it trains; the experiment's name.
        run_key: The run that it belongs to.
        code: The folder that it starts in.
        arguments: Of the Python interpreter.
        environ: Variables, without a secret.
        requirements: Packages that the model needs beside what every job does.
    """

    job_id: str
    model: str
    run_key: str
    code: Path
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    requirements: tuple[str, ...] = ()


class Launcher(Protocol):
    """A service that starts jobs by name."""

    def start(self, launch: Launch) -> None:
        """Start the job; when this returns there is one of this name, however often it was asked for."""
        ...

    def look(self, job_id: str) -> JobStatus | None:
        """Return where the service sees the job; None when it knows none of this name."""
        ...

    def stop(self, job_id: str) -> None:
        """End the job if it runs; return when the service says that it is over."""
        ...


@dataclass
class _Seen:
    """What this process saw of a job: its last sign of life and since when, and how often it was not found."""

    beat: Beat | None = None
    since: float = 0.0
    lost: int = 0
    lost_since: float = 0.0


@dataclass
class RemoteJobs:
    """`TrainingJobs` over a launcher and the site's state.

    A job outlives the process that submitted it: the next start finds it by its key and attaches to it.

    Args:
        launcher: Starts and ends jobs.
        state: The site's state.
        state_spec: How the job opens it, see `on_the_machine`.
        secrets: Where the job's machine holds secrets.
        work: Folder of this machine for code to send and for what jobs left.
        backend, poll_s, limits_s: See `TrainingJobs`.
        network: `none`: what trains shall reach its data alone, where its machine allows that; else `shared`.
    """

    launcher: Launcher
    state: BlobStore
    state_spec: Mapping[str, Any]
    secrets: EdgeSecrets
    work: Path
    backend: str
    poll_s: tuple[float, float] = (5.0, 30.0)
    limits_s: Mapping[JobPhase, float] = field(default_factory=dict)
    network: Literal["none", "shared"] = "none"
    _seen: dict[str, _Seen] = field(default_factory=dict, init=False, repr=False)

    def submit(self, key: str, spec: Mapping[str, Any]) -> str:
        """Start the job, or find the one that runs or is done; raise `TrainingFailed` for code that changed.

        A job that failed, was canceled or is lost is never revived: the next attempt has a name of its own.
        """
        attempts = Attempts(self.state, key)
        attempt = attempts.newest()
        begun = attempt is not None and self._is_begun(attempt)
        if attempt and begun and self.status(attempt.job_id).state in ("running", "completed"):
            attempts.mark_started(attempt)
            return attempt.job_id
        if attempt is None or begun:
            if attempt:
                self._give_up(attempt.job_id)
            attempt = attempts.open(attempt, self._free_number(key, attempt.number + 1 if attempt else 1))
        crashpoint("submit:named")
        self._start(attempt.job_id, key, spec)
        crashpoint("submit:started")
        attempts.mark_started(attempt)
        return attempt.job_id

    def status(self, job_id: str) -> JobStatus:
        """Return where the job stands: its own word, while it gives signs of life, else the service's."""
        job, seen = JobState(self.state, job_id), self._seen.setdefault(job_id, _Seen())
        if seen.beat and (told := self._told(job, seen)):
            return told
        try:
            found = self.launcher.look(job_id)
        except (BackendUnavailable, AccessRefused):
            told = self._told(job, seen)
            if told or (seen.beat and time.monotonic() - seen.since <= _SILENCE_S):
                return told or JobStatus("running")  # alive a moment ago: the service may be away for a while
            raise
        seen.lost = 0 if found else seen.lost + 1
        if found and found.state == "running" and found.phase != "running":
            return found
        if found and found.state != "running":
            return self._over(job, seen, found)
        if not seen.beat and (told := self._told(job, seen)):
            return told
        if found is None:
            return self._lost(job, seen)
        if seen.beat and time.monotonic() - seen.since > _SILENCE_S:
            return JobStatus("failed", _silent(job_id))
        return found

    def log(self, job_id: str, offset: int) -> bytes:
        """Return the job's log from *offset* on, as far as it is in the state."""
        seen = self._seen.get(job_id)
        if seen and seen.beat and not seen.beat.end and seen.beat.log_bytes <= offset:
            return b""
        return JobState(self.state, job_id).log(offset)

    def cancel(self, job_id: str) -> None:
        """Call the job off and end it; one that has ended stays as it ended."""
        job = JobState(self.state, job_id)
        if job.is_known() and job.call_off():
            self.launcher.stop(job_id)

    def output(self, job_id: str) -> Path:
        """Return the folder of what the job left, fetched from the state once; raise `StateDamaged`."""
        folder, job = self.work / job_id, JobState(self.state, job_id)
        if (folder / "result.json").is_file():
            return folder
        with suppress(BlobNotFound):
            left = job.left()
            if left["result"]:
                self._fetch(left, job_id, folder)
        return folder

    def _fetch(self, left: Mapping[str, Any], job_id: str, folder: Path) -> None:
        try:
            parcels.receive(self.state, left["files"], folder)
        except BlobNotFound as exc:
            raise StateDamaged(
                f"what job {job_id} left is not whole in the site's state",
                found=exc.what,
                next_action="restore the state, or change a [train.params] value: that makes it a new run",
            ) from None
        with naming_write_errors(folder):
            (folder / "result.json").write_text(json.dumps(left["result"]))

    def _told(self, job: JobState, seen: _Seen) -> JobStatus | None:
        """Return what the job itself says; None when it has said nothing new."""
        beat = job.last_beat()
        if beat is None:
            return None
        if beat.end == "canceled":
            return JobStatus("canceled")
        if beat.end == "broken":
            return JobStatus("failed", _unexplained(job.job_id))
        if beat.end:
            failure = job.left()["failure"]
            seen.beat = beat
            return JobStatus("failed", InsituError.from_json(failure)) if failure else JobStatus("completed")
        if beat == seen.beat:
            return None
        seen.beat, seen.since = beat, time.monotonic()
        return JobStatus("running")

    def _over(self, job: JobState, seen: _Seen, found: JobStatus) -> JobStatus:
        """Return how a job ended that the service sees at its end: what it does from now on does not count."""
        if not job.call_off("canceled" if found.state == "canceled" else "broken"):
            return self._told(job, seen) or found
        return found if found.error or found.state == "canceled" else JobStatus("failed", _unexplained(job.job_id))

    def _lost(self, job: JobState, seen: _Seen) -> JobStatus:
        """Return that a job is gone: once it was not found again and again, for a listing may lag."""
        if seen.lost == 1:
            seen.lost_since = time.monotonic()
        sure = seen.lost >= _LOST_LOOKS and time.monotonic() - seen.lost_since >= _LOST_S
        if sure or not job.is_known():
            return JobStatus("failed", TrainingFailed(f"{self.backend} knows no job {job.job_id}"))
        return JobStatus("running", phase="running" if seen.beat else "queued")

    def _free_number(self, key: str, number: int) -> int:
        """Return the first number from *number* on whose name the service has not seen: another state's job may."""
        while self.launcher.look(job_name(key, number)) is not None:
            number += 1
        return number

    def _is_begun(self, attempt: Attempt) -> bool:
        """Tell whether the service or the job itself was ever seen to have it."""
        if attempt.started or JobState(self.state, attempt.job_id).last_beat():
            return True
        return self.launcher.look(attempt.job_id) is not None

    def _give_up(self, job_id: str) -> None:
        """See to it that nothing of an attempt that failed goes on; the service may have no word for that."""
        JobState(self.state, job_id).call_off()
        self.launcher.stop(job_id)

    def _start(self, job_id: str, key: str, spec: Mapping[str, Any]) -> None:
        code = self.work / f"{job_id}.staged" / "code"
        try:
            digest = stage_code(Path(spec["model_folder"]), spec["code"], code)
            JobState(self.state, job_id).put_spec(self._edge_spec(spec) | {"manifest": digest})
            self.launcher.start(
                Launch(
                    job_id=job_id,
                    model=spec.get("model", "insitu"),
                    run_key=key,
                    code=code,
                    arguments=("-m", ENTRY, job_id),
                    environ={STATE_VARIABLE: json.dumps(self.state_spec), "PYTHONUNBUFFERED": "1"},
                    requirements=tuple(spec.get("requirements", ())),
                )
            )
        finally:
            shutil.rmtree(code.parent, ignore_errors=True)

    def _edge_spec(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return *spec* as it holds on the job's machine: secrets are where that has them, files are parcels."""
        told = {key: value for key, value in spec.items() if key != "model_folder"} | {"network": self.network}
        for part in ("train", "holdout"):
            store = on_the_machine(spec[part]["store"], self.secrets.data, self.secrets.ca_bundle)
            told[part] = {**spec[part], "store": store}
        for role in ("champion", "challenger"):
            if (model := spec.get(role)) and "folder" in model:
                parcel = parcels.send(self.state, Path(model["folder"]))
                told[role] = {"version": model["version"], "parcel": parcel}
        return told


def _unexplained(job_id: str) -> TrainingFailed:
    return TrainingFailed(
        f"the edge job {job_id} ended without a result or a reason",
        next_action="see whether its machine has enough memory, reaches the site's state and has its secret",
    )


def _silent(job_id: str) -> TrainingFailed:
    return TrainingFailed(
        f"the edge job {job_id} gives no sign of life",
        found=f"none for {_SILENCE_S:.0f} s, though it counts as running",
        next_action="see to its machine, then start the run again",
    )
