"""Run records: one JSON object per run that says what happened, down to ETags and digests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from insitu import withdrawals
from insitu.egress import EGRESS, sign_ledger
from insitu.errors import DataError, InsituError, UsageError
from insitu.gate import PUBLISHED
from insitu.journal import Journal, read_json
from insitu.ports import BlobStore
from insitu.recorded import RECORD, keep_record
from insitu.residency.statement import residency_of
from insitu.rulings import standing_of
from insitu.runs import Run
from insitu.waivers import WAIVED
from insitu.wiring import CHAMPION

STEPS = ("snapshot", "ready", "validate", "train", "gate", "register", "containerize", "publish", "deploy")
PROFILE = "profile"
"""The journal's name of what a validation keeps of the training data: private."""

PLAN = "plan"
"""The journal's name of the plan that the run was started by (`insitu.planning.plan`)."""

LIMITS = "limits"
"""The journal's name of the limits that the finished image did not keep: it is not published, whoever allows it."""

FINAL_STATES = ("Completed", "NotPromoted")
"""Ends that a second start with the same run key finds and leaves alone."""


SHIFTED = 0.25
"""A population stability index above this is commonly read as a shift (Siddiqi, 2006)."""


def significant(value: Any, digits: int = 4) -> Any:
    """Return *value* with every float rounded to *digits* significant digits, at any depth; NaN becomes None.

    Metrics leave the site; eight full-precision floats could hold a row.
    """
    if isinstance(value, float):
        rounded = float(f"{value:.{digits}g}")  # the largest floats are rounded up to infinity
        return rounded if math.isfinite(rounded) else None
    if isinstance(value, Mapping):
        return {key: significant(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [significant(item, digits) for item in value]
    return value


def finished(run: Run) -> dict[str, Any] | None:
    """Return the record of a run that has nothing left to do; None when there is work."""
    record: dict[str, Any] | None = run.journal.entry(RECORD)
    if record is None:
        return None
    ended = record["state"] in FINAL_STATES
    if "pruned" in record and (ended or record.get("publication")):  # what it published is gone, and stays gone
        return record
    if not ended:
        return None
    if record["state"] == "NotPromoted" and run.journal.entry(LIMITS) is None:
        stands = standing_of(run)  # of a record from before decisions were signed there is none
        return None if stands and (stands.asks or stands.outcome in PUBLISHED) else record
    if record["state"] == "Completed":
        here = run.journal.entry(run.step_name("publish"))
        # A layout is files of this machine: they may have been cleared away.
        tag = record["model_version"]["version"]
        lost = run.site.settings.registry is None and run.site.layout(run.model.name).resolve(tag) is None
        if here is None or lost or _lacks_deployment(run, record):
            return None
    return record


def _lacks_deployment(run: Run, record: Mapping[str, Any]) -> bool:
    """Tell whether model.toml names a target that the champion, which this run has made, was not deployed to."""
    is_approved = (record["decision"] or {}).get("outcome") == "Approved"
    wanted = {one.name for one in run.model.targets(run.site.name) if one.when == "promoted" or is_approved}
    if wanted <= {one["name"] for one in record.get("deployment") or ()}:
        return False
    champion = run.site.models.alias(run.model.name, CHAMPION)
    return champion is not None and champion.version == record["model_version"]["version"]


def close(run: Run, state: str, error: BaseException | None = None) -> dict[str, Any]:
    """Write the run's record, signed, and return it; bad data and a stop have end states of their own."""
    if isinstance(error, DataError):
        state = "ValidationFailed"
    elif error is not None and not isinstance(error, Exception):  # Ctrl-C, SIGTERM, cancelled from the UI
        state, error = (
            "Stopped",
            InsituError("the run was stopped", next_action="start it again: it goes on where it was"),
        )
    sign_ledger(run.journal, run.site.keys)
    return keep_record(run.journal, run.site.keys, summarise(run, state, error))


def summarise(run: Run, state: str, error: BaseException | None = None) -> dict[str, Any]:
    """Return the run's record from what its journal holds; steps that were not reached are None."""
    entries = {step: run.journal.entry(run.step_name(step)) for step in STEPS}
    values = {step: entry["value"] if entry else None for step, entry in entries.items()}
    return {
        "run_key": run.key,
        "model": run.model.name,
        "site": run.site.name,
        "batch": {
            "fingerprint": run.batch.fingerprint,
            "blobs": len(run.batch.blobs),
            "bytes": run.batch.size_bytes,
            "manifest": run.batch.to_json(),
        },
        "code": run.code_hash,
        "plan_hash": (run.journal.entry(PLAN) or {}).get("hash"),
        "readiness": values["ready"],
        "validation": values["validate"],
        "training": _training(values["train"]),
        "residency": residency_of(values["train"], run.journal.entry(WAIVED)),
        "decision": values["gate"],
        "model_version": values["register"],
        "image": values["containerize"],
        "publication": values["publish"] or _publication_before(run),
        "deployment": values["deploy"],
        "egress": run.journal.entry(EGRESS) or [],
        "state": state,
        "error": error_json(error),
        "started": (values["snapshot"] or {}).get("started"),
        "finished": now(),
        "seconds": {step: entry["seconds"] for step, entry in entries.items() if entry},
    }


def _publication_before(run: Run) -> dict[str, Any] | None:
    """Return the publication that the record has: what goes to one more registry is published all the while."""
    record = run.journal.entry(RECORD) or {}
    publication: dict[str, Any] | None = record.get("publication")
    return None if "pruned" in record else publication


def counted(number: int, what: str) -> str:
    """Return "1 blob", "2 blobs", "10,000 blobs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def drift_summary(drift: Mapping[str, Any]) -> str:
    """Return how far the new data is from the champion's, in one line."""
    found = {name: figures["psi"] for name, figures in drift["columns"].items() if figures["psi"] is not None}
    amount = f"{counted(drift['blobs'], 'blob')}, {counted(drift['rows'], 'row')}"
    new = f"{amount} that {drift['champion']} was not trained on"
    if not found:
        return f"{new}: nothing to compare"
    most = max(found, key=lambda name: found[name])
    shifted = sum(psi > SHIFTED for psi in found.values())
    return f"{new}: {shifted} of {len(found)} columns shifted, {most} most (psi {found[most]:.3g})"


def error_json(error: BaseException | None) -> dict[str, Any] | None:
    """Return *error* as JSON values; a foreign one leaves only its class, for its text may quote a row."""
    if error is None or isinstance(error, InsituError):
        return error.to_json() if error else None
    return InsituError(f"an error that insitu does not know: {type(error).__name__}").to_json()


def now() -> str:
    """Return the time of now (UTC) in ISO form, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_TOLD = (
    "job", "backend", "seconds", "rows", "difference", "share", "slices", "score_psi", "overlap", "lost", "claimed",
    "onnx", "peak_memory_bytes", "network", "destinations",
)  # fmt: skip


def _training(trained: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if trained is None:
        return None
    metrics = trained["metrics"]
    training = {key: trained.get(key) for key in _TOLD} | {"metrics": metrics["challenger"], "compared": metrics}
    return {key: significant(value) for key, value in training.items()}


def metric_history(state: BlobStore, model: str, metric: str) -> list[tuple[str, float]]:
    """Return version and *metric* of each published version, oldest first, as its own run measured it."""
    done = (record for record in Records(state).of_model(model) if record["state"] == "Completed")
    return [
        (record["model_version"]["version"], record["training"]["metrics"][metric])
        for record in done
        if record["training"]["metrics"].get(metric) is not None
    ]


def champion_profile(run: Run) -> tuple[str, dict[str, Any]] | None:
    """Return the champion's name and what its validation kept of its training data; None where there is none."""
    champion = run.site.models.alias(run.model.name, CHAMPION)
    for record in Records(run.site.state).of_model(run.model.name) if champion else ():
        if champion and (record["model_version"] or {}).get("version") == champion.version:
            profile = Journal(run.site.state, run.model.name, record["run_key"]).entry(PROFILE)
            return (f"v{champion.version}", profile) if profile else None
    return None


@dataclass(frozen=True)
class Records:
    """The run records in a site's state."""

    state: BlobStore

    def of_model(self, model: str) -> list[dict[str, Any]]:
        """Return every record of *model*, oldest first; its `rollback` is the order that has withdrawn its version."""
        names = (name for name in self.state.names(f"runs/{model}/") if name.endswith(f"/{RECORD}.json"))
        records = sorted((read_json(self.state, name) for name in names), key=_age)
        gone = withdrawals.gone(withdrawals.told(self.state, model))
        orders = ((one, gone.get(_version_of(one))) for one in records)
        return [{**one, "rollback": order} if order else one for one, order in orders]

    def of_version(self, model: str, version: str) -> dict[str, Any]:
        """Return the record of a published version or of any run.

        Args:
            model: The model's name.
            version: A number, `latest` for the newest champion, or the first 8 or more digits of a run key.

        Raises:
            UsageError: There is no such version or run.
        """
        records = self.of_model(model)
        made = {r["model_version"]["version"]: r for r in records if r["publication"]}
        if version == "latest" and (champion := champion_of(made, withdrawals.told(self.state, model))):
            return champion
        if found := made.get(version.removeprefix("v")):
            return found
        runs = [record for record in records if len(version) >= 8 and record["run_key"].startswith(version)]
        if runs:
            return runs[-1]
        raise UsageError(
            f"{model} has no published version {version}, and no run of that key",
            found=f"versions {', '.join(made)}" if made else "none yet",
            next_action=f"see `insitu history {model}`",
        )


def _age(record: Mapping[str, Any]) -> tuple[str, int]:
    """Sort by the end of the run; of two that ended in one second the older version first."""
    version = _version_of(record)
    return str(record["finished"]), int(version) if version.isdecimal() else 0


def _version_of(record: Mapping[str, Any]) -> str:
    return str((record["model_version"] or {}).get("version"))


def champion_of(made: Mapping[str, dict[str, Any]], orders: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the record of the version that was made champion last, by its run or by a rollback."""
    out = withdrawals.gone(orders)
    crowned = [(r["finished"], version) for version, r in made.items() if r["publication"].get("champion")]
    crowned += [(order["when"], order["to"]) for order in orders]
    reigned = [
        version for _, version in sorted(crowned, key=lambda one: one[0]) if version in made and version not in out
    ]
    return made[reigned[-1]] if reigned else None
