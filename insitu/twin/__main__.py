"""The twin as a process of its own: `python -m insitu.twin PROJECT FOLDER BACKEND HUB_IDENTITY SITE`."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Any

from insitu.errors import InsituError
from insitu.twin.hub_blob import make_containers
from insitu.twin.process import announced
from insitu.twin.server import running_estate
from insitu.twin.site_file import write_site_file


def main(project: Path, folder: Path, site: str, **options: Any) -> None:
    """Run the estate until SIGTERM or SIGINT."""
    ended = Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: ended.set())
    with announced(folder) as announce, running_estate(folder, **options) as estate:
        make_containers(estate)
        path = write_site_file(estate, project, site)
        announce(
            {"port": estate.port, "backend": estate.backend, "hub_identity": estate.hub_identity, "site": path.stem}
        )
        ended.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    project, folder, backend, hub_identity, site = sys.argv[1:]
    try:
        main(Path(project), Path(folder), site, backend=backend, hub_identity=hub_identity)
    except InsituError as error:
        sys.exit(f"{error.render()}")
