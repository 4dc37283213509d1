"""Runs of the past in a project's state: what their journals would hold, without the minutes that they took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from insitu.edge.metrics import curves
from insitu.errors import InsituError
from insitu.lineage import PROFILE, summarise
from insitu.runs import Run, open_run
from insitu.training import INPUTS

TOKEN = "token-of-a-row"
"""A value of the data in the private parts of the journals: no page but Data Docs may hold it."""
_STEPS = {"snapshot": 0.1, "ready": 0.4, "validate": 6.0, "train": 16.0, "gate": 0.1}
_LATER = {"register": 0.2, "containerize": 2.5, "publish": 0.9}


def past_run(
    project: Path,
    month: int,
    outcome: str = "Promoted",
    *,
    error: InsituError | None = None,
    slices: tuple[tuple[str, float], ...] = (),
    columns: tuple[str, ...] = ("carrier", "origin", "hour", "distance"),
) -> Run:
    """Leave what a run on the data and one month more leaves, in that month of 2013: call it month by month.

    Args:
        project: The project's folder.
        month: Also the version, where *outcome* is one of publication.
        outcome: Of the gate; `Failed` or `ValidationFailed` for a run that did not come so far.
        error: Why it failed.
        slices: Names and values of slices of the column `origin`.
        columns: Those that validation saw.
    """
    for number in (1, month + 1):  # one to train on, and one to judge on
        blob = project / f"var/blobs/flights/month={number:02d}/flights.parquet"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"flights of month %d" % number)
    run, random = open_run(project, "flights", "local"), np.random.default_rng(month)
    run.journal.keep(INPUTS, run.inputs)
    _keep(run, "snapshot", None)
    _keep(run, "ready", [])
    _keep(run, "validate", _validation(columns, month, random))
    run.journal.keep(PROFILE, _profile())
    published = outcome in ("Promoted", "Approved", "Overridden")
    if outcome not in ("Failed", "ValidationFailed"):
        _keep(run, "train", _trained(month, slices, random))
        _keep(run, "gate", _decision(month, outcome))
        run.journal.keep("egress", list(_egress(month, published)))
    if published:
        _keep(
            run, "register", {"name": "flights", "version": str(month), "uri": f"models:/flights/{month}", "tags": {}}
        )
        _keep(run, "containerize", _image(month))
        digest = f"sha256:{month:064x}"
        to = {"reference": f"registry.example:5000/flights:{month}", "digest": digest, "champion": True}
        run.journal.keep(run.step_name("publish"), {"seconds": 0.9, "value": to})
    state = "Completed" if published else "NotPromoted" if outcome not in ("Failed", "ValidationFailed") else outcome
    ended = {"started": f"2013-{month:02d}-01T02:00:00+00:00", "finished": f"2013-{month:02d}-01T02:00:27+00:00"}
    run.journal.keep("record", summarise(run, state, error) | ended)
    return run


def deployed(project: Path, month: int, target: str) -> None:
    """Leave the note that a target runs the version of a month."""
    place = project / "var/state/deployments/flights" / f"{target}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"name": target, "digest": f"sha256:{month:064x}", "version": str(month)}))


def _keep(run: Run, step: str, value: Any) -> None:
    seconds = (_STEPS | _LATER)[step]
    run.journal.keep(step, {"seconds": seconds * (1 + run.batch.size_bytes % 7 / 20), "value": value})


def _validation(columns: tuple[str, ...], month: int, random: np.random.Generator) -> dict[str, Any]:
    def outcome(column: str) -> dict[str, Any]:
        return {
            "expectation": "expect_column_values_to_not_be_null",
            "columns": [column],
            "success": True,
            "unexpected_count": 12,
            "rows": 28_000 * month,
            "reason": "",
        }

    psi = dict(zip(columns, random.uniform(0, 0.3, len(columns)), strict=True))
    moved = {
        name: {"psi": float(value), "jensen_shannon": 0.1, "missing_change": 0.0, "new_categories": None}
        for name, value in psi.items()
    }
    drift = {"champion": f"v{month - 1}", "blobs": 1, "rows": 28_000, "columns": moved} if month > 1 else None
    return {
        "success": True,
        "suite": "flights",
        "expectations": 33,
        "failed": 0,
        "rows": 28_000 * month,
        "bytes_read": 400_000,
        "drift": drift,
        "outcomes": [outcome(column) for column in columns],
        "failures": [],
        "notes": [],
    }


def _profile() -> dict[str, Any]:
    hour = {"filled": 27_000, "buckets": [[5.0, 6.0, 27_000]], "categories": {}}
    return {"rows": 28_000, "columns": {"carrier": {"filled": 28_000, "categories": {TOKEN: 28_000}}, "hour": hour}}


def _trained(month: int, slices: tuple[tuple[str, float], ...], random: np.random.Generator) -> dict[str, Any]:
    truth = np.resize([0.0, 1.0, 0.0], 400)
    seen = curves("classification", truth, np.clip(truth / 2 + random.random(400) / 2, 0, 1))
    auc = 0.62 + 0.006 * month + float(random.uniform(-0.004, 0.004))
    metrics = {"challenger": {"roc_auc": auc, "log_loss": 0.7 - auc / 2.5}}
    difference = {"estimate": 0.004, "low": -0.001 * month, "high": 0.009, "error": 0.01, "method": "delong"}
    if month > 1:
        metrics["champion"] = {"roc_auc": auc - 0.004, "log_loss": 0.702 - auc / 2.5}
    told = [
        {"column": "origin", "slice": name, "rows": 9_000, "challenger": value, "difference": difference}
        for name, value in slices
    ]
    return {
        "job": f"job-{month}",
        "backend": "process",
        "seconds": 15.0,
        "champion": str(month - 1) if month > 1 else None,
        "rows": 28_000,
        "metrics": metrics,
        "difference": difference if month > 1 else None,
        "curves": dict.fromkeys(metrics, seen),
        "onnx": {"usable": True, "rows": 10_000, "blanks": []},
        "claimed": {},
        "files": {},
        "peak_memory_bytes": 600_000_000,
        "slices": told,
        "score_psi": 0.01,
        "network": "none",
        "residency": {
            "verdict": "clear",
            "rows_found": 0,
            "cells_found": 0,
            "bytes_scanned": 337_511,
            "unopened": [],
            "rows": 28_000 * month,
            "rows_looked_for": 28_000 * month,
        },
    }


def _decision(month: int, outcome: str) -> dict[str, Any]:
    verdict = {"Rejected": "reject", "Inconclusive": "inconclusive", "AwaitingApproval": "inconclusive"}
    said = {"kind": "approval", "who": "Ada", "when": "2013-01-02T08:00:00+00:00", "reason": "seen", "expires": None}
    approved = said | {"record": "decisions/flights/1.json", "digest": "sha256:1"}
    return {
        "verdict": verdict.get(outcome, "promote"),
        "reasons": ["every metric reaches its floor", f"roc_auc of month {month} against -0.01"],
        "champion": str(month - 1) if month > 1 else None,
        "approval": approved if outcome == "Approved" else None,
        "outcome": outcome,
    }


def _image(month: int) -> dict[str, Any]:
    sizes = {"base": 31_834_472, "environment": 55_336_520, "server": 63_127, "model": 2_669 + month}
    return {
        "digest": f"sha256:{month:064x}",
        "size_bytes": sum(sizes.values()),
        "layers": [{"title": name, "digest": "sha256:2", "size_bytes": size} for name, size in sizes.items()],
        "runtime": "onnx",
        "max_difference": 1e-8,
        "latency_ms": 0.23,
        "peak_memory_bytes": 74_641_408,
        "revision": None,
    }


def _egress(month: int, published: bool) -> list[dict[str, Any]]:
    def entry(what: str, destination: str, size_bytes: int) -> dict[str, Any]:
        when = f"2013-{month:02d}-01T02:00:20+00:00"
        told = {"what": what, "destination": destination, "bytes": size_bytes, "sha256": "3" * 64}
        return told | {"clearance": "words on the list", "when": when, "previous": ""}

    tags = [entry("run tags", "https://mlflow.example", 387)]
    layer = entry("layer model", "registry.example:5000/flights", 2_669 + month)
    return [*tags, layer] if published else tags
