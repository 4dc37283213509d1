"""What a run would do, told before it does: its batch, champion and compute. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from insitu.budget import foresee
from insitu.doctor import LIMIT_S, key_check, machine_checks, service_probes
from insitu.gate import detectable_gain, limit_of
from insitu.lineage import Records, finished, significant
from insitu.ports import Check
from insitu.readiness import AMOUNTS, check_command, check_requirements, forecast, side_by_side
from insitu.rulings import standing_of
from insitu.runs import Run
from insitu.wiring import CHAMPION


def readiness_of(run: Run) -> list[Check]:
    """Compare the compute with what earlier runs needed and model.toml declares, and ask the site's services.

    While the run's own job is under way, what it takes is not counted against it.
    """
    train = run.model.train
    need = forecast(run.model.needs, run.batch, Records(run.site.state).of_model(run.model.name))
    services = service_probes(run.site, run.model.name)
    if run.site.settings.compute.kind == "process":
        checks = [*run.site.compute.readiness(need), *side_by_side(services, LIMIT_S)]
    else:
        probes = {"compute": lambda: run.site.compute.readiness(need), **services}
        checks = [*side_by_side(probes, LIMIT_S), *machine_checks(run.site.settings)]
    if run.site.has_job(run.key):
        checks = [check for check in checks if check.name not in AMOUNTS]
    checks += [check for check in [key_check(run.site)] if not check.ok]  # better now than after training
    if run.site.settings.training.kind != "process":  # elsewhere the job's own environment holds what it requires
        return checks
    return [*checks, check_command(train.command, run.model_folder), *check_requirements(train.requirements)]


def outlook(run: Run) -> dict[str, Any]:
    """Return as JSON values what the run would work on.

    `done` tells that this batch was done before, so that nothing would happen; `outcome` what was decided about
    one that is not; `new_blobs` are those that no earlier record of the model holds.
    """
    done = finished(run) is not None
    stands = None if done else standing_of(run)
    records = Records(run.site.state).of_model(run.model.name)
    seen = {(blob["name"], blob["etag"]) for record in records for blob in record["batch"]["manifest"]["blobs"]}
    champion = run.site.models.alias(run.model.name, CHAMPION)
    return {
        "model": run.model.name,
        "site": run.site.name,
        "run_key": run.key,
        "done": done,
        "outcome": stands and stands.outcome,
        "batch": {
            "fingerprint": run.batch.fingerprint,
            "blobs": len(run.batch.blobs),
            "bytes": run.batch.size_bytes,
            "new_blobs": sum((blob.name, blob.etag) not in seen for blob in run.batch.blobs),
            "training_blobs": len(run.training_part.blobs),
            "holdout_blobs": len(run.holdout.blobs),
        },
        "champion": champion and champion.version,
        "budget": _budget(run) if champion else None,
        "detectable_gain": _detectable(run, records) if champion else None,
        "deployment": [{"name": one.name, "kind": one.kind} for one in run.model.targets(run.site.name)],
        "readiness": [asdict(check) for check in readiness_of(run)],
    }


def _budget(run: Run) -> dict[str, Any]:
    """Return which comparison on its holdout the run would be, of how many, and whether nothing is left for it."""
    share = foresee(run.site.state, run.model.name, run.holdout, run.key, run.model.gate)
    return {"number": share.number, "comparisons": share.comparisons, "spent": share.is_spent}


def _detectable(run: Run, records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the gain over the gate's limit that 4 of 5 runs would find, as the latest comparison suggests.

    It takes the holdout to be as large as that comparison's; None before the first one.
    """
    gate = run.model.gate
    compared = [t for t in (record["training"] for record in records) if t and (t["difference"] or {}).get("error")]
    if not compared:
        return None
    latest = compared[-1]
    error = (1 - gate.confidence) / gate.comparisons
    gain = detectable_gain(latest["difference"], latest["rows"], latest["rows"], error)
    return {"metric": gate.primary, "over": limit_of(gate), "gain": significant(gain), "rows": latest["rows"]}
