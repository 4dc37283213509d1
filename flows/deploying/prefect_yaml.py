"""What prefect.yaml may say: closed, since Prefect passes over a misspelt key in silence."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import available_timezones

from annotated_types import Ge, Le
from prefect.client.schemas.schedules import CronSchedule, RRuleSchedule
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from insitu.settings.forms import Name, Text
from insitu.settings.problems import Clash, Contradiction
from insitu.settings.strict import Strict

Values = dict[str, Any]


class Named(Strict):
    """A table whose key `name` stands in the file."""

    has_own_name: ClassVar[bool] = True


class ConcurrencyLimit(Strict):
    """How many runs of a deployment may be active at once, and what becomes of one more."""

    limit: int = Field(ge=1, description="runs at once")
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = Field(description="one more waits, or is cancelled")
    grace_period_seconds: Annotated[int, Ge(60), Le(86_400)] | None = Field(
        default=None, description="seconds that a run may take to start before its place is given away"
    )


class Schedule(Strict):
    """When a deployment runs by itself."""

    slug: Name = Field(description="its name within the deployment")
    cron: Text | None = Field(default=None, description='such as "0 3 * * *"')
    interval: float | None = Field(default=None, gt=0, description="seconds")
    rrule: Text | None = Field(default=None, description="an iCalendar rule")
    timezone: Text = Field(default="UTC", description="the zone whose clocks it follows")
    day_or: bool | None = Field(default=None, description="cron: day of month or day of week, instead of both")
    anchor_date: Text | None = Field(default=None, description="interval: where it starts to count")
    active: bool = Field(default=True, description="whether it fires")
    parameters: Values = Field(default={}, description="parameters of its runs that differ from the deployment's")

    @field_validator("timezone")
    @classmethod
    def _exists(cls, timezone: str) -> str:
        if timezone not in (known := available_timezones()):
            raise Contradiction(Clash("a time zone such as UTC or Europe/Berlin", known=tuple(sorted(known))))
        return timezone

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        try:
            return cron and CronSchedule(cron=cron).cron
        except ValidationError:
            raise Contradiction(
                Clash('five fields of cron, such as "0 3 * * *": minute hour day month weekday')
            ) from None

    @field_validator("rrule")
    @classmethod
    def _is_rrule(cls, rrule: str | None) -> str | None:
        try:
            return rrule and RRuleSchedule(rrule=rrule).rrule
        except ValidationError:
            raise Contradiction(Clash("an iCalendar rule, such as FREQ=DAILY;BYHOUR=3")) from None

    @model_validator(mode="after")
    def _says_when_once(self) -> Schedule:
        if sum(when is not None for when in (self.cron, self.interval, self.rrule)) != 1:
            raise Contradiction(Clash("one of cron, interval and rrule"))
        return self


class Trigger(Named):
    """Events that make Prefect start a deployment."""

    name: Text = Field(description="the automation's name")
    description: str = Field(default="", description="for people")
    enabled: bool = Field(default=True, description="whether it starts runs")
    type: Literal["event"] = Field(default="event", description="others are made in the UI")
    posture: Literal["Reactive", "Proactive"] = Field(default="Reactive", description="events came, or did not come")
    expect: list[Text] = Field(min_length=1, description="names of events; Prefect takes none for every event")
    after: list[Text] = Field(default=[], description="names of events that must have come before")
    match: dict[str, str | list[str]] = Field(default={}, description="labels of the event's resource")
    match_related: dict[str, str | list[str]] = Field(default={}, description="labels of related resources")
    for_each: list[Text] = Field(default=[], description="labels whose values are counted separately")
    threshold: int = Field(default=1, ge=1, description="how many events")
    within: float = Field(default=0, ge=0, description="seconds in which they come")
    parameters: Values = Field(
        default={}, description="parameters of the run; templates such as {{ event.id | string }}"
    )
    job_variables: Values = Field(default={}, description="job variables of the run")
    schedule_after: float = Field(default=0, ge=0, description="seconds until the run starts")


class WorkPool(Named):
    """Where the runs of a deployment happen."""

    name: Text = Field(description="insitu-SITE: processes of the site's worker; insitu-SITE-docker: containers")
    work_queue_name: Text = Field(default="default", description="a queue of the pool")
    job_variables: Values = Field(default={}, description="environment and the like of the run's process or container")


class Deployment(Named):
    """One entry of the UI's list: a flow with parameters, and what starts it."""

    name: Text = Field(description="its name: that of the model for the flow retrain")
    entrypoint: Text = Field(description="FILE.py:FUNCTION, such as flows/retrain.py:retrain")
    description: Text = Field(description="for people, in the UI")
    version: Text | None = Field(default=None, description="any text")
    tags: list[Text] = Field(default=[], description="words to filter by")
    parameters: Values = Field(default={}, description="parameters of its runs")
    enforce_parameter_schema: bool = Field(default=True, description="wrong parameters are refused before a run")
    concurrency_limit: ConcurrencyLimit | None = Field(default=None, description="runs at once")
    paused: bool = Field(default=False, description="whether its schedules rest")
    schedules: list[Schedule] = Field(default=[], description="when it runs by itself")
    triggers: list[Trigger] = Field(default=[], description="events that start it")
    work_pool: WorkPool = Field(description="where its runs happen")
    pull: list[Values] = Field(
        default=[], description="steps before a run; none: the project's folder is used as it is"
    )

    @field_validator("schedules", "triggers")
    @classmethod
    def _differ(cls, entries: list[Any]) -> list[Any]:
        key = "slug" if any(isinstance(entry, Schedule) for entry in entries) else "name"
        names = [getattr(entry, key) for entry in entries]
        twice = [number for number, name in enumerate(names) if name in names[:number]]
        if twice:
            raise Contradiction(*(Clash("another name than the others", (number, key)) for number in twice))
        return entries


class Definitions(Strict):
    """Parts that deployments share, by YAML anchors: checked where they are used."""

    model_config = ConfigDict(extra="allow")


class PrefectYaml(Named):
    """The whole file."""

    name: Text = Field(default="insitu", description="of the project")
    definitions: Definitions = Field(default=Definitions(), description="parts that deployments share")
    pull: list[Values] = Field(default=[], description="steps before a run of any deployment")
    deployments: list[Deployment] = Field(min_length=1, description="one entry each")
