"""`insitu reconcile`: flow runs whose process died."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from insitu.errors import UsageError
from insitu.options import json_option, project_option, site_option


@click.command()
@site_option
@json_option
@project_option
def reconcile(project: Path, site: str, as_json: bool) -> None:
    """Mark flow runs whose process died as Crashed in Prefect, and let them go on.

    `insitu watch` and `insitu up` do the same all the time. Runs of deployments are resumed; what was started by
    hand is started again by hand, and goes on after its last finished step.
    """
    from flows.running.environment import prepare

    prepare(project)
    if "PREFECT_API_URL" not in os.environ:
        raise UsageError("no Prefect server is known", next_action="start `insitu up`, or set PREFECT_API_URL")
    from flows.running.reconcile import reconcile as look
    from flows.running.reconcile import told
    from insitu.settings import load_site
    from insitu.wiring import open_site

    closed = look(open_site(project, load_site(project, site, os.environ)))
    click.echo(json.dumps([asdict(one) for one in closed], indent=1) if as_json else told(closed))
