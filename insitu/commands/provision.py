"""`insitu provision`: see to what a site stands on."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from insitu.options import json_option, project_option, site_option


@click.command()
@click.option("--plan", "only_plan", is_flag=True, help="Tell what would change, and change nothing.")
@site_option
@json_option
@project_option
def provision(project: Path, site: str, only_plan: bool, as_json: bool) -> None:
    """Bring about what a site stands on: VM, registry, workspace, compute target, environment of the jobs.

    What is there is left alone; a second run changes nothing, and one that was interrupted goes on.
    """
    outcomes = _planned(project, site) if only_plan else _provisioned(project, site)
    if as_json:
        click.echo(json.dumps(outcomes, indent=1))
        return
    for outcome in outcomes:
        click.echo(f"{outcome['name']:<40} {told(outcome)}")
    if not outcomes:
        click.echo("nothing to provision: this site has neither [hub], [azure] nor training on a Docker host")


def _planned(project: Path, site: str) -> list[dict[str, Any]]:
    from insitu.provisioning import plan
    from insitu.settings import load_site
    from insitu.wiring import open_parts

    return [one.to_json() for one in plan(list(open_parts(project, load_site(project, site, os.environ), os.environ)))]


def _provisioned(project: Path, site: str) -> Sequence[Mapping[str, Any]]:
    from flows.running.environment import prepare
    from insitu.settings import load_site

    load_site(project, site, os.environ)  # before Prefect is started, which takes seconds
    prepare(project)
    from flows.provision import provision as flow

    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).setLevel(logging.INFO)
    state: Any = flow(site, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    return list(outcome)


def told(outcome: Mapping[str, Any]) -> str:
    """Return what was found of a part, and what was or would be done."""
    if not outcome["to_do"]:
        return str(outcome["found"])
    return f"{outcome['found']}; {'done' if outcome['done'] else 'would'}: {outcome['to_do']}"
