"""Puts what prefect.yaml says into a Prefect server: pools, deployments with their schedules and limits, automations.

Each is a part that is looked at, made where it is missing or differs, and looked at again, so a second run changes
nothing. The server replaces what a deployment has: a schedule that the file no longer has is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from flows.deploying.notices import notices
from flows.deploying.prefect_flows import pool_template
from flows.deploying.prefect_lint import FILE, Entry, read_entries
from flows.deploying.schedules import odd_days
from flows.deploying.wanted import arguments, automations, differences, found, wanted
from flows.running.asking import apart
from insitu.errors import BackendUnavailable, UsageError
from insitu.provisioning import Finding, Outcome, Part, bring_about, plan
from insitu.settings import SiteSettings


def deploy(project: Path, site: SiteSettings, warn: Callable[[str], None], *, only_plan: bool = False) -> list[Outcome]:
    """Bring the Prefect server to what prefect.yaml and [notify] say of *site*; return what was found and done.

    Args:
        project: The project's folder.
        site: The site's settings.
        warn: Is told of schedules that do not do what they say where the clocks change.
        only_plan: Changes nothing.

    Raises:
        SettingsError: All problems of prefect.yaml, or an address of [notify] is not where it says.
        UsageError: No server is named, or a deployment of this name works for another site.
        BackendUnavailable: The server does not answer, or refuses.
    """
    entries = entries_of(project, site.name)
    if "PREFECT_API_URL" not in os.environ:
        raise UsageError(
            "there is no Prefect server to deploy to",
            next_action="start one with `insitu up`, which deploys, or name one: PREFECT_API_URL=http://HOST:4200/api",
        )
    for warning in clock_warnings(entries):
        warn(warning)
    with _server() as client:
        parts = [*_parts(client, project, entries), *notices(client, site)]
        return plan(parts) if only_plan else [bring_about(part) for part in parts]


def entries_of(project: Path, site: str) -> list[Entry]:
    """Return the deployments of *site*; where prefect.yaml has none, those of `local` are the pattern for it.

    Raises:
        SettingsError: All problems of prefect.yaml.
        UsageError: It has neither.
    """
    entries = read_entries(project)
    ours = [entry for entry in entries if entry.site == site]
    ours = ours or [entry.at(site) for entry in entries if entry.site == "local"]
    if not ours:
        found = ", ".join(sorted({entry.site for entry in entries}))
        raise UsageError(f"{FILE} has no deployment for site {site}", found=f"deployments for {found}")
    return ours


def clock_warnings(entries: Sequence[Entry], now: datetime | None = None) -> list[str]:
    """Return what schedules in local zones do, within a year from *now*, where the clocks change."""
    return [
        f"{entry.name}, schedule {schedule.slug} ({schedule.cron}, {schedule.timezone}): {day}"
        for entry in entries
        for schedule in entry.said.schedules
        if schedule.cron
        for day in odd_days(schedule.cron, schedule.timezone, now or datetime.now(UTC))
    ]


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """Yield a client; a server that does not answer, or refuses, is an error of ours."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except HTTPError as exc:
        response = getattr(exc, "response", None)
        raise BackendUnavailable(
            f"the Prefect server at {apart(os.environ['PREFECT_API_URL'])[0]} does not take the deployments",
            found=response.text[:500] if response is not None else type(exc).__name__,
            next_action="see whether it runs, and PREFECT_API_AUTH_STRING where it wants a login",
        ) from None


def _parts(client: SyncPrefectClient, project: Path, entries: Sequence[Entry]) -> Iterator[Part]:
    for name, kind in {entry.said.work_pool.name: entry.pool_kind for entry in entries}.items():
        yield _Pool(client, name, kind)
    for entry in entries:
        yield _Deployed(client, project, entry)


@dataclass(frozen=True)
class _Pool:
    client: SyncPrefectClient
    pool: str
    kind: str

    @property
    def name(self) -> str:
        return f"work pool {self.pool}"

    @property
    def place(self) -> str:
        return "the Prefect server"

    def look(self) -> Finding:
        try:
            pool = self.client.read_work_pool(self.pool)
        except ObjectNotFound:
            return Finding("not there", f"create it, of type {self.kind}")
        if pool.type != self.kind:
            raise UsageError(
                f"the Prefect server has a work pool {self.pool} of another type",
                found=pool.type,
                wanted=self.kind,
                next_action="delete it in the UI, or name another pool in prefect.yaml",
            )
        return Finding(f"there, of type {self.kind}")

    def make(self) -> None:
        template = pool_template(self.kind)
        self.client.create_work_pool(WorkPoolCreate(name=self.pool, type=self.kind, base_job_template=template or {}))


@dataclass(frozen=True)
class _Deployed:
    client: SyncPrefectClient
    project: Path
    entry: Entry

    @property
    def name(self) -> str:
        return f"deployment {self.entry.name}"

    @property
    def place(self) -> str:
        return "the Prefect server"

    def look(self) -> Finding:
        deployment = self._read()
        if deployment is None:
            return Finding("not there", "create it")
        site = deployment.parameters.get("site", self.entry.site)
        if site != self.entry.site:
            raise UsageError(
                f"the Prefect server has the deployment {self.entry.name} for another site",
                found=f"site {site}",
                wanted=f"site {self.entry.site}",
                next_action=f"use a server per site, or give {FILE} an entry with another name for one of them",
            )
        told = differences(self._found(deployment), wanted(self.project, self.entry))
        return Finding("there, but not as prefect.yaml says" if told else "as prefect.yaml says", "; ".join(told))

    def make(self) -> None:
        want, before = wanted(self.project, self.entry), self._read()
        have = self._found(before) if before else {}
        if {**have, "automations": None} != {**want, "automations": None}:
            flow = self.client.create_flow_from_name(self.entry.flow.name)
            self.client.create_deployment(flow_id=flow, name=self.entry.said.name, **arguments(want))
        deployment = self._read()
        if deployment and have.get("automations", {}) != want["automations"]:
            self.client.delete_resource_owned_automations(_owner(deployment))
            for automation in automations(self.entry, deployment.id):
                self.client.create_automation(automation)

    def _read(self) -> DeploymentResponse | None:
        try:
            return self.client.read_deployment_by_name(self.entry.name)
        except ObjectNotFound:
            return None

    def _found(self, deployment: DeploymentResponse) -> dict[str, Any]:
        """Return what the server has, without automations that people made; the server does not tell their owner."""
        named = {trigger.name for trigger in self.entry.said.triggers}
        related = self.client.read_resource_related_automations(_owner(deployment))
        return found(deployment, [one for one in related if one.name in named or FILE in one.tags])


def _owner(deployment: DeploymentResponse) -> str:
    return f"prefect.deployment.{deployment.id}"
