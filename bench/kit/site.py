"""A site under `insitu up`: how long it takes from a new blob until Prefect shows its run as Running.

The blobs end their runs at once: the name says no month, which the example's data must. What a run does after it has
begun is not measured here.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.harness import ROOT
from insitu.twin.programs import free_port

_FOLDERS = ("data_checks", "deployments", "flows", "insitu", "models", "tasks")
_WAIT_S = 180.0


@dataclass(frozen=True)
class RunningSite:
    """A copy of the project whose services run."""

    root: Path
    url: str
    login: str

    def latency_s(self, number: int) -> float:
        """Let a blob arrive; return the seconds until its run was Running, by the clock of this machine."""
        before = self._starts()
        folder = self.root / "var/blobs/flights" / f"month=x{number}"
        folder.mkdir(parents=True)
        (folder / "flights.parquet").write_bytes(b"rows")
        arrived = time.time()
        _wait_until(lambda: len(self._starts()) > len(before), "the start of a run")
        return max(self._starts()) - arrived

    def wait_for_rest(self) -> None:
        """Return when no run is under way."""
        busy = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}}
        _wait_until(lambda: not self._ask("/flow_runs/count", busy), "the end of the runs")

    def is_ready(self) -> bool:
        """Tell whether the worker asks for runs, and the watcher has looked."""
        workers = self._ask("/work_pools/insitu-local/workers/filter", {})
        return bool(workers) and (self.root / "var/state/triggers/flights/scan.json").exists()

    def outdate(self) -> None:
        """Change the code: from now on each run gets a fresh process, as with Prefect's own worker."""
        os.utime(self.root / "flows" / "retrain.py")

    def _starts(self) -> list[float]:
        runs = self._ask("/flow_runs/filter", {"sort": "START_TIME_DESC"})
        return [datetime.fromisoformat(run["start_time"]).timestamp() for run in runs if run["start_time"]]

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        login = base64.b64encode(self.login.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        with urlopen(Request(self.url + path, json.dumps(body).encode(), headers), timeout=60) as answer:
            return json.loads(answer.read())


def _wait_until(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.3)


@contextmanager
def running_site(root: Path, poll_s: float) -> Iterator[RunningSite]:
    """Run the services of a copy of this project, without data, whose watcher looks every *poll_s* seconds."""
    for folder in _FOLDERS:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", root)
    (root / "var/blobs/flights").mkdir(parents=True)
    environ = {**os.environ, "INSITU_PROJECT": str(root), "INSITU_MODEL__TRIGGER__POLL_S": str(poll_s)}
    environ |= {f"INSITU_SITE__SERVICES__{name}": str(free_port()) for name in ("PORT", "MLFLOW_PORT")}
    command = [sys.executable, "-m", "insitu", "up"]
    with subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout
        try:
            while not (line := up.stdout.readline()).startswith("ready"):
                assert line, "the services do not start"
            url = json.loads((root / "var/prefect-server.json").read_text())["url"]
            site = RunningSite(root, url, (root / "var/prefect/login").read_text().strip())
            _wait_until(site.is_ready, "the start of worker and watcher")
            yield site
        finally:
            up.send_signal(signal.SIGTERM)
