"""Retrain one model at one site: the order of steps, nothing else.

    snapshot → ready → validate → train → gate → register → containerize → publish

Run it with `insitu retrain MODEL`, from the Prefect UI, or by a schedule. A batch that is done is not
done twice: a second start with the same run key finds the record of the first. When a blob is overwritten
before the batch is validated, the blobs are pinned anew, and that is another run with a key of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.environment import LOGGERS
from insitu import telemetry
from insitu.errors import BlobChanged, InsituError
from insitu.lineage import close, finished, now
from insitu.project import find_project
from insitu.runs import Run
from tasks.containerize import containerize
from tasks.gate import gate
from tasks.publish import publish
from tasks.ready import check_readiness
from tasks.register import register
from tasks.snapshot import snapshot_batch
from tasks.train import train
from tasks.validate import validate_batch

_MORE_SNAPSHOTS = 3
"""How often the blobs are pinned anew because one was overwritten before it was validated."""


@flow(name="retrain", flow_run_name="{model}@{site}", persist_result=False)
def retrain(model: str, site: str = "local", batch: str | None = None) -> State[Any]:
    """Retrain *model* at *site* on the blobs that lie there now.

    Args:
        model: Name of a folder in models/.
        site: Name of a file in deployments/sites/, without .toml.
        batch: Path of a JSON manifest of pinned blobs; without it the current blobs are pinned.

    Returns:
        The run record. The state is named `Completed`, `NotPromoted` when the gate said no, or
        `NothingNew` when this batch was done before.
    """
    telemetry.switch_off()
    for name in LOGGERS:  # Prefect attaches its handlers to them, but sets no level
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        project = find_project(Path(os.environ.get("INSITU_PROJECT", ".")), named="INSITU_PROJECT" in os.environ)
        pin = partial(snapshot_batch, project, model, site, batch)
        run = pin()
        with run.site.only_run(model):
            return _once(run) if batch else _newest(run, pin)
    except InsituError as error:
        return Failed(message=error.render(), data=error)


def _newest(run: Run, pin: Callable[[], Run], more: int = _MORE_SNAPSHOTS) -> State[Any]:
    """Do *run*; when a blob is overwritten before the batch is validated, do that of the blobs as they are then."""
    try:
        return _once(run)
    except BlobChanged as error:
        if run.journal.entry("validate"):
            raise
        changed = error
    if not more:
        raise BlobChanged(
            changed.what,
            found=f"something overwritten in each of {_MORE_SNAPSHOTS + 1} snapshots before it was validated",
            wanted="blobs that stay as they are for that long",
            next_action="start the run again when they have been written",
        )
    close(run, "Superseded", changed)
    get_run_logger().warning("%s; a new snapshot takes its place, %d more at most", changed.what, more - 1)
    return _newest(pin(), pin, more - 1)


def _once(run: Run) -> State[Any]:
    run.journal.once("snapshot", dict, lambda: {"started": now(), "batch": run.batch.to_json()})
    if record := finished(run):
        return Completed(name="NothingNew", message=f"batch {run.batch.fingerprint[:12]} is done", data=record)
    close(run, "Unfinished")  # until it ends, or if it is killed
    try:
        return _steps(run)
    except BaseException as error:
        with suppress(InsituError):  # a disk that is full hides no earlier error
            close(run, "Failed", error)
        raise


def _steps(run: Run) -> State[Any]:
    check_readiness(run)
    validate_batch(run)
    trained = train(run)
    decision = gate(run, trained)
    if decision.verdict != "promote":
        return Completed(name="NotPromoted", message="; ".join(decision.reasons), data=close(run, "NotPromoted"))
    version = register(run, trained, decision)
    image = containerize(run, trained, version)
    publication = publish(run, decision, version, image)
    return Completed(message=f"published {publication.reference}", data=close(run, "Completed"))
