"""What a run would do, told before it does: batch, champion, compute, image, and what would leave the site.

Nothing is changed. The plan's hash is over what decides what happens: the run's key (batch, code, settings), whom the
challenger meets, and every way out. The run that does it writes the same hash into its record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from insitu.budget import foresee
from insitu.doctor import LIMIT_S, key_check, machine_checks, service_probes, unregistered
from insitu.errors import GateFailed, InsituError
from insitu.gate import detectable_gain, limit_of
from insitu.lineage import PLAN, Records, finished, significant
from insitu.planning.exits import exits_of
from insitu.planning.forecasts import foretold
from insitu.ports import Check, ImageRegistry, ModelVersion
from insitu.readiness import AMOUNTS, check_command, check_requirements, forecast, side_by_side
from insitu.rulings import standing_of
from insitu.runs import Run
from insitu.training import require_same_target
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


def intention(run: Run) -> dict[str, Any]:
    """Return what decides what the run does, and what its plan's hash is over."""
    champion = run.site.models.alias(run.model.name, CHAMPION)
    return {
        "run_key": run.key,
        "champion": champion and champion.version,
        "checked_by": run.site.settings.validation.engine,
        "trained_by": run.site.jobs.backend,
        "approval": run.model.gate.approval,
        "published_to": run.site.registry(run.model.name).name,
        "deployed_to": [[one.name, one.kind] for one in run.model.targets(run.site.name)],
        "leaves": [[one.what, one.destination, one.when] for one in exits_of(run, ())],
    }


def planned(run: Run) -> dict[str, Any]:
    """Return the run's plan, `{"hash", "intention"}`: that of its start where it has trained, else that of now."""
    kept: dict[str, Any] | None = run.journal.entry(PLAN)
    if kept and run.journal.entry("train"):  # the champion is met in training; afterwards the run may be it
        return kept
    told = intention(run)
    return {"hash": sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(), "intention": told}


def outlook(run: Run) -> dict[str, Any]:
    """Return as JSON values what the run would work on; the forecast comes with `forecast_of`.

    `done` tells that this batch was done before, so that nothing would happen; `outcome` what was decided about
    one that is not; `new_blobs` are those that no earlier record of the model holds.
    """
    done = finished(run)
    stands = None if done else standing_of(run)
    records = Records(run.site.state).of_model(run.model.name)
    seen = {(blob["name"], blob["etag"]) for record in records for blob in record["batch"]["manifest"]["blobs"]}
    models = run.site.models
    champion = models.alias(run.model.name, CHAMPION)
    return {
        "model": run.model.name,
        "site": run.site.name,
        "run_key": run.key,
        "plan_hash": done.get("plan_hash") if done else planned(run)["hash"],
        "done": done is not None,
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
        "lost": champion and _lost(run, champion),
        "unregistered": unregistered(models, run.model.name, records, models.versions(run.model.name)),
        "budget": _budget(run) if champion else None,
        "detectable_gain": _detectable(run, records) if champion else None,
        "approval": run.model.gate.approval,
        "image": _image(run, records),
        "deployment": [{"name": one.name, "kind": one.kind} for one in run.model.targets(run.site.name)],
        "leaves": [asdict(one) for one in exits_of(run, records)],
        "readiness": [asdict(check) for check in readiness_of(run)],
    }


def forecast_of(run: Run, rows: int | None) -> dict[str, Any]:
    """Return what the run would take, from what earlier ones took; *rows* are the batch's, where they are known."""
    records = Records(run.site.state).of_model(run.model.name)
    return foretold(forecast(run.model.needs, run.batch, records), records, rows, run.batch.size_bytes)


def _image(run: Run, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where the image would go, and which layers of the latest one are there: only the model's is surely new.

    `there` is None where nobody can tell: the registry gives no answer, or the layer is made of the new model.
    """
    registry = run.site.registry(run.model.name)
    made = [record for record in records if record["image"]]
    latest = made[-1] if made else None
    known = latest["image"]["layers"] if latest else []
    there = _there(registry, [layer["digest"] for layer in known if layer["title"] != "model"])
    layers = [
        {"title": layer["title"], "bytes": layer["size_bytes"], "there": there.get(layer["digest"])} for layer in known
    ]
    return {
        "destination": registry.name,
        "as_of": latest and latest["run_key"],
        "layers": layers,
        "bytes_to_send": sum(layer["bytes"] for layer in layers if not layer["there"]) if latest else None,
    }


def _there(registry: ImageRegistry, digests: Sequence[str]) -> dict[str, bool]:
    """Return which blobs the registry has; nothing where it gives no answer: readiness tells why."""
    try:
        return {digest: registry.has_blob(digest) for digest in digests}
    except InsituError:
        return {}


def _lost(run: Run, champion: ModelVersion) -> dict[str, str] | None:
    """Return why the challenger cannot meet the champion, and what the gate does then; it is not loaded here."""
    try:
        require_same_target(run, champion)
    except GateFailed as error:
        return {"why": f"{error.what}: {error.found}", "then": run.model.gate.unusable_champion}
    return None


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
