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
from prefect.states import Cancelled, Completed, Failed

from flows.parameters import Models, SiteName
from flows.running.presence import Presence
from flows.running.watching import watching
from insitu import telemetry
from insitu.errors import InsituError
from insitu.project import find_project
from insitu.settings import load_site
from insitu.triggers.service import look_once
from insitu.wiring import open_site


@flow(name="watch", flow_run_name="watch@{site}", persist_result=False)
def watch(site: SiteName = "local", models: Models = None) -> State[Any]:
    """Look once for new blobs, and do what is due.

    What each parameter holds, `flows.parameters` says: the form of the Prefect UI shows it.
    """
    telemetry.switch_off()
    log, presence = get_run_logger(), Presence.of_this_flow_run()
    try:
        project = find_project(Path(os.environ.get("INSITU_PROJECT", ".")), named="INSITU_PROJECT" in os.environ)

        def say(model: str, event: str, said: Mapping[str, Any]) -> None:
            log.info("%s: %s %s", model, event, dict(said))

        state = open_site(project, load_site(project, site, os.environ)).state
        with presence.shown(state), watching(project, site, models or (), say) as rounds:
            look_once(rounds)
    except InsituError as error:
        return Failed(message=error.render(), data=error)
    except BaseException:
        if not presence.is_cancelled():
            raise
        return Cancelled(message="what was under way is taken over by another watcher, or by the next")
    return Completed(message=f"looked at {len(rounds)} models")
