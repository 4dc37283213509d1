"""Flow runs whose process died are brought to an end in Prefect, and go on as runs of their own.

Prefect leaves the run of a killed process Running for ever, with its concurrency slot. Here the leases of the site's
state decide (see `flows.running.presence`): a process of this machine is looked up, and one of another machine is dead
when its lease is over. Any number may do this at the same time, and as often as they like.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.running.presence import name_of
from insitu.errors import BackendUnavailable, InsituError
from insitu.leases import OF_MODELS, is_over, look
from insitu.wiring import Site

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger(__name__)

EVERY_S = 30.0
_FLOWS = ["retrain", "watch"]
_LEFT_WORD_BY = timedelta(seconds=120)
"""A process leaves word as soon as its flow run is Running."""
_STARTED_BY = timedelta(seconds=900)
"""A worker that has taken a run starts its process; images are pulled before."""
_TICK = timedelta(seconds=1)
"""A lease tells whole seconds."""
_RESUMED_WITHIN = timedelta(days=1)
_MOST_RESUMES = 3
_LATE = timedelta(seconds=60)
_RESUMED = "resumed"
RESUMED = f"-{_RESUMED}"
"""How the names of flow runs end that go on with one whose process died."""
_FROM_WATCHER = "insitu-"


@dataclass(frozen=True)
class Closed:
    """A flow run that was brought to an end.

    Attributes:
        was: Its state before.
        now: Its state since.
        resumed_by: The flow run that goes on with it; None when there is none: it was cancelled, somebody started it
            by hand, or a watcher starts it again.
    """

    flow_run: str
    model: str
    was: str
    now: str
    why: str
    resumed_by: str | None = None


def reconcile(site: Site) -> list[Closed]:
    """Look once at the flow runs of *site*; return what was done.

    Raises:
        BackendUnavailable: The Prefect server gives no answer.
    """
    from httpx import HTTPError
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            living = _of_site(client, site, "RUNNING", "PENDING", "CANCELLING", "PAUSED")  # with a process, or dead
            closed = [one for run in living if (one := _close_if_dead(client, site, run))]
            late = list(_drop_late(client, site))
            resumed = {one.flow_run: one for one in _resume(client, site)}
    except HTTPError as exc:
        raise BackendUnavailable("the Prefect server gives no answer", found=type(exc).__name__) from None
    known = {one.flow_run for one in closed}
    crashed = [one for one in resumed.values() if one.flow_run not in known]
    heirs = {one.flow_run: one.resumed_by for one in resumed.values()}
    return [replace(one, resumed_by=heirs.get(one.flow_run)) for one in closed] + crashed + late


@contextmanager
def reconciling(site: Site, told: Callable[[Closed], None]) -> Iterator[None]:
    """Look at once, and then every so often for as long as the block lasts."""
    ended = threading.Event()

    def look_now() -> None:
        try:
            for one in reconcile(site):
                told(one)
        except InsituError as error:
            log.warning("flow runs of dead processes cannot be looked for now: %s", error.what)
        except Exception:
            log.exception("flow runs of dead processes cannot be looked for now")  # the watcher itself goes on

    def go_on() -> None:
        while not ended.wait(EVERY_S):
            look_now()

    look_now()
    thread = threading.Thread(target=go_on, name="reconcile", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _of_site(client: SyncPrefectClient, site: Site, *states: str, **more: Any) -> Iterator[FlowRun]:
    """Yield the flow runs of the site in these states that *more* filters let through."""
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    kinds = FlowRunFilterStateType(any_=[StateType(state) for state in states])
    wanted = FlowRunFilter(state=FlowRunFilterState(type=kinds), **more)
    flows, page = FlowFilter(name=FlowFilterName(any_=_FLOWS)), 100
    found: list[FlowRun] = []
    while len(found) % page == 0:
        further = client.read_flow_runs(flow_filter=flows, flow_run_filter=wanted, limit=page, offset=len(found))
        if not further:
            break
        found += further
    yield from (run for run in found if run.parameters.get("site", "local") == site.name)


def _close_if_dead(client: SyncPrefectClient, site: Site, run: FlowRun) -> Closed | None:
    from prefect.states import Cancelled, Crashed

    assert run.state
    why = _death(site, run)
    state_then = client.read_flow_run(run.id).state if why else None  # it may have told its end before it died
    if why is None or state_then is None or state_then.id != run.state.id:
        return None
    cancelled = run.state.is_cancelling()
    if cancelled:
        _end_job(site, str(run.id))
    again = "another run" if run.deployment_id else "it, started again,"
    crashed = f"{why}; {again} goes on after its last finished step"
    state: Any = Cancelled(message=why) if cancelled else Crashed(message=crashed)
    client.set_flow_run_state(run.id, state, force=True)
    return Closed(str(run.id), _model(run), run.state.name or "", state.name or "", why)


def _death(site: Site, run: FlowRun) -> str | None:
    """Return why the process of the run is dead; None while it may live."""
    assert run.state
    name = name_of(run.id)
    held = look(site.state, name)
    age = datetime.now(UTC) - run.state.timestamp
    if held and not run.state.is_pending():
        over = is_over(site.state, name, replace(held, free=False))  # given back: it is about to report its end
        # A run that was put back and has just begun again still has the word of its first process.
        since = datetime.fromisoformat(held.since) + _TICK
        begins = run.state.is_running() and since < run.state.timestamp
        return f"its {held.holder} is gone" if over and not (begins and age < _LEFT_WORD_BY) else None
    if not run.deployment_id or run.state.is_paused():  # it may be of another project, whose state is another
        return None
    if run.state.is_pending():
        return "no process was started for it" if age > _STARTED_BY else None
    return "its process ended before it left word" if age > _LEFT_WORD_BY else None


def _end_job(site: Site, flow_run: str) -> None:
    """End the job of a cancelled run whose process cannot do it any more, if nobody else works on it."""
    for name in site.state.names(OF_MODELS):
        held = look(site.state, name)
        if held and held.flow_run == flow_run:
            site.end_job(held.work)


def _resume(client: SyncPrefectClient, site: Site) -> Iterator[Closed]:
    """Start a run of the same parameters for each crashed one that nobody else starts again."""
    from prefect.client.schemas.filters import FlowRunFilterEndTime

    since: Any = datetime.now(UTC) - _RESUMED_WITHIN
    for run in _of_site(client, site, "CRASHED", end_time=FlowRunFilterEndTime(after_=since)):
        if _RESUMED in run.tags or not _may_resume(run):
            continue
        heir = _heir(client, run)
        client.update_flow_run(run.id, tags=[*run.tags, _RESUMED])
        why = (run.state and run.state.message) or "its worker said so"
        yield Closed(str(run.id), _model(run), "Crashed", "Crashed", why, heir)


def _heir(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """Start the run that goes on with *run*, once; return None where the server refuses it for good."""
    from httpx import HTTPStatusError

    assert run.deployment_id
    try:
        heir = client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            idempotency_key=f"resume-{run.id}",
            name=f"{run.name}{RESUMED}" if not run.name.endswith(RESUMED) else run.name,
            tags=[*(tag for tag in run.tags if not tag.startswith(f"{_RESUMED}-")), f"{_RESUMED}-{_resumes(run) + 1}"],
        )
    except HTTPStatusError as refused:  # its deployment has another form now, or is gone
        if refused.response.status_code >= 500:
            raise
        log.warning("flow run %s cannot go on: the server answers %d", run.id, refused.response.status_code)
        return None
    return str(heir.id)


def _may_resume(run: FlowRun) -> bool:
    """Tell whether a deployment can do it, no watcher or schedule does, and it is no hopeless case."""
    if not run.deployment_id or "model" not in run.parameters or (run.idempotency_key or "").startswith(_FROM_WATCHER):
        return False
    return _resumes(run) < _MOST_RESUMES


def _resumes(run: FlowRun) -> int:
    counts = [tag.removeprefix(f"{_RESUMED}-") for tag in run.tags if tag.startswith(f"{_RESUMED}-")]
    return int(counts[0]) if counts and counts[0].isdecimal() else 0


def _drop_late(client: SyncPrefectClient, site: Site) -> Iterator[Closed]:
    """After a time without workers keep the newest late run of each schedule; the others end Skipped."""
    from prefect.client.schemas.filters import FlowRunFilterExpectedStartTime
    from prefect.states import Completed

    before: Any = datetime.now(UTC) - _LATE
    is_late = FlowRunFilterExpectedStartTime(before_=before)
    due: dict[tuple[Any, str], list[FlowRun]] = {}
    for run in _of_site(client, site, "SCHEDULED", expected_start_time=is_late):
        if run.auto_scheduled:
            due.setdefault((run.deployment_id, json.dumps(run.parameters, sort_keys=True)), []).append(run)
    for runs in due.values():
        *older, newest = sorted(runs, key=_due_at)
        why = f"the scheduled run of {newest.expected_start_time:%Y-%m-%d %H:%M} UTC takes its place" if older else ""
        for run in older:
            client.set_flow_run_state(run.id, Completed(name="Skipped", message=why))
            yield Closed(str(run.id), _model(run), run.state_name or "", "Skipped", why)


def _model(run: FlowRun) -> str:
    return str(run.parameters.get("model", ""))


def _due_at(run: FlowRun) -> datetime:
    assert run.expected_start_time
    return run.expected_start_time


def told(closed: Sequence[Closed]) -> str:
    """Return what was done, for people."""
    lines = [
        f"{one.model}: flow run {one.flow_run} was {one.was}, is {one.now}: {one.why}"
        + (f"; {one.resumed_by} goes on with it" if one.resumed_by else "")
        for one in closed
    ]
    return "\n".join(lines) or "every flow run has its process"
