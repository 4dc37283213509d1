"""Bring about what a site stands on: VM, registry, workspace, compute target, environment, image of the jobs.

Run it with `insitu provision --site S`; `--plan` tells first what would change. A second run changes nothing.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.running.environment import LOGGERS
from insitu import telemetry
from insitu.errors import InsituError
from insitu.project import find_project
from insitu.settings import load_site
from insitu.wiring import open_parts
from tasks.provision import provision_part


@flow(name="provision", flow_run_name="provision@{site}", persist_result=False)
def provision(site: str) -> State[Any]:
    """Bring about what *site* (a file in deployments/sites/, without .toml) stands on.

    Returns:
        What was found and done, part by part.
    """
    telemetry.switch_off()
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        project = find_project(Path(os.environ.get("INSITU_PROJECT", ".")), named="INSITU_PROJECT" in os.environ)
        parts = open_parts(project, load_site(project, site, os.environ), os.environ)
        outcomes = [provision_part(part).to_json() for part in parts]
    except InsituError as error:
        return Failed(message=error.render(), data=error)
    changed = sum(bool(outcome["done"]) for outcome in outcomes)
    return Completed(message=f"{changed} of {len(outcomes)} parts were changed", data=outcomes)
