"""Waits for an edge job: its log goes by, its deadline holds, and it never outlives the wait."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from insitu.budget import Share, claim
from insitu.errors import (
    AccessRefused,
    BackendUnavailable,
    GateFailed,
    InsituError,
    RegistryFailed,
    StoreRefused,
    TrainingFailed,
)
from insitu.interrupts import heed
from insitu.joblog import LogRelay
from insitu.journal import Journal
from insitu.ports import RUN_KEY, JobPhase, JobStatus, ModelVersion, TrainingJobs
from insitu.runs import Run
from insitu.wiring import CHAMPION

_SLOWER = 1.5

INPUTS = "inputs"
"""The journal's name of what a run was made of: its key is a hash over it."""


@dataclass(frozen=True)
class Trained:
    """What an edge job left, in aggregates.

    Attributes:
        seconds: Wall time from submit to result.
        champion: The version that was scored on the same rows; None when there was none.
        rows: Rows of the holdout.
        metrics: Per role (`challenger`, `champion`) and metric.
        difference: Primary metric, challenger minus champion (see `insitu.edge.paired`); None without champion.
        share: What the comparison takes of the holdout's error budget; None without champion.
        slices: The primary metric in the slices of model.toml (see `insitu.edge.slices`).
        rarer_rows: Rows of the rarest class, 0 for fewer than ten; None where there are no classes.
        constant: Whether the challenger gives every row the same answer.
        lost: Why the published model was no champion to compare with; None where it was.
        score_psi: How far the challenger's answers are from the champion's; None without a champion.
        overlap: How many rows of the holdout were looked for in the training part, and found; None: nobody looked.
        environment: Version of Python and of every package where the job ran.
        residency: What the leak scan found (see `insitu.residency.verdict`); None: nobody looked.
        network: `none` where no route led out of the machine that the job saw, `proxy` where one did to listed
            endpoints alone, else `shared`.
        destinations: Of a proxy: how often who was asked for, `allowed` and `refused`, by `host:port`; else None.
        onnx: None without an export; else `usable` and how far its answers deviate.
    """

    job: str
    backend: str
    seconds: float
    champion: str | None
    rows: int
    metrics: dict[str, dict[str, float]]
    difference: dict[str, Any] | None
    curves: dict[str, Any]
    onnx: dict[str, Any] | None
    claimed: dict[str, float]
    files: dict[str, str]
    peak_memory_bytes: int
    share: Share | None = None
    slices: tuple[dict[str, Any], ...] = ()
    rarer_rows: int | None = None
    constant: bool = False
    lost: str | None = None
    score_psi: float | None = None
    overlap: dict[str, int] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    residency: dict[str, Any] | None = None
    network: str = "shared"
    destinations: dict[str, dict[str, int]] | None = None


def told_of_export(onnx: Mapping[str, Any] | None) -> str:
    """Return why an image serves the model's ONNX export, or does not, and where the two are not the same."""
    if onnx is None:
        return "the model came without model.onnx"
    if not onnx["usable"]:
        return str(onnx["reason"])
    rows = f" on {onnx['rows']:,} rows" if "rows" in onnx else ""  # of a run from before they were counted
    but = ", ".join(onnx.get("blanks", ()))
    return f"the export answers as the model does{rows}" + (f"; not without {but}" if but else "")


def train_challenger(run: Run, relay: LogRelay) -> Trained:
    """Run the edge job of *run* to its end and return what it left.

    Safe to repeat: a job that runs elsewhere, or has finished, is found by its key. What ends the wait
    early, a deadline or a cancelled flow, ends the job too; a service that gives no answer does not.

    Raises:
        TrainingFailed: The job failed, was canceled or passed its deadline.
        InsituError: What the edge job itself raised, such as `BlobChanged`.
    """
    started = time.monotonic()
    champion = run.site.models.alias(run.model.name, CHAMPION)
    share = claim(run.site.state, run.model.name, run.holdout, run.key, run.model.gate) if champion else None
    run.journal.keep(INPUTS, run.inputs)
    job_id, result = do_job(run, run.key, job_spec(run, champion, share), relay)
    known = {name: result[name] for name in Trained.__dataclass_fields__ if name in result}
    return Trained(
        **known
        | {
            "job": job_id,
            "backend": run.site.jobs.backend,
            "share": share,
            "slices": tuple(result.get("slices", ())),
            "seconds": round(time.monotonic() - started, 2),
        }
    )


def do_job(run: Run, key: str, spec: Mapping[str, Any], relay: LogRelay) -> tuple[str, dict[str, Any]]:
    """Do the edge job *key* at the run's site to its end; return its id and its result.

    Raises:
        TrainingFailed: The job failed, was canceled or passed its deadline.
        InsituError: What the edge job itself raised, such as `BlobChanged`.
    """
    jobs = run.site.jobs
    job_id = jobs.submit(key, spec)
    limits_s = {"running": float(run.model.train.timeout_s), **jobs.limits_s}
    try:
        status = _wait(jobs, job_id, relay, limits_s)
    except (BackendUnavailable, AccessRefused, StoreRefused):
        raise  # the job goes on, if it runs elsewhere: the next try, or the next run, attaches to it
    except BaseException as exc:
        if run.lease and run.lease.lost:
            raise  # whoever took the run over waits for the same job
        raise _called_off(jobs, job_id, exc) from None
    with suppress(InsituError):  # how it ended is settled; of one that ended well processes may be left behind
        jobs.cancel(job_id)
    if status.state != "completed":
        raise status.error or TrainingFailed(f"the edge job {job_id} was {status.state}")
    return job_id, json.loads((jobs.output(job_id) / "result.json").read_text())


def is_kept(run: Run, trained: Trained) -> bool:
    """Tell whether the files of *trained* are still there, so that it can be released.

    Raises:
        TrainingFailed: They are gone and the model is registered: trained again it could be another.
    """
    job = run.site.jobs.output(trained.job)
    if (job / "output" / "model" / "MLmodel").is_file() and (job / "golden.json").is_file():
        return True
    if run.journal.entry("register") is None:
        return False
    raise TrainingFailed(
        "the files of the trained and registered model are gone",
        found=f"no model in {job}",
        next_action="restore the folder from a backup, or change a [train.params] value: that makes it a new run",
    )


def job_spec(run: Run, champion: ModelVersion | None, share: Share | None) -> dict[str, Any]:
    """Return what `insitu.edge.job` reads, as JSON values."""
    model, container = run.model, run.site.data_spec(run.batch.container)
    waivers = run.site.waivers(model.name)
    shared = {
        "store": container,
        "target": model.target.model_dump(mode="json"),
        "reading": model.data.reading.model_dump(mode="json"),
    }
    return {
        "model": model.name,
        "model_folder": str(run.model_folder),
        "code": run.code,
        "timeout_s": model.train.timeout_s,
        "command": model.train.command,
        "requirements": model.train.requirements,
        "params": model.train.params,
        "max_log_bytes": model.train.max_log_bytes,
        "train": run.training_part.to_json() | shared,
        "holdout": run.holdout.to_json() | shared,
        "metrics": list(model.gate.metrics),
        "primary": model.gate.primary,
        "error": share and share.error,
        "slices": {column: found.model_dump() for column, found in model.gate.slices.items()},
        "champion": champion and _published(run, champion),
        "unusable_champion": model.gate.unusable_champion,
        "max_overlap": model.gate.max_overlap,
        "golden_rows": model.smoke.golden_rows,
        "tolerance": model.smoke.tolerance,
        "residency": model.residency.model_dump(),
        "waivers": [one.to_json() for one in waivers.standing(datetime.now(UTC))] if waivers.allowed else None,
    }


def _published(run: Run, champion: ModelVersion) -> dict[str, str]:
    """Return version and folder of the champion; where the gate goes on without it, why it is lost."""
    try:
        require_same_target(run, champion)
        return {"version": champion.version, "folder": str(run.site.models.folder(champion))}
    except (RegistryFailed, GateFailed) as error:
        if run.model.gate.unusable_champion == "fail":
            raise
        return {"version": champion.version, "lost": error.what}


def require_same_target(run: Run, version: ModelVersion, called: str = "the champion") -> None:
    """Raise `GateFailed` when *version* answers another question: its columns would be read as other classes.

    What its run was made of is on site. A version without it, of an older insitu, is taken at its word.
    """
    key = version.tags.get(RUN_KEY)
    inputs = Journal(run.site.state, run.model.name, key).entry(INPUTS) if key else None
    then, now = inputs["settings"]["target"] if inputs else None, run.model.target.model_dump(mode="json")
    if then is not None and (changed := sorted(k for k in {*then, *now} if then.get(k) != now.get(k))):
        raise GateFailed(
            f"{called} was trained to predict something else",
            found=f"another value of {', '.join(f'target.{name}' for name in changed)} in model.toml",
            wanted="the label that it was trained with",
            next_action="put it back, or see gate.unusable_champion in model.toml",
        )


def _wait(jobs: TrainingJobs, job_id: str, relay: LogRelay, limits_s: Mapping[JobPhase, float]) -> JobStatus:
    """Return how the job ended; look less and less often while nothing happens.

    Raises:
        TrainingFailed: A phase took longer than its limit.
        BackendUnavailable: Nobody says where the job stands; it may go on.
    """
    first_s, most_s = jobs.poll_s
    offset, phase, since, pause_s = 0, "", time.monotonic(), first_s
    while True:
        status, now = jobs.status(job_id), time.monotonic()
        if status.state == "running" and status.phase != phase:
            phase, since = status.phase, now
            relay.on_phase(phase)
        data = jobs.log(job_id, offset) if status.phase == "running" else b""
        offset += len(data)
        relay.feed(data)
        if status.state != "running":
            return status
        if now - since > limits_s.get(status.phase, math.inf):
            raise _too_long(job_id, status.phase, limits_s[status.phase])
        pause_s = first_s if data else min(pause_s * _SLOWER, most_s)
        time.sleep(pause_s)
        heed()


def _too_long(job_id: str, phase: JobPhase, limit_s: float) -> TrainingFailed:
    if phase == "running":
        return TrainingFailed(
            f"the edge job {job_id} did not end in time and was stopped",
            wanted="an end within train.timeout_s of model.toml",
            next_action="raise train.timeout_s, or give the job less to do",
        )
    return TrainingFailed(
        f"the edge job {job_id} stayed {phase} for too long and was canceled",
        found=f"{phase} for more than {limit_s:.0f} s",
        wanted="a start within training.queue_timeout_s and training.prepare_timeout_s of the site",
        next_action="see whether the compute target is alive and free, and whether it can get the environment",
    )


def _called_off(jobs: TrainingJobs, job_id: str, reason: BaseException) -> BaseException:
    """End the job because of *reason*; return that, or what kept the job from being ended."""
    try:
        jobs.cancel(job_id)
    except InsituError as error:
        if isinstance(reason, Exception):
            return TrainingFailed(
                f"the edge job {job_id} may still run: it could not be canceled",
                found=error.what,
                wanted=f"an end, since {reason.what if isinstance(reason, InsituError) else 'the run broke'}",
                next_action="start the run again, which attaches to the job or ends it",
            )
    return reason
