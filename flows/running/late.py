"""After a time without server or worker one scheduled run catches up, not all that were missed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

_LATE = timedelta(seconds=60)
_GONE = ("CANCELLED", "CANCELLING", "CRASHED", "FAILED")


def superseded_by(flow_run: UUID | None) -> str | None:
    """Return when the newest run of the same schedule was due, if this one is late and not the newest that is due."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterExpectedStartTime,
    )
    from prefect.client.schemas.objects import FlowRun
    from prefect.context import FlowRunContext

    context, now = FlowRunContext.get(), datetime.now(UTC)
    run = context.flow_run if context else None
    if not run or not run.auto_scheduled or not run.deployment_id or not run.expected_start_time:
        return None
    if now - run.expected_start_time < _LATE:
        return None
    later: list[FlowRun] = []
    with suppress(HTTPError), get_client(sync_client=True) as client:  # a run too many does no harm
        later = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
            flow_run_filter=FlowRunFilter(
                expected_start_time=FlowRunFilterExpectedStartTime(after_=run.expected_start_time)
            ),
        )
    due = [
        one.expected_start_time
        for one in later
        if one.auto_scheduled
        and one.id != run.id
        and one.parameters == run.parameters
        and one.expected_start_time
        and run.expected_start_time < one.expected_start_time <= now
        and one.state_type not in _GONE
    ]
    return max(due).isoformat(timespec="minutes") if due else None
