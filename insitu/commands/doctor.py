"""`insitu doctor`: is everything there that a run at a site needs?"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insitu.errors import InsituError
from insitu.options import json_option, maybe_model_argument, project_option, site_option

if TYPE_CHECKING:
    from insitu.ports import Check


@click.command()
@maybe_model_argument
@site_option
@json_option
@project_option
def doctor(project: Path, model: str | None, site: str, as_json: bool) -> None:
    """Look at everything that a run of MODEL (default: of any model) at the site needs, in seconds.

    Settings, versions, telemetry, ports, clocks, Prefect, identities, the hub, the VM from outside and from within,
    data and state, the workspace, registries and disks: each with what was found, what is wanted and what to do. Exit
    code 1 when something is missing.
    """
    from flows.running.asking import prefect_check
    from insitu.doctor import diagnose

    checks = [*diagnose(project, site, os.environ, model), prefect_check(project), *_deployments(project)]
    ok = all(check.ok for check in checks)
    if as_json:
        click.echo(json.dumps({"site": site, "ok": ok, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        from insitu.console import print_checks

        print_checks(site, checks)
    sys.exit(0 if ok else 1)


def _deployments(project: Path) -> list[Check]:
    """Read prefect.yaml as `insitu deploy flows` does; a project without one starts no runs by itself."""
    from insitu.ports import Check

    if not (project / "prefect.yaml").is_file():
        return []
    from flows.running.environment import prepare

    prepare(project)
    from flows.deploying.prefect_lint import read_entries

    try:
        names = [entry.name for entry in read_entries(project)]
    except InsituError as error:
        return [Check("deployments", False, error.render(), "a prefect.yaml without mistakes", "mend prefect.yaml")]
    return [Check("deployments", True, ", ".join(names), "a prefect.yaml without mistakes")]
