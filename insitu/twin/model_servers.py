"""The servers behind deployments of online endpoints: each runs the image that its deployment names."""

from __future__ import annotations

import sys
from threading import Thread

from insitu.errors import BackendUnavailable
from insitu.twin.machine_learning import Workspace
from insitu.twin.programs import Program, free_port, start

DEPLOYMENTS = "onlineDeployments"


class ModelServers:
    """The servers of the deployments, by `ENDPOINT/DEPLOYMENT`; they end with the twin."""

    def __init__(self, workspace: Workspace) -> None:
        self._estate, self._deployments = workspace.estate, workspace.shelf(DEPLOYMENTS)
        self._running: dict[str, Program] = {}

    def start(self, key: str, repository: str, digest: str) -> None:
        """Begin to run an image of the registry in the place of what ran; the deployment tells how that goes."""
        Thread(target=self._start, args=(key, repository, digest), name=f"deployment {key}", daemon=True).start()

    def stop(self, key: str) -> None:
        """End the server, if there is one."""
        if program := self._running.pop(key, None):
            program.stop()

    def _start(self, key: str, repository: str, digest: str) -> None:
        self.stop(key)
        work, port = self._estate.folder / "endpoints", free_port()
        upstream = f"127.0.0.1:{self._estate.registry_port()}/{repository}"
        command = [sys.executable, "-m", "insitu.adapters.local.serve", upstream, digest, str(work), str(port)]
        program = start(f"deployment {key}", command, work / f"{key.replace('/', '-')}.log")
        self._running[key] = program
        self._estate.at_end(program.stop)
        try:
            program.wait_for(port)
            state = "Succeeded"
        except BackendUnavailable:
            state = "Failed"
        with self._deployments.changing() as documents:
            if key in documents:
                documents[key]["properties"]["provisioningState"] = state
                documents[key]["_port"] = port
