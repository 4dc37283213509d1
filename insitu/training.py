"""Waits for an edge job: its log goes by, its deadline holds, and it never outlives the wait."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from insitu.errors import TrainingFailed
from insitu.ports import ModelVersion, TrainingJobs
from insitu.runs import Run
from insitu.wiring import CHAMPION

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[^\t\x20-\x7e\xa0-\U0010ffff]")
_PROGRESS = re.compile(r"::progress (\d(?:\.\d+)?)( .*)?")
_TRACEBACK = b"Traceback (most recent call last)"
_LINE_END = re.compile(rb"[\r\n]")  # progress bars end their lines with a carriage return
_MAX_LINE_CHARS = 500
_POLL_S = 0.2


@dataclass(frozen=True)
class Trained:
    """What an edge job left, in aggregates.

    Attributes:
        seconds: Wall time from submit to result.
        champion: The version that was scored on the same rows; None when there was none.
        rows: Rows of the holdout.
        metrics: Per role (`challenger`, `champion`) and metric.
        difference: Primary metric, challenger minus champion: estimate, low, high; None without champion.
        onnx: None without an export; else `usable` and how far its answers deviate.
    """

    job: str
    backend: str
    seconds: float
    champion: str | None
    rows: int
    metrics: dict[str, dict[str, float]]
    difference: dict[str, float] | None
    curves: dict[str, Any]
    onnx: dict[str, Any] | None
    claimed: dict[str, float]
    files: dict[str, str]
    peak_memory_bytes: int


@dataclass
class LogRelay:
    """Passes complete log lines on, without escapes, tracebacks or floods.

    A traceback may quote rows, and where its message ends cannot be told: from there to the next
    progress line everything stays in the log on site, and a note takes its place.
    """

    on_line: Callable[[str], None]
    on_progress: Callable[[float], None]
    max_lines: int = 500
    _rest: bytes = field(default=b"", init=False)
    _lines: int = field(default=0, init=False)
    _withheld: bool = field(default=False, init=False)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the log."""
        *lines, rest = _LINE_END.split(self._rest + data)
        for line in lines:
            self._pass_on(line)
        self._withhold_from(rest)
        self._rest = rest[-4 * _MAX_LINE_CHARS :]  # the end of a long line: what it becomes is seen there

    def _pass_on(self, line: bytes) -> None:
        text = _CONTROL.sub("", line[: 4 * _MAX_LINE_CHARS].decode(errors="replace"))[:_MAX_LINE_CHARS]
        if match := _PROGRESS.fullmatch(text):
            self._withheld = False
            fraction = min(1.0, float(match[1]))
            self.on_progress(fraction)
            self._emit(f"{fraction:.0%}{match[2] or ''}")
        self._withhold_from(line)
        if text.strip() and not self._withheld and not match:
            self._emit(text)

    def _withhold_from(self, line: bytes) -> None:
        if _TRACEBACK in line and not self._withheld:
            self._emit("(a traceback follows; it is kept in the log on site)")
            self._withheld = True

    def _emit(self, line: str) -> None:
        self._lines += 1
        if self._lines <= self.max_lines:
            self.on_line(line)
        elif self._lines == self.max_lines + 1:
            self.on_line(f"(more than {self.max_lines} lines: the rest is in the log on site)")


def train_challenger(run: Run, relay: LogRelay) -> Trained:
    """Run the edge job of *run* to its end and return what it left.

    Safe to repeat: a finished job is found by its key. Whatever ends the wait early, the deadline
    or a cancelled flow, ends the job too.

    Raises:
        TrainingFailed: The job failed, was canceled or passed its deadline.
        InsituError: What the edge job itself raised, such as `BlobChanged`.
    """
    jobs, started = run.site.jobs, time.monotonic()
    champion = run.site.models.alias(run.model.name, CHAMPION)
    job_id = jobs.submit(run.key, job_spec(run, champion))
    try:
        _wait(jobs, job_id, relay, started + run.model.train.timeout_s)
    finally:  # also of a job that ended well: its command may have left processes behind
        jobs.cancel(job_id)
    result = json.loads((jobs.output(job_id) / "result.json").read_text())
    known = {name: result[name] for name in Trained.__dataclass_fields__ if name in result}
    return Trained(
        **known
        | {
            "job": job_id,
            "backend": jobs.backend,
            "seconds": round(time.monotonic() - started, 2),
        }
    )


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


def job_spec(run: Run, champion: ModelVersion | None) -> dict[str, Any]:
    """Return what `insitu.edge.job` reads, as JSON values."""
    model, container = run.model, run.site.data_spec(run.batch.container)
    shared = {
        "store": container,
        "target": model.target.model_dump(mode="json"),
        "reading": model.data.reading.model_dump(mode="json"),
    }
    return {
        "model_folder": str(run.model_folder),
        "code": run.code,
        "command": model.train.command,
        "params": model.train.params,
        "max_log_bytes": model.train.max_log_bytes,
        "train": run.training_part.to_json() | shared,
        "holdout": run.holdout.to_json() | shared,
        "metrics": list(model.gate.metrics),
        "primary": model.gate.primary,
        "confidence": model.gate.confidence,
        "champion": champion and {"version": champion.version, "folder": str(run.site.models.folder(champion))},
        "golden_rows": model.smoke.golden_rows,
        "tolerance": model.smoke.tolerance,
    }


def _wait(jobs: TrainingJobs, job_id: str, relay: LogRelay, deadline: float) -> None:
    offset = 0
    while True:
        status = jobs.status(job_id)
        data = jobs.log(job_id, offset)
        offset += len(data)
        relay.feed(data)
        if status.state == "completed":
            return
        if status.state != "running":
            raise status.error or TrainingFailed(f"the edge job {job_id} was {status.state}")
        if time.monotonic() > deadline:
            raise TrainingFailed(
                f"the edge job {job_id} did not end in time and was stopped",
                wanted="an end within train.timeout_s of model.toml",
                next_action="raise train.timeout_s, or give the job less to do",
            )
        time.sleep(_POLL_S)
