"""`insitu deploy`: parts of insitu that run elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from insitu.commands.provision import told as told_outcome
from insitu.options import json_option, project_option, site_option


@click.group()
def deploy() -> None:
    """Put parts of insitu where they run."""


@deploy.command()
@click.option("--plan", "only_plan", is_flag=True, help="Tell what would be done, and change nothing.")
@site_option
@json_option
@project_option
def relay(project: Path, only_plan: bool, site: str, as_json: bool) -> None:
    """Put the trigger relay into the web app that the site's [relay] names.

    What is there already is not sent again. Afterwards the relay is asked whether it runs, and whether
    it can do its work.
    """
    from insitu import relay as relays
    from insitu.settings import load_site
    from insitu.wiring import open_web_app

    settings = load_site(project, site, os.environ)
    wanted = relays.relay_of(settings)
    package = relays.build(project, settings)
    app = open_web_app(settings)
    told: dict[str, Any] = {
        "app": app.name,
        "digest": package.digest,
        "size_bytes": len(package.content),
        "files": list(package.files),
    }
    if only_plan:
        health = app.health()
        before = relays.digest_of(health)
        told |= {"before": before, "would_change": before != package.digest, "health": health}
    else:
        told |= relays.deploy(app, package, wanted.timeout_s)
    click.echo(json.dumps(told, indent=1) if as_json else _for_people(told))


@deploy.command()
@click.option("--plan", "only_plan", is_flag=True, help="Tell what would change, and change nothing.")
@site_option
@json_option
@project_option
def flows(project: Path, only_plan: bool, site: str, as_json: bool) -> None:
    """Put what prefect.yaml says about the site into the Prefect server: pools, deployments, schedules, automations.

    The file is read strictly first: Prefect passes over a misspelt key in silence. What is there already stays, what
    differs is changed, a schedule that the file no longer has is removed; a second run changes nothing. The same goes
    for the messages that [notify] of the site asks for.
    """
    from flows.running.environment import prepare
    from insitu.settings import load_site

    settings = load_site(project, site, os.environ)
    prepare(project)
    from flows.deploying.deployments import deploy as deploy_flows

    def warn(text: str) -> None:
        click.echo(f"warning: {text}", err=True)

    outcomes = [outcome.to_json() for outcome in deploy_flows(project, settings, warn, only_plan=only_plan)]
    if as_json:
        click.echo(json.dumps(outcomes, indent=1))
        return
    for outcome in outcomes:
        click.echo(f"{outcome['name']:<40} {told_outcome(outcome)}")
    if not any(outcome["to_do"] for outcome in outcomes):
        click.echo("nothing to do")


def _for_people(told: Mapping[str, Any]) -> str:
    """Return what is there, what was or would be done, and what the relay says."""
    before = (told["before"] or "no relay")[:12]
    if "would_change" in told:
        done = f"would replace {before}" if told["would_change"] else "is there already: nothing to do"
    else:
        done = f"replaced {before}" if told["changed"] else "was there already"
    lines = [f"relay at {told['app']}", f"  {'release':<10}{told['digest'][:12]}, {len(told['files'])} files: {done}"]
    if readiness := told.get("readiness"):
        lines.append(f"  {'ready':<10}event store {readiness['store']}, Prefect {readiness['runs']}")
    return "\n".join(lines)
