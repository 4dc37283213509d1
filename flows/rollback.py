"""Go back to an earlier published version of a model: alias, tag and deployments, at once.

Run it with `insitu rollback MODEL`, or from the Prefect UI. Started again it goes back no further.
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.parameters import PersonName, Reason, SiteName, Version, WithdrawnModel
from flows.running.environment import LOGGERS
from insitu import telemetry
from insitu.acts import Act
from insitu.errors import InsituError
from insitu.project import find_project
from insitu.settings import load_settings
from insitu.wiring import open_site
from tasks.rollback import roll_back_model


@flow(name="rollback", flow_run_name="{model}@{site}", persist_result=False)
def rollback(
    model: WithdrawnModel, name: PersonName, reason: Reason, site: SiteName = "local", to: Version = ""
) -> State[Any]:
    """Put the version *to* of *model*, or the one that the champion has replaced, in the champion's place.

    What each parameter holds, `flows.parameters` says: the form of the Prefect UI shows it.

    Returns:
        What was brought about, as `insitu rollback --json` prints it.
    """
    telemetry.switch_off()
    for logger in LOGGERS:
        logging.getLogger(logger).setLevel(logging.INFO)
    try:
        project = find_project(Path(os.environ.get("INSITU_PROJECT", ".")), named="INSITU_PROJECT" in os.environ)
        settings, wanted = load_settings(project, site, model, os.environ)
        outcome = roll_back_model(open_site(project, settings), wanted, to or None, Act("rollback", name, reason))
    except InsituError as error:
        return Failed(message=error.render(), data=error)
    return Completed(message=f"version {outcome.to} is the champion", data=asdict(outcome))
