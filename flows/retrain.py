"""Retrain one model at one site: the order of steps, nothing else.

    snapshot → ready → validate → train → gate (→ approval) → register → containerize → publish → deploy

Run it with `insitu retrain MODEL`, from the Prefect UI, or by a schedule. A batch that is done is not
done twice: a second start with the same run key finds the record of the first. When a blob is overwritten
before the batch is validated, the blobs are pinned anew, and that is another run with a key of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed, Failed

from flows.parameters import BatchFile, Model, Params, SiteName
from flows.running.environment import LOGGERS
from flows.running.late import superseded_by
from flows.running.naming import became, call_this_flow_run
from flows.running.presence import Presence, end_this_process
from flows.running.server import require_on_site
from insitu import telemetry
from insitu.errors import BlobChanged, InsituError, RunCancelled, RunUnderWay
from insitu.gate import PUBLISHED, Decision
from insitu.leases import only_run
from insitu.lineage import close, finished, now, summarise
from insitu.project import find_project
from insitu.runs import Run
from insitu.settings import load_settings
from insitu.wiring import open_site
from tasks.approval import approval
from tasks.containerize import containerize
from tasks.deploy import deploy
from tasks.ending import show_end
from tasks.gate import gate
from tasks.limits import check_limits
from tasks.plan import plan_run
from tasks.publish import publish
from tasks.ready import check_readiness
from tasks.register import register
from tasks.snapshot import snapshot_batch
from tasks.train import train
from tasks.validate import validate_batch

_MORE_SNAPSHOTS = 3
"""How often the blobs are pinned anew because one was overwritten before it was validated."""


@flow(name="retrain", flow_run_name="{model}@{site}", persist_result=False)
def retrain(
    model: Model,
    site: SiteName = "local",
    batch: BatchFile = "",
    params: Params = {},  # noqa: B006 - never changed; Prefect shows it as the form's default
) -> State[Any]:
    """Retrain *model* at *site* on the blobs that lie there now.

    What each parameter holds, `flows.parameters` says: the form of the Prefect UI shows it. *batch* is the path of
    a manifest of pinned blobs, *params* differ from `[train.params]` for this run alone.

    Returns:
        The run record. The state is named `Completed`, `NotPromoted` when gate or people said no,
        `AwaitingApproval` when a person is to decide, `NothingNew` when this batch was done before, or `Skipped`
        when the same run is under way: the record's `winner` says where.
    """
    telemetry.switch_off()
    for name in LOGGERS:  # Prefect attaches its handlers to them, but sets no level
        logging.getLogger(name).setLevel(logging.INFO)
    presence = Presence.of_this_flow_run()
    try:
        require_on_site(str(get_current_settings().api.url or ""))
        project = find_project(Path(os.environ.get("INSITU_PROJECT", ".")), named="INSITU_PROJECT" in os.environ)
        settings, _ = load_settings(project, site, model, os.environ)
        with presence.shown(open_site(project, settings).state):
            if later := superseded_by(presence.id):
                return Completed(name="Skipped", message=f"the scheduled run of {later} takes its place")
            pin = partial(snapshot_batch, project, model, site, batch, params)
            return _alone(pin, presence, is_pinned=bool(batch))
    except InsituError as error:
        return Failed(message=error.render(), data=error)
    except BaseException:
        if not presence.is_cancelled():
            raise
        cancelled = RunCancelled("the run was cancelled in Prefect", next_action="start it again: it goes on")
        return Cancelled(message=cancelled.render(), data=cancelled)


def _alone(pin: Callable[[], Run], presence: Presence, *, is_pinned: bool) -> State[Any]:
    """Do the run while no other run of the model is under way; beside the same run, skip it."""
    run = pin()
    only = only_run(
        run.site.state,
        run.model.name,
        run.key,
        flow_run=str(presence.id) if presence.id else None,
        lease_s=run.model.trigger.lease_s,
        on_lost=end_this_process,
    )
    try:
        with only as lease:
            try:
                return _once(run.held_by(lease)) if is_pinned else _newest(run.held_by(lease), pin)
            except BaseException:
                if lease.lost:
                    lease.confirm()  # says so
                raise
    except RunUnderWay as busy:
        if busy.winner is None:
            raise
        record = summarise(run, "Skipped") | {"winner": busy.winner}
        if busy.winner["run_key"] == run.key:
            return Completed(name="Skipped", message=f"it is under way already: {busy.found}", data=record)
        if not presence.by_schedule:
            raise
        # Nobody is to be woken for that: the schedule's next run trains on what lies there then.
        return Completed(name="Skipped", message=f"{busy.what}: {busy.found}", data=record)


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
    assert run.lease
    return _newest(pin().held_by(run.lease), pin, more - 1)


def _once(run: Run) -> State[Any]:
    run.journal.once("snapshot", dict, lambda: {"started": now(), "batch": run.batch.to_json()})
    if record := finished(run):
        call_this_flow_run(run, "nothing new")
        return Completed(name="NothingNew", message=f"batch {run.batch.fingerprint[:12]} is done", data=record)
    close(run, "Unfinished")  # until it ends, or if it is killed
    call_this_flow_run(run)
    try:
        return _steps(run)
    except BaseException as error:
        with suppress(InsituError):  # a disk that is full hides no earlier error
            record = close(run, "Failed", error)
            if isinstance(error, Exception):  # else this process is to end, soon
                _show_end(run, record)
        raise


def _steps(run: Run) -> State[Any]:
    plan_run(run)
    check_readiness(run)
    validate_batch(run)
    trained = train(run)
    decision = approval(run, trained, gate(run, trained))
    if decision.outcome not in PUBLISHED:
        return _not_promoted(run, decision)
    version = register(run, trained, decision)
    image = containerize(run, trained, version)
    decision = check_limits(run, decision, version, image)
    if decision.outcome not in PUBLISHED:
        return _not_promoted(run, decision)
    close(run, "Unfinished")  # from here on prune knows the version as this run's,
    publication = publish(run, decision, version, image)
    close(run, "Unfinished")  # and rollback knows that it is published, whatever becomes of the deployments
    if run.model.targets(run.site.name):
        deploy(run, trained, decision, version, publication)
    return Completed(message=f"published {publication.reference}", data=_ended(run, "Completed"))


def _not_promoted(run: Run, decision: Decision) -> State[Any]:
    name = "AwaitingApproval" if decision.outcome == "AwaitingApproval" else "NotPromoted"
    told = f"{decision.outcome}: {'; '.join(decision.reasons)}"
    return Completed(name=name, message=told, data=_ended(run, "NotPromoted"))


def _ended(run: Run, state: str) -> dict[str, Any]:
    """Close the run, show what came of it, and return its record."""
    record = close(run, state)
    _show_end(run, record)
    return record


def _show_end(run: Run, record: Mapping[str, Any]) -> None:
    show_end(run, record)
    call_this_flow_run(run, became(record))
