"""Two versions of a model on the same rows, for people who want to know: it decides nothing and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any
from uuid import uuid4

from insitu.batch import Batch
from insitu.errors import UsageError
from insitu.gate import gain
from insitu.joblog import LogRelay
from insitu.lineage import Records, significant
from insitu.ports import ModelVersion
from insitu.runs import Run, read_manifest
from insitu.settings import ModelSettings
from insitu.training import do_job, job_spec, require_same_target
from insitu.wiring import Site

NOTE = (
    "exploratory: it takes nothing of the holdout's error budget, so it proves nothing; whoever picks the best of"
    " several comparisons picks luck. Only a run's gate decides."
)


@dataclass(frozen=True)
class Rows:
    """What two versions are compared on: blobs, the run whose data they belong to, and what people call them."""

    run: Run
    blobs: Batch
    what: str


def compare(site: Site, model: ModelSettings, one: str, other: str, batch: str | None) -> dict[str, Any]:
    """Return what the versions *one* and *other* make of the same rows; the difference is that of *other* from *one*.

    The rows are scored next to the data, as those of a holdout are.

    Args:
        batch: The path of a manifest: all its blobs. Or the first 8 or more digits of a run key or of a batch
            fingerprint: the holdout of that run. Without it the holdout of the younger version's run.

    Raises:
        UsageError: There is no such version or batch.
        TrainingFailed: A version cannot be loaded or cannot score the rows.
        GateFailed: The rows, or the answers, cannot be judged; a version predicts something else than model.toml says.
    """
    records = Records(site.state)
    first, second = (_made(records, model.name, version) for version in (one, other))
    one, other = (record["model_version"]["version"] for record in (first, second))
    made = {one: first, other: second}
    rows = _rows(site, model, records, list(made.values()), batch)
    spec = _spec(rows, *(_registered(rows.run, version) for version in (one, other)))
    key = sha256(f"compare {uuid4().hex}".encode()).hexdigest()  # two people may ask the same at once
    try:
        _, result = do_job(rows.run, key, spec, LogRelay(on_line=lambda _: None, on_progress=lambda _: None))
    finally:
        rmtree(site.jobs.output(key), ignore_errors=True)
    return _told(model, site.name, rows, one, other, result) | {
        "trained_on": {version: _trained_on(site, model, record, rows.blobs) for version, record in made.items()}
    }


def _made(records: Records, model: str, version: str) -> dict[str, Any]:
    record = records.of_version(model, version)
    if record["model_version"] is None:
        raise UsageError(f"run {record['run_key'][:12]} of {model} registered no version, so there is none to score")
    return record


def _rows(site: Site, model: ModelSettings, records: Records, made: list[dict[str, Any]], batch: str | None) -> Rows:
    if batch is not None and Path(batch).is_file():
        blobs = read_manifest(Path(batch), model.data.container)
        return Rows(Run(site, model, blobs), blobs, f"the {len(blobs.blobs)} blobs of {Path(batch).name}")
    record = max(made, key=lambda record: record["finished"]) if batch is None else _recorded(records, model, batch)
    run = Run(site, model, Batch.from_json(record["batch"]["manifest"]))
    return Rows(run, run.holdout, f"the holdout of run {record['run_key'][:12]}")


def _recorded(records: Records, model: ModelSettings, key: str) -> dict[str, Any]:
    found = [
        record
        for record in records.of_model(model.name)
        if record["run_key"].startswith(key) or record["batch"]["fingerprint"].startswith(key)
    ]
    if len(key) < 8 or not found:
        raise UsageError(
            f"there is no batch {key!a}",
            wanted="the path of a manifest, or 8 or more digits of a run key or batch fingerprint",
            next_action=f"see `insitu history {model.name}`",
        )
    return found[-1]


def _registered(run: Run, version: str) -> dict[str, str]:
    models, called = run.site.models, f"{run.model.name} version {version}"
    found: ModelVersion | None = next((v for v in models.versions(run.model.name) if v.version == version), None)
    if found is None:
        raise UsageError(f"{called} is not in {models.place}, or archived there")
    require_same_target(run, found, called)
    return {"version": version, "folder": str(models.folder(found))}


def _spec(rows: Rows, one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, Any]:
    """Return the job: that of a run, without training, where the second version is the challenger."""
    spec = job_spec(rows.run, None, None)
    return spec | {
        "command": [],
        "code": {},
        "holdout": spec["holdout"] | rows.blobs.to_json(),
        "challenger": dict(other),
        "champion": dict(one),
        "error": (1 - rows.run.model.gate.confidence) / 2,
        "unusable_champion": "fail",
        "max_overlap": 1.0,
        "golden_rows": 0,
    }


def _told(
    model: ModelSettings, site: str, rows: Rows, one: str, other: str, result: Mapping[str, Any]
) -> dict[str, Any]:
    seen, primary = result["difference"], model.gate.primary
    ends = gain(seen, model.gate.metrics[primary].direction == "higher")
    known = all(map(math.isfinite, ends))
    told: dict[str, Any] = significant(
        {
            "model": model.name,
            "site": site,
            "versions": [one, other],
            "batch": {"what": rows.what, "fingerprint": rows.blobs.fingerprint, "blobs": len(rows.blobs.blobs)},
            "rows": result["rows"],
            "metrics": {one: result["metrics"]["champion"], other: result["metrics"]["challenger"]},
            "difference": {"metric": primary, **seen},
            "gain": dict(zip(("estimate", "low", "high"), ends, strict=True)) if known else None,
            "slices": result["slices"],
            "score_psi": result["score_psi"],
            "exploratory": True,
            "note": NOTE,
        }
    )
    return told


def _trained_on(site: Site, model: ModelSettings, record: Mapping[str, Any], rows: Batch) -> int:
    """Return how many of the blobs a version was trained on: there its metrics are too good."""
    part = Run(site, model, Batch.from_json(record["batch"]["manifest"])).training_part
    return len({*part.blobs} & {*rows.blobs})
