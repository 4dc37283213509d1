"""Look once for new blobs, and do what is due: for those who prefer a schedule to the service `insitu watch`.

Deploy it with a schedule. Any number of watchers may work side by side; each batch becomes one run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.watching import watching
from insitu import telemetry
from insitu.errors import InsituError
from insitu.project import find_project
from insitu.triggers.service import look_once


@flow(name="watch", flow_run_name="watch@{site}", persist_result=False)
def watch(site: str = "local", models: list[str] | None = None) -> State[Any]:
    """Look once for new blobs, and do what is due.

    Args:
        site: Name of a file in deployments/sites/, without .toml.
        models: Names of folders in models/; all by default.
    """
    telemetry.switch_off()
    log = get_run_logger()
    try:
        project = find_project(Path(os.environ.get("INSITU_PROJECT", ".")), named="INSITU_PROJECT" in os.environ)

        def say(model: str, event: str, said: Mapping[str, Any]) -> None:
            log.info("%s: %s %s", model, event, dict(said))

        with watching(project, site, models or (), say) as rounds:
            look_once(rounds)
    except InsituError as error:
        return Failed(message=error.render(), data=error)
    return Completed(message=f"looked at {len(rounds)} models")
