"""A deployment as prefect.yaml wants it and as the server has it, in the same words, so that both can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

from flows.deploying.prefect_lint import FILE, Entry
from flows.deploying.prefect_yaml import Schedule, Trigger
from flows.running.naming import site_tag

_FIRST = "2020-01-01T00:00:00+00:00"
"""Where intervals start to count; Prefect's default is the moment of the deployment, another one each time."""
_PLAIN = (
    "description", "version", "parameters", "enforce_parameter_schema", "parameter_openapi_schema", "entrypoint",
    "pull_steps", "work_pool_name", "work_queue_name", "job_variables", "paused", "concurrency_options",
)  # fmt: skip
_BY_NAME = {"schedules": "schedule", "automations": "automation"}
_IN_WORDS: Mapping[str, str] = {
    "parameter_openapi_schema": "the form of its parameters",
    "pull_steps": "where its code is",
    "concurrency_options": "collision strategy",
}
Facts = dict[str, Any]


def wanted(project: Path, entry: Entry) -> Facts:
    """Return what the server shall have, as JSON values; schedules and automations by their name."""
    said, limit = entry.said, entry.said.concurrency_limit
    here = [{"prefect.deployments.steps.set_working_directory": {"directory": str(project)}}]
    return {
        **{key: getattr(said, key) for key in _PLAIN if hasattr(said, key)},
        "version": said.version or entry.flow.version,
        "parameter_openapi_schema": dict(entry.flow.schema),
        "pull_steps": list(entry.pull) or here,
        "work_pool_name": said.work_pool.name,
        "work_queue_name": said.work_pool.work_queue_name,
        "job_variables": said.work_pool.job_variables,
        "tags": sorted({site_tag(entry.site), *(tag for tag in said.tags if not tag.startswith(site_tag("")))}),
        "concurrency_limit": limit and limit.limit,
        "concurrency_options": limit and limit.model_dump(exclude={"limit"}),
        "schedules": {schedule.slug: _schedule(schedule) for schedule in said.schedules},
        "automations": by_name(automations(entry, UUID(int=0))),
    }


def found(deployment: DeploymentResponse, automated: Iterable[AutomationCore]) -> Facts:
    """Return what the server has, in the words of `wanted`."""
    told = deployment.model_dump(mode="json")
    limit = deployment.global_concurrency_limit
    return {
        **{key: told[key] for key in _PLAIN},
        "tags": sorted(deployment.tags),
        "concurrency_limit": limit and limit.limit,
        "schedules": {
            one["slug"] or f"without a slug ({one['id'][:8]})": {
                key: one[key] for key in ("slug", "active", "parameters", "schedule")
            }
            for one in told["schedules"]
        },
        "automations": by_name(automated),
    }


def differences(have: Facts, want: Facts) -> list[str]:
    """Return in words what must change for *have* to be *want*."""
    return [words for key in want for words in _difference(key, have[key], want[key])]


def arguments(facts: Facts) -> dict[str, Any]:
    """Return *facts* as the arguments of Prefect's `create_deployment`."""
    options = facts["concurrency_options"]
    rest = {key: value for key, value in facts.items() if key != "automations"}
    return rest | {
        "schedules": [DeploymentScheduleCreate.model_validate(one) for one in facts["schedules"].values()],
        "concurrency_options": options and ConcurrencyOptions.model_validate(options),
    }


def automations(entry: Entry, deployment: UUID) -> list[AutomationCore]:
    """Return the automations that start *deployment* on the events of *entry*."""
    triggers = [DeploymentEventTrigger.model_validate(_given(trigger)) for trigger in entry.said.triggers]
    for trigger in triggers:
        trigger.set_deployment_id(deployment)
    return [trigger.as_automation().model_copy(update={"tags": [FILE]}) for trigger in triggers]


def _given(trigger: Trigger) -> Facts:
    """Return what *trigger* says; nothing said of parameters means those of the deployment."""
    return trigger.model_dump() | {key: getattr(trigger, key) or None for key in ("parameters", "job_variables")}


def by_name(some: Iterable[AutomationCore]) -> Facts:
    """Return what automations do, by their names; which deployment they start is that of their owner."""
    told = {}
    for one in some:
        facts = one.model_dump(mode="json", include={"name", "description", "enabled", "tags", "trigger", "actions"})
        actions = [
            {key: value for key, value in action.items() if key != "deployment_id"} for action in facts["actions"]
        ]
        told[one.name] = _sorted(facts | {"actions": actions})
    return told


def _sorted(value: Any) -> Any:
    """Return *value* with its lists of names in order: Prefect keeps them as sets."""
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in value.items() if key != "id"}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return sorted(value)
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _schedule(said: Schedule) -> Facts:
    """Return a schedule as the server keeps it."""
    schedule: SCHEDULE_TYPES
    if said.cron:
        schedule = CronSchedule(cron=said.cron, timezone=said.timezone, day_or=said.day_or is not False)
    elif said.interval:
        values = {"interval": said.interval, "timezone": said.timezone, "anchor_date": said.anchor_date or _FIRST}
        schedule = IntervalSchedule.model_validate(values)
    else:
        schedule = RRuleSchedule(rrule=said.rrule or "", timezone=said.timezone)
    return {
        "slug": said.slug,
        "active": said.active,
        "parameters": said.parameters,
        "schedule": schedule.model_dump(mode="json"),
    }


def _difference(key: str, have: Any, want: Any) -> Iterator[str]:
    if kind := _BY_NAME.get(key):
        for name in sorted({*have, *want}):
            if have.get(name) != want.get(name):
                verb = "remove" if name not in want else "change" if name in have else "add"
                yield f"{verb} {kind} {name}"
    elif have != want:
        what = _IN_WORDS.get(key, key.replace("_", " "))
        short = isinstance(want, str | int | float | None) and len(f"{have}{want}") < 80
        yield f"change {what}" + (f" from {have} to {want}" if short else "")
