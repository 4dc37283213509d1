"""What a run would do, told before it does: its batch, champion and compute. Nothing is changed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from insitu.lineage import Records, finished
from insitu.ports import Check
from insitu.readiness import check_command, check_requirements, forecast
from insitu.runs import Run
from insitu.wiring import CHAMPION


def readiness_of(run: Run) -> list[Check]:
    """Compare the compute with what earlier runs needed and model.toml declares."""
    train = run.model.train
    need = forecast(run.model.needs, run.batch, Records(run.site.state).of_model(run.model.name))
    return [
        *run.site.compute.readiness(need),
        check_command(train.command, run.model_folder),
        *check_requirements(train.requirements),
    ]


def outlook(run: Run) -> dict[str, Any]:
    """Return as JSON values what the run would work on.

    `done` tells that this batch was done before, so that nothing would happen; `new_blobs` are those
    that no earlier record of the model holds.
    """
    records = Records(run.site.state).of_model(run.model.name)
    seen = {(blob["name"], blob["etag"]) for record in records for blob in record["batch"]["manifest"]["blobs"]}
    champion = run.site.models.alias(run.model.name, CHAMPION)
    return {
        "model": run.model.name,
        "site": run.site.name,
        "run_key": run.key,
        "done": finished(run) is not None,
        "batch": {
            "fingerprint": run.batch.fingerprint,
            "blobs": len(run.batch.blobs),
            "bytes": run.batch.size_bytes,
            "new_blobs": sum((blob.name, blob.etag) not in seen for blob in run.batch.blobs),
            "training_blobs": len(run.training_part.blobs),
            "holdout_blobs": len(run.holdout.blobs),
        },
        "champion": champion and champion.version,
        "readiness": [asdict(check) for check in readiness_of(run)],
    }
